"""The arguments and options that several commands have: names, help texts, and the groups that help puts them in."""

from typing import Annotated

import typer

from prunecli.cli.help import INPUT, OTHER, OUTPUT, SELECTION

__all__ = [
    "Checkpoint",
    "DryRun",
    "Exclude",
    "FollowLinks",
    "Force",
    "Foreign",
    "Jobs",
    "Key",
    "Link",
    "MinDim",
    "NoReport",
    "Output",
    "Params",
    "ParamsFrom",
    "Quiet",
    "ReportFile",
    "Resume",
]

_NAMES = "NAME|GLOB"
Checkpoint = Annotated[str, typer.Argument(metavar="CKPT", help="A file, a folder of shards, a URL, or - for stdin.")]
Params = Annotated[
    list[str] | None,
    typer.Option(
        "-p", "--param", metavar=_NAMES, help="Select by name, glob or re:REGEX; repeatable.", rich_help_panel=SELECTION
    ),
]
ParamsFrom = Annotated[
    str | None,
    typer.Option(
        "--params-from",
        metavar="FILE|URL|-",
        help="Read patterns from FILE, as `params` prints them.\nOne name or pattern per line; - is standard input.",
        rich_help_panel=SELECTION,
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        "-x",
        "--exclude",
        metavar=_NAMES,
        help="Remove parameters from the selection; repeatable.",
        rich_help_panel=SELECTION,
    ),
]
MinDim = Annotated[
    int,
    typer.Option(
        "--min-dim",
        min=0,
        show_default=False,
        help="Match only tensors with at least N dimensions.",
        rich_help_panel=SELECTION,
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        "--key",
        metavar="KEY",
        help="Key of the state dict (default: detected).",
        rich_help_panel=INPUT,
    ),
]
Foreign = Annotated[
    bool,
    typer.Option(
        "--allow-foreign-objects",
        help="Copy objects that weights-only loading refuses.\nThey are copied without being loaded.",
        rich_help_panel=INPUT,
    ),
]
FollowLinks = Annotated[
    bool,
    typer.Option("--follow-links", help="Follow links to files outside the folder.", rich_help_panel=INPUT),
]
Output = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        metavar="PATH|-",
        help="Output, or - for stdout (default: beside CKPT).",
        rich_help_panel=OUTPUT,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Print what would be done, and write nothing.", rich_help_panel=OUTPUT),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite existing outputs.", rich_help_panel=OUTPUT)]
Link = Annotated[
    bool,
    typer.Option(
        "--link",
        help="Hard-link unchanged files that cannot be cloned.\nFor folders; editing a link edits the input, too.",
        rich_help_panel=OUTPUT,
    ),
]
ReportFile = Annotated[
    str | None,
    typer.Option(
        "--report",
        metavar="PATH|-",
        help="JSON report, or - for stdout (default: beside -o).",
        rich_help_panel=OUTPUT,
    ),
]
NoReport = Annotated[bool, typer.Option("--no-report", help="Do not write a report.", rich_help_panel=OUTPUT)]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Continue an interrupted run; keep finished work.\nIt is also kept if this run is interrupted.",
        rich_help_panel=OTHER,
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        "-j", "--jobs", min=1, help="Number of threads (default: a core each, up to 8).", rich_help_panel=OTHER
    ),
]
Quiet = Annotated[
    bool, typer.Option("-q", "--quiet", help="Print only errors to standard error.", rich_help_panel=OTHER)
]

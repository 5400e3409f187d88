"""The arguments and options of all commands: names, help texts, and the groups that help puts them in."""

import enum
import sys
from typing import Annotated

import typer

from prunecli.cli.help import AMOUNT, CONTENT, GATE, INPUT, OUTPUT, REPORT, RUN, SELECTION
from prunecli.reporting.options import ReportFormat, Sort

__all__ = [
    "All",
    "AllowChanges",
    "Amount",
    "Baseline",
    "Checkpoint",
    "Depth",
    "DryRun",
    "Exclude",
    "FailOver",
    "FailUnder",
    "FollowLinks",
    "Force",
    "Foreign",
    "Format",
    "FromReport",
    "Global",
    "Jobs",
    "Key",
    "KeyPrefix",
    "Link",
    "MaskDtype",
    "MaskType",
    "MinDim",
    "NoReport",
    "Order",
    "Output",
    "Params",
    "ParamsFrom",
    "Plot",
    "Quiet",
    "Recipe",
    "Remove",
    "ReportFile",
    "ReportOutputPath",
    "ReportPath",
    "Resume",
    "Schema",
    "Seed",
    "Stamp",
    "Top",
    "Untie",
    "WithState",
    "ZerosArePruned",
]


class MaskDtype(enum.StrEnum):
    """The type of new masks."""

    BOOL = "bool"
    SAME = "same"


def _print_schema(value: bool) -> None:
    if value:
        from prunecli.surgery.report.schema import schema_text

        sys.stdout.write(schema_text())
        raise typer.Exit


_NAMES = "NAME|GLOB|re:REGEX"

Checkpoint = Annotated[
    str, typer.Argument(metavar="CKPT", help="Checkpoint: a file, a folder of shards, a URL, or - for stdin.")
]
ReportPath = Annotated[
    str | None,
    typer.Argument(
        metavar="[REPORT]", help="JSON report to check against, or - for stdin (default: the one next to CKPT)."
    ),
]

Params = Annotated[
    list[str] | None,
    typer.Option("-p", "--param", metavar=_NAMES, help="Select parameters; repeatable.", rich_help_panel=SELECTION),
]
ParamsFrom = Annotated[
    str | None,
    typer.Option(
        "--params-from",
        metavar="FILE|URL|-",
        help="Read names or patterns from FILE, one per line (- for stdin); accepts the output of `params`.",
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
    typer.Option("--min-dim", min=0, help="Match only tensors with at least N dimensions.", rich_help_panel=SELECTION),
]
All = Annotated[
    bool,
    typer.Option(
        "--all",
        help="List every tensor with its role: masks, statistics, optimizer state, ...",
        rich_help_panel=SELECTION,
    ),
]
Untie = Annotated[
    bool,
    typer.Option(
        "--untie",
        help="Mask a tied parameter alone, and leave the parameters tied to it dense.",
        rich_help_panel=SELECTION,
    ),
]

Amount = Annotated[
    str | None,
    typer.Option(
        "-a",
        "--amount",
        metavar="0.5|50%|1000",
        help="How much to prune: a fraction, a percentage, or a number of elements.",
        rich_help_panel=AMOUNT,
    ),
]
Global = Annotated[
    bool,
    typer.Option("--global", help="Count the amount over all selected parameters together.", rich_help_panel=AMOUNT),
]
Recipe = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        metavar="TOML|-",
        help="Read groups of parameters, each with its amount, from a file.",
        rich_help_panel=AMOUNT,
    ),
]
FromReport = Annotated[
    str | None,
    typer.Option(
        "--from-report",
        metavar="JSON|-",
        help="Reproduce the masks recorded in a report.",
        rich_help_panel=AMOUNT,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", min=0, help="Seed for the masks (default: random, printed).", rich_help_panel=AMOUNT),
]
KeyPrefix = Annotated[
    str | None,
    typer.Option(
        "--key-prefix",
        metavar="TEXT",
        help="Draw masks as if parameter names began with TEXT: `unet/` gives the masks of the whole pipeline.",
        rich_help_panel=AMOUNT,
    ),
]
ZerosArePruned = Annotated[
    bool,
    typer.Option("--zeros-are-pruned", help="Count elements that are already zero as pruned.", rich_help_panel=AMOUNT),
]

Key = Annotated[
    str | None,
    typer.Option(
        "--key",
        metavar="KEY",
        help="Key of the state dict in the file (default: found automatically).",
        rich_help_panel=INPUT,
    ),
]
Foreign = Annotated[
    bool,
    typer.Option(
        "--allow-foreign-objects",
        help="Accept objects that weights-only loading refuses, and copy them without loading them.",
        rich_help_panel=INPUT,
    ),
]
FollowLinks = Annotated[
    bool,
    typer.Option(
        "--follow-links", help="Read files of a folder through links that lead out of it.", rich_help_panel=INPUT
    ),
]

Remove = Annotated[
    bool | None,
    typer.Option(
        "--bake/--no-bake",
        "--remove/--no-remove",
        help="Write zeros into the weights instead of adding masks.",
        show_default=False,
        rich_help_panel=OUTPUT,
    ),
]
MaskType = Annotated[
    MaskDtype | None,
    typer.Option(
        "--mask-dtype", help="Type of new masks: bool (the default), or the weight's own type.", rich_help_panel=OUTPUT
    ),
]
WithState = Annotated[
    bool,
    typer.Option(
        "--with-state",
        help="Also zero the optimizer state of pruned elements, if the file proves which parameter it belongs to.",
        rich_help_panel=OUTPUT,
    ),
]
Stamp = Annotated[
    bool,
    typer.Option(
        "--stamp", help="Also record how the masks were made in the safetensors metadata.", rich_help_panel=OUTPUT
    ),
]
Output = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        metavar="PATH|-",
        help="Output path, or - for stdout (default: next to the input).",
        rich_help_panel=OUTPUT,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Print what would be done, without writing anything.", rich_help_panel=OUTPUT),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite existing outputs.", rich_help_panel=OUTPUT)]
Link = Annotated[
    bool,
    typer.Option(
        "--link",
        help="Hard-link unchanged files of a folder if they cannot be cloned; editing a link edits the input.",
        rich_help_panel=OUTPUT,
    ),
]

ReportFile = Annotated[
    str | None,
    typer.Option(
        "--report",
        metavar="PATH|-",
        help="Path of the JSON report, or - for stdout (default: next to the output).",
        rich_help_panel=REPORT,
    ),
]
NoReport = Annotated[bool, typer.Option("--no-report", help="Do not write a report.", rich_help_panel=REPORT)]

Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Continue an interrupted run, and keep finished work if this run is interrupted.",
        rich_help_panel=RUN,
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        "-j", "--jobs", min=1, help="Number of threads (default: one per core, at most 8).", rich_help_panel=RUN
    ),
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print only errors to standard error.", rich_help_panel=RUN)]

Format = Annotated[
    ReportFormat | None,
    typer.Option("--format", help="Report format (default: by the suffix of -o, else table).", rich_help_panel=OUTPUT),
]
ReportOutputPath = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        metavar="PATH|-",
        help="Write the report to a file (default: -, which is stdout).",
        rich_help_panel=OUTPUT,
    ),
]
Plot = Annotated[
    str | None,
    typer.Option(
        "--plot", metavar="FILE", help="Also draw a figure: FILE.png, FILE.svg or FILE.pdf.", rich_help_panel=OUTPUT
    ),
]
Depth = Annotated[
    int | None,
    typer.Option(
        "--depth", min=0, help="Show N levels of modules in the table (default: what fits).", rich_help_panel=CONTENT
    ),
]
Order = Annotated[
    Sort, typer.Option("--sort", help="Sort the table; name keeps the order of the file.", rich_help_panel=CONTENT)
]
Top = Annotated[
    int | None,
    typer.Option(
        "--top", min=1, metavar="N", help="Show only the first N parameters, without modules.", rich_help_panel=CONTENT
    ),
]
Schema = Annotated[
    bool,
    typer.Option(
        "--schema",
        callback=_print_schema,
        is_eager=True,
        help="Print the JSON Schema of --format json, and exit.",
        rich_help_panel=CONTENT,
    ),
]
Baseline = Annotated[
    str | None,
    typer.Option(
        "--baseline",
        metavar="CKPT",
        help="Compare with an earlier checkpoint; exit 7 unless the only change is new zeros.",
        rich_help_panel=CONTENT,
    ),
]
AllowChanges = Annotated[
    bool,
    typer.Option(
        "--allow-changes",
        help="With --baseline: allow changed values, but no zeros that became nonzero.",
        rich_help_panel=CONTENT,
    ),
]
FailUnder = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-under",
        metavar="[PATTERN=]0.5",
        help="Exit 7 if the sparsity is below this bound; repeatable.",
        rich_help_panel=GATE,
    ),
]
FailOver = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-over",
        metavar="[PATTERN=]0.5",
        help="Exit 7 if the sparsity is above this bound; repeatable.",
        rich_help_panel=GATE,
    ),
]

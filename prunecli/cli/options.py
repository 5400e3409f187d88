"""The arguments and options of all commands: names, help texts, and the groups that help puts them in."""

import enum
import sys
from typing import Annotated

import typer

from prunecli.cli.help import AMOUNT, CONTENT, GATE, INPUT, OTHER, OUTPUT, SELECTION
from prunecli.reporting.options import ListFormat, ReportFormat, Sort

__all__ = [
    "All",
    "AllowChanges",
    "AllowedChanges",
    "Baseline",
    "Checkpoint",
    "Checkpoints",
    "ComparisonFormat",
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
    "ListFormatOption",
    "MaskDtype",
    "MaskType",
    "MinDim",
    "New",
    "NoFold",
    "NoReport",
    "Old",
    "OnlyZeros",
    "Order",
    "Output",
    "Params",
    "ParamsFrom",
    "ParamsSchema",
    "Plot",
    "PrintRecipe",
    "Quiet",
    "Recipe",
    "Remove",
    "ReportFile",
    "ReportOutputPath",
    "ReportPath",
    "Resume",
    "Schema",
    "Seed",
    "Silent",
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


def _print_report_schema(value: bool) -> None:
    if value:
        from prunecli.surgery.report.schema import report_schema

        sys.stdout.write(report_schema())
        raise typer.Exit


def _print_params_schema(value: bool) -> None:
    if value:
        from prunecli.surgery.report.schema import params_schema

        sys.stdout.write(params_schema())
        raise typer.Exit


_NAMES = "NAME|GLOB"

Checkpoint = Annotated[str, typer.Argument(metavar="CKPT", help="A file, a folder of shards, a URL, or - for stdin.")]
Checkpoints = Annotated[
    list[str],
    typer.Argument(metavar="CKPT...", help="Files, folders of shards or URLs; - is stdin. Several: a row each."),
]
Old = Annotated[str, typer.Argument(metavar="OLD", help="The earlier checkpoint (file, folder, URL, -).")]
New = Annotated[str, typer.Argument(metavar="NEW", help="The later one; at most one of them is - (stdin).")]
ReportPath = Annotated[
    str | None,
    typer.Argument(metavar="[REPORT]", help="Its report, or - for stdin (default: beside CKPT)."),
]

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
All = Annotated[
    bool,
    typer.Option(
        "--all",
        help="List every tensor, with its role.\nRoles are mask, statistic, optimizer state, and others.",
        rich_help_panel=SELECTION,
    ),
]
Untie = Annotated[
    bool,
    typer.Option(
        "--untie",
        help="Mask a tied parameter without its partners.\nThe parameters tied to it stay dense.",
        rich_help_panel=SELECTION,
    ),
]

Global = Annotated[
    bool,
    typer.Option("--global", help="Count the amount over the selection as a whole.", rich_help_panel=AMOUNT),
]
Recipe = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        metavar="TOML|-",
        help="Read groups of parameters and amounts from a file.",
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
    typer.Option("--seed", min=0, help="Seed of the masks (default: random, printed).", rich_help_panel=AMOUNT),
]
KeyPrefix = Annotated[
    str | None,
    typer.Option(
        "--key-prefix",
        metavar="TEXT",
        help="Draw masks as if names began with TEXT.\n`unet/` gives the masks of the component in its pipeline.",
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
        help="Key of the state dict (default: found by itself).",
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
    typer.Option("--follow-links", help="Read files through links out of the folder.", rich_help_panel=INPUT),
]

Remove = Annotated[
    bool | None,
    typer.Option(
        "--bake/--no-bake",
        "--remove/--no-remove",
        help="Write zeros instead of masks (--no-bake: masks).",
        show_default=False,
        rich_help_panel=OUTPUT,
    ),
]
MaskType = Annotated[
    MaskDtype | None,
    typer.Option("--mask-dtype", help="Type of masks: bool (default), or the weight's.", rich_help_panel=OUTPUT),
]
WithState = Annotated[
    bool,
    typer.Option(
        "--with-state",
        help="Also zero the optimizer state of pruned elements.\nOnly if the file proves whose it is.",
        rich_help_panel=OUTPUT,
    ),
]
Stamp = Annotated[
    bool,
    typer.Option(
        "--stamp",
        help="Record in the metadata how the masks were made.\nOnly safetensors files have such metadata.",
        rich_help_panel=OUTPUT,
    ),
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
PrintRecipe = Annotated[
    bool,
    typer.Option(
        "--print-recipe",
        help="Let --dry-run print its recipe on a terminal, too.\nIn a pipe, --dry-run always prints it.",
        rich_help_panel=OUTPUT,
    ),
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

Silent = Annotated[
    bool, typer.Option("-q", "--quiet", help="Print only errors; the exit code is the result.", rich_help_panel=OTHER)
]
Format = Annotated[
    ReportFormat | None,
    typer.Option(
        "--format", metavar="FORMAT", help="table, json, csv, markdown, html (default: by -o).", rich_help_panel=OUTPUT
    ),
]
ComparisonFormat = Annotated[
    ReportFormat | None,
    typer.Option(
        "--format", metavar="FORMAT", help="table, json, csv, markdown (default: by -o).", rich_help_panel=OUTPUT
    ),
]
ReportOutputPath = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        metavar="PATH|-",
        help="Write to a file, and print its path.\n- is standard output, which is the default.",
        rich_help_panel=OUTPUT,
    ),
]
Plot = Annotated[
    str | None,
    typer.Option(
        "--plot", metavar="FILE", help="Also draw a figure: FILE.png, FILE.svg, FILE.pdf.", rich_help_panel=OUTPUT
    ),
]
Depth = Annotated[
    int | None,
    typer.Option("--depth", min=0, help="Show N levels of modules (default: what fits).", rich_help_panel=CONTENT),
]
Order = Annotated[
    Sort, typer.Option("--sort", help="Sort the table.\nname keeps the order of the file.", rich_help_panel=CONTENT)
]
Top = Annotated[
    int | None,
    typer.Option(
        "--top", min=1, metavar="N", help="Show only the first N parameters, no modules.", rich_help_panel=CONTENT
    ),
]
Schema = Annotated[
    bool,
    typer.Option(
        "--schema",
        callback=_print_report_schema,
        is_eager=True,
        help="Print the JSON Schema of --format json, and exit.",
        rich_help_panel=CONTENT,
    ),
]
ListFormatOption = Annotated[
    ListFormat,
    typer.Option("--format", help="json, or table (default; tabs in a pipe).", rich_help_panel=OUTPUT),
]
NoFold = Annotated[
    bool,
    typer.Option(
        "--no-fold",
        help="Give each of many similar layers its rows.\nA table folds them if it is longer than the screen.",
        rich_help_panel=OUTPUT,
    ),
]
ParamsSchema = Annotated[
    bool,
    typer.Option(
        "--schema",
        callback=_print_params_schema,
        is_eager=True,
        help="Print the JSON Schema of --format json, and exit.",
        rich_help_panel=OUTPUT,
    ),
]
Baseline = Annotated[
    str | None,
    typer.Option(
        "--baseline",
        metavar="CKPT",
        help="Compare; exit 7 unless the only change is zeros.\nCKPT is the earlier checkpoint; zeros must be new.",
        rich_help_panel=CONTENT,
    ),
]
AllowChanges = Annotated[
    bool,
    typer.Option(
        "--allow-changes",
        help="With --baseline: allow changed values.\nZeros that became nonzero are still refused.",
        rich_help_panel=CONTENT,
    ),
]
OnlyZeros = Annotated[
    bool,
    typer.Option("--only-zeros", help="Exit 7 unless the only change is new zeros.", rich_help_panel=GATE),
]
AllowedChanges = Annotated[
    bool,
    typer.Option(
        "--allow-changes",
        help="With --only-zeros: allow changed values.\nZeros that became nonzero are still refused.",
        rich_help_panel=GATE,
    ),
]
FailUnder = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-under",
        metavar="[PATTERN=]0.5",
        help="Exit 7 if the sparsity is lower; repeatable.",
        rich_help_panel=GATE,
    ),
]
FailOver = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-over",
        metavar="[PATTERN=]0.5",
        help="Exit 7 if the sparsity is higher; repeatable.",
        rich_help_panel=GATE,
    ),
]

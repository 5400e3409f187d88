"""The arguments and options of all commands: names, help texts, and the groups that help puts them in."""

import enum
import sys
from typing import Annotated

import typer

from prunecli.cli.help import AMOUNT, CONTENT, GATE, INPUT, OUTPUT, REPORT, RUN, SELECTION
from prunecli.reporting.options import ReportFormat, Sort
from prunecli.reporting.schema import schema_text

__all__ = [
    "All",
    "AllowChanges",
    "Amount",
    "Bake",
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
    "FromReport",
    "Jobs",
    "Key",
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
    "ReportFile",
    "Resume",
    "Schema",
    "Seed",
    "Silent",
    "Stamp",
    "Style",
    "Together",
    "Told",
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
        sys.stdout.write(schema_text())
        raise typer.Exit


_NAMES = "NAME|GLOB|re:REGEX"

Checkpoint = Annotated[
    str,
    typer.Argument(metavar="CKPT", help="The checkpoint: a file, a folder of shards, a URL, or - for standard input."),
]
Params = Annotated[
    list[str] | None,
    typer.Option(
        "-p", "--param", metavar=_NAMES, help="Parameters to work on; may be repeated.", rich_help_panel=SELECTION
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        "-x", "--exclude", metavar=_NAMES, help="Parameters to leave out; may be repeated.", rich_help_panel=SELECTION
    ),
]
Amount = Annotated[
    str | None,
    typer.Option(
        "-a",
        "--amount",
        metavar="0.5|50%|1000",
        help="Fraction, percentage, or number of elements.",
        rich_help_panel=AMOUNT,
    ),
]
MinDim = Annotated[
    int,
    typer.Option(
        "--min-dim", min=0, help="Patterns take tensors of at least so many dimensions.", rich_help_panel=SELECTION
    ),
]
All = Annotated[
    bool,
    typer.Option(
        "--all",
        help="List every tensor with its role: masks, statistics, optimizer state, other networks.",
        rich_help_panel=SELECTION,
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        "--key", metavar="KEY", help="Where the state dict lies, if it is not found by itself.", rich_help_panel=INPUT
    ),
]
Foreign = Annotated[
    bool,
    typer.Option(
        "--allow-foreign-objects",
        help="Carry objects of classes that weights-only loading refuses through, unread.",
        rich_help_panel=INPUT,
    ),
]
FollowLinks = Annotated[
    bool,
    typer.Option(
        "--follow-links",
        help="Read files that links in a folder lead to, wherever they are.",
        rich_help_panel=INPUT,
    ),
]
Output = Annotated[
    str | None,
    typer.Option("-o", "--output", metavar="PATH|-", help="The output; - is standard output.", rich_help_panel=OUTPUT),
]
Force = Annotated[bool, typer.Option("--force", help="Replace outputs that exist.", rich_help_panel=OUTPUT)]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Keep what an interrupted run finished, and what this one finishes if it is interrupted.",
        rich_help_panel=RUN,
    ),
]
Link = Annotated[
    bool,
    typer.Option(
        "--link",
        help="Hard-link unchanged files of a folder where blocks cannot be shared: to edit one edits the input too.",
        rich_help_panel=OUTPUT,
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option("-j", "--jobs", min=1, help="Threads; default: one per core, at most 8.", rich_help_panel=RUN),
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No progress, no table, no notes.", rich_help_panel=RUN)]
ParamsFrom = Annotated[
    str | None,
    typer.Option(
        "--params-from",
        metavar="FILE|URL|-",
        help="Parameters by a list, a name or pattern a line, as `params` prints them; - is standard input.",
        rich_help_panel=SELECTION,
    ),
]
ReportFile = Annotated[
    str | None,
    typer.Option(
        "--report", metavar="PATH|-", help="The JSON report; default: beside the output.", rich_help_panel=REPORT
    ),
]
NoReport = Annotated[bool, typer.Option("--no-report", help="Write no report.", rich_help_panel=REPORT)]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print what would be done, and write nothing.", rich_help_panel=OUTPUT)
]
Silent = Annotated[bool, typer.Option("-q", "--quiet", help="No progress.", rich_help_panel=RUN)]
Together = Annotated[
    bool, typer.Option("--global", help="One amount over all selected parameters together.", rich_help_panel=AMOUNT)
]
Recipe = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        metavar="TOML|-",
        help="Several groups, with an amount each, from a file.",
        rich_help_panel=AMOUNT,
    ),
]
FromReport = Annotated[
    str | None,
    typer.Option(
        "--from-report",
        metavar="JSON|-",
        help="The masks that a report tells of, once more.",
        rich_help_panel=AMOUNT,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", min=0, help="Seed of the masks; drawn and told if absent.", rich_help_panel=AMOUNT),
]
KeyPrefix = Annotated[
    str | None,
    typer.Option(
        "--key-prefix",
        metavar="TEXT",
        help="Draw the masks that these parameters have in a whole whose names begin with TEXT, such as unet/.",
        rich_help_panel=AMOUNT,
    ),
]
Bake = Annotated[
    bool | None,
    typer.Option(
        "--remove/--no-remove",
        help="Bake: write zeros into the weights, no masks.",
        show_default=False,
        rich_help_panel=OUTPUT,
    ),
]
MaskType = Annotated[
    MaskDtype | None,
    typer.Option("--mask-dtype", help="Type of new masks; bool if absent.", rich_help_panel=OUTPUT),
]
Untie = Annotated[
    bool,
    typer.Option("--untie", help="Mask a tied parameter and keep its partners dense.", rich_help_panel=SELECTION),
]
ZerosArePruned = Annotated[
    bool,
    typer.Option("--zeros-are-pruned", help="Elements that are zero count as pruned already.", rich_help_panel=AMOUNT),
]
WithState = Annotated[
    bool,
    typer.Option(
        "--with-state",
        help="Also zero the optimizer state of dropped elements, where the file proves whose it is.",
        rich_help_panel=OUTPUT,
    ),
]
Stamp = Annotated[
    bool,
    typer.Option(
        "--stamp",
        help="Write what made the masks into a safetensors file's metadata, too.",
        rich_help_panel=OUTPUT,
    ),
]
Style = Annotated[
    ReportFormat | None,
    typer.Option(
        "--format", help="How to write it; default: by the suffix of -o, else a table.", rich_help_panel=OUTPUT
    ),
]
Plot = Annotated[
    str | None,
    typer.Option("--plot", metavar="FILE", help="Also draw a figure: FILE.png, .svg or .pdf.", rich_help_panel=OUTPUT),
]
Depth = Annotated[
    int | None,
    typer.Option("--depth", min=0, help="Levels of modules in the table; default: what fits.", rich_help_panel=CONTENT),
]
Order = Annotated[
    Sort, typer.Option("--sort", help="Order of the table; name is the file's order.", rich_help_panel=CONTENT)
]
Top = Annotated[
    int | None,
    typer.Option(
        "--top", min=1, metavar="N", help="Only the first N parameters, without modules.", rich_help_panel=CONTENT
    ),
]
Schema = Annotated[
    bool,
    typer.Option(
        "--schema",
        callback=_print_schema,
        is_eager=True,
        help="Print the JSON Schema of --format json.",
        rich_help_panel=CONTENT,
    ),
]
FailUnder = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-under",
        metavar="[PATTERN=]0.5",
        help="Exit 7 if the sparsity is below; may be repeated.",
        rich_help_panel=GATE,
    ),
]
FailOver = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-over",
        metavar="[PATTERN=]0.5",
        help="Exit 7 if the sparsity is above; may be repeated.",
        rich_help_panel=GATE,
    ),
]
Baseline = Annotated[
    str | None,
    typer.Option(
        "--baseline",
        metavar="CKPT",
        help="Compare with this; exit 7 if not only zeros were added.",
        rich_help_panel=CONTENT,
    ),
]
AllowChanges = Annotated[
    bool,
    typer.Option(
        "--allow-changes",
        help="With --baseline: values may have changed, but none be revived.",
        rich_help_panel=CONTENT,
    ),
]
Told = Annotated[
    str | None,
    typer.Argument(metavar="[REPORT]", help="The JSON report, or - for standard input; default: the one beside CKPT."),
]

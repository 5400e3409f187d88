"""The arguments and options of the commands that read: `prunecli report`, `diff`, `params` and `verify`."""

import sys
from typing import Annotated

import typer

from prunecli.cli.help import CONTENT, GATE, OTHER, OUTPUT, SELECTION
from prunecli.reporting.options import ListFormat, ReportFormat, Sort

__all__ = [
    "All",
    "AllowChanges",
    "AllowedChanges",
    "Baseline",
    "Checkpoints",
    "ComparisonFormat",
    "Depth",
    "FailOver",
    "FailUnder",
    "Format",
    "ListFormatOption",
    "New",
    "NoFold",
    "Old",
    "OnlyZeros",
    "Order",
    "ParamsSchema",
    "Plot",
    "ReportOutputPath",
    "ReportPath",
    "Schema",
    "Silent",
    "Top",
]


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
All = Annotated[
    bool,
    typer.Option(
        "--all",
        help="List every tensor, with its role.\nRoles are mask, statistic, optimizer state, and others.",
        rich_help_panel=SELECTION,
    ),
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
ListFormatOption = Annotated[
    ListFormat,
    typer.Option("--format", help="json, or table (default; in a pipe, with tabs).", rich_help_panel=OUTPUT),
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
NoFold = Annotated[
    bool,
    typer.Option(
        "--no-fold",
        help="Show similar layers one by one.\nOtherwise, a table longer than the screen shows them as one.",
        rich_help_panel=OUTPUT,
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
        help="Compare; exit 7 unless only new zeros differ.\nCKPT is the earlier checkpoint.",
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
Silent = Annotated[
    bool, typer.Option("-q", "--quiet", help="Print only errors; the exit code is the result.", rich_help_panel=OTHER)
]

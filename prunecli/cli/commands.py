"""The commands: options in, one library call, the result rendered."""

import sys
from typing import Annotated

import typer

from prunecli.cli import render
from prunecli.cli.options import (
    Amount,
    Checkpoint,
    Exclude,
    Force,
    Foreign,
    Jobs,
    Key,
    MaskDtype,
    MinDim,
    Output,
    Params,
    Quiet,
    ReportFormat,
    checkpoint_path,
    destination_of,
    output_path,
    selection_of,
)
from prunecli.core.amount import parse_amount
from prunecli.errors import ThresholdError, UsageError
from prunecli.formats import base as formats
from prunecli.formats.opening import Opened, confirm, open_any
from prunecli.formats.outputs import check_output, write_output
from prunecli.surgery.destinations import Destination
from prunecli.surgery.parameters import parameters_of
from prunecli.surgery.plan import Plan, Prune, plan_bake, plan_prune
from prunecli.surgery.report import measure, render_json
from prunecli.surgery.rewrite import check_destination, rewrite
from prunecli.surgery.select import select

__all__ = ["apply", "params", "remove", "report"]

ReportFile = Annotated[
    str | None, typer.Option("--report", metavar="PATH|-", help="The JSON report; default: beside the output.")
]
NoReport = Annotated[bool, typer.Option("--no-report", help="Write no report.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and write nothing.")]


def apply(
    checkpoint: Checkpoint,
    amount: Amount,
    param: Params = None,
    exclude: Exclude = None,
    together: Annotated[
        bool, typer.Option("--global", help="One amount over all selected parameters together.")
    ] = False,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Seed of the masks; drawn and told if absent.")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Bake: write zeros into the weights, no masks.")] = False,
    mask_dtype: Annotated[MaskDtype, typer.Option("--mask-dtype", help="Type of new masks.")] = MaskDtype.BOOL,
    key: Key = None,
    foreign: Foreign = False,
    untie: Annotated[bool, typer.Option("--untie", help="Mask a tied parameter and keep its partners dense.")] = False,
    min_dim: MinDim = 0,
    zeros_are_pruned: Annotated[
        bool, typer.Option("--zeros-are-pruned", help="Elements that are zero count as pruned already.")
    ] = False,
    output: Output = None,
    report: ReportFile = None,
    no_report: NoReport = False,
    dry_run: DryRun = False,
    force: Force = False,
    jobs: Jobs = None,
    quiet: Quiet = False,
) -> None:
    """Prune parameters at random: weight -> weight_orig + weight_mask, or zeros with --remove."""
    selection = selection_of(param, exclude, min_dim)
    if selection is None:
        raise UsageError("nothing is selected; add -p NAME or a pattern like -p '*.weight'")
    share = parse_amount(amount)
    prune = Prune(selection, share, seed, together, remove, untie, zeros_are_pruned, mask_dtype.value)
    source = checkpoint_path(checkpoint)
    destination = destination_of(source, "apply", output, report, no_report=no_report, force=force)
    with open_any(source, formats.Reading(key, foreign)) as opened:
        plan = plan_prune(opened, prune)
        if share == 1 and isinstance(share, int):
            render.note("amount 1 prunes one element; 1.0 prunes all of them", quiet=quiet)
        _carry_out(opened, plan, destination, told=report == "-", dry_run=dry_run, jobs=jobs, quiet=quiet)


def remove(
    checkpoint: Checkpoint,
    param: Params = None,
    exclude: Exclude = None,
    key: Key = None,
    foreign: Foreign = False,
    output: Output = None,
    report: ReportFile = None,
    no_report: NoReport = False,
    dry_run: DryRun = False,
    force: Force = False,
    jobs: Jobs = None,
    quiet: Quiet = False,
) -> None:
    """Bake the masks that a checkpoint has: weight_orig * weight_mask -> weight."""
    source = checkpoint_path(checkpoint)
    destination = destination_of(source, "remove", output, report, no_report=no_report, force=force)
    with open_any(source, formats.Reading(key, foreign)) as opened:
        plan = plan_bake(opened, selection_of(param, exclude))
        _carry_out(opened, plan, destination, told=report == "-", dry_run=dry_run, jobs=jobs, quiet=quiet)


def report(
    checkpoint: Checkpoint,
    param: Params = None,
    exclude: Exclude = None,
    min_dim: MinDim = 0,
    key: Key = None,
    foreign: Foreign = False,
    style: Annotated[ReportFormat, typer.Option("--format", help="How to write it.")] = ReportFormat.TABLE,
    output: Output = None,
    fail_under: Annotated[
        float | None, typer.Option("--fail-under", min=0.0, max=1.0, help="Exit 7 if the total sparsity is below.")
    ] = None,
    force: Force = False,
    jobs: Jobs = None,
) -> None:
    """Count the zeros of a checkpoint's parameters."""
    target = None if output in (None, "-") else check_output(output_path(str(output), "--output"), force=force)
    with open_any(checkpoint_path(checkpoint), formats.Reading(key, foreign)) as opened:
        result = measure(opened, selection_of(param, exclude, min_dim), jobs=jobs)
        confirm(opened)
    text = render_json(result).decode("ascii") if style is ReportFormat.JSON else render.report_table(result)
    if target is None:
        sys.stdout.write(text)
    else:
        write_output(target, text.encode("utf-8"))
    if fail_under is not None and result.totals.sparsity < fail_under:
        raise ThresholdError(f"the sparsity is {result.totals.sparsity:.6f}, below --fail-under {fail_under}")


def params(
    checkpoint: Checkpoint,
    param: Params = None,
    exclude: Exclude = None,
    min_dim: MinDim = 0,
    key: Key = None,
    foreign: Foreign = False,
) -> None:
    """List what can be pruned: names, types, shapes; plain lines when piped."""
    selection = selection_of(param, exclude, min_dim)
    with open_any(checkpoint_path(checkpoint), formats.Reading(key, foreign)) as opened:
        found = parameters_of(opened)
        chosen = list(found.values()) if selection is None else select(found, selection)
        render.parameters(opened, chosen)


def _carry_out(
    opened: Opened,
    plan: Plan,
    destination: Destination,
    *,
    told: bool,
    dry_run: bool,
    jobs: int | None,
    quiet: bool,
) -> None:
    """Do what a plan says, or print it and look whether it could be done; `told` sends the report to stdout."""
    render.rivals(opened, quiet=quiet)
    if dry_run:
        render.plan_table(plan, destination)
        check_destination(opened, destination)
        return
    with render.progress(opened, quiet=quiet) as progress:
        result = rewrite(opened, plan, destination, jobs=jobs, progress=progress)
    render.result(result, destination, to_stdout=told, quiet=quiet)

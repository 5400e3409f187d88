"""The commands: options in, one library call, the result rendered."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Annotated

import typer

from prunecli.cli import render
from prunecli.cli.comparing import baseline_of
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
    Resume,
    checkpoint_path,
    destination_of,
    input_path,
    selection_of,
)
from prunecli.cli.requests import Asked, Ways, check_asked, plan_of, request_of
from prunecli.cli.showing import deliver, settle
from prunecli.cli.verifying import verification_text
from prunecli.errors import UsageError
from prunecli.formats import base as formats
from prunecli.formats.locations import Location
from prunecli.formats.opening import Opened, confirm, open_any
from prunecli.reporting.forms import Form
from prunecli.reporting.schema import schema_text
from prunecli.reporting.terminal import View
from prunecli.reporting.tree import Sort
from prunecli.surgery.destinations import Destination
from prunecli.surgery.gates import check_gates, parse_gate
from prunecli.surgery.parameters import parameters_of
from prunecli.surgery.plan import Plan, plan_bake
from prunecli.surgery.report import measure
from prunecli.surgery.report_reading import read_report
from prunecli.surgery.request import Prune
from prunecli.surgery.rewrite import rehearse, rewrite, unfinished
from prunecli.surgery.rewrite_units import Run
from prunecli.surgery.select import select
from prunecli.surgery.team import Team, team_of_launcher
from prunecli.surgery.verify import check_verification, verify_checkpoint

__all__ = ["apply", "params", "remove", "report", "verify"]

ReportFile = Annotated[
    str | None, typer.Option("--report", metavar="PATH|-", help="The JSON report; default: beside the output.")
]
NoReport = Annotated[bool, typer.Option("--no-report", help="Write no report.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and write nothing.")]


def apply(
    checkpoint: Checkpoint,
    amount: Amount = None,
    param: Params = None,
    exclude: Exclude = None,
    together: Annotated[
        bool, typer.Option("--global", help="One amount over all selected parameters together.")
    ] = False,
    recipe: Annotated[
        str | None, typer.Option("--recipe", metavar="TOML|-", help="Several groups, with an amount each, from a file.")
    ] = None,
    from_report: Annotated[
        str | None, typer.Option("--from-report", metavar="JSON|-", help="The masks that a report tells of, once more.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Seed of the masks; drawn and told if absent.")
    ] = None,
    remove: Annotated[
        bool | None,
        typer.Option("--remove/--no-remove", help="Bake: write zeros into the weights, no masks.", show_default=False),
    ] = None,
    mask_dtype: Annotated[
        MaskDtype | None, typer.Option("--mask-dtype", help="Type of new masks; bool if absent.")
    ] = None,
    key: Key = None,
    foreign: Foreign = False,
    untie: Annotated[bool, typer.Option("--untie", help="Mask a tied parameter and keep its partners dense.")] = False,
    min_dim: MinDim = 0,
    zeros_are_pruned: Annotated[
        bool, typer.Option("--zeros-are-pruned", help="Elements that are zero count as pruned already.")
    ] = False,
    stamp: Annotated[
        bool, typer.Option("--stamp", help="Write what made the masks into a safetensors file's metadata, too.")
    ] = False,
    output: Output = None,
    report: ReportFile = None,
    no_report: NoReport = False,
    dry_run: DryRun = False,
    force: Force = False,
    resume: Resume = False,
    jobs: Jobs = None,
    quiet: Quiet = False,
) -> None:
    """Prune parameters at random: weight -> weight_orig + weight_mask, or zeros with --remove."""
    ways = Ways(seed, remove, mask_dtype, untie, zeros_are_pruned)
    asked = Asked(selection_of(param, exclude, min_dim), amount, together, ways, recipe, from_report)
    source = checkpoint_path(checkpoint)
    check_asked(asked, stdin_is_taken=source is None)
    destination = destination_of(source, "apply", output, report, no_report=no_report, force=force)
    with _opened(source, formats.Reading(key, foreign)) as (team, opened):
        run = _run(team, jobs, resume=resume)
        speech = _Speech(told=report == "-", dry_run=dry_run, quiet=quiet or not team.leads)
        request = team.share(lambda: request_of(asked))
        request = replace(request, prune=_seeded(request.prune, opened, destination, run))
        plan = team.share(lambda: plan_of(opened, request, stamp=stamp))
        render.counts(request.prune, quiet=speech.quiet or request.told is not None)
        _carry_out(opened, plan, destination, run, speech)


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
    resume: Resume = False,
    jobs: Jobs = None,
    quiet: Quiet = False,
) -> None:
    """Bake the masks that a checkpoint has: weight_orig * weight_mask -> weight."""
    source = checkpoint_path(checkpoint)
    destination = destination_of(source, "remove", output, report, no_report=no_report, force=force)
    with _opened(source, formats.Reading(key, foreign)) as (team, opened):
        run = _run(team, jobs, resume=resume)
        speech = _Speech(told=report == "-", dry_run=dry_run, quiet=quiet or not team.leads)
        plan = team.share(lambda: plan_bake(opened, selection_of(param, exclude)))
        _carry_out(opened, plan, destination, run, speech)


def _print_schema(value: bool) -> None:
    if value:
        sys.stdout.write(schema_text())
        raise typer.Exit


def report(
    checkpoint: Checkpoint,
    param: Params = None,
    exclude: Exclude = None,
    min_dim: MinDim = 0,
    key: Key = None,
    foreign: Foreign = False,
    style: Annotated[
        Form | None, typer.Option("--format", help="How to write it; default: by the suffix of -o, else a table.")
    ] = None,
    output: Output = None,
    plot: Annotated[
        str | None, typer.Option("--plot", metavar="FILE", help="Also draw a figure: FILE.png, .svg or .pdf.")
    ] = None,
    depth: Annotated[
        int | None, typer.Option("--depth", min=0, help="Levels of modules in the table; default: what fits.")
    ] = None,
    sort: Annotated[Sort, typer.Option("--sort", help="Order of the table; name is the file's order.")] = "name",
    top: Annotated[
        int | None, typer.Option("--top", min=1, metavar="N", help="Only the first N parameters, without modules.")
    ] = None,
    schema: Annotated[
        bool,
        typer.Option("--schema", callback=_print_schema, is_eager=True, help="Print the JSON Schema of --format json."),
    ] = False,
    fail_under: Annotated[
        list[str] | None,
        typer.Option("--fail-under", metavar="[PATTERN=]0.5", help="Exit 7 if the sparsity is below; may be repeated."),
    ] = None,
    fail_over: Annotated[
        list[str] | None,
        typer.Option("--fail-over", metavar="[PATTERN=]0.5", help="Exit 7 if the sparsity is above; may be repeated."),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option("--baseline", metavar="BEFORE", help="Compare with this; exit 7 if not only zeros were added."),
    ] = None,
    allow_changes: Annotated[
        bool, typer.Option("--allow-changes", help="With --baseline: values may have changed, but none be revived.")
    ] = False,
    force: Force = False,
    jobs: Jobs = None,
) -> None:
    """Count the zeros of a checkpoint's parameters, or compare them with those of an earlier one."""
    wanted = settle(style, output, plot, View(depth, sort, top), force=force)
    gates = [parse_gate("under", text) for text in fail_under or ()]
    gates += [parse_gate("over", text) for text in fail_over or ()]
    earlier = baseline_of(baseline, wanted, gates, allow_changes=allow_changes)
    reading, selection = formats.Reading(key, foreign), selection_of(param, exclude, min_dim)
    with _opened(checkpoint_path(checkpoint), reading) as (team, opened):
        run = _run(team, jobs)
        if earlier is not None:
            comparison = earlier.set_beside(opened, reading, selection, run)
            confirm(opened)
            earlier.deliver(comparison, wanted.target)
            return
        result = measure(opened, selection, run, structure=True, pictures=wanted.pictures)
        confirm(opened)
        if not team.leads:
            return
    deliver(result, wanted)
    check_gates(result, gates)


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
    with _opened(checkpoint_path(checkpoint), formats.Reading(key, foreign)) as (team, opened):
        if not team.leads:
            return
        found = parameters_of(opened)
        chosen = list(found.values()) if selection is None else select(found, selection)
        render.parameters(opened, chosen)


def verify(
    checkpoint: Checkpoint,
    told: Annotated[str, typer.Argument(metavar="REPORT", help="The JSON report; - is standard input.")],
    key: Key = None,
    foreign: Foreign = False,
    jobs: Jobs = None,
) -> None:
    """Check that a checkpoint is what a report of apply, remove or report says; exit 7 if it is not."""
    source, place = checkpoint_path(checkpoint), input_path(told, "REPORT")
    if source is None and place is None:
        raise UsageError("checkpoint and report cannot both come from one standard input; give one of them a path")
    with _opened(source, formats.Reading(key, foreign)) as (team, opened):
        expected = team.share(lambda: read_report(place))
        result = verify_checkpoint(opened, expected, _run(team, jobs))
        confirm(opened)
        if team.leads:
            sys.stdout.write(verification_text(opened.source.label, result))
            check_verification(result)


@contextmanager
def _opened(source: Location | None, reading: formats.Reading) -> Iterator[tuple[Team, Opened]]:
    """Join the other ranks, if there are any, and open the checkpoint, each rank for itself."""
    with team_of_launcher() as team, ExitStack() as stack:
        if source is None and team.size > 1:
            raise UsageError("several ranks cannot read one standard input; give the checkpoint's path")
        yield team, team.each(lambda: stack.enter_context(open_any(source, reading)))


def _run(team: Team, jobs: int | None, *, resume: bool = False) -> Run:
    return Run(jobs, None, team, resume or team.restarts > 0, resume or team.restartable)


def _seeded(prune: Prune, opened: Opened, destination: Destination, run: Run) -> Prune:
    """Give a request that names no seed the one that the unfinished output was begun with, if that is resumed."""
    if prune.seed is None and run.resume:
        return replace(prune, seed=run.team.share(lambda: unfinished(opened, destination)))
    return prune


@dataclass(frozen=True, slots=True)
class _Speech:
    """What is said of a run: `told` sends the report to stdout, `dry_run` prints the plan and does nothing."""

    told: bool
    dry_run: bool
    quiet: bool


def _carry_out(opened: Opened, plan: Plan, destination: Destination, run: Run, speech: _Speech) -> None:
    """Do what a plan says, or print it and look whether it could be done."""
    render.rivals(opened, quiet=speech.quiet)
    if speech.dry_run:
        if run.team.leads:
            render.plan_table(plan, destination)
            rehearse(opened, plan, destination, run)
        return
    with render.progress(opened, quiet=speech.quiet) as progress:
        result = rewrite(opened, plan, destination, replace(run, progress=progress))
    if run.team.leads:
        render.result(result, destination, to_stdout=speech.told, quiet=speech.quiet)

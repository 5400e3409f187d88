"""The commands: options in, one library call, the result rendered."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from prunecli.cli import arguments as take
from prunecli.cli import render
from prunecli.cli.comparing import baseline_of
from prunecli.cli.lists import with_list
from prunecli.cli.options import checkpoint_path, destination_of, input_path, selection_of
from prunecli.cli.progress import progress
from prunecli.cli.requests import Asked, Ways, check_asked, plan_of, request_of
from prunecli.cli.showing import deliver, settle
from prunecli.cli.verifying import verification_text
from prunecli.errors import UsageError
from prunecli.formats import base as formats
from prunecli.formats.locations import Location
from prunecli.formats.opening import Opened, confirm, open_any
from prunecli.reporting.terminal import View
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


def apply(
    checkpoint: take.Checkpoint,
    amount: take.Amount = None,
    param: take.Params = None,
    listed: take.ParamsFrom = None,
    exclude: take.Exclude = None,
    together: take.Together = False,
    recipe: take.Recipe = None,
    from_report: take.FromReport = None,
    seed: take.Seed = None,
    remove: take.Remove = None,
    mask_dtype: take.NewMasks = None,
    key: take.Key = None,
    foreign: take.Foreign = False,
    untie: take.Untie = False,
    min_dim: take.MinDim = 0,
    zeros_are_pruned: take.ZerosArePruned = False,
    stamp: take.Stamp = False,
    output: take.Output = None,
    report: take.ReportFile = None,
    no_report: take.NoReport = False,
    dry_run: take.DryRun = False,
    force: take.Force = False,
    resume: take.Resume = False,
    jobs: take.Jobs = None,
    quiet: take.Quiet = False,
) -> None:
    """Prune parameters at random: weight -> weight_orig + weight_mask, or zeros with --remove."""
    selection = selection_of(with_list(param, listed, checkpoint), exclude, min_dim)
    ways = Ways(seed, remove, mask_dtype, untie, zeros_are_pruned)
    asked = Asked(selection, amount, together, ways, recipe, from_report)
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
    checkpoint: take.Checkpoint,
    param: take.Params = None,
    listed: take.ParamsFrom = None,
    exclude: take.Exclude = None,
    key: take.Key = None,
    foreign: take.Foreign = False,
    output: take.Output = None,
    report: take.ReportFile = None,
    no_report: take.NoReport = False,
    dry_run: take.DryRun = False,
    force: take.Force = False,
    resume: take.Resume = False,
    jobs: take.Jobs = None,
    quiet: take.Quiet = False,
) -> None:
    """Bake the masks that a checkpoint has: weight_orig * weight_mask -> weight."""
    selection = selection_of(with_list(param, listed, checkpoint), exclude)
    source = checkpoint_path(checkpoint)
    destination = destination_of(source, "remove", output, report, no_report=no_report, force=force)
    with _opened(source, formats.Reading(key, foreign)) as (team, opened):
        run = _run(team, jobs, resume=resume)
        speech = _Speech(told=report == "-", dry_run=dry_run, quiet=quiet or not team.leads)
        plan = team.share(lambda: plan_bake(opened, selection))
        _carry_out(opened, plan, destination, run, speech)


def report(
    checkpoint: take.Checkpoint,
    param: take.Params = None,
    listed: take.ParamsFrom = None,
    exclude: take.Exclude = None,
    min_dim: take.MinDim = 0,
    key: take.Key = None,
    foreign: take.Foreign = False,
    style: take.Style = None,
    output: take.Output = None,
    plot: take.Plot = None,
    depth: take.Depth = None,
    sort: take.Order = "name",
    top: take.Top = None,
    schema: take.Schema = False,
    fail_under: take.FailUnder = None,
    fail_over: take.FailOver = None,
    baseline: take.Earlier = None,
    allow_changes: take.AllowChanges = False,
    force: take.Force = False,
    jobs: take.Jobs = None,
    quiet: take.Silent = False,
) -> None:
    """Count the zeros of a checkpoint's parameters, or compare them with those of an earlier one."""
    selection = selection_of(with_list(param, listed, checkpoint), exclude, min_dim)
    wanted = settle(style, output, plot, View(depth, sort, top), force=force)
    gates = [parse_gate("under", text) for text in fail_under or ()]
    gates += [parse_gate("over", text) for text in fail_over or ()]
    earlier = baseline_of(baseline, wanted, gates, allow_changes=allow_changes)
    reading = formats.Reading(key, foreign)
    with _opened(checkpoint_path(checkpoint), reading) as (team, opened):
        with progress(opened, quiet=quiet or not team.leads, patient=True) as told:
            run = replace(_run(team, jobs), progress=told)
            if earlier is None:
                result = measure(opened, selection, run, structure=True, pictures=wanted.pictures)
            else:
                comparison = earlier.set_beside(opened, reading, selection, run)
        if earlier is not None:
            confirm(opened)
            earlier.deliver(comparison, wanted.target)
            return
        confirm(opened)
        if not team.leads:
            return
    deliver(result, wanted)
    check_gates(result, gates)


def params(
    checkpoint: take.Checkpoint,
    param: take.Params = None,
    listed: take.ParamsFrom = None,
    exclude: take.Exclude = None,
    min_dim: take.MinDim = 0,
    key: take.Key = None,
    foreign: take.Foreign = False,
) -> None:
    """List what can be pruned: names, types, shapes; plain lines when piped."""
    selection = selection_of(with_list(param, listed, checkpoint), exclude, min_dim)
    with _opened(checkpoint_path(checkpoint), formats.Reading(key, foreign)) as (team, opened):
        if not team.leads:
            return
        found = parameters_of(opened)
        chosen = list(found.values()) if selection is None else select(found, selection)
        render.parameters(opened, chosen)


def verify(
    checkpoint: take.Checkpoint,
    told: take.ReportToHold,
    key: take.Key = None,
    foreign: take.Foreign = False,
    jobs: take.Jobs = None,
    quiet: take.Silent = False,
) -> None:
    """Check that a checkpoint is what a report of apply, remove or report says; exit 7 if it is not."""
    source, place = checkpoint_path(checkpoint), input_path(told, "REPORT")
    if source is None and place is None:
        raise UsageError("checkpoint and report cannot both come from one standard input; give one of them a path")
    with _opened(source, formats.Reading(key, foreign)) as (team, opened):
        expected = team.share(lambda: read_report(place))
        with progress(opened, quiet=quiet or not team.leads, patient=True) as ticks:
            result = verify_checkpoint(opened, expected, replace(_run(team, jobs), progress=ticks))
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
    with progress(opened, quiet=speech.quiet) as told:
        result = rewrite(opened, plan, destination, replace(run, progress=told))
    if run.team.leads:
        render.result(result, destination, to_stdout=speech.told, quiet=speech.quiet)

"""The commands: options in, one library call, the result rendered."""

import functools
import sys
from dataclasses import replace

from prunecli.cli import arguments as arg
from prunecli.cli import render
from prunecli.cli.comparing import baseline_of
from prunecli.cli.listing import list_parameters, list_tensors
from prunecli.cli.lists import with_list
from prunecli.cli.options import checkpoint_path, destination_of, selection_of
from prunecli.cli.progress import progress
from prunecli.cli.requests import Asked, Ways, check_asked, plan_of, request_of
from prunecli.cli.running import Speech, carry_out, opened_by, reading_of, run_of, seeded
from prunecli.cli.showing import deliver, settle
from prunecli.cli.verifying import report_beside, report_reader, verification_text
from prunecli.formats import base as formats
from prunecli.formats.opening import check_unchanged
from prunecli.reporting.options import TableOptions
from prunecli.surgery.plan.plan import plan_bake
from prunecli.surgery.report.gates import check_gates, parse_gate
from prunecli.surgery.report.measure import measure
from prunecli.surgery.run.scan import RunScanner
from prunecli.surgery.verify import check_verification, verify_checkpoint

__all__ = ["apply", "params", "remove", "report", "verify"]


def apply(
    checkpoint: arg.Checkpoint,
    amount: arg.Amount = None,
    param: arg.Params = None,
    listed: arg.ParamsFrom = None,
    exclude: arg.Exclude = None,
    together: arg.Together = False,
    recipe: arg.Recipe = None,
    from_report: arg.FromReport = None,
    seed: arg.Seed = None,
    key_prefix: arg.KeyPrefix = None,
    remove: arg.Bake = None,
    mask_dtype: arg.MaskType = None,
    key: arg.Key = None,
    foreign: arg.Foreign = False,
    follow_links: arg.FollowLinks = False,
    untie: arg.Untie = False,
    min_dim: arg.MinDim = 0,
    zeros_are_pruned: arg.ZerosArePruned = False,
    with_state: arg.WithState = False,
    stamp: arg.Stamp = False,
    output: arg.Output = None,
    report: arg.ReportFile = None,
    no_report: arg.NoReport = False,
    dry_run: arg.DryRun = False,
    force: arg.Force = False,
    resume: arg.Resume = False,
    link: arg.Link = False,
    jobs: arg.Jobs = None,
    quiet: arg.Quiet = False,
) -> None:
    """Prune parameters at random: weight -> weight_orig + weight_mask, or zeros with --remove."""
    selection = selection_of(with_list(param, listed, checkpoint), exclude, min_dim)
    ways = Ways(seed, remove, mask_dtype, untie, zeros_are_pruned, key_prefix, with_state)
    asked = Asked(selection, amount, together, ways, recipe, from_report)
    source = checkpoint_path(checkpoint)
    check_asked(asked, stdin_is_taken=source is None)
    destination = destination_of(source, "apply", output, report, no_report=no_report, force=force)
    reading = formats.ReadOptions(key, foreign, follow_links)
    requested = functools.cache(lambda: request_of(asked))
    with opened_by(source, lambda: reading_of(reading, requested().told), quiet=quiet) as (ranks, opened):
        run = run_of(ranks, jobs, resume=resume, link=link)
        speech = Speech(told=report == "-", dry_run=dry_run, quiet=quiet or not ranks.is_leader)
        request = ranks.from_leader(requested)
        request = replace(request, prune=seeded(request.prune, opened, destination, run))
        with progress(opened, quiet=speech.quiet, patient=True) as ticks:
            plan = plan_of(opened, request, RunScanner(replace(run, progress=ticks)), stamp=stamp)
        plan = replace(plan, key=reading_of(reading, request.told).key)
        render.counts(request.prune, quiet=speech.quiet or request.told is not None)
        carry_out(opened, plan, destination, run, speech)


def remove(
    checkpoint: arg.Checkpoint,
    param: arg.Params = None,
    listed: arg.ParamsFrom = None,
    exclude: arg.Exclude = None,
    key: arg.Key = None,
    foreign: arg.Foreign = False,
    follow_links: arg.FollowLinks = False,
    output: arg.Output = None,
    report: arg.ReportFile = None,
    no_report: arg.NoReport = False,
    dry_run: arg.DryRun = False,
    force: arg.Force = False,
    resume: arg.Resume = False,
    link: arg.Link = False,
    jobs: arg.Jobs = None,
    quiet: arg.Quiet = False,
) -> None:
    """Bake the masks that a checkpoint has: weight_orig * weight_mask -> weight."""
    selection = selection_of(with_list(param, listed, checkpoint), exclude)
    source = checkpoint_path(checkpoint)
    destination = destination_of(source, "remove", output, report, no_report=no_report, force=force)
    with opened_by(source, formats.ReadOptions(key, foreign, follow_links), quiet=quiet) as (ranks, opened):
        run = run_of(ranks, jobs, resume=resume, link=link)
        speech = Speech(told=report == "-", dry_run=dry_run, quiet=quiet or not ranks.is_leader)
        with progress(opened, quiet=speech.quiet, patient=True) as ticks:
            plan = plan_bake(opened, selection, scanner=RunScanner(replace(run, progress=ticks)))
        plan = replace(plan, key=key)
        carry_out(opened, plan, destination, run, speech)


def report(
    checkpoint: arg.Checkpoint,
    param: arg.Params = None,
    listed: arg.ParamsFrom = None,
    exclude: arg.Exclude = None,
    min_dim: arg.MinDim = 0,
    key: arg.Key = None,
    foreign: arg.Foreign = False,
    follow_links: arg.FollowLinks = False,
    style: arg.Style = None,
    output: arg.Output = None,
    plot: arg.Plot = None,
    depth: arg.Depth = None,
    sort: arg.Order = "name",
    top: arg.Top = None,
    schema: arg.Schema = False,
    fail_under: arg.FailUnder = None,
    fail_over: arg.FailOver = None,
    baseline: arg.Baseline = None,
    allow_changes: arg.AllowChanges = False,
    force: arg.Force = False,
    jobs: arg.Jobs = None,
    quiet: arg.Silent = False,
) -> None:
    """Count the zeros of a checkpoint's parameters, or compare them with those of an earlier one."""
    wanted = settle(style, output, plot, TableOptions(depth, sort, top), force=force)
    gates = [parse_gate("under", text) for text in fail_under or ()]
    gates += [parse_gate("over", text) for text in fail_over or ()]
    earlier = baseline_of(baseline, wanted, gates, allow_changes=allow_changes)
    source = checkpoint_path(checkpoint)
    reading = formats.ReadOptions(key, foreign, follow_links)
    if earlier is not None and key is None:
        reading = reading_of(reading, report_beside(source))
    selection = selection_of(with_list(param, listed, checkpoint), exclude, min_dim)
    with opened_by(source, reading, quiet=quiet) as (ranks, opened):
        with progress(opened, quiet=quiet or not ranks.is_leader, patient=True) as told:
            run = replace(run_of(ranks, jobs), progress=told)
            if earlier is None:
                result = measure(opened, selection, run, structure=True, pictures=wanted.pictures)
                result = replace(result, key=key)
            else:
                comparison = earlier.set_beside(opened, reading, selection, run)
        check_unchanged(opened)
        if earlier is not None:
            earlier.deliver(comparison, wanted.target)
            return
        if not ranks.is_leader:
            return
    deliver(result, wanted)
    check_gates(result, gates)


def params(
    checkpoint: arg.Checkpoint,
    param: arg.Params = None,
    listed: arg.ParamsFrom = None,
    exclude: arg.Exclude = None,
    min_dim: arg.MinDim = 0,
    every: arg.All = False,
    key: arg.Key = None,
    foreign: arg.Foreign = False,
    follow_links: arg.FollowLinks = False,
) -> None:
    """List what can be pruned: names, types, shapes, states; plain lines when piped."""
    selection = selection_of(with_list(param, listed, checkpoint), exclude, min_dim)
    with opened_by(checkpoint_path(checkpoint), formats.ReadOptions(key, foreign, follow_links)) as (ranks, opened):
        if not ranks.is_leader:
            return
        (list_tensors if every else list_parameters)(opened, selection)


def verify(
    checkpoint: arg.Checkpoint,
    told: arg.Told = None,
    key: arg.Key = None,
    foreign: arg.Foreign = False,
    follow_links: arg.FollowLinks = False,
    jobs: arg.Jobs = None,
    quiet: arg.Silent = False,
) -> None:
    """Check that a checkpoint is what a report of apply, remove or report says; exit 7 if it is not."""
    source = checkpoint_path(checkpoint)
    report_of = functools.cache(report_reader(source, told))
    reading = formats.ReadOptions(key, foreign, follow_links)
    with opened_by(source, lambda: reading_of(reading, report_of()), quiet=quiet) as (ranks, opened):
        expected = ranks.from_leader(report_of)
        with progress(opened, quiet=quiet or not ranks.is_leader, patient=True) as ticks:
            result = verify_checkpoint(opened, expected, replace(run_of(ranks, jobs), progress=ticks))
        check_unchanged(opened)
        if ranks.is_leader:
            sys.stdout.write(verification_text(opened.source.label, result))
            check_verification(result)

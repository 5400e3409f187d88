"""`prunecli report`."""

import sys

from prunecli.cli import options as opt
from prunecli.cli import report_options as report_opt

__all__ = ["report"]


def report(
    checkpoint: report_opt.Checkpoints,
    param: opt.Params = None,
    params_from: opt.ParamsFrom = None,
    exclude: opt.Exclude = None,
    min_dim: opt.MinDim = 0,
    key: opt.Key = None,
    foreign: opt.Foreign = False,
    follow_links: opt.FollowLinks = False,
    form: report_opt.Format = None,
    output: report_opt.ReportOutputPath = None,
    plot: report_opt.Plot = None,
    depth: report_opt.Depth = None,
    sort: report_opt.Order = "name",
    top: report_opt.Top = None,
    schema: report_opt.Schema = False,
    fail_under: report_opt.FailUnder = None,
    fail_over: report_opt.FailOver = None,
    baseline: report_opt.Baseline = None,
    allow_changes: report_opt.AllowChanges = False,
    force: opt.Force = False,
    jobs: opt.Jobs = None,
    quiet: report_opt.Silent = False,
) -> None:
    """Report the sparsity of checkpoints, or compare one with another."""
    from prunecli.cli.parse import selection_of
    from prunecli.cli.report_output import print_report
    from prunecli.cli.verbosity import Verbosity, run_options
    from prunecli.errors import UsageError
    from prunecli.formats.base import ReadOptions
    from prunecli.reporting.options import TableOptions
    from prunecli.reporting.output import plan_report_output
    from prunecli.surgery.jobs import (
        measure_checkpoint,
        measure_each,
        report_beside,
        with_progress,
        with_recorded_key,
    )
    from prunecli.surgery.listing import note_excludes, open_for_ranks
    from prunecli.surgery.places import checkpoint_location
    from prunecli.surgery.report.gates import check_gates, parse_gates

    table, file = TableOptions(depth, sort, top), None if output == "-" else output
    written = plan_report_output(form, file, plot, table, force=force)
    gates = parse_gates(fail_under or (), fail_over or ())
    diff = None
    if baseline is not None or allow_changes:
        from prunecli.cli.comparison import plan_diff

        diff = plan_diff(baseline, written, gates, allow_changes=allow_changes)
    first, *more = sources = [checkpoint_location(each) for each in checkpoint]
    reading = ReadOptions(key, foreign, follow_links, read_only=True)
    if more:
        written.check_for_several()
        if diff is not None:
            raise UsageError("--baseline compares one checkpoint; give one, or leave --baseline out")
    if diff is not None:
        reading = with_recorded_key(reading, report_beside(first))
    selection = selection_of("-" if None in sources else "", param, params_from, exclude, min_dim, reading=True)
    with run_options(jobs) as run:
        verbosity = Verbosity(quiet or not run.ranks.is_leader)
        if more:
            from prunecli.cli.report_each import report_each

            report_each(measure_each(sources, reading, selection, run, verbosity), written, gates, run, quiet=quiet)
            return
        with (
            open_for_ranks(first, reading, run, verbosity) as opened,
            with_progress(run, opened, verbosity) as shown,
        ):
            note_excludes(opened, [selection], verbosity)
            if diff is not None:
                diff.compare(opened, reading, selection, shown, verbosity)
                return
            found = measure_checkpoint(opened, selection, shown, key=key, pictures=written.pictures)
            written = written.closed_like(opened)
        if run.ranks.is_leader:
            print_report(found, written, verbosity, lines=form is None and not sys.stdout.isatty())
            check_gates(found, gates)

"""`prunecli diff`."""

from prunecli.cli import options as opt
from prunecli.cli import report_options as report_opt

__all__ = ["diff"]


def diff(
    old: report_opt.Old,
    new: report_opt.New,
    param: opt.Params = None,
    params_from: opt.ParamsFrom = None,
    exclude: opt.Exclude = None,
    min_dim: opt.MinDim = 0,
    key: opt.Key = None,
    foreign: opt.Foreign = False,
    follow_links: opt.FollowLinks = False,
    only_zeros: report_opt.OnlyZeros = False,
    allow_changes: report_opt.AllowedChanges = False,
    form: report_opt.ComparisonFormat = None,
    output: report_opt.ReportOutputPath = None,
    depth: report_opt.Depth = None,
    sort: report_opt.Order = "name",
    top: report_opt.Top = None,
    force: opt.Force = False,
    jobs: opt.Jobs = None,
    quiet: report_opt.Silent = False,
) -> None:
    """Compare a checkpoint with an earlier one, tensor by tensor."""
    from prunecli.cli.comparison import Diff
    from prunecli.cli.parse import selection_of
    from prunecli.cli.verbosity import Verbosity, run_options
    from prunecli.formats.base import ReadOptions
    from prunecli.reporting.options import TableOptions
    from prunecli.reporting.output import plan_report_output
    from prunecli.surgery.compare.model import check_allowance
    from prunecli.surgery.jobs import report_beside, with_progress, with_recorded_key
    from prunecli.surgery.listing import note_excludes, open_for_ranks
    from prunecli.surgery.places import checkpoint_location

    check_allowance(only_zeros=only_zeros, allow_changes=allow_changes)
    table, file = TableOptions(depth, sort, top), None if output == "-" else output
    written = plan_report_output(form, file, None, table, force=force)
    written.check_for_comparison()
    source, baseline = checkpoint_location(new), checkpoint_location(old)
    planned = Diff(baseline, written, only_zeros, allow_changes)
    reading = ReadOptions(key, foreign, follow_links, read_only=True)
    reading = with_recorded_key(reading, report_beside(source))
    taken = "-" if None in (source, baseline) else ""
    selection = selection_of(taken, param, params_from, exclude, min_dim, reading=True)
    with run_options(jobs) as run:
        verbosity = Verbosity(quiet or not run.ranks.is_leader)
        with open_for_ranks(source, reading, run, verbosity) as opened, with_progress(run, opened, verbosity) as shown:
            note_excludes(opened, [selection], verbosity)
            planned.compare(opened, reading, selection, shown, verbosity)

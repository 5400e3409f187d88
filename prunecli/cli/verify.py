"""`prunecli verify`."""

from functools import cache

import typer

from prunecli.cli import options as opt
from prunecli.cli import report_options as report_opt

__all__ = ["verify"]


def verify(
    checkpoint: opt.Checkpoint,
    report: report_opt.ReportPath = None,
    key: opt.Key = None,
    foreign: opt.Foreign = False,
    follow_links: opt.FollowLinks = False,
    jobs: opt.Jobs = None,
    quiet: report_opt.Silent = False,
) -> None:
    """Check that a checkpoint matches its report; exit 7 if it does not."""
    from prunecli.cli.run import print_verification
    from prunecli.cli.verbosity import Verbosity, run_options
    from prunecli.errors import ThresholdError
    from prunecli.formats.base import ReadOptions
    from prunecli.formats.opening import check_unchanged
    from prunecli.surgery.jobs import report_reader, with_progress, with_recorded_key
    from prunecli.surgery.listing import open_for_ranks
    from prunecli.surgery.places import checkpoint_location
    from prunecli.surgery.verify import check_verification, verify_checkpoint

    source = checkpoint_location(checkpoint)
    report_of = cache(report_reader(source, report))
    reading = ReadOptions(key, foreign, follow_links, read_only=True)
    with run_options(jobs) as run:
        verbosity = Verbosity(quiet or not run.ranks.is_leader)
        with open_for_ranks(source, lambda: with_recorded_key(reading, report_of()), run, verbosity) as opened:
            expected = run.ranks.from_leader(report_of)
            with with_progress(run, opened, verbosity) as shown:
                result = verify_checkpoint(opened, expected, shown)
            check_unchanged(opened)
    if not run.ranks.is_leader:
        return
    if not quiet:
        print_verification(opened.source.label, result)
        check_verification(result, shown=True)
    elif result.differences:
        raise typer.Exit(ThresholdError.exit_code)

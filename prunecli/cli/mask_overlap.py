"""`prunecli mask overlap`."""

import sys

from prunecli.cli import mask_options as own
from prunecli.cli import options as opt
from prunecli.cli import report_options as report_opt

__all__ = ["overlap"]


def overlap(
    a: own.A,
    b: own.B,
    param: opt.Params = None,
    params_from: opt.ParamsFrom = None,
    exclude: opt.Exclude = None,
    min_dim: opt.MinDim = 0,
    from_zeros: own.FromZeros = False,
    key: opt.Key = None,
    foreign: opt.Foreign = False,
    follow_links: opt.FollowLinks = False,
    form: report_opt.Format = None,
    output: report_opt.ReportOutputPath = None,
    force: opt.Force = False,
    jobs: opt.Jobs = None,
    quiet: report_opt.Silent = False,
) -> None:
    """Count what two masks keep in common, and what chance would give."""
    from prunecli.cli.messages import print_path
    from prunecli.cli.parse import selection_of
    from prunecli.cli.verbosity import Verbosity, run_options
    from prunecli.formats.base import ReadOptions
    from prunecli.reporting.options import ReportFormat, TableOptions
    from prunecli.reporting.output import plan_report_output
    from prunecli.reporting.overlap import OVERLAP_WRITERS, overlap_as_lines, overlap_as_text, write_overlap
    from prunecli.reporting.terminal import screen_of
    from prunecli.surgery.mask_jobs import MaskOptions, open_mask_sources, overlap_of
    from prunecli.surgery.places import checkpoint_location

    file = None if output == "-" else output
    written = plan_report_output(form, file, None, TableOptions(), force=force)
    taken = "-" if "-" in (a, b) else ""
    selection = selection_of(taken, param, params_from, exclude, min_dim, reading=True)
    options = MaskOptions(ReadOptions(key, foreign, follow_links, read_only=True), selection, from_zeros)
    sources = [checkpoint_location(each) for each in (a, b)]
    with run_options(jobs) as run, open_mask_sources(sources, options, run, Verbosity(quiet)) as (one, two):
        found = overlap_of(one, two, run, Verbosity(quiet))
        written = written.closed_like(one.checkpoint).closed_like(two.checkpoint)
    write_overlap(found, written)
    if quiet:
        return
    if written.target is not None:
        print_path(written.places[-1])
    elif written.format is not ReportFormat.TABLE:
        sys.stdout.write(OVERLAP_WRITERS[written.format](found))
    elif form is None and not sys.stdout.isatty():
        sys.stdout.write(overlap_as_lines(found))
    else:
        sys.stdout.write(overlap_as_text(found, screen_of(sys.stdout)))

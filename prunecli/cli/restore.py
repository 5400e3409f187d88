"""`prunecli restore`."""

from prunecli.cli import options as opt

__all__ = ["restore"]


def restore(
    checkpoint: opt.Checkpoint,
    param: opt.Params = None,
    params_from: opt.ParamsFrom = None,
    exclude: opt.Exclude = None,
    key: opt.Key = None,
    foreign: opt.Foreign = False,
    follow_links: opt.FollowLinks = False,
    output: opt.Output = None,
    report: opt.ReportFile = None,
    no_report: opt.NoReport = False,
    dry_run: opt.DryRun = False,
    force: opt.Force = False,
    resume: opt.Resume = False,
    link: opt.Link = False,
    jobs: opt.Jobs = None,
    quiet: opt.Quiet = False,
) -> None:
    """Drop masks without pruning: weight_orig -> weight."""
    from prunecli.cli.parse import destination_of, selection_of
    from prunecli.cli.run import carry_out
    from prunecli.cli.verbosity import Verbosity, run_options
    from prunecli.formats.base import ReadOptions
    from prunecli.surgery.places import checkpoint_location
    from prunecli.surgery.prepare import prepare_unmasking

    selection = selection_of(checkpoint, param, params_from, exclude)
    source = checkpoint_location(checkpoint)
    destination = destination_of(source, "restore", output, report, no_report=no_report, force=force)
    reading = ReadOptions(key, foreign, follow_links)
    with run_options(jobs, resume=resume, link=link) as run:
        verbosity = Verbosity(quiet or not run.ranks.is_leader, report == "-")
        with prepare_unmasking("restore", source, selection, destination, reading, run, verbosity) as job:
            carry_out(job, verbosity, dry_run=dry_run)

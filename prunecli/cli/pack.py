"""`prunecli pack` and `prunecli unpack`."""

from prunecli.cli import options as opt
from prunecli.cli import pack_options as own

__all__ = ["pack", "unpack"]


def pack(
    checkpoint: opt.Checkpoint,
    from_report: own.MaskReports = None,
    key: opt.Key = None,
    follow_links: opt.FollowLinks = False,
    output: own.PackedOutput = None,
    codec: own.CodecOption = own.Codec.ZSTD,
    verify: own.Verify = False,
    dry_run: opt.DryRun = False,
    force: opt.Force = False,
    resume: opt.Resume = False,
    jobs: opt.Jobs = None,
    quiet: opt.Quiet = False,
) -> None:
    """Make a checkpoint smaller; unpack restores it byte for byte."""
    from prunecli.cli.pack_results import binary_output, print_packed
    from prunecli.cli.verbosity import Verbosity, run_options
    from prunecli.formats.base import ReadOptions
    from prunecli.surgery.pack import PackOptions, packed_location
    from prunecli.surgery.pack_folder import pack_checkpoint
    from prunecli.surgery.places import checkpoint_location, input_location

    source = checkpoint_location(checkpoint)
    reports = [input_location(each, "--from-report") for each in from_report or ()]
    reading = ReadOptions(key, True, follow_links, read_only=True)
    options = PackOptions(reading, reports, codec.value, verify, force, dry_run)
    target = binary_output(output, lambda: packed_location(source, output), dry_run=dry_run)
    with run_options(jobs, resume=resume) as run:
        verbosity = Verbosity(quiet or not run.ranks.is_leader)
        found = pack_checkpoint(source, options, target, run, verbosity)
    if run.ranks.is_leader:
        print_packed(found, quiet=quiet, dry_run=dry_run)


def unpack(
    packed: own.Packed,
    follow_links: opt.FollowLinks = False,
    output: own.UnpackedOutput = None,
    dry_run: opt.DryRun = False,
    force: opt.Force = False,
    resume: opt.Resume = False,
    jobs: opt.Jobs = None,
    quiet: opt.Quiet = False,
) -> None:
    """Write the file that was packed, byte for byte."""
    from prunecli.cli.pack_results import binary_output, print_unpacked
    from prunecli.cli.verbosity import Verbosity, run_options
    from prunecli.surgery.places import checkpoint_location
    from prunecli.surgery.unpack import unpacked_location
    from prunecli.surgery.unpack_folder import unpack_checkpoint

    source = checkpoint_location(packed)
    target = binary_output(output, lambda: unpacked_location(source, output), dry_run=dry_run)
    with run_options(jobs, resume=resume) as run:
        verbosity = Verbosity(quiet or not run.ranks.is_leader)
        found = unpack_checkpoint(
            source, target, run, verbosity, force=force, dry_run=dry_run, follow_links=follow_links
        )
    if run.ranks.is_leader:
        print_unpacked(found, quiet=quiet, dry_run=dry_run)

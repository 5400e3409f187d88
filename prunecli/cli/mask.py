"""`prunecli mask extract`, `mask combine` and `mask invert`, and the group of all commands on masks."""

import typer

from prunecli.cli import mask_options as own
from prunecli.cli import options as opt
from prunecli.cli.help import Command, CommandGroup
from prunecli.cli.mask_overlap import overlap

__all__ = ["combine", "extract", "invert", "mask"]


def extract(
    checkpoint: opt.Checkpoint,
    param: opt.Params = None,
    params_from: opt.ParamsFrom = None,
    exclude: opt.Exclude = None,
    min_dim: opt.MinDim = 0,
    from_zeros: own.FromZeros = False,
    key: opt.Key = None,
    foreign: opt.Foreign = False,
    follow_links: opt.FollowLinks = False,
    output: own.MaskOutputPath = None,
    bits: own.Bits = False,
    force: opt.Force = False,
    jobs: opt.Jobs = None,
    quiet: opt.Quiet = False,
) -> None:
    """Write the masks of a checkpoint, or its zeros, into a file."""
    from prunecli.cli.mask_results import mask_output, print_mask_file
    from prunecli.cli.parse import selection_of
    from prunecli.cli.verbosity import Verbosity, run_options
    from prunecli.formats.base import ReadOptions
    from prunecli.surgery.mask_jobs import MaskOptions, extract_masks
    from prunecli.surgery.places import checkpoint_location

    selection = selection_of(checkpoint, param, params_from, exclude, min_dim, reading=True)
    options = MaskOptions(ReadOptions(key, foreign, follow_links, read_only=True), selection, from_zeros)
    source = checkpoint_location(checkpoint)
    target = mask_output(source, "masks", output, bits=bits, force=force)
    with run_options(jobs) as run:
        found = extract_masks(source, options, target, run, Verbosity(quiet))
    print_mask_file(found, quiet=quiet)


def combine(
    a: own.A,
    b: own.B,
    and_: own.And = False,
    or_: own.Or = False,
    xor: own.Xor = False,
    minus: own.Minus = False,
    key: opt.Key = None,
    foreign: opt.Foreign = False,
    follow_links: opt.FollowLinks = False,
    output: own.MaskOutputPath = None,
    bits: own.Bits = False,
    force: opt.Force = False,
    jobs: opt.Jobs = None,
    quiet: opt.Quiet = False,
) -> None:
    """Combine the masks of two files by --and, --or, --xor or --minus."""
    from prunecli.cli.mask_results import mask_output, print_mask_file
    from prunecli.cli.verbosity import Verbosity, run_options
    from prunecli.errors import UsageError
    from prunecli.formats.base import ReadOptions
    from prunecli.surgery.mask_jobs import MaskOptions, combine_masks
    from prunecli.surgery.places import checkpoint_location

    chosen = [word for word, given in (("and", and_), ("or", or_), ("xor", xor), ("minus", minus)) if given]
    if len(chosen) != 1:
        raise UsageError("a combination is one of --and, --or, --xor and --minus; give one of them")
    options = MaskOptions(ReadOptions(key, foreign, follow_links, read_only=True))
    sources = [checkpoint_location(each) for each in (a, b)]
    target = mask_output(sources[0], chosen[0], output, bits=bits, force=force)
    with run_options(jobs) as run:
        found = combine_masks(sources, chosen[0], options, target, run, Verbosity(quiet))
    print_mask_file(found, quiet=quiet)


def invert(
    masks: own.Masks,
    key: opt.Key = None,
    foreign: opt.Foreign = False,
    follow_links: opt.FollowLinks = False,
    output: own.MaskOutputPath = None,
    bits: own.Bits = False,
    force: opt.Force = False,
    jobs: opt.Jobs = None,
    quiet: opt.Quiet = False,
) -> None:
    """Write masks that keep what others drop, and drop what they keep."""
    from prunecli.cli.mask_results import mask_output, print_mask_file
    from prunecli.cli.verbosity import Verbosity, run_options
    from prunecli.formats.base import ReadOptions
    from prunecli.surgery.mask_jobs import MaskOptions, invert_masks
    from prunecli.surgery.places import checkpoint_location

    options = MaskOptions(ReadOptions(key, foreign, follow_links, read_only=True))
    source = checkpoint_location(masks)
    target = mask_output(source, "inverted", output, bits=bits, force=force)
    with run_options(jobs) as run:
        found = invert_masks(source, options, target, run, Verbosity(quiet))
    print_mask_file(found, quiet=quiet)


mask = typer.Typer(
    name="mask",
    help="Work with masks as files: extract, compare, combine, invert.",
    rich_markup_mode=None,
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (extract, overlap, combine, invert):
    mask.command(cls=Command)(_command)

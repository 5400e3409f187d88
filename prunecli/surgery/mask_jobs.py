"""The steps of the commands on masks between their options and their results."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from prunecli.errors import UsageError, show
from prunecli.formats.base import ONLY_FILE, ReadOptions
from prunecli.formats.io.locations import Location
from prunecli.formats.io.ordered import run_into
from prunecli.formats.outputs.base import OutputContents, OutputFile, SingleFileOutput
from prunecli.formats.outputs.output import StandardOutput, check_output
from prunecli.formats.outputs.permissions import private_as, readers_of
from prunecli.formats.outputs.suffix import check_safetensors_suffix
from prunecli.lean import dataclass
from prunecli.surgery.compare.overlap import count_overlaps
from prunecli.surgery.compare.overlap_model import Overlap
from prunecli.surgery.data.kept import KeptFlags
from prunecli.surgery.listing import Listener, open_for_ranks
from prunecli.surgery.masks.combined import OPERATIONS, CombinedFlags, InvertedFlags
from prunecli.surgery.masks.pairs import pair_masks
from prunecli.surgery.masks.source import MaskSource, masks_of
from prunecli.surgery.masks.write import MaskFileCount, mask_file_pieces
from prunecli.surgery.names.select import Selection
from prunecli.surgery.places import beside, output_location
from prunecli.surgery.report.model import CheckpointRef
from prunecli.surgery.run.destination import mask_file_beside
from prunecli.surgery.run.options import Run
from prunecli.terms import FROM_ZEROS, OUTPUT, PARAM

__all__ = [
    "MaskFile",
    "MaskOptions",
    "MaskOutput",
    "combine_masks",
    "extract_masks",
    "invert_masks",
    "mask_output",
    "open_mask_sources",
    "overlap_of",
]


@dataclass(frozen=True, slots=True)
class MaskFile:
    """A mask file that was written: its path (None for standard output), its size in bytes, and what it contains."""

    path: str | None
    bytes: int
    masks: int
    elements: int
    kept: int


@dataclass(frozen=True, slots=True)
class MaskOutput:
    """Where a mask file goes: a path of None is standard output. With `bits`, it has a bit for each element."""

    path: Location | None
    bits: bool = False
    force: bool = False


@dataclass(frozen=True, slots=True)
class MaskOptions:
    """How masks are found: how files are read, which parameters' masks are taken, and whether zeros count as pruned."""

    reading: ReadOptions
    selection: Selection | None = None
    from_zeros: bool = False


@contextmanager
def _open(location: Location | None, options: MaskOptions, run: Run, listener: Listener) -> Iterator[MaskSource]:
    """Open a source of masks, None for standard input.

    Raises:
        UsageError: several ranks run the command; or as `masks_of`.
        PrunecliError: as `open_any` and `masks_of`.
    """
    if run.ranks.size > 1:
        raise UsageError("masks are read in one process; start it without torchrun")
    with open_for_ranks(location, options.reading, run, listener) as checkpoint:
        yield masks_of(checkpoint, options.selection, from_zeros=options.from_zeros)


@contextmanager
def open_mask_sources(
    locations: Sequence[Location | None], options: MaskOptions, run: Run, listener: Listener
) -> Iterator[tuple[MaskSource, MaskSource]]:
    """Open two sources of masks.

    Raises:
        UsageError: both are standard input.
        PrunecliError: as `open_any`.
    """
    first, second = locations
    if first is None and second is None:
        raise UsageError("two sources of masks cannot both come from standard input; give one of them a path")
    with (
        _open(first, options, run, listener) as one,
        _open(second, options, run, listener) as two,
    ):
        yield one, two


def mask_output(
    source: Location | None, what: str, output: str | None, *, bits: bool = False, force: bool = False
) -> MaskOutput:
    """Return where a mask file goes: next to the source, unless given; `what` is a word for its default name.

    Raises:
        UsageError: the source has no name to derive one from, or the output's suffix is one of another format.
        OutputError: as `output_location`.
    """
    if output is not None:
        path = output_location(output, OUTPUT)
    elif source is None:
        raise UsageError(f"masks from standard input need a name for the output; give {OUTPUT} a path, or -")
    else:
        path = beside(source, lambda place: mask_file_beside(place, what))
    check_safetensors_suffix(path, "a mask file")
    return MaskOutput(path, bits, force)


def extract_masks(
    location: Location | None, options: MaskOptions, output: MaskOutput, run: Run, listener: Listener
) -> MaskFile:
    """Write the masks of a source into a file.

    Raises:
        UsageError: zeros are to be masks, but no parameters are selected: a bias that begins as zeros is not pruned.
        PrunecliError: as `open_any` and `_write`.
    """
    if options.from_zeros and options.selection is None:
        raise UsageError(f"{FROM_ZEROS} takes the zeros of selected parameters; give names or patterns with {PARAM}")
    with _open(location, options, run, listener) as source:
        return _write(list(source.masks.values()), [source], output, run, listener)


def invert_masks(
    location: Location | None, options: MaskOptions, output: MaskOutput, run: Run, listener: Listener
) -> MaskFile:
    """Write the inverted masks of a source into a file.

    Raises:
        PrunecliError: as `open_any` and `_write`.
    """
    with _open(location, options, run, listener) as source:
        masks = [InvertedFlags(each) for each in source.masks.values()]
        return _write(masks, [source], output, run, listener)


def combine_masks(
    locations: Sequence[Location | None],
    operation: str,
    options: MaskOptions,
    output: MaskOutput,
    run: Run,
    listener: Listener,
) -> MaskFile:
    """Write what an operation makes of the masks of two sources into a file.

    Raises:
        UsageError: as `open_mask_sources` and `pair_masks`; or there is no operation of this name.
        PrunecliError: as `open_any` and `_write`.
    """
    if operation not in OPERATIONS:
        raise UsageError(f"there is no operation {show(operation, 40)} on masks; give one of {', '.join(OPERATIONS)}")
    with open_mask_sources(locations, options, run, listener) as (one, two):
        masks = [CombinedFlags(*pair, operation) for pair in pair_masks(one, two)]
        return _write(masks, [one, two], output, run, listener)


def overlap_of(one: MaskSource, two: MaskSource, run: Run, listener: Listener) -> Overlap:
    """Count the overlap of the masks of two open sources.

    Raises:
        UsageError: as `pair_masks`.
        PrunecliError: a mask cannot be read, or a file changed meanwhile.
    """
    pairs = pair_masks(one, two)
    with listener.progress(one.checkpoint.source.label, delayed=True) as ticks:
        rows = count_overlaps(pairs, one.checkpoint.source, Run(run.jobs, ticks))
    for source in (one, two):
        source.check(run.threads)
    a, b = (CheckpointRef(each.source.name, each.format, each.source.size) for each in (one.checkpoint, two.checkpoint))
    return Overlap(a, b, rows)


def _write(
    masks: Sequence[KeptFlags], sources: Sequence[MaskSource], output: MaskOutput, run: Run, listener: Listener
) -> MaskFile:
    """Write a mask file of masks that are read from open sources.

    Raises:
        DamagedError: a mask has a value other than 0 and 1, or a file ends early.
        UnsupportedError: safetensors cannot contain the masks.
        OutputError: it was not written; an earlier file with its name is unchanged.
    """
    target = _checked(output, sources)
    file = OutputFile(ONLY_FILE, mask_file_pieces(masks, bits=output.bits), sources[0].checkpoint.source)
    contents, count = OutputContents([file]), MaskFileCount()
    with listener.progress(sources[0].checkpoint.source.label) as ticks:
        transfer = Run(run.jobs, ticks).transfer(contents.bytes)
        with target.begin(contents, transfer) as writer, writer.sink(file) as sink:
            run_into(file.pieces, file.source, sink, jobs=transfer.threads, progress=transfer.progress, found=count.add)
            for source in sources:
                source.check(transfer.threads)
    path = None if output.path is None else str(output.path)
    return MaskFile(path, file.size, len(masks), count.elements, count.kept)


def _checked(output: MaskOutput, sources: Sequence[MaskSource]) -> SingleFileOutput:
    """Return the output, which only those may read who may read all of the sources."""
    if output.path is None:
        return StandardOutput()
    first = sources[0].checkpoint
    target = check_output(output.path, force=output.force, source=None if first.is_folder else first.sources[ONLY_FILE])
    for source in sources:
        target = private_as(target, readers_of(source.checkpoint))
    return target

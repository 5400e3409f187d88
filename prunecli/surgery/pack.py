"""Pack a checkpoint into a smaller file, from which `unpack` makes the original again, to the byte."""

from collections.abc import Mapping, Sequence

from prunecli.errors import PrunecliError, UsageError, show
from prunecli.formats.base import Checkpoint, Layout, ReadOptions
from prunecli.formats.detect import open_location, read_checkpoint
from prunecli.formats.folders.weights import folder_of_index
from prunecli.formats.io.locations import Location
from prunecli.formats.io.source import Source
from prunecli.formats.outputs.base import SingleFileOutput
from prunecli.formats.outputs.file import LocalFile
from prunecli.formats.outputs.output import StandardOutput, check_output
from prunecli.formats.outputs.permissions import with_mode_of
from prunecli.formats.outputs.place import NOWHERE, Place
from prunecli.formats.outputs.suffix import check_safetensors_suffix
from prunecli.formats.packed.codec import DRAWN
from prunecli.formats.packed.names import FOLDER_SUFFIX, SUFFIX
from prunecli.formats.packed.source import PackedSource
from prunecli.formats.packed.write import CODECS, Packed, PackedTensor
from prunecli.lean import dataclass
from prunecli.surgery.listing import Listener
from prunecli.surgery.masks.drawn import DrawnRun, RecordedDraw, drawn_runs
from prunecli.surgery.pack_layout import layout_of, storages_of
from prunecli.surgery.packing import Coding, PackedFile, check_one_process, is_folder, result_of, write_packed
from prunecli.surgery.places import beside, output_location
from prunecli.surgery.report.drawn import recorded_draws
from prunecli.surgery.report.model import Report
from prunecli.surgery.report.provenance import stamps_of
from prunecli.surgery.report.reading import find_report_beside, read_report
from prunecli.surgery.run.destination import default_output
from prunecli.surgery.run.options import Run
from prunecli.terms import FROM_REPORT, OUTPUT

__all__ = [
    "PackOptions",
    "check_options",
    "check_reports",
    "not_index",
    "pack_file",
    "packed_location",
    "recorded_rounds",
]


@dataclass(frozen=True, slots=True)
class PackOptions:
    """How a checkpoint is packed: `reports` are those that are named, None where standard input is one.

    With `verify`, each block is unpacked again and compared. With `dry_run`, nothing is written.
    """

    reading: ReadOptions
    reports: Sequence[Location | None] = ()
    codec: str = "zstd"
    verify: bool = False
    force: bool = False
    dry_run: bool = False

    @property
    def coding(self) -> Coding:
        """How values are coded."""
        return Coding(self.codec, self.verify)


def packed_location(source: Location | None, output: str | None) -> Location:
    """Return where a packed file goes: next to the source, unless given.

    Raises:
        UsageError: the source has no name to derive one from, or the output's suffix is one of another format.
        OutputError: as `output_location`.
    """
    if output is not None:
        path = output_location(output, OUTPUT)
        check_safetensors_suffix(path, "a packed file")
        return path
    if source is None:
        raise UsageError(f"a checkpoint from standard input needs a name for the output; give {OUTPUT} a path, or -")
    return beside(folder_of_index(source) or source, _packed_name)


def _packed_name(source: Location) -> Location:
    default_output(source, "apply")  # refuses URLs to which nothing is written by default
    return source.with_name(source.name + (FOLDER_SUFFIX if is_folder(source) else SUFFIX))


def not_index(location: Location | None) -> Location | None:
    """Return the folder of an index, since it is packed as a whole; any other location as it is."""
    return location if location is None else folder_of_index(location) or location


def pack_file(
    location: Location | None, options: PackOptions, output: Location | None, run: Run, listener: Listener
) -> PackedFile:
    """Pack a checkpoint in one file; an `output` of None is standard output.

    Raises:
        UsageError: the checkpoint is packed already, or a named report is not about it.
        PrunecliError: as `open_checkpoint`, `read_report` and `pack_into`.
        OutputError: it was not written; an earlier file with its name is unchanged.
    """
    check_options(options, run)
    check_one_process(run)
    with open_location(location) as source:
        checkpoint = read_checkpoint(source, options.reading)
        if isinstance(checkpoint.source, PackedSource):
            raise UsageError(f"{source.label} is packed already; unpack it first")
        target = _target(source, output, options)
        tensors = _tensors(checkpoint, source, location, options, listener)
        place = NOWHERE if options.dry_run else _place(target)

        def check(packed: Packed) -> None:
            check_reports(options, packed.directory.tensors_with(DRAWN))
            source.check_unchanged()

        with listener.progress(checkpoint.source.label) as ticks:
            transfer = Run(run.jobs, ticks).transfer(source.size)
            packed = write_packed(source, tensors, place, options.coding, transfer, check)
        spool = packed.size if options.coding.spools and not isinstance(target, LocalFile) else 0
    return result_of(packed.size, packed.directory, output, spool)


def check_options(options: PackOptions, run: Run) -> None:
    """Check the options that do not depend on the checkpoint.

    Raises:
        UsageError: there is no such codec, or several ranks would read one report from standard input.
    """
    if options.codec not in CODECS:
        raise UsageError(f"there is no codec {show(options.codec, 40)}; give one of {', '.join(CODECS)}")
    if run.ranks.size > 1 and None in options.reports:
        raise UsageError(f"several ranks cannot read one standard input; give {FROM_REPORT} a path")


def check_reports(options: PackOptions, drawn: int) -> None:
    """Check that at least one mask of the reports that were named is in the checkpoint.

    Raises:
        UsageError: there is none: they are about another checkpoint.
    """
    if options.reports and not drawn:
        raise UsageError(f"{FROM_REPORT}: no mask that a report records fits this checkpoint; leave it out")


def _target(source: Source, output: Location | None, options: PackOptions) -> SingleFileOutput:
    if output is None:
        return StandardOutput()
    return with_mode_of(check_output(output, force=options.force, source=source), source.mode)


def _place(target: SingleFileOutput) -> Place:
    if isinstance(target, LocalFile):
        return Place(target.new)
    return Place(lambda size: target.new(size or 0), ordered=True)


def _tensors(
    checkpoint: Checkpoint, source: Source, location: Location | None, options: PackOptions, listener: Listener
) -> list[PackedTensor]:
    if checkpoint.source is not source:  # its records are compressed, so the values do not lie in the file
        return []
    rounds = recorded_rounds(checkpoint, location, options, listener)
    return layout_of(((each.offset, each, dtype) for each, dtype in storages_of(checkpoint)), source.size, rounds)


def recorded_rounds(
    checkpoint: Layout, location: Location | None, options: PackOptions, listener: Listener
) -> Mapping[str, Sequence[DrawnRun]]:
    """Return the drawn masks in a checkpoint by storage, as its stamps and the reports record them.

    The reports are those that are named, or the one beside it.

    Raises:
        PrunecliError: as `read_report`.
    """
    draws = [each for report in _reports(location, options, listener) for each in recorded_draws(report)]
    stamped = _stamped(checkpoint)
    records = [each for each in (stamped, [*stamped, *draws] if stamped and draws else [], draws) if each]
    runs, unknown = drawn_runs(checkpoint, records) if records else ({}, 0)
    if unknown:
        listener.note(
            f"{unknown:,} masks are stored, since the reports record only their later rounds; name the report of each "
            f"round with {FROM_REPORT}"
        )
    return runs


def _stamped(checkpoint: Layout) -> list[RecordedDraw]:
    if not stamps_of(checkpoint):
        return []
    from prunecli.surgery.report.stamped import stamped_draws  # plans are made again: few checkpoints have stamps

    return stamped_draws(checkpoint)


def _reports(location: Location | None, options: PackOptions, listener: Listener) -> list[Report]:
    if options.reports:
        return [read_report(each) for each in options.reports]
    if location is None:
        return []
    try:
        report = find_report_beside(location)
    except PrunecliError as error:  # nobody named this file
        listener.note(f"masks are stored, since the report beside the checkpoint cannot be read: {error}")
        return []
    return [] if report is None else [report]

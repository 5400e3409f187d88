"""Unpack the files of a packed folder into another folder, one by one."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from prunecli.errors import UsageError, raised_in, show
from prunecli.formats.folders.packed import PackedFiles, packed_files
from prunecli.formats.folders.reader import Listing, list_folder
from prunecli.formats.io.locations import Location
from prunecli.formats.io.ordered import run_into
from prunecli.formats.opening import holds_checkpoint
from prunecli.formats.outputs.base import Transfer
from prunecli.formats.outputs.output import check_folder_output
from prunecli.formats.packed.names import SUFFIX, is_packed_folder
from prunecli.surgery.listing import Listener
from prunecli.surgery.packing import PackedFile, check_one_process, facts_of, is_folder, sum_of
from prunecli.surgery.rescue import rescue_folder
from prunecli.surgery.run.by_file import FilesJob, FileTask, PlaceOf, describe, make_folder
from prunecli.surgery.run.options import Run
from prunecli.surgery.run.spread import Entry
from prunecli.surgery.unpack import unpack_file, unpacking_pieces

__all__ = ["unpack_checkpoint"]

_SCHEMA = "prunecli.unpacking/1"


def unpack_checkpoint(
    location: Location | None,
    output: Location | None,
    run: Run,
    listener: Listener,
    *,
    force: bool = False,
    dry_run: bool = False,
    follow_links: bool = False,
) -> PackedFile:
    """Write what was packed, a file or a folder; an `output` of None is standard output.

    `follow_links` allows links that lead out of the folder.
    Of a file or folder with sparse tensors (`sparse-bitmask`), the dense one is written.

    Raises:
        UsageError: it is not packed, or a folder would be streamed.
        PrunecliError: as `unpack_file`, `packed_files` and `make_folder`.
    """
    if location is None or not is_folder(location):
        return unpack_file(location, output, run, listener, force=force, dry_run=dry_run)
    listing = run.ranks.on_all(lambda: list_folder(location, follow_links=follow_links))
    if not is_packed_folder(listing.files):
        check_one_process(run)
        rescued = rescue_folder(location, output, run, listener, force=force, dry_run=dry_run)
        if rescued is not None:
            return rescued
        raise UsageError(f"{show(location)} is not a packed folder; 'prunecli pack' makes one, with names in {SUFFIX}")
    packed = run.ranks.on_all(lambda: packed_files(listing))
    target = run.ranks.on_all(
        lambda: check_folder_output(output, force=force, source=location, replaceable=holds_checkpoint)
    )
    if packed.passed_over:
        more = ", ..." if len(packed.passed_over) > 3 else ""
        listener.note(f"passed over, not packed: {', '.join(show(each, 80) for each in packed.passed_over[:3])}{more}")
    job = run.ranks.on_all(lambda: _job(listing, packed, in_units=run.in_units))
    with listener.progress(show(location)) as ticks:
        entries = make_folder(job, target, replace(run, progress=ticks), dry_run=dry_run)
    return sum_of(output, entries)


def _job(listing: Listing, packed: PackedFiles, *, in_units: bool) -> FilesJob:
    files = sorted(packed.listed(), key=lambda each: each.name)
    tasks = [FileTask(each.name, each.size, partial(_unpack, packed, each.name)) for each in files]

    def closing(entries: Sequence[Entry]) -> Mapping[str, bytes]:
        return {}

    described = describe(_SCHEMA, listing, ()) if in_units else {}
    return FilesJob(show(listing.location), tasks, described, closing, sum(each.size for each in files))


def _unpack(packed: PackedFiles, name: str, place_of: PlaceOf, transfer: Transfer) -> Entry:
    """Unpack a file, and return facts about it."""
    with packed.open(name) as source:
        place = place_of(source)
        with raised_in(source.label), place.begin(source.size) as sink:
            run_into(unpacking_pieces(source), source, sink, jobs=transfer.threads, progress=transfer.progress)
            source.check_unchanged()
        return facts_of(source.base.size, source.directory)

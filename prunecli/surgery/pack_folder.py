"""Pack the files of a folder into another folder, one by one.

No file of a packed folder has a name that loaders look for (`config.json`, `model.safetensors`): a loader refuses it.
"""

import os
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from prunecli.errors import PrunecliError, UsageError, show
from prunecli.formats.folders.reader import Listing, list_folder
from prunecli.formats.io.locations import Location, Url
from prunecli.formats.opening import open_any_folder
from prunecli.formats.outputs.base import Transfer
from prunecli.formats.outputs.output import check_folder_output
from prunecli.formats.packed.manifest import Original, render_manifest
from prunecli.formats.packed.names import MANIFEST, SUFFIX, is_packed_folder
from prunecli.formats.packed.write import PackedTensor
from prunecli.surgery.listing import Listener
from prunecli.surgery.pack import (
    PackOptions,
    check_options,
    check_reports,
    not_index,
    pack_file,
    recorded_rounds,
)
from prunecli.surgery.pack_layout import layout_of, storages_of
from prunecli.surgery.packing import PackedFile, facts_of, is_folder, sum_of, write_packed
from prunecli.surgery.run.by_file import FilesJob, FileTask, PlaceOf, describe, make_folder
from prunecli.surgery.run.options import Run
from prunecli.surgery.run.spread import Entry

__all__ = ["pack_checkpoint"]

_SCHEMA = "prunecli.packing/1"


def pack_checkpoint(
    location: Location | None, options: PackOptions, output: Location | None, run: Run, listener: Listener
) -> PackedFile:
    """Pack a checkpoint, in a file or in a folder; an `output` of None is standard output.

    Raises:
        UsageError: a folder would be streamed or is empty; or as `pack_file`.
        PrunecliError: as `pack_file`, `open_any_folder` and `make_folder`.
    """
    location = not_index(location)
    if location is None or not is_folder(location):
        return pack_file(location, options, output, run, listener)
    run.ranks.on_all(lambda: check_options(options, run))
    listing = run.ranks.on_all(lambda: _listed(location, options))
    tensors = run.ranks.on_all(lambda: _planned(listing, options, listener))
    target = run.ranks.on_all(
        lambda: check_folder_output(output, force=options.force, source=location, replaceable=_is_packed)
    )
    links = _links(listing)
    if links:
        listener.note(f"packed as the files that links lead to: {links:,} of {len(listing.files):,} files")
    job = run.ranks.on_all(lambda: _job(listing, tensors, options, in_units=run.in_units))
    with listener.progress(show(location)) as ticks:
        entries = make_folder(job, target, replace(run, progress=ticks), dry_run=options.dry_run)
    spool = max(entry["bytes"] for entry in entries) if isinstance(output, Url) and options.coding.spools else 0
    return replace(sum_of(output, entries), spool=spool)


def _listed(location: Location, options: PackOptions) -> Listing:
    listing = list_folder(location, follow_links=options.reading.follow_links)
    if is_packed_folder(listing.files):
        raise UsageError(f"{show(location)} is packed already; unpack it first")
    if not listing.files:
        raise UsageError(f"{show(location)} contains no files")
    return listing


def _planned(listing: Listing, options: PackOptions, listener: Listener) -> dict[str, list[PackedTensor]]:
    """Return the tensors of each file; the storages of a folder lie in all of its sources, one after the other."""
    with open_any_folder(listing.location, options.reading) as checkpoint:
        runs = recorded_rounds(checkpoint, listing.location, options, listener)
        storages = sorted(storages_of(checkpoint), key=lambda each: each[0].offset)
        offsets = [storage.offset for storage, _ in storages]
        found: dict[str, list[PackedTensor]] = {}
        start = 0
        for name, source in checkpoint.sources.items():
            stop = start + source.size
            inside = storages[bisect_left(offsets, start) : bisect_left(offsets, stop)]
            file = listing.files.get(name)
            if file is not None and source.size == file.size:  # records that are compressed make it another file
                places = ((storage.offset - start, storage, dtype) for storage, dtype in inside)
                found[name] = layout_of(places, source.size, runs)
            start = stop
        return found


def _job(
    listing: Listing, tensors: Mapping[str, Sequence[PackedTensor]], options: PackOptions, *, in_units: bool
) -> FilesJob:
    names = sorted(listing.files)
    tasks = [
        FileTask(name + SUFFIX, listing.files[name].size, partial(_pack, listing, name, tensors.get(name, ()), options))
        for name in names
    ]

    def closing(entries: Sequence[Entry]) -> Mapping[str, bytes]:
        check_reports(options, sum(entry["drawn"] for entry in entries))
        originals = {
            name: Original(entry["original_bytes"], entry["crc"]) for name, entry in zip(names, entries, strict=True)
        }
        return {MANIFEST: render_manifest(originals)}

    described = describe(_SCHEMA, listing, (options.codec, sorted(tensors.items()))) if in_units else {}
    return FilesJob(show(listing.location), tasks, described, closing)


def _pack(
    listing: Listing,
    name: str,
    tensors: Sequence[PackedTensor],
    options: PackOptions,
    place_of: PlaceOf,
    transfer: Transfer,
) -> Entry:
    """Pack a file, and return facts about it."""
    with listing.folder.open(name) as source:
        packed = write_packed(source, tensors, place_of(source), options.coding, transfer)
        source.check_unchanged()
    return {**facts_of(packed.size, packed.directory), "crc": packed.directory.crc}


def _links(listing: Listing) -> int:
    """Return the number of files that lie behind links, to a file or to a folder."""
    if not isinstance(listing.location, Path):
        return 0
    root = Path(os.path.realpath(listing.location))
    return sum(os.path.realpath(root / name) != str(root / name) for name in listing.files)


def _is_packed(location: Location) -> bool:
    """Whether all files in a folder are packed: only then is it replaced by another packed folder."""
    with suppress(PrunecliError):
        names = list_folder(location).files.keys() - {MANIFEST}
        return bool(names) and is_packed_folder(names)
    return False

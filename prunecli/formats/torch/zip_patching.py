"""Copy a zip byte for byte, except for patches to its records and the CRC-32 fields of the patched records."""

from collections.abc import Iterator, Mapping, Sequence

from prunecli.formats.base import Patch, Storage, patched_copies
from prunecli.formats.io.pieces import Checksum, Copy, Deferred, Piece, summed
from prunecli.formats.io.source import Source
from prunecli.formats.torch.zip_directory import Directory, Record
from prunecli.formats.torch.zip_layout import NewRecord, lay_out

__all__ = ["is_unsummed", "new_record", "patched_archive"]


def patched_archive(source: Source, directory: Directory, patches_of: Mapping[str, Sequence[Patch]]) -> Iterator[Piece]:
    """Yield the pieces of the patched archive; `patches_of` holds the patches by the names of the records.

    Only patched bytes and CRC-32 fields differ. A record that was written without a CRC-32 gets the right one. An
    archive with unpacked records gets a new layout, in the same order, with all records stored.
    """
    if directory.inflated:
        # With a `.format_version` record, torch may compute the offsets of storages, and assumes its own order.
        kept = [record for record in directory.records if not record.name.endswith("/.format_version")]
        return lay_out([new_record(record, patches_of.get(record.name, ()), source.label) for record in kept])
    return _patched_in_place(source, directory, patches_of)


def new_record(record: Record, patches: Sequence[Patch], label: str) -> NewRecord:
    """Return the record to write for a record of the archive with patches."""
    return NewRecord(record.name, _payload(record, patches, label))


def _patched_in_place(
    source: Source, directory: Directory, patches_of: Mapping[str, Sequence[Patch]]
) -> Iterator[Piece]:
    places: list[tuple[int, Deferred]] = []
    at = 0
    for record in directory.records:
        patches = patches_of.get(record.name, ())
        after = Checksum(record.size) if patches or is_unsummed(record) else None
        field = None if after is None else Deferred(4, after.stored, (after,))
        fields = [(place, field) for place in record.crc_places] if field else []
        inline = [place for place, _ in fields if place < directory.central]
        for stop in sorted([*inline, record.offset]):
            yield Copy(at, stop - at)
            at = stop
            if stop == record.offset:
                payload = _payload(record, patches, source.label)
                yield from payload if after is None else summed(payload, after)
                at += record.stored_size
            elif field:
                yield field
                at += 4
        places += [field for field in fields if field[0] >= directory.central]
    for place, field in sorted(places, key=lambda each: each[0]):
        yield Copy(at, place - at)
        yield field
        at = place + 4
    yield Copy(at, source.size - at)


def _payload(record: Record, patches: Sequence[Patch], label: str) -> Sequence[Piece]:
    """Return the pieces of a record with its patches; what is read is checked against the record's CRC-32."""
    before = None
    if not record.deflated and not is_unsummed(record):
        before = Checksum(record.size, record.crc, label, record.name)
    storage = Storage(record.name, record.offset, record.stored_size)
    return list(patched_copies(storage, patches, before))


def is_unsummed(record: Record) -> bool:
    """Whether torch wrote the record without a checksum (`set_crc32_options(False)`, `skip_data`)."""
    return record.crc == 0 and record.size > 0 and not record.deflated

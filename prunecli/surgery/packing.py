"""Write one packed file to a place of any kind (a file, a stream, a bucket); and what is known then about it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from prunecli.errors import PrunecliError, UsageError
from prunecli.formats.io.locations import Location, Url
from prunecli.formats.io.remote import look_at
from prunecli.formats.io.sinks import NullSink, Sink
from prunecli.formats.io.source import Source
from prunecli.formats.io.spool import spooled
from prunecli.formats.outputs.base import Transfer
from prunecli.formats.outputs.place import Place
from prunecli.formats.packed.codec import DRAWN, STORED
from prunecli.formats.packed.directory import PackedDirectory
from prunecli.formats.packed.write import Packed, PackedTensor, pack_into
from prunecli.lean import dataclass
from prunecli.surgery.run.options import Run
from prunecli.terms import RESUME

__all__ = ["Coding", "PackedFile", "check_one_process", "facts_of", "is_folder", "result_of", "sum_of", "write_packed"]


@dataclass(frozen=True, slots=True)
class PackedFile:
    """A file that was packed or unpacked: its path (None for standard output), the bytes of both files, and its masks.

    `bytes` is the size of the packed file, `spool` that of a temporary file that it needs on its way.
    `drawn` is the number of tensors with masks that are drawn again, `stored` that of tensors with stored masks.
    """

    path: str | None
    bytes: int
    original_bytes: int
    drawn: int
    stored: int
    spool: int = 0


@dataclass(frozen=True, slots=True)
class Coding:
    """How values are coded, and whether each block is unpacked again and compared (`verify`)."""

    codec: str = "zstd"
    verify: bool = False

    @property
    def spools(self) -> bool:
        """Whether an ordered place needs a temporary file: to compress everything twice would take too long."""
        return self.codec != "raw"


def write_packed(
    source: Source,
    tensors: Sequence[PackedTensor],
    place: Place,
    coding: Coding,
    transfer: Transfer,
    check: Callable[[Packed], None] = lambda packed: None,
) -> Packed:
    """Write the packed form of a source; to an ordered place by way of a temporary file, or by reading it twice.

    `check` is called before the file gets its name, and raises if it must not.

    Raises:
        PrunecliError, OSError: as `pack_into`, `spooled` and the place.
    """

    def pack(sink: Sink, header: bytes = b"", *, verify: bool = coding.verify, quiet: bool = False) -> Packed:
        count = None if quiet else transfer.progress
        packed = pack_into(
            source, tensors, sink, coding.codec, transfer.threads, verify=verify, progress=count, header=header
        )
        check(packed)
        return packed

    if place.ordered and not coding.spools:
        found = pack(NullSink(), verify=False, quiet=True)
        with place.begin(found.size) as sink:
            return pack(sink, found.header)
    with spooled(place.begin) if place.ordered else place.begin(None) as sink:
        return pack(sink)


def result_of(size: int, directory: PackedDirectory, output: Location | None, spool: int = 0) -> PackedFile:
    """Return what is known about a packed file of some size, and its original."""
    return replace(sum_of(output, [facts_of(size, directory)]), spool=spool)


def facts_of(size: int, directory: PackedDirectory) -> Mapping[str, int]:
    """Return the size of a packed file and that of its original, and how many of its masks are drawn and stored."""
    drawn, stored = directory.tensors_with(DRAWN), directory.tensors_with(STORED)
    return {"bytes": size, "original_bytes": directory.size, "drawn": drawn, "stored": stored}


def sum_of(output: Location | None, facts: Iterable[Mapping[str, int]]) -> PackedFile:
    """Return the result of packing or unpacking several files."""
    each = list(facts)
    sums = {name: sum(one[name] for one in each) for name in ("bytes", "original_bytes", "drawn", "stored")}
    return PackedFile(None if output is None else str(output), **sums)


def is_folder(location: Location | None) -> bool:
    """Whether a location is a folder, on this machine or behind a URL."""
    with suppress(OSError, PrunecliError):  # a name that is too long, for example, which the input's own error says
        if isinstance(location, Url):
            return location.is_dir() or look_at(location)[1].get("type") == "directory"
        return location is not None and location.is_dir()
    return False


def check_one_process(run: Run) -> None:
    """Check that what is not divided into files is to be made by one process in one go.

    Raises:
        UsageError: it would be made by several ranks, or resumed.
    """
    run.ranks.on_all(lambda: _check_one_process(run))


def _check_one_process(run: Run) -> None:
    if run.ranks.size > 1:
        raise UsageError("only packed folders are shared by ranks, by files; start this without torchrun")
    if run.resume:
        raise UsageError(f"only packed folders are resumed, by files; leave {RESUME} out")

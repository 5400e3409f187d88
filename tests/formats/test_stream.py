"""Streaming pieces equals joining them one after the other, whoever makes them, in whatever chunks."""

import os
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from prunecli.errors import DamagedError, UnreadableError
from prunecli.formats.io.pieces import CHUNK, Checksum, Copy, Deferred, Generated, Literal, Outcome, Piece
from prunecli.formats.io.sinks import FileSink, NullSink, PipeSink, Sink
from prunecli.formats.io.source import FileSource, open_source
from prunecli.formats.io.stream import run_pieces
from prunecli.formats.io.threads import default_jobs

_SIZE = 3 * CHUNK
_INPUT = np.random.default_rng(0).integers(0, 256, _SIZE, dtype=np.uint8).tobytes()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileSource]:
    path = tmp_path_factory.mktemp("stream") / "input"
    path.write_bytes(_INPUT)
    with open_source(path) as opened:
        yield opened


@dataclass
class _Positions:
    """Adds to each byte its place in the piece; checks that it is called for whole, disjoint blocks."""

    block: int
    seen: set[int] = field(default_factory=set)
    changes: bool = True
    workspace: Callable[[], list[int]] = list

    def fill(self, data: NDArray[np.uint8], start: int, workspace: list[int]) -> Outcome:
        assert start % self.block == 0
        assert len(data) <= self.block
        assert start not in self.seen
        self.seen.add(start)
        if self.changes:
            data += np.arange(start, start + len(data)).astype(np.uint8)
        return Outcome(self.changes, start)


def _shifted(data: bytes) -> bytes:
    return (np.frombuffer(data, np.uint8) + np.arange(len(data)).astype(np.uint8)).astype(np.uint8).tobytes()


class _Zeros:
    block = 1000
    workspace = list[int]

    def fill(self, data: NDArray[np.uint8], start: int, workspace: list[int]) -> Outcome:
        data[:] = 0
        return Outcome(True)


_LENGTHS = st.integers(0, 40) | st.sampled_from([CHUNK - 1, CHUNK, CHUNK + 1, CHUNK * 5 // 2]) | st.integers(0, 9000)
_BLOCKS = st.sampled_from([1, 7, 4096, 1 << 20, CHUNK - 3, CHUNK + 5])


@dataclass(frozen=True)
class _Recipe:
    """A piece to be made anew for each run, since checksums and contents remember."""

    kind: str
    offset: int
    length: int
    block: int
    changes: bool

    def expected(self) -> bytes:
        data = _INPUT[self.offset : self.offset + self.length]
        if self.kind == "literal" or (self.kind == "copy" and not self.changes):
            return data
        return bytes(self.length) if self.kind == "fresh" else _shifted(data)

    def piece(self, after: Checksum) -> Piece:
        if self.kind == "literal":
            return Literal(self.expected())
        if self.kind == "fresh":
            return Generated(self.length, _Zeros(), after)
        before = Checksum(self.length, zlib.crc32(_INPUT[self.offset : self.offset + self.length]), "input")
        content = _Positions(max(self.block, self.length // 500), changes=self.changes)
        return Copy(self.offset, self.length, content if self.block > 1 or self.changes else None, before, after)


@st.composite
def _recipes(draw: st.DrawFn) -> list[_Recipe]:
    recipes, total = [], 0
    for kind in draw(st.lists(st.sampled_from(["copy", "copy", "literal", "fresh"]), max_size=12)):
        length = draw(_LENGTHS)
        total += length
        if total > 3 * CHUNK:
            break
        recipes.append(_Recipe(kind, draw(st.integers(0, _SIZE - length)), length, draw(_BLOCKS), draw(st.booleans())))
    return recipes


def _pieces(recipes: Sequence[_Recipe]) -> tuple[list[Piece], bytes]:
    """The recipes as pieces, the checksum of each behind it, and the same by joining."""
    pieces: list[Piece] = []
    expected = b""
    for recipe in recipes:
        after = Checksum(recipe.length)
        pieces.append(recipe.piece(after))
        expected += recipe.expected()
        if recipe.kind != "literal":
            pieces.append(_crc(after))
            expected += zlib.crc32(recipe.expected()).to_bytes(4, "little")
    return pieces, expected


def _crc(checksum: Checksum) -> Deferred:
    return Deferred(4, lambda: checksum.value.to_bytes(4, "little"), (checksum,))


def _to_file(
    pieces: Sequence[Piece], source: FileSource, jobs: int, progress: Callable[[int], None] | None = None
) -> bytes:
    with tempfile.TemporaryFile() as file:
        run_pieces(pieces, source, FileSink(file.fileno()), jobs=jobs, progress=progress)
        return file.read()


def _to_pipe(pieces: Sequence[Piece], source: FileSource, jobs: int) -> bytes:
    reader, writer = os.pipe()
    got: list[bytes] = []

    def drain() -> None:
        with open(reader, "rb") as stream:  # noqa: PTH123
            got.append(stream.read())

    thread = threading.Thread(target=drain)
    thread.start()
    try:
        run_pieces(pieces, source, PipeSink(writer), jobs=jobs)
    finally:
        _join_workers()
        os.close(writer)
        thread.join()
    return got[0]


def _join_workers() -> None:
    """After a failure, a thread that is in the middle of a write to a pipe is not waited for: somebody must read."""
    for worker in threading.enumerate():
        if worker.name.startswith("prunecli"):
            worker.join(timeout=60)
            assert not worker.is_alive()


@settings(max_examples=20, deadline=None)
@given(_recipes(), st.sampled_from([1, 2, 4]))
def test_any_pieces_come_out_as_if_joined(source: FileSource, recipes: list[_Recipe], jobs: int) -> None:
    pieces, expected = _pieces(recipes)
    reported: list[int] = []
    assert _to_file(pieces, source, jobs, reported.append) == expected
    assert sum(reported) == len(expected)
    pieces, _ = _pieces(recipes)
    assert _to_pipe(pieces, source, jobs) == expected


@pytest.mark.parametrize("jobs", [1, 4])
def test_a_checksum_may_stand_before_what_it_sums(source: FileSource, jobs: int) -> None:
    after = Checksum(2 * CHUNK)
    pieces: list[Piece] = [Literal(b"head"), _crc(after), Copy(5, 2 * CHUNK, None, None, after)]
    data = _INPUT[5 : 5 + 2 * CHUNK]
    assert _to_file(pieces, source, jobs) == b"head" + zlib.crc32(data).to_bytes(4, "little") + data


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_record_of_many_copies_has_one_checksum(source: FileSource, jobs: int) -> None:
    cuts = [0, 10, 4000, CHUNK + 17, 2 * CHUNK]
    before, after = Checksum(2 * CHUNK, zlib.crc32(_INPUT[9 : 9 + 2 * CHUNK]), "input"), Checksum(2 * CHUNK)
    pieces: list[Piece] = [
        Copy(9 + low, high - low, _Positions(1 << 20), before, after, low) for low, high in pairwise(cuts)
    ]
    written = _to_file([*pieces, _crc(after)], source, jobs)
    assert written[-4:] == zlib.crc32(written[:-4]).to_bytes(4, "little")
    assert before.value == zlib.crc32(_INPUT[9 : 9 + 2 * CHUNK])


@dataclass
class _Summing:
    """States a CRC-32, and notes where blocks lie in their page of memory."""

    states: int | None
    changes: bool = True
    lies: set[tuple[int, int]] = field(default_factory=set)
    block: int = CHUNK
    workspace: Callable[[], list[int]] = list

    def fill(self, data: NDArray[np.uint8], start: int, workspace: list[int]) -> Outcome:
        self.lies.add((start, data.ctypes.data % 4096))
        return Outcome(self.changes, None, self.states)


@pytest.mark.parametrize(
    ("changes", "states", "expected"),
    [(True, 0x12345678, 0x12345678), (True, None, zlib.crc32(_INPUT[:100])), (False, 1, zlib.crc32(_INPUT[:100]))],
)
def test_a_content_that_has_summed_what_it_wrote_spares_another_sum(
    source: FileSource, changes: bool, states: int | None, expected: int
) -> None:
    before, after, digest = Checksum(100, zlib.crc32(_INPUT[:100]), "input"), Checksum(100), Checksum(0)
    run_pieces([Copy(0, 100, _Summing(states, changes), before, after)], source, NullSink(), jobs=1, digest=digest)
    assert before.value == zlib.crc32(_INPUT[:100])
    assert after.value == digest.value == expected


def test_the_digest_of_a_chunk_covers_all_its_parts(source: FileSource) -> None:
    digest, after = Checksum(0), Checksum(3)
    pieces: list[Piece] = [Literal(b"ab"), _crc(after), Copy(0, 3, None, None, after)]
    run_pieces(pieces, source, NullSink(), jobs=1, digest=digest)
    assert digest.value == zlib.crc32(b"ab" + _INPUT[:3])


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_chunk_lies_in_its_page_of_memory_as_in_its_page_of_the_file(source: FileSource, jobs: int) -> None:
    content = _Summing(None)
    run_pieces([Copy(0, 12), Copy(12, 2 * CHUNK + 5, content)], source, NullSink(), jobs=jobs)
    assert content.lies == {(start, (12 + start) % 4096) for start in (0, CHUNK, 2 * CHUNK)}


def test_a_thousand_small_pieces_are_written_in_one_go(source: FileSource) -> None:
    class Counting(NullSink):
        writes = 0

        def write(self, data: memoryview, offset: int) -> None:
            self.writes += 1

    sink = Counting()
    run_pieces([Copy(10 * i, 7) for i in range(1000)], source, sink, jobs=1)
    assert sink.writes == 1


@dataclass
class _Finding:
    """Works in memory of its thread, and finds the sum of the bytes of a block."""

    spaces: set[int]
    block: int = 1 << 16
    workspace: Callable[[], list[int]] = list

    def fill(self, data: NDArray[np.uint8], start: int, workspace: list[int]) -> Outcome:
        self.spaces.add(id(workspace))
        workspace.append(threading.get_ident())
        assert len(set(workspace)) == 1
        return Outcome(False, (start, int(data.astype(np.int64).sum())))


@pytest.mark.parametrize("jobs", [1, 4])
def test_what_contents_find_is_handed_over_by_one_thread_at_a_time(source: FileSource, jobs: int) -> None:
    found: dict[int, int] = {}
    busy: list[bool] = []

    def add(each: tuple[int, int]) -> None:
        assert not busy
        busy.append(True)
        found.update([each])
        busy.clear()

    spaces: set[int] = set()
    pieces: list[Piece] = [Copy(7, 2 * CHUNK, _Finding(spaces)), Copy(0, 5), Generated(0, _Finding(spaces))]
    run_pieces(pieces, source, NullSink(), jobs=jobs, found=add)
    data = np.frombuffer(_INPUT, dtype=np.uint8)[7 : 7 + 2 * CHUNK].astype(np.int64)
    assert found == {at: int(data[at : at + (1 << 16)].sum()) for at in range(0, data.size, 1 << 16)}
    assert 1 <= len(spaces) <= jobs


class _Breaking:
    """Fails in the middle, from whichever thread gets there."""

    block = 1 << 16
    workspace = list[int]

    def fill(self, data: NDArray[np.uint8], start: int, workspace: list[int]) -> Outcome:
        if start == 5 << 16:
            raise ZeroDivisionError("a content failed")
        return Outcome(True)


def _failing(kind: str) -> tuple[list[Piece], type[Exception]]:
    filler: list[Piece] = [Copy(0, CHUNK) for _ in range(20)]
    if kind == "content":
        return [*filler[:3], Copy(0, CHUNK, _Breaking()), *filler], ZeroDivisionError
    if kind == "checksum":
        return [*filler[:3], Copy(0, CHUNK, None, Checksum(CHUNK, 1, "input")), *filler], DamagedError
    return [*filler[:3], Copy(_SIZE - 5, CHUNK), *filler], DamagedError


@pytest.mark.parametrize("kind", ["content", "checksum", "short source"])
@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_the_first_failure_stops_all_threads_and_comes_out(source: FileSource, kind: str, jobs: int) -> None:
    for make in (_to_file, _to_pipe):
        pieces, error = _failing(kind)
        with pytest.raises(error):
            make(pieces, source, jobs)
        assert not [worker for worker in threading.enumerate() if worker.name.startswith("prunecli")]


@pytest.mark.parametrize("jobs", [1, 4])
@pytest.mark.parametrize("sink_ordered", [True, False])
def test_a_sink_that_fails_ends_it(source: FileSource, jobs: int, sink_ordered: bool) -> None:
    class Full:
        ordered = sink_ordered
        written = 0

        def write(self, data: memoryview, offset: int) -> None:
            self.written += 1
            if self.written == 4:
                raise OSError(28, "No space left on device")

    sink: Sink = Full()
    with pytest.raises(OSError, match="No space"):
        run_pieces([Copy(0, CHUNK) for _ in range(30)], source, sink, jobs=jobs)
    _join_workers()


def test_an_error_of_the_list_of_pieces_itself_comes_out(source: FileSource) -> None:
    def pieces() -> Iterator[Piece]:
        yield Copy(0, CHUNK)
        raise DamagedError("half a list")

    for jobs in (1, 3):
        with pytest.raises(DamagedError, match="half a list"):
            run_pieces(pieces(), source, NullSink(), jobs=jobs)


def test_nothing_to_do_writes_nothing(source: FileSource) -> None:
    assert _to_file([], source, 2) == b""
    assert _to_file([Copy(0, 0), Literal(b"")], source, 1) == b""


def test_a_source_that_shrank_is_damage_and_a_failed_device_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "shrinking"
    path.write_bytes(b"0123456789")
    with open_source(path) as source:
        os.truncate(path, 4)
        with pytest.raises(DamagedError, match="ends at byte 4"):
            source.read(0, 10)
        folder = os.open(tmp_path, os.O_RDONLY)
        broken = FileSource(folder, 10, "m.pt", None, source.status)
        with pytest.raises(UnreadableError, match=r"^cannot read m\.pt at byte 3: "):
            broken.read(3, 2)
        os.close(folder)


def test_default_jobs_are_between_one_and_eight() -> None:
    assert 1 <= default_jobs() <= 8

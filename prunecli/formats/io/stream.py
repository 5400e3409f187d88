"""Run a list of pieces: cut it into chunks, let threads fill them, write each at its place in the output.

A chunk is a contiguous run of a few MiB of the output. Large pieces are cut at multiples of their content's block, and
small ones are gathered, so a file of 20,000 tiny tensors costs as many reads and writes as a file of the same size with
ten. Each thread owns one buffer: memory is threads x chunk, whatever the size of the file.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunecli.errors import PrunecliError
from prunecli.formats.crc import crc32
from prunecli.formats.io.pieces import CHUNK, Checksum, Copy, CrcRun, Deferred, Generated, Literal, Piece
from prunecli.formats.io.sinks import Sink
from prunecli.formats.io.source import ByteSource
from prunecli.lean import dataclass

__all__ = ["Span", "deferred", "run_pieces", "sum_up"]

Progress = Callable[[int], None]

Span = tuple[int, int]
"""A part of an output, as two offsets: all chunks that begin at or after the first and before the second."""

_WHOLE = (0, 1 << 63)

_MOST_PARTS = 4096
"""The most pieces in a chunk: what is found in tiny tensors takes more memory than they do."""

_PAGE = 4096

_LONGEST = CHUNK + CHUNK // 8
"""The most bytes gathered in a chunk: a header or a bias and the block behind it need one read and one write."""


@dataclass(frozen=True, slots=True)
class _Part:
    piece: Piece
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class _Chunk:
    index: int
    offset: int
    length: int
    parts: Sequence[_Part]


def run_pieces(
    pieces: Iterable[Piece],
    source: ByteSource,
    sink: Sink,
    *,
    jobs: int,
    progress: Progress | None = None,
    span: Span = _WHOLE,
    digest: Checksum | None = None,
    found: Callable[[Any], None] | None = None,
) -> None:
    """Make the output that `pieces` describe, or a span of it, and write it to `sink`, with `jobs` threads.

    Pieces that depend on checksums (`Deferred`) are written as soon as these are complete; the caller must write those
    whose checksums a span leaves incomplete. `digest` sums all other bytes that are written. `progress` is called with
    the number of bytes just written, and `found` with what contents find, by one thread at a time.

    Raises:
        PrunecliError: a content, a checksum or the source raised it; the first error stops all threads.
        OSError: the sink cannot be written.
    """
    work = _Work(_chunks(pieces, span), source, sink, progress, digest, found)
    if jobs == 1:
        work.run()
    else:
        pool = ThreadPoolExecutor(jobs, thread_name_prefix="prunecli")
        try:
            for future in [pool.submit(work.run) for _ in range(jobs)]:
                future.result()
        except BaseException as error:
            work.stop()
            # After a signal to the process, a thread that is blocked by a pipe without a reader must not keep it alive.
            pool.shutdown(wait=isinstance(error, Exception) or not sink.ordered)
            raise
        pool.shutdown()
    work.finish()


def sum_up(pieces: Iterable[Piece], output: ByteSource, span: Span) -> int:
    """Return the digest of a span of an output, read again: that of `run_pieces` if the output is undamaged."""
    digest, spaces = Checksum(0), _Workspaces()
    for chunk in _chunks(pieces, span):
        data = spaces.buffer(chunk)
        output.read_into(chunk.offset, data.data)
        for run in _runs(chunk, data):
            digest.add(run)
    return digest.value


def deferred(pieces: Iterable[Piece]) -> Iterator[tuple[int, Deferred]]:
    """Yield the pieces that depend on checksums, each with its offset in the output."""
    at = 0
    for piece in pieces:
        if isinstance(piece, Deferred):
            yield at, piece
        at += piece.length


def _chunks(pieces: Iterable[Piece], span: Span) -> Iterator[_Chunk]:
    """Yield the chunks of the span, cut and gathered from pieces, in the order of the output."""
    index = 0
    for offset, length, parts in _gathered(pieces):
        if offset >= span[1]:
            return
        if offset >= span[0]:
            yield _Chunk(index, offset, length, parts)
            index += 1


def _gathered(pieces: Iterable[Piece]) -> Iterator[tuple[int, int, list[_Part]]]:
    offset = length = 0
    parts: list[_Part] = []
    for piece in pieces:
        for part in _cut(piece):
            if parts and (length + part.length > _LONGEST or len(parts) == _MOST_PARTS):
                yield offset, length, parts
                offset, length, parts = offset + length, 0, []
            parts.append(part)
            length += part.length
    if parts:
        yield offset, length, parts


def _cut(piece: Piece) -> list[_Part]:
    block = piece.content.block if isinstance(piece, Copy | Generated) and piece.content else CHUNK
    return [_Part(piece, start, min(block, piece.length - start)) for start in range(0, piece.length, block)]


@dataclass(slots=True)
class _Findings:
    """What one thread found in a chunk: runs for checksums, and the findings of contents."""

    sums: list[tuple[Checksum, CrcRun]] = field(default_factory=list)
    found: list[Any] = field(default_factory=list)


class _Workspaces:
    """The memory of one thread: a buffer for its chunk, and the workspaces of contents by their makers."""

    def __init__(self) -> None:
        self._memory = np.empty(0, dtype=np.uint8)
        self._made: dict[Callable[[], Any], Any] = {}

    def buffer(self, chunk: _Chunk) -> NDArray[np.uint8]:
        """Return memory for a chunk, which lies in its page of memory as the chunk lies in its page of the file.

        Some processors copy between two places a tenth as fast if one lies a few bytes further in its page.
        """
        if self._memory.size < chunk.length + _PAGE:
            self._memory = np.empty(max(chunk.length, _LONGEST) + _PAGE, dtype=np.uint8)
        start = (chunk.offset - self._memory.ctypes.data) % _PAGE
        return self._memory[start : start + chunk.length]

    def of(self, make: Callable[[], Any]) -> Any:
        """Return the workspace that `make` makes for this thread, made once."""
        if make not in self._made:
            self._made[make] = make()
        return self._made[make]


class _Work:
    """The state that the threads share: the remaining chunks, the next chunk to write, and pieces left for the end."""

    def __init__(
        self,
        chunks: Iterator[_Chunk],
        source: ByteSource,
        sink: Sink,
        progress: Progress | None,
        digest: Checksum | None,
        found: Callable[[Any], None] | None,
    ) -> None:
        self._chunks = chunks
        self._source = source
        self._sink = sink
        self._progress = progress
        self._digest = digest
        self._found = found
        self._turn = threading.Condition()
        self._next = 0
        self._stopped = False
        self._late: list[tuple[int, Deferred]] = []

    def run(self) -> None:
        """Process chunks until none are left, or another thread has failed."""
        spaces = _Workspaces()
        try:
            while (chunk := self._take()) is not None:
                self._do(chunk, spaces)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Make every thread end after its current chunk."""
        with self._turn:
            self._stopped = True
            self._turn.notify_all()

    def finish(self) -> None:
        """Write the pieces that had to wait for checksums; called once every chunk is done."""
        for offset, piece in self._late:
            if piece.ready:
                self._sink.write(memoryview(piece.render()), offset)

    def _take(self) -> _Chunk | None:
        with self._turn:
            return None if self._stopped else next(self._chunks, None)

    def _do(self, chunk: _Chunk, spaces: _Workspaces) -> None:
        buffer = spaces.buffer(chunk)
        _read(self._source, chunk, buffer)
        deferred, findings = [], _Findings()
        at, crc = 0, None
        for part in chunk.parts:
            if isinstance(part.piece, Deferred):
                deferred.append((at, part.piece))
            else:
                crc = _fill(part, buffer[at : at + part.length], spaces, findings)
            at += part.length
        self._add(findings)
        if self._sink.ordered and not self._wait_for(chunk.index):
            return
        for at, piece in deferred:
            if piece.ready:
                buffer[at : at + piece.length] = np.frombuffer(piece.render(), dtype=np.uint8)
            else:
                self._late.append((chunk.offset + at, piece))
        self._sink.write(buffer.data, chunk.offset)
        self._done(chunk, [] if self._digest is None else list(_runs(chunk, buffer, crc)))

    def _add(self, findings: _Findings) -> None:
        with self._turn:
            for checksum, run in findings.sums:
                checksum.add(run)
            if self._found is not None:
                for found in findings.found:
                    self._found(found)

    def _wait_for(self, index: int) -> bool:
        with self._turn:
            self._turn.wait_for(lambda: self._next == index or self._stopped)
            return not self._stopped

    def _done(self, chunk: _Chunk, written: Iterable[CrcRun]) -> None:
        with self._turn:
            self._next += 1
            if self._digest is not None:
                for run in written:
                    self._digest.add(run)
            if self._progress is not None:
                self._progress(chunk.length)
            if self._sink.ordered:
                self._turn.notify_all()


def _runs(chunk: _Chunk, data: NDArray[np.uint8], last: int | None = None) -> Iterator[CrcRun]:
    """Yield the CRC-32 runs of the chunk's bytes, without pieces that depend on other checksums.

    `last` is the CRC-32 of its last part, if that is known.
    """
    if last is not None and len(chunk.parts) == 1:
        yield chunk.offset, last, chunk.length
        return
    start = at = 0
    for part in chunk.parts:
        if isinstance(part.piece, Deferred):
            yield chunk.offset + start, crc32(data[start:at].data), at - start
            start = at + part.length
        at += part.length
    yield chunk.offset + start, crc32(data[start:at].data), at - start


def _read(source: ByteSource, chunk: _Chunk, buffer: NDArray[np.uint8]) -> None:
    """Read the copied parts of a chunk: one read for all parts with the same distance between source and output.

    The bytes between them are read, too; the parts that are made, not copied, overwrite them.
    """
    at = start = stop = shift = 0
    for part in chunk.parts:
        if isinstance(part.piece, Copy):
            distance = part.piece.offset + part.start - at
            if stop > start and distance != shift:
                source.read_into(start + shift, buffer[start:stop].data)
                start = stop
            if stop == start:
                start, shift = at, distance
            stop = at + part.length
        at += part.length
    if stop > start:
        source.read_into(start + shift, buffer[start:stop].data)


def _fill(part: _Part, data: NDArray[np.uint8], spaces: _Workspaces, findings: _Findings) -> int | None:
    """Make the bytes of a part, and return their CRC-32 if it was needed."""
    piece = part.piece
    if isinstance(piece, Literal):
        data[:] = np.frombuffer(piece.data, dtype=np.uint8)[part.start : part.start + part.length]
        return None
    if not isinstance(piece, Copy | Generated):
        raise PrunecliError(f"no way to fill a {type(piece).__name__}")
    place, crc = part.start + piece.record_start, None
    if isinstance(piece, Copy) and piece.before is not None:
        crc = crc32(data)
        findings.sums.append((piece.before, (place, crc, part.length)))
    if piece.content is not None:
        outcome = piece.content.fill(data, part.start, spaces.of(piece.content.workspace))
        crc = outcome.crc if outcome.changed or crc is None else crc
        if outcome.found is not None:
            findings.found.append(outcome.found)
    if piece.after is not None:
        crc = crc32(data) if crc is None else crc
        findings.sums.append((piece.after, (place, crc, part.length)))
    return crc

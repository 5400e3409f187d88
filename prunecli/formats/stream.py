"""Carry out a list of pieces: cut it into chunks, let threads fill them, write each where it belongs.

A chunk is a contiguous run of the output of a few MiB. Large pieces are cut at their content's block, small ones are
gathered, so a file of 20,000 tiny tensors costs as many reads and writes as one of the same size with ten. Each thread
owns one buffer; memory is threads x chunk, whatever the size of the file.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from prunecli.errors import PrunecliError
from prunecli.formats.crc import crc32
from prunecli.formats.pieces import CHUNK, Copy, Deferred, Fresh, Literal, Piece
from prunecli.formats.source import Bytes

__all__ = ["FileSink", "NullSink", "PipeSink", "Sink", "default_jobs", "run_pieces"]

Progress = Callable[[int], None]


def default_jobs() -> int:
    """Threads worth using: the processors this process may run on, at most 8 (a disk keeps no more busy)."""
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


class Sink(Protocol):
    """Where chunks go."""

    ordered: bool
    """Whether chunks must be written in the order of the file."""

    def write(self, data: memoryview, offset: int) -> None:
        """Write a run of the output at its offset."""


class FileSink:
    """A regular file, written at offsets in any order."""

    ordered = False

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        # The kernel writes one file for one thread at a time anyhow; the others would burn their processor waiting.
        self._writing = threading.Lock()

    def write(self, data: memoryview, offset: int) -> None:
        """Write all of `data` at `offset`."""
        done = 0
        with self._writing:
            while done < len(data):
                done += os.pwrite(self._descriptor, data[done:], offset + done)
        # Linux takes this advice on dirty pages as a request to start writing them to the disk now. The disk then
        # works while the next chunks are made, and the fsync at the end finds next to nothing left to do.
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._descriptor, offset, len(data), os.POSIX_FADV_DONTNEED)


class PipeSink:
    """A stream, written in order."""

    ordered = True

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, data: memoryview, offset: int) -> None:
        """Append all of `data`; `offset` is where the stream stands."""
        done = 0
        while done < len(data):
            done += os.write(self._descriptor, data[done:])


class NullSink:
    """Nowhere: pieces are only looked at."""

    ordered = False

    def write(self, data: memoryview, offset: int) -> None:
        """Drop the data."""


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
    pieces: Iterable[Piece], source: Bytes, sink: Sink, *, jobs: int, progress: Progress | None = None
) -> None:
    """Make the output that `pieces` describe and write it to `sink`, with `jobs` threads.

    Raises:
        PrunecliError: whatever a content, a checksum or the source finds; the first one stops all threads.
        OSError: the sink cannot be written.
    """
    work = _Work(_chunks(pieces), source, sink, progress)
    if jobs == 1:
        work.run()
    else:
        pool = ThreadPoolExecutor(jobs, thread_name_prefix="prunecli")
        try:
            for future in [pool.submit(work.run) for _ in range(jobs)]:
                future.result()
        except BaseException as error:
            work.stop()
            # A signal has come for the process: a thread that is stuck in a pipe nobody reads must not keep it alive.
            pool.shutdown(wait=isinstance(error, Exception) or not sink.ordered)
            raise
        pool.shutdown()
    work.finish()


def _chunks(pieces: Iterable[Piece]) -> Iterator[_Chunk]:
    """Cut and gather pieces into chunks, in the order of the output."""
    index = offset = 0
    gathered: list[_Part] = []
    room = CHUNK
    for piece in pieces:
        for part in _cut(piece):
            if part.length > room and gathered:
                length = sum(each.length for each in gathered)
                yield _Chunk(index, offset, length, gathered)
                index, offset, gathered, room = index + 1, offset + length, [], CHUNK
            gathered.append(part)
            room -= part.length
    if gathered:
        yield _Chunk(index, offset, sum(each.length for each in gathered), gathered)


def _cut(piece: Piece) -> Iterator[_Part]:
    block = piece.content.block if isinstance(piece, Copy | Fresh) and piece.content else CHUNK
    for start in range(0, piece.length, block):
        yield _Part(piece, start, min(block, piece.length - start))


class _Work:
    """What the threads share: the chunks still to do, whose turn it is to write, and what must wait for the end."""

    def __init__(self, chunks: Iterator[_Chunk], source: Bytes, sink: Sink, progress: Progress | None) -> None:
        self._chunks = chunks
        self._source = source
        self._sink = sink
        self._progress = progress
        self._turn = threading.Condition()
        self._next = 0
        self._stopped = False
        self._late: list[tuple[int, Deferred]] = []

    def run(self) -> None:
        """Take chunks until there are none left, or another thread has failed."""
        buffer = np.empty(0, dtype=np.uint8)
        try:
            while (chunk := self._take()) is not None:
                if buffer.size < chunk.length:
                    buffer = np.empty(max(chunk.length, CHUNK), dtype=np.uint8)
                self._do(chunk, buffer[: chunk.length])
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Let every thread end after the chunk it is at."""
        with self._turn:
            self._stopped = True
            self._turn.notify_all()

    def finish(self) -> None:
        """Write what had to wait for checksums, once every chunk is done."""
        for offset, piece in self._late:
            self._sink.write(memoryview(piece.render()), offset)

    def _take(self) -> _Chunk | None:
        with self._turn:
            return None if self._stopped else next(self._chunks, None)

    def _do(self, chunk: _Chunk, buffer: NDArray[np.uint8]) -> None:
        _read(self._source, chunk, buffer)
        deferred = []
        at = 0
        for part in chunk.parts:
            data = buffer[at : at + part.length]
            if isinstance(part.piece, Deferred):
                deferred.append((at, part.piece))
            else:
                _fill(part, data)
            at += part.length
        if self._sink.ordered and not self._wait_for(chunk.index):
            return
        for at, piece in deferred:
            if piece.ready:
                buffer[at : at + piece.length] = np.frombuffer(piece.render(), dtype=np.uint8)
            else:
                self._late.append((chunk.offset + at, piece))
        self._sink.write(buffer.data, chunk.offset)
        self._done(chunk)

    def _wait_for(self, index: int) -> bool:
        with self._turn:
            self._turn.wait_for(lambda: self._next == index or self._stopped)
            return not self._stopped

    def _done(self, chunk: _Chunk) -> None:
        with self._turn:
            self._next += 1
            if self._progress is not None:
                self._progress(chunk.length)
            if self._sink.ordered:
                self._turn.notify_all()


def _read(source: Bytes, chunk: _Chunk, buffer: NDArray[np.uint8]) -> None:
    """Read what the chunk takes from the source: one read for all parts that keep their distance to each other.

    What lies between them there is read along; the parts that are made, not copied, overwrite it.
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


def _fill(part: _Part, data: NDArray[np.uint8]) -> None:
    piece = part.piece
    if isinstance(piece, Literal):
        data[:] = np.frombuffer(piece.data, dtype=np.uint8)[part.start : part.start + part.length]
        return
    if isinstance(piece, Fresh):
        piece.content.fill(data, part.start)
        if piece.after is not None:
            piece.after.add(part.start, crc32(data.data), part.length)
        return
    if not isinstance(piece, Copy):
        raise PrunecliError(f"no way to fill a {type(piece).__name__}")
    place = piece.record_start + part.start
    crc = None
    if piece.before is not None:
        crc = crc32(data.data)
        piece.before.add(place, crc, part.length)
    if piece.content is not None and piece.content.fill(data, part.start):
        crc = None
    if piece.after is not None:
        piece.after.add(place, crc32(data.data) if crc is None else crc, part.length)

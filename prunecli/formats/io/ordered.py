"""Write an output in the order of its bytes, as streams and object stores require."""

import os
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from prunecli.errors import OutputError, show
from prunecli.formats.io.pieces import Copy, Deferred, Generated, Piece
from prunecli.formats.io.sinks import FileSink, Sink
from prunecli.formats.io.source import ByteSource
from prunecli.formats.io.stream import run_pieces

__all__ = ["run_into"]

_SPOOL = 1 << 20


def run_into(
    pieces: Sequence[Piece],
    source: ByteSource,
    sink: Sink,
    *,
    jobs: int,
    progress: Callable[[int], None] | None = None,
    found: Callable[[Any], None] | None = None,
) -> None:
    """Run pieces into any sink, as `run_pieces` does.

    If the sink needs the bytes in order, but a checksum precedes the bytes that it sums, the output goes through an
    unnamed temporary file.

    Raises:
        PrunecliError: as for `run_pieces`; an OutputError if the temporary file cannot be written.
        OSError: the sink cannot be written.
    """
    if not sink.ordered or _in_order(pieces):
        run_pieces(pieces, source, sink, jobs=jobs, progress=progress, found=found)
        return
    with tempfile.TemporaryFile(prefix="prunecli-") as spool:
        try:
            run_pieces(pieces, source, FileSink(spool.fileno()), jobs=jobs, progress=progress, found=found)
        except OSError as error:
            raise OutputError(
                f"cannot spool the output to {show(tempfile.gettempdir())}: {error.strerror}; "
                "set TMPDIR to a folder with room, or write to a file"
            ) from error
        at, size = 0, os.fstat(spool.fileno()).st_size
        while at < size:
            block = os.pread(spool.fileno(), _SPOOL, at)
            sink.write(memoryview(block), at)
            at += len(block)


def _in_order(pieces: Sequence[Piece]) -> bool:
    """Whether every piece that depends on a checksum follows all pieces that the checksum sums."""
    last: dict[int, int] = {}
    for index, piece in enumerate(pieces):
        if isinstance(piece, Copy | Generated) and piece.after is not None and piece.length:
            last[id(piece.after)] = index
    return all(
        last.get(id(checksum), -1) < index
        for index, piece in enumerate(pieces)
        if isinstance(piece, Deferred)
        for checksum in piece.needs
    )

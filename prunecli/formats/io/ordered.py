"""Write an output in the order of its bytes, as streams and object stores require."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

from prunecli.formats.io.pieces import Copy, Deferred, Generated, Piece
from prunecli.formats.io.sinks import Sink
from prunecli.formats.io.source import ByteSource
from prunecli.formats.io.spool import spooled
from prunecli.formats.io.stream import run_pieces

__all__ = ["run_into"]


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
    with spooled(lambda size: nullcontext(sink)) as spool:
        run_pieces(pieces, source, spool, jobs=jobs, progress=progress, found=found)


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

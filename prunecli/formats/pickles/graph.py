"""Read pickle bytes as an inert graph of nodes: nothing that they name is imported, and nothing is ever called.

A pickle is a program for a small stack machine. Here, the program runs on nodes instead of objects. Where the real
machine would import a class, a `Global` keeps its name; where it would call a function, a `Call` keeps the function
and the arguments. `dump.dump` writes a graph back as a pickle with the same meaning.

`machine` has the state of the program, `opcodes` the effects of its instructions.
"""

from prunecli.formats.pickles.machine import ROOM, Machine, Room
from prunecli.formats.pickles.nodes import PickleGraph
from prunecli.formats.pickles.opcodes import HANDLERS

__all__ = ["load"]


def load(data: bytes | memoryview, start: int = 0, *, where: str = "data.pkl", room: Room = ROOM) -> PickleGraph:
    """Return the graph of the pickle at offset `start` of `data`; what follows its STOP is ignored.

    Time and memory are proportional to the bytes read, and nesting may be of any depth. A graph shows the final content
    of each object: a list among the arguments of a call may have been filled after that call, as in cycles. If an
    argument matters, require a tuple, which cannot change.

    Raises `DamagedError` if the stream breaks the rules of `pickletools`, or contains what picklers never write: PROTO
    in the middle, values left over at STOP, arguments that are not a tuple. Raises `UnsupportedError` for extension
    codes, out-of-band buffers and protocols above 5. Raises `UnsafeError` for a pickle that makes far more objects than
    picklers make from the same number of bytes. A call whose result is discarded, or that is changed in another order
    than that of `Call`, is noted as `lost`. `where` names the stream in messages.
    """
    return Machine(data, start, where, room).run(HANDLERS)

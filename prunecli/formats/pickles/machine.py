"""The stack machine that runs pickles on nodes: reading, the stack, MARKs, errors.

The effects of the opcodes are in `opcodes`. `Lib/pickle.py` (`class _Unpickler`) has the same machine.
"""

import pickletools
import sys
from collections.abc import Callable, Sequence

from prunecli.errors import DamagedError, UnsafeError, show
from prunecli.formats.pickles.nodes import Call, Global, Node, Persistent, PickleGraph
from prunecli.lean import dataclass

__all__ = ["ROOM", "EndsEarlyError", "Machine", "Room"]

_NAMES = {ord(op.code): op.name for op in pickletools.opcodes}
_STOP = ord(".")


@dataclass(frozen=True)
class Room:
    """Limits of memory: the blocks that any pickle may take, and the bytes of pickle required for each further block.

    A node with its list takes two or three blocks. Tensors take one block for about five bytes of their pickle; texts,
    numbers and pairs of numbers take one for three bytes or more. A pickle made to explode takes two for each byte.
    """

    blocks: int = 1_000_000
    bytes_a_block: int = 2
    look: int = 1 << 18
    """Bytes of a pickle between two checks of the memory taken."""


ROOM = Room()

_GETS_AND_POPS = (b"g", b"h", b"j", b"0", b"1")


class EndsEarlyError(DamagedError):
    """The bytes end before the pickle does; with more bytes it may be sound."""


class Machine:
    """The state of a pickle program; `run` executes the program with one function for each opcode."""

    __slots__ = (
        "at",
        "blocks",
        "built",
        "called",
        "data",
        "far",
        "globals",
        "listing",
        "lost",
        "memo",
        "metastack",
        "persistents",
        "pos",
        "protocol",
        "room",
        "size",
        "stack",
        "start",
        "strict",
        "where",
    )

    def __init__(self, data: bytes | memoryview, start: int, where: str, room: Room = ROOM) -> None:
        self.data = data if isinstance(data, bytes) else memoryview(data).cast("B")
        self.size, self.where, self.room = len(self.data), where, room
        self.start = self.at = self.pos = start  # at: the offset of the current opcode
        self.protocol = 0
        self.stack: list[Node] = []
        self.metastack: list[list[Node]] = []  # the values below each open MARK
        self.memo: list[Node] = []  # by index, as far as the indices follow each other
        self.far: dict[int, Node] = {}  # under all other indices: one of 4e9 costs no more than one of 0
        self.globals: list[Global] = []
        self.called: dict[int, Global] = {}
        self.built: dict[int, Global] = {}
        self.persistents: list[Persistent] = []
        self.lost: str | None = None
        self.strict: str | None = None
        self.listing = False
        self.blocks = sys.getallocatedblocks() if self.size - start > room.look else 0

    def run(self, handlers: Sequence[Callable[["Machine"], None]]) -> PickleGraph:
        """Call `handlers[opcode]` for each opcode up to STOP; return the graph."""
        data = self.data
        try:
            while self.pos < self.size:
                until = min(self.size, self.pos + self.room.look)
                while self.pos < until:
                    self.at = self.pos
                    code = data[self.pos]
                    self.pos += 1
                    if code == _STOP:
                        return self.stop()
                    handlers[code](self)
                self.check_room()
        except IndexError:
            raise self.damaged("takes a value where the stack has none") from None
        except ValueError:
            raise self.damaged("has text or a number that cannot be read") from None
        raise EndsEarlyError(f"{show(self.where)}: the pickle ends early, without STOP, at byte {self.size}")

    def check_room(self) -> None:
        """Raise an error if the objects made so far take more memory than the bytes read so far allow."""
        if self.size - self.start <= self.room.look:
            return
        promised = self.room.blocks + (self.pos - self.start) // self.room.bytes_a_block
        if sys.getallocatedblocks() - self.blocks + len(self.memo) > promised:  # an entry of the memo is one, too
            raise UnsafeError(f"{show(self.where)}: the pickle asks for more objects than its size promises")

    def stop(self) -> PickleGraph:
        """Return the graph; its root is the value on the stack, which must be the only one."""
        root = self.stack.pop()
        if self.stack or self.metastack:
            raise self.damaged("leaves values behind on the stack")
        called, built = list(self.called.values()), list(self.built.values())
        return PickleGraph(
            root,
            self.protocol,
            self.pos,
            self.globals,
            called,
            built,
            self.persistents,
            self.lost,
            self.strict,
            self.listing,
        )

    def note_strict(self, what: str) -> None:
        """Note that the current opcode does what weights-only loading refuses, whatever the objects are."""
        self.strict = self.strict or self.message(what)

    def damaged(self, what: str) -> DamagedError:
        """Return the error for a current opcode that breaks the rules."""
        return DamagedError(self.message(what))

    def ends_early(self, count: int) -> EndsEarlyError:
        """Return the error for a current opcode that asks for `count` bytes when fewer are left."""
        return EndsEarlyError(self.message(f"announces {count} bytes, {self.size - self.pos} are there"))

    def message(self, what: str) -> str:
        """Return a message of one line: the stream, the current opcode and its offset, and `what` is wrong."""
        code = self.data[self.at]
        return f"{show(self.where)}: {_NAMES.get(code, f'opcode 0x{code:02x}')} at byte {self.at} {what}"

    def take(self, count: int) -> bytes | memoryview:
        """Return the next `count` bytes. If fewer are left, raise `EndsEarlyError` before allocating anything."""
        end = self.pos + count
        if end > self.size:
            raise self.ends_early(count)
        chunk = self.data[self.pos : end]
        self.pos = end
        return chunk

    def number(self, width: int) -> int:
        """Return an unsigned little-endian integer of `width` bytes."""
        if width == 1 and self.pos < self.size:  # the commonest argument by far
            self.pos += 1
            return self.data[self.pos - 1]
        end = self.pos + width
        if end > self.size:
            raise self.ends_early(width)
        chunk, self.pos = self.data[self.pos : end], end
        return int.from_bytes(chunk, "little")

    def line(self) -> bytes:
        """Return the bytes up to the next newline: the form of arguments in protocol 0."""
        step = 256  # a memoryview does not have `find`, and copying the whole rest could take gigabytes
        while True:
            chunk = bytes(self.data[self.pos : self.pos + step])
            end = chunk.find(b"\n")
            if end >= 0:
                self.pos += end + 1
                return chunk[:end]
            if len(chunk) < step:
                raise EndsEarlyError(self.message("has a line of text without an end"))
            step *= 4

    def put(self, index: int) -> None:
        """Keep the value on top of the stack under a memo index, which is not negative."""
        memo = self.memo
        if index == len(memo) and not self.far:
            memo.append(self.stack[-1])
        elif index < len(memo):
            memo[index] = self.stack[-1]
        else:
            self.far[index] = self.stack[-1]

    def get(self, index: int) -> None:
        """Push the value that was put under a memo index."""
        if 0 <= index < len(self.memo):
            self.stack.append(self.memo[index])
        elif index in self.far:
            self.stack.append(self.far[index])
        else:
            raise self.damaged(f"fetches memo {show(index, 30)}, which nothing was put under")

    def pop_mark(self) -> list[Node]:
        """Remove the last MARK and all values above it; return the values."""
        if not self.metastack:
            raise self.damaged("needs a MARK, and there is none")
        items = self.stack
        self.stack = self.metastack.pop()
        return items

    def check_discarded(self, popped: list[Node]) -> None:
        """Note the loss of a discarded call, which may have been made for its side effect."""
        # Picklers pop in two cases. If a tuple or an object contains itself, the half-made copy is popped, and the next
        # opcode gets the finished one from the memo. The other case is a state setter of copyreg: a call with a side
        # effect, which a graph of results cannot represent.
        following = bytes(self.data[self.pos : self.pos + 1])
        if not following:
            raise self.ends_early(1)
        if following not in _GETS_AND_POPS and any(isinstance(node, Call) for node in popped):
            self.lose("throws the result of a call away")

    def lose(self, what: str) -> None:
        """Note that the current opcode does something that the graph cannot represent; only the first is kept."""
        self.lost = self.lost or self.message(what)

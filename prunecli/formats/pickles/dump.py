"""Write an inert pickle graph as pickle bytes, in the form of CPython's own pickler.

The opcodes, the batches of 1000, and the order of objects in the memo are the same (`Modules/_pickle.c`). An unchanged
graph from `torch.save` is therefore written byte for byte, and torch's weights_only reader, which knows few opcodes,
meets no others. Frames (protocol 4) are left out: readers do not need them.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from prunecli.errors import DamagedError, UnsupportedError, show
from prunecli.formats.pickles.nodes import (
    ByteArrayNode,
    ByteStringNode,
    Call,
    DictNode,
    Global,
    Letter,
    ListNode,
    Node,
    Persistent,
    SetNode,
    TupleNode,
    flat,
)
from prunecli.lean import dataclass

__all__ = ["dump"]


def dump(graph_root: Node, protocol: int, persistents: list[Persistent] | None = None) -> bytes:
    """Return the graph under `graph_root` as one pickle; append its persistent ids to `persistents`, in its order.

    `protocol` is that of the stream from which the graph was read, because the meaning of its globals depends on it.
    Protocols 0 and 1 are written as 2, in which globals mean the same. A value that needs a newer opcode (bytes in
    protocol 2) gets it: readers accept that. Shared nodes and strings stay shared, by identity. A `Persistent` is
    written at each use: its id identifies the object.

    Raises `DamagedError` for a global whose name does not fit the text opcode of protocol 2. Raises `UnsupportedError`
    for an object among its own arguments: the graph does not record how far the arguments were filled when the object
    was made, so its meaning might change. (This affects a set of protocol 2 if it is reached before a member that
    refers to it, but not if it is reached from that member.) Also raises `UnsupportedError` for cycles through tuples
    alone, which a pickle cannot build, and if the number of cycles would make the output explode.
    """
    if not 0 <= protocol <= 5:
        raise ValueError(f"there is no pickle protocol {protocol}")
    return _Dumper(max(protocol, 2), [] if persistents is None else persistents).run(graph_root)


@dataclass(slots=True, frozen=True, eq=False)
class _Write:
    """A task: write these opcode bytes."""

    code: bytes


@dataclass(slots=True, frozen=True, eq=False)
class _Close:
    """A task: write what follows the children of a node."""

    node: TupleNode | SetNode | Call | Global | Persistent


_Task: TypeAlias = "Node | _Write | _Close"

_MARK, _NOTHING = _Write(b"("), _Write(b"")
_APPEND, _APPENDS, _SETITEM, _SETITEMS, _ADDITEMS = (_Write(code) for code in (b"a", b"e", b"s", b"u", b"\x90"))
_BUILD = _Write(b"b")
_TUPLES = (b")", b"\x85", b"\x86", b"\x87")
_CALLS = {"reduce": b"R", "newobj": b"\x81", "newobj_ex": b"\x92", "obj": b"o"}
_BATCH = 1000  # as in pickle.py: bounds the reader's stack
_MOST_WASTE = 1_000_000
_LONG_NAME = 256  # of a global: longer ones are written as strings, which can be shared
_LONG_INT = 32  # picklers never share an int, but a hostile stream can use an int of 1 MB a million times


class _Dumper:
    """A writer with a stack of tasks instead of recursion; `memo` maps the ids of written objects to memo indices."""

    __slots__ = ("memo", "opened", "out", "persistents", "protocol", "tasks", "waste")

    def __init__(self, protocol: int, persistents: list[Persistent]) -> None:
        self.protocol = protocol
        self.persistents = persistents
        self.out = bytearray(b"\x80" + bytes([protocol]))
        self.memo: dict[int, int] = {}
        self.opened: set[int] = set()
        self.tasks: list[_Task] = []
        self.waste = 0

    def run(self, root: Node) -> bytes:
        tasks, memo = self.tasks, self.memo
        tasks.append(root)
        while tasks:
            task = tasks.pop()
            if isinstance(task, _Write):
                self.out += task.code
            elif id(task) in memo:
                self.get(task)
            else:
                _SAVERS.get(type(task), _foreign)(self, task)
        return bytes(self.out + b".")

    def get(self, node: object) -> None:
        index = self.memo[id(node)]
        self.out += b"h%c" % index if index < 256 else b"j" + struct.pack("<I", index)

    def put(self, node: Node) -> None:
        index = self.memo[id(node)] = len(self.memo)
        if self.protocol >= 4:
            self.out += b"\x94"  # MEMOIZE, whose index is the size of the memo
        else:
            self.out += b"q%c" % index if index < 256 else b"r" + struct.pack("<I", index)

    def open(self, node: TupleNode | SetNode | Call | Persistent, width: int) -> None:
        """Note that writing `node` begins. If that has not ended yet, it is a cycle, and wastes `width` children."""
        if id(node) in self.opened:
            if isinstance(node, Call):
                raise UnsupportedError("cannot write the pickle: an object in it is among its own arguments")
            self.waste += width + 1
            if self.waste > _MOST_WASTE:
                raise UnsupportedError("cannot write the pickle: its objects contain each other in too many ways")
        self.opened.add(id(node))

    def later(self, *tasks: _Task) -> None:
        self.tasks.extend(reversed(tasks))

    def batches(self, values: list[Node], width: int, single: _Write, several: _Write) -> list[_Task]:
        """Return tasks that write values in batches, `width` values per element; one element has its own opcode."""
        tasks: list[_Task] = []
        for start in range(0, len(values), _BATCH * width):
            batch = values[start : start + _BATCH * width]
            tasks += [*batch, single] if len(batch) == width and single is not several else [_MARK, *batch, several]
        return tasks


def _save_constant(code: bytes) -> Callable[[_Dumper, object], None]:
    def save(dumper: _Dumper, _: object) -> None:
        dumper.out += code

    return save


def _save_bool(dumper: _Dumper, value: bool) -> None:
    dumper.out += b"\x88" if value else b"\x89"


def _save_int(dumper: _Dumper, value: int) -> None:
    if 0 <= value < 1 << 16:
        dumper.out += b"K%c" % value if value < 256 else b"M" + struct.pack("<H", value)
    elif -1 << 31 <= value < 1 << 31:
        dumper.out += b"J" + struct.pack("<i", value)
    else:
        raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        if value < 0 and raw[-1] == 0xFF and raw[-2] & 0x80:
            raw = raw[:-1]  # the sign fits the byte before
        dumper.out += _sized(raw, b"\x8a", b"\x8b", b"") + raw
        if len(raw) > _LONG_INT:
            dumper.put(value)


def _save_float(dumper: _Dumper, value: float) -> None:
    dumper.out += b"G" + struct.pack(">d", value)


def _save_str(dumper: _Dumper, value: str) -> None:
    raw = value.encode("utf-8", "surrogatepass")
    dumper.out += _sized(raw, b"\x8c" if dumper.protocol >= 4 else b"", b"X", b"\x8d")
    dumper.out += raw
    dumper.put(value)


def _save_bytes(dumper: _Dumper, value: bytes) -> None:
    dumper.out += _sized(value, b"C", b"B", b"\x8e")
    dumper.out += value
    dumper.put(value)


def _save_byte_string(dumper: _Dumper, node: ByteStringNode) -> None:
    dumper.out += _sized(node.data, b"U", b"T", b"")
    dumper.out += node.data
    dumper.put(node)


def _save_byte_array(dumper: _Dumper, node: ByteArrayNode) -> None:
    dumper.out += b"\x96" + struct.pack("<Q", len(node.data))
    dumper.out += node.data
    dumper.put(node)


def _sized(raw: bytes, short: bytes, medium: bytes, long: bytes) -> bytes:
    """Return the opcode and the length to write before `raw`: one, four or eight bytes, if there are such opcodes."""
    size = len(raw)
    if short and size < 1 << 8:
        return short + struct.pack("<B", size)
    if size < 1 << 32 or not long:
        return medium + struct.pack("<I", size)
    return long + struct.pack("<Q", size)


def _save_list(dumper: _Dumper, node: ListNode) -> None:
    dumper.out += b"]"
    dumper.put(node)
    dumper.later(*dumper.batches(node.items, 1, _APPEND, _APPENDS))


def _save_dict(dumper: _Dumper, node: DictNode) -> None:
    dumper.out += b"}"
    dumper.put(node)
    dumper.later(*dumper.batches(flat(node.entries), 2, _SETITEM, _SETITEMS))


def _save_set(dumper: _Dumper, node: SetNode) -> None:
    if node.frozen:
        dumper.open(node, len(node.items))
        dumper.later(_MARK, *node.items, _Close(node))
    else:
        dumper.out += b"\x8f"
        dumper.put(node)
        dumper.later(*dumper.batches(node.items, 1, _ADDITEMS, _ADDITEMS))


def _save_tuple(dumper: _Dumper, node: TupleNode) -> None:
    if not node.items:
        dumper.out += _TUPLES[0]
        return
    dumper.open(node, len(node.items))
    mark = [_MARK] if len(node.items) >= len(_TUPLES) else []
    dumper.later(*mark, *node.items, _Close(node))


def _save_call(dumper: _Dumper, node: Call) -> None:
    dumper.open(node, 3)
    if node.kind == "obj":
        dumper.later(_MARK, node.function, *_arguments_of(node), _Close(node))
        return
    kwargs = [node.kwargs] if node.kind == "newobj_ex" else []
    dumper.later(node.function, node.args, *kwargs, _Close(node))


def _arguments_of(node: Call) -> Sequence[Node]:
    if not isinstance(node.args, TupleNode):
        raise UnsupportedError("cannot write the pickle: the arguments of an instance in it are not a tuple")
    return node.args.items


def _close(dumper: _Dumper, task: _Close) -> None:
    node = task.node
    if isinstance(node, Persistent):  # not in the memo: writing it again is correct, but counts as waste
        dumper.out += b"Q"
        dumper.persistents.append(node)
        return
    if isinstance(node, Call):
        pops, code = b"", _CALLS[node.kind]
    elif isinstance(node, Global):
        pops, code = b"", b"\x93"
    elif isinstance(node, SetNode):
        pops, code = b"1", b"\x91"
    else:
        short = len(node.items) < len(_TUPLES)
        pops, code = (b"0" * len(node.items), _TUPLES[len(node.items)]) if short else (b"1", b"t")
    dumper.opened.discard(id(node))
    if id(node) in dumper.memo:
        # It contains itself, and writing its children has already made it: use that object (pickle.py, save_tuple).
        dumper.out += pops
        dumper.get(node)
        return
    dumper.out += code
    dumper.put(node)
    if isinstance(node, Call):
        _save_changes(dumper, node)


def _save_changes(dumper: _Dumper, node: Call) -> None:
    items = dumper.batches(node.items, 1, _APPEND, _APPENDS)
    entries = dumper.batches(flat(node.entries), 2, _SETITEM, _SETITEMS)
    states = [task for state in node.states for task in (state, _BUILD)]
    dumper.later(*items, *entries, *states)


def _save_global(dumper: _Dumper, node: Global) -> None:
    if dumper.protocol >= 4 or len(node.module) + len(node.name) > _LONG_NAME:
        dumper.later(node.module, node.name, _Close(node))
        return
    try:
        lines = f"{node.module}\n{node.name}\n".encode()
    except UnicodeEncodeError:
        lines = b""
    if lines.count(b"\n") != 2:
        name = f"{show(node.module)}.{show(node.name)}"
        raise DamagedError(f"cannot write the pickle: {name} cannot be a name in protocol {dumper.protocol}")
    dumper.out += b"c" + lines
    dumper.put(node)


def _save_persistent(dumper: _Dumper, node: Persistent) -> None:
    dumper.open(node, 1)  # and never closed
    dumper.later(node.id, _Close(node))


def _foreign(_: _Dumper, node: object) -> None:
    raise TypeError(f"not a node of a pickle graph: {type(node).__name__}")


_SAVERS: dict[type, Callable[[_Dumper, Any], None]] = {
    type(None): _save_constant(b"N"),
    bool: _save_bool,
    int: _save_int,
    float: _save_float,
    str: _save_str,
    Letter: _save_str,
    bytes: _save_bytes,
    ByteArrayNode: _save_byte_array,
    ByteStringNode: _save_byte_string,
    ListNode: _save_list,
    DictNode: _save_dict,
    SetNode: _save_set,
    TupleNode: _save_tuple,
    Call: _save_call,
    Global: _save_global,
    Persistent: _save_persistent,
    _Close: _close,
}

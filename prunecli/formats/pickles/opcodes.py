"""The effects of a pickle's opcodes on the stack machine.

Opcodes, their arguments and their effects are those of CPython's `pickletools.py`, the only specification of the
format, and of `Lib/pickle.py` where the specification leaves a choice. `graph.load` documents what is refused in
addition.
"""

import codecs
import struct
from collections.abc import Callable
from typing import Literal, TypeAlias

from prunecli.errors import UnsupportedError
from prunecli.formats.pickles import values
from prunecli.formats.pickles.machine import Machine
from prunecli.formats.pickles.nodes import (
    Call,
    DictNode,
    Entry,
    Global,
    ListNode,
    Node,
    Persistent,
    SetNode,
    TupleNode,
)

__all__ = ["HANDLERS"]


_DICTS = ("OrderedDict", "Counter")
"""The dicts of `collections` whose keys weights-only loading sets, in addition to the plain dict."""

_Handler: TypeAlias = Callable[[Machine], None]


def _fixed(code: str) -> _Handler:
    form = struct.Struct(code)

    def push(machine: Machine) -> None:
        machine.stack.append(form.unpack(machine.take(form.size))[0])

    return push


def _sized(width: int, make: Callable[[bytes | memoryview], Node]) -> _Handler:
    def push(machine: Machine) -> None:
        machine.stack.append(make(machine.take(machine.number(width))))

    return push


def _line(make: Callable[[bytes], Node]) -> _Handler:
    def push(machine: Machine) -> None:
        machine.stack.append(make(machine.line()))

    return push


def _fresh(make: Callable[[], Node]) -> _Handler:
    def push(machine: Machine) -> None:
        machine.stack.append(make())

    return push


def _tuple(count: int) -> _Handler:
    def push(machine: Machine) -> None:
        stack = machine.stack
        if len(stack) < count:
            raise IndexError
        stack[-count:] = [TupleNode(stack[-count:])]

    return push


def _marked(make: Callable[[list[Node]], Node]) -> _Handler:
    def push(machine: Machine) -> None:
        items = machine.pop_mark()
        if make is _dict and len(items) % 2:
            raise machine.damaged("has a key without a value")
        machine.stack.append(make(items))

    return push


def _dict(items: list[Node]) -> DictNode:
    return DictNode(_entries(items))


def _entries(items: list[Node]) -> list[Entry]:
    return [Entry(items[i], items[i + 1]) for i in range(0, len(items), 2)]


def _is_dict(function: Node) -> bool:
    return isinstance(function, Global) and function.module == "collections" and function.name in _DICTS


def _append(machine: Machine, items: list[Node]) -> None:
    target = machine.stack[-1]
    if isinstance(target, Call) and (target.entries or target.states):
        machine.lose("comes after SETITEM or BUILD on the same object")
    if not isinstance(target, ListNode | Call):
        raise machine.damaged("appends to something that is not a list")
    if isinstance(target, Call):
        machine.note_strict("appends to an object that is not a plain list")
        target.append(items)
    else:
        target.items.extend(items)


def _set_items(machine: Machine, items: list[Node]) -> None:
    target = machine.stack[-1]
    if len(items) % 2:
        raise machine.damaged("has a key without a value")
    if isinstance(target, Call) and target.states:
        machine.lose("comes after BUILD on the same object")
    if not isinstance(target, DictNode | Call):
        raise machine.damaged("sets a key of something that is not a dict")
    if isinstance(target, DictNode):
        target.entries.extend(_entries(items))
        return
    if not _is_dict(target.function):
        machine.note_strict("sets a key of an object that is not a plain dict")
    target.set(_entries(items))


def _add_items(machine: Machine) -> None:
    items = machine.pop_mark()
    target = machine.stack[-1]
    if not isinstance(target, SetNode) or target.frozen:
        raise machine.damaged("adds to something that is not a set")
    target.items.extend(items)


def _set_item(machine: Machine) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    _set_items(machine, [key, value])


def _build(machine: Machine) -> None:
    state = machine.stack.pop()
    target = machine.stack[-1]
    if not isinstance(target, Call):
        raise machine.damaged("gives a state to something that no call made")
    if isinstance(target.function, Global):
        machine.built[id(target.function)] = target.function
    target.states = target.states or []
    target.states.append(state)


def _call(kind: Literal["reduce", "newobj", "newobj_ex"]) -> _Handler:
    def push(machine: Machine) -> None:
        kwargs = machine.stack.pop() if kind == "newobj_ex" else None
        args, function = machine.stack.pop(), machine.stack.pop()
        # A Call can be valid, too: arguments in a subclass of tuple, or a function that another call returned.
        if not isinstance(args, TupleNode | Call) or not isinstance(kwargs, DictNode | Call | None):
            raise machine.damaged("has arguments that are not a tuple")
        _push_call(machine, Call(kind, function, args, kwargs))

    return push


def _push_call(machine: Machine, call: Call) -> None:
    if not isinstance(call.function, Global | Call | Persistent):
        raise machine.damaged("calls something that cannot be called")
    if isinstance(call.function, Global):
        machine.called[id(call.function)] = call.function
    else:
        machine.note_strict("calls what is not a function or class by name")
    if isinstance(call.args, TupleNode) and len(call.args.items) == 1 and isinstance(call.args.items[0], ListNode):
        machine.listing = True
    if call.kind in ("obj", "newobj_ex"):
        machine.note_strict("makes an object")
    machine.stack.append(call)


def _inst(machine: Machine) -> None:
    _global(machine)
    function = machine.stack.pop()
    _push_call(machine, Call("obj", function, TupleNode(machine.pop_mark())))


def _obj(machine: Machine) -> None:
    function, *args = machine.pop_mark() or [None]
    _push_call(machine, Call("obj", function, TupleNode(args)))


def _name(machine: Machine, module: Node, name: Node) -> None:
    if not isinstance(module, str) or not isinstance(name, str):
        raise machine.damaged("has a name that is not text")
    named = Global(module, name)
    machine.globals.append(named)
    machine.stack.append(named)


def _global(machine: Machine) -> None:
    _name(machine, machine.line().decode("utf-8"), machine.line().decode("utf-8"))


def _stack_global(machine: Machine) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    _name(machine, module, name)


def _persistent(machine: Machine, name: Node) -> None:
    node = Persistent(name)
    machine.persistents.append(node)
    machine.stack.append(node)


def _put_line(machine: Machine) -> None:
    index = int(machine.line())
    if index < 0:
        raise machine.damaged("has a negative memo index")
    machine.put(index)


def _put(width: int) -> _Handler:
    def put(machine: Machine) -> None:
        machine.put(machine.number(width))

    return put


def _memoize(machine: Machine) -> None:
    machine.put(len(machine.memo) + len(machine.far))


def _get(width: int) -> _Handler:
    def get(machine: Machine) -> None:
        machine.get(machine.number(width) if width else int(machine.line()))

    return get


def _mark(machine: Machine) -> None:
    machine.metastack.append(machine.stack)
    machine.stack = []


def _pop(machine: Machine) -> None:
    machine.check_discarded([machine.stack.pop()] if machine.stack else machine.pop_mark())


def _proto(machine: Machine) -> None:
    if machine.at != machine.start:
        raise machine.damaged("stands in the middle of the pickle")
    machine.protocol = machine.number(1)
    if machine.protocol > 5:
        raise UnsupportedError(machine.message(f"asks for protocol {machine.protocol}; 5 is the last one known"))


def _frame(machine: Machine) -> None:
    length = machine.number(8)  # only a hint for how much to read at once, but it must not exceed the data
    if length > machine.size - machine.pos:
        raise machine.ends_early(length)


def _refuse(machine: Machine) -> None:
    raise UnsupportedError(machine.message("is not supported"))


def _unknown(machine: Machine) -> None:
    raise machine.damaged("is not an opcode of any pickle")


# The whole instruction set except STOP, in the groups of pickletools.py.
_OPCODES: dict[str, _Handler] = {
    "I": _line(values.int_line),
    "J": _fixed("<i"),
    "K": lambda machine: machine.stack.append(machine.number(1)),
    "M": _fixed("<H"),
    "L": _line(values.long_line),
    "\x8a": _sized(1, values.long),
    "\x8b": _sized(4, values.long),
    "S": _line(values.string_line),
    "T": _sized(4, values.python2_text),
    "U": _sized(1, values.python2_text),
    "B": _sized(4, bytes),
    "C": _sized(1, bytes),
    "\x8e": _sized(8, bytes),
    "\x96": _sized(8, values.byte_array),
    "\x97": _refuse,  # NEXT_BUFFER and READONLY_BUFFER: the data is not in the pickle
    "\x98": _refuse,
    "N": _fresh(lambda: None),
    "\x88": _fresh(lambda: True),
    "\x89": _fresh(lambda: False),
    "V": _line(lambda line: codecs.raw_unicode_escape_decode(line)[0]),  # by name, codecs would be imported
    "\x8c": _sized(1, values.text),
    "X": _sized(4, values.text),
    "\x8d": _sized(8, values.text),
    "F": _line(float),
    "G": _fixed(">d"),
    "]": _fresh(ListNode),
    "a": lambda machine: _append(machine, [machine.stack.pop()]),
    "e": lambda machine: _append(machine, machine.pop_mark()),
    "l": _marked(ListNode),
    ")": _fresh(TupleNode),
    "t": _marked(TupleNode),
    "\x85": _tuple(1),
    "\x86": _tuple(2),
    "\x87": _tuple(3),
    "}": _fresh(DictNode),
    "d": _marked(_dict),
    "s": _set_item,
    "u": lambda machine: _set_items(machine, machine.pop_mark()),
    "\x8f": _fresh(lambda: SetNode([], frozen=False)),
    "\x90": _add_items,
    "\x91": _marked(lambda items: SetNode(items, frozen=True)),
    "0": _pop,
    "2": lambda machine: machine.stack.append(machine.stack[-1]),
    "(": _mark,
    "1": lambda machine: machine.check_discarded(machine.pop_mark()),
    "g": _get(0),
    "h": _get(1),
    "j": _get(4),
    "p": _put_line,
    "q": _put(1),
    "r": _put(4),
    "\x94": _memoize,
    "\x82": _refuse,  # EXT1, EXT2, EXT4: only the writer's registry knows these names
    "\x83": _refuse,
    "\x84": _refuse,
    "c": _global,
    "\x93": _stack_global,
    "R": _call("reduce"),
    "b": _build,
    "i": _inst,
    "o": _obj,
    "\x81": _call("newobj"),
    "\x92": _call("newobj_ex"),
    "\x80": _proto,
    "\x95": _frame,
    "P": lambda machine: _persistent(machine, machine.line().decode("ascii")),
    "Q": lambda machine: _persistent(machine, machine.stack.pop()),
}
HANDLERS = [_OPCODES.get(chr(code), _unknown) for code in range(256)]

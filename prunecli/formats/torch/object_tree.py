"""How the objects of a pickle hold each other: mappings, modules, attributes and sequences, with readable names.

Nothing is imported. A module is recognised by its registries (`_parameters`, `_buffers`, `_modules`; torch's
`nn/modules/module.py`). The attributes of any other object are the state that BUILD would give it (`pickle.py`,
`load_build`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from prunecli.formats.pickles.nodes import Call, DictNode, Entry, Global, ListNode, Node, SetNode, TupleNode
from prunecli.lean import dataclass

__all__ = ["Branch", "Tree", "is_mapping", "mapping_entries"]

_DICTS = {("collections", "OrderedDict"), ("collections", "defaultdict")}
_REGISTRIES = ("_parameters", "_buffers", "_modules")
_TRANSIENT = "_non_persistent_buffers_set"
_FIRST = 128
"""The number of attributes searched for those of modules and optimizers, which are set first.

The search needs a limit because many objects can share a state.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Branch:
    """A reference from an object to something that it holds.

    `entry` and its list `home` are where the value can be renamed or given a neighbour; None in sequences and
    arguments. `owner` is the module whose registry contains it. `buffer` means that a tensor there is not a parameter:
    it is in the registry of buffers, or a plain attribute of a module. `edge` identifies the reference.
    """

    key: Node
    value: Node
    edge: object
    entry: Entry | None = None
    home: list[Entry] | None = None
    owner: Call | None = None
    buffer: bool = False


def is_mapping(node: Node) -> bool:
    """Whether a node is a dict, or an object on which entries are set."""
    return mapping_entries(node) is not None


def mapping_entries(node: Node) -> list[Entry] | None:
    """Return the entries of a dict or an instance of a subclass; None for anything else."""
    if isinstance(node, DictNode):
        return node.entries
    if isinstance(node, Call) and (node.entries or _is_plain_dict(node)):
        return node.entries
    return None


def _is_plain_dict(call: Call) -> bool:
    return isinstance(call.function, Global) and (call.function.module, call.function.name) in _DICTS


class Tree:
    """The rules by which Python's objects hold each other.

    `no_masks_because` is the reason why nothing in this tree can be given a mask, None if it can.
    """

    no_masks_because: str | None = None

    def admits(self, module: str, name: str) -> bool:
        """Whether this tree admits a global in addition to those that weights-only loading admits."""
        return False

    def is_module(self, node: Node) -> bool:
        """Whether a node is a pickled `nn.Module`."""
        return isinstance(node, Call) and _module_state(node) is not None

    def refers(self, node: Node) -> bool:
        """Whether an object refers to its model's parameters once more: a module (`_flat_weights`), an optimizer."""
        if self.is_module(node):
            return True
        states = node.states if isinstance(node, Call) else []
        return any(isinstance(state, DictNode) and _value(state, "param_groups") is not None for state in states)

    def branches(self, node: Node) -> list[Branch]:
        """Return what a state dict names: what a module has registered, and all that another object contains."""
        if isinstance(node, Call):
            state = _module_state(node)
            if state is not None:
                return list(_registered(node, state))
            if _is_plain_dict(node):
                return _entries(node.entries)
            return [*_entries(node.entries), *_items(node, node.items), *_attributes(node), *_arguments(node)]
        if isinstance(node, DictNode):
            return _entries(node.entries)
        if isinstance(node, ListNode | TupleNode | SetNode):
            return _items(node, node.items)
        return []

    def rest(self, node: Node) -> list[Branch]:
        """Return what `branches` leaves out: plain attributes of modules, and buffers that are not saved."""
        if not isinstance(node, Call):
            return []
        state = _module_state(node)
        if state is not None:
            named = {branch.edge for branch in _registered(node, state)}
            registries = [value for name in _REGISTRIES for value in [_value(state, name)]]
            left_out = [each for held in registries for each in _entries(mapping_entries(held) or [])]
            others = [each for each in _entries(state.entries) if each.key not in _REGISTRIES]
            unsaved = [replace(each, buffer=True) for each in (*left_out, *others) if each.edge not in named]
            return unsaved + _arguments(node)
        return _attributes(node) if _is_plain_dict(node) else []


def _module_state(call: Call) -> DictNode | None:
    for state in call.states:
        if isinstance(state, DictNode) and all(is_mapping(_value(state, name)) for name in _REGISTRIES):
            return state
    return None


def _value(state: DictNode, name: str) -> Node:
    first = state.entries[:_FIRST]
    return next((entry.value for entry in first if isinstance(entry.key, str) and entry.key == name), None)


def _registered(module: Call, state: DictNode) -> Iterator[Branch]:
    transient = _texts(_value(state, _TRANSIENT))
    for name in _REGISTRIES:
        entries = mapping_entries(_value(state, name)) or []
        owner = None if name == "_modules" else module
        for entry in entries:
            if name != "_buffers" or not isinstance(entry.key, str) or entry.key not in transient:
                yield Branch(entry.key, entry.value, id(entry), entry, entries, owner, name == "_buffers")


def _texts(node: Node) -> set[str]:
    """Return the strings in a set, in the form of any pickle protocol."""
    if isinstance(node, Call) and isinstance(node.args, TupleNode) and node.args.items:
        node = node.args.items[0]
    return {each for each in node.items if isinstance(each, str)} if isinstance(node, SetNode | ListNode) else set()


def _entries(entries: list[Entry]) -> list[Branch]:
    return [Branch(entry.key, entry.value, id(entry), entry, entries) for entry in entries]


def _items(holder: Node, items: Sequence[Node]) -> list[Branch]:
    return [Branch(index, item, (id(holder), index)) for index, item in enumerate(items)]


def _attributes(call: Call) -> list[Branch]:
    """Return the attributes that the states set: a state is a dict, or a pair of dicts if the class has slots."""
    found = []
    for state in call.states:
        parts = state.items if isinstance(state, TupleNode) else [state]
        for part in parts:
            if isinstance(part, DictNode):
                found += _entries(part.entries)
        if isinstance(state, ListNode | TupleNode) and not any(isinstance(part, DictNode) for part in parts):
            found += _items(state, state.items)
    return found


def _arguments(call: Call) -> list[Branch]:
    items = _items(call.args, call.args.items) if isinstance(call.args, TupleNode) else []
    return items + (_entries(call.kwargs.entries) if isinstance(call.kwargs, DictNode) else [])

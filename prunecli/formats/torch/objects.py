"""The common part of torch's containers: the pickled object graph, its tensors and storages, and its edits.

The container (zip, legacy, TorchScript) knows where the storages are in the file; this module knows how the pickle
describes them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from prunecli.errors import DamagedError, UnsupportedError, show
from prunecli.formats.base import Addition, Edit, ReadOptions, Storage, TensorInfo
from prunecli.formats.dtypes import DType
from prunecli.formats.pickles.dump import dump
from prunecli.formats.pickles.graph import load
from prunecli.formats.pickles.nodes import Call, Entry, Global, ListNode, Persistent, PickleGraph, TupleNode, walk
from prunecli.formats.torch.foreign import ARRAYS, check_foreign, is_class_id, note_plain_data
from prunecli.formats.torch.modules import drop_refreshers, restore_parameter
from prunecli.formats.torch.object_tree import Tree
from prunecli.formats.torch.state_dict import NamedNode, StateDict, find_state_dict
from prunecli.formats.torch.tensors import OpaqueTensor, StorageRef, mask_node, storage_ref
from prunecli.formats.views import View
from prunecli.lean import dataclass
from prunecli.terms import BAKE, HERE

__all__ = ["Edited", "TorchObjects", "check_objects", "edit_objects", "load_objects", "read_objects"]

_DIGITS = 300  # limit for the key of a storage; torch's counters and addresses are far shorter


@dataclass(frozen=True)
class TorchObjects:
    """What a pickle describes: the tensors of its state dict, all other tensors, and the storages by key."""

    tensors: Mapping[str, TensorInfo]
    carried: Sequence[TensorInfo]
    wrapper: str
    storages: Mapping[str, StorageRef]
    no_masks_because: str | None
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Edited:
    """An edited pickle, the storages that it names, in its order, and the additions behind new storages by key."""

    pickled: bytes
    storages: Mapping[str, StorageRef]
    fresh: Mapping[str, Addition]


def load_objects(data: bytes | memoryview, start: int, where: str) -> PickleGraph:
    """Return the graph of a pickle that torch wrote; ordered dicts from Python 2 get the form of Python 3.

    Raises:
        DamagedError: it is not a sound pickle.
        UnsupportedError: it uses extension codes, or buffers outside the pickle.
    """
    graph = load(data, start, where=where)
    seen: set[int] = set()
    for node in walk(graph.root) if graph.listing else ():
        if isinstance(node, Call):
            _modernise(node, seen)
    return graph


def _modernise(call: Call, seen: set[int]) -> None:
    """Replace `OrderedDict([[key, value], ...])`, as Python 2 pickled it, by `OrderedDict()` and its entries.

    Python 2 made that list for a single dict. If another dict has used the list already (`seen`), the call stays
    unchanged: otherwise a file could ask for any number of copies.
    """
    function, args = call.function, call.args
    if not isinstance(function, Global) or (function.module, function.name) != ("collections", "OrderedDict"):
        return
    pairs = args.items[0] if isinstance(args, TupleNode) and len(args.items) == 1 else None
    if not isinstance(pairs, ListNode) or id(pairs) in seen:
        return
    seen.add(id(pairs))
    if all(isinstance(pair, ListNode | TupleNode) and len(pair.items) == 2 for pair in pairs.items):
        both = [pair.items for pair in pairs.items if isinstance(pair, ListNode | TupleNode)]
        call.args = TupleNode([])
        call.entries = [*(Entry(key, value) for key, value in both), *call.entries]


def read_objects(
    graph: PickleGraph,
    place: Callable[[Mapping[str, StorageRef]], Mapping[str, Storage]],
    reading: ReadOptions,
    tree: Tree | None = None,
) -> TorchObjects:
    """Return the state dict and all other tensors of a graph; `place` maps its storages to their places in the file.

    Raises:
        UnsafeError: the graph holds objects that weights-only loading refuses, and `reading` does not admit them.
        DamagedError: the pickle contradicts itself or the container.
        UnsupportedError: it holds no tensors, or does something that a graph cannot represent.
        UsageError: the key leads nowhere.
    """
    tree = tree or Tree()
    note = ""
    if reading.read_only and not reading.foreign:
        note = note_plain_data(graph, tree)
        _check_complete(graph)
    else:
        check_objects(graph, reading, tree)
    storages = _storages_of(graph.persistents)
    places = place(storages)
    state = find_state_dict(graph.root, reading.key, tree)
    if not state.nodes and not state.others:
        raise UnsupportedError(f"{HERE} holds no tensors; {_instead(graph)}")
    return TorchObjects(
        tensors={named.name: _info(named, places) for named in state.nodes},
        carried=[_info(named, places) for named in state.others],
        wrapper=state.wrapper,
        storages=storages,
        no_masks_because=tree.no_masks_because or _maskless(state),
        notes=(*state.notes, *filter(None, (note,))),
    )


def _storages_of(persistents: Iterable[Persistent]) -> dict[str, StorageRef]:
    """Return the storages that the persistent ids of a pickle name, by key, in the order of the pickle."""
    refs: dict[str, StorageRef] = {}
    for node in persistents:
        if not is_class_id(node):
            ref = storage_ref(node)
            if refs.setdefault(ref.key, ref) != ref:
                raise DamagedError(f"{HERE}: storage {show(ref.key)} is described in two ways")
    return refs


def check_objects(graph: PickleGraph, reading: ReadOptions, tree: Tree) -> None:
    """Check that loading a pickle would run nothing that `reading` does not admit, and that the graph is complete.

    Raises:
        UnsafeError: the graph holds objects that weights-only loading refuses, or that would be made from
            uninitialised memory, and `reading` does not admit them.
        UnsupportedError: the pickle does something that a graph cannot represent.
    """
    if not reading.foreign:
        check_foreign(graph, tree)
    _check_complete(graph)


def _check_complete(graph: PickleGraph) -> None:
    if graph.lost is not None:
        raise UnsupportedError(f"{graph.lost}, which prunecli could not write back")


def _instead(graph: PickleGraph) -> str:
    if any(each.module.startswith("numpy") and each.name in ARRAYS for each in graph.called):
        return "its weights are numpy arrays; save them as tensors (torch.from_numpy)"
    return f"it is {_described(graph.root)}, not a checkpoint"


def _described(root: object) -> str:
    function = root.function if isinstance(root, Call) else None
    if isinstance(function, Global):
        return f"a pickled {show(f'{function.module}.{function.name}', 80)}"
    return f"a pickled {type(root).__name__.removesuffix('Node').lower()}"


def _info(named: NamedNode, places: Mapping[str, Storage]) -> TensorInfo:
    ref, buffer = named.ref, named.branch.buffer
    if isinstance(ref, OpaqueTensor):
        storage = Storage(f"({named.name})", 0, 0)
        return TensorInfo(named.name, DType(ref.kind, 1, "opaque"), View.of(ref.shape), storage, within=named.within)
    storage = places[ref.storage.key]
    return TensorInfo(named.name, ref.dtype, ref.view, storage, buffer, within=named.within, moment=named.moment)


def _maskless(state: StateDict) -> str | None:
    owner = next((named.branch.owner for named in state.nodes if named.branch.owner is not None), None)
    return None if owner is None else "a pickled module applies masks by hooks, which are code of its own"


def edit_objects(
    graph: PickleGraph, objects: TorchObjects, edit: Edit, reading: ReadOptions, taken: Iterable[str]
) -> Edited:
    """Apply the structural part of an edit to a freshly loaded graph, and pickle the graph again.

    `taken` holds the keys of all storages in the container, whether the pickle names them or not.

    Raises:
        UnsupportedError: a new tensor cannot be put beside its neighbour, or the graph cannot be written.
    """
    state = find_state_dict(graph.root, reading.key, Tree())
    numbers = [int(key) for key in taken if key.isdecimal() and len(key) < _DIGITS]
    fresh = _edit_graph(state, edit, objects, max(numbers, default=-1) + 1)
    if any(named.branch.owner is not None and named.name in edit.renames for named in state.nodes):
        drop_refreshers(graph.root, Tree())
    written: list[Persistent] = []
    pickled = dump(graph.root, graph.protocol, written)
    return Edited(pickled, _storages_of(written), fresh)


def _edit_graph(state: StateDict, edit: Edit, objects: TorchObjects, next_key: int) -> dict[str, Addition]:
    """Rename, remove and add entries of the state dict; return the additions by storage key, from `next_key` on."""
    fresh: dict[str, Addition] = {}
    replacement: dict[int, list[Entry]] = {}
    homes: dict[int, list[Entry]] = {}
    for named in state.nodes:
        if named.name not in edit.renames and named.name not in edit.removals and named.name not in edit.behind:
            continue
        home, entry, key = _home(named)
        if id(entry) in replacement:  # a shared module has several names, but its parameter has one entry
            continue
        homes[id(home)] = home
        entries = [] if named.name in edit.removals else [entry]
        for addition in edit.behind.get(named.name, ()):
            storage, next_key = str(next_key), next_key + 1
            fresh[storage] = addition
            beside = objects.storages[objects.tensors[named.name].storage.key]
            node = mask_node(storage, beside, addition.dtype, addition.shape)
            entries.append(Entry(_key_for(addition.name, named.name, key), node))
        entry.key = _key_for(edit.renames.get(named.name, named.name), named.name, key)
        if named.branch.owner is not None and entry.key != key:
            restore_parameter(named.branch.owner, str(entry.key), named.node)
        replacement[id(entry)] = entries
    for home in homes.values():
        home[:] = [each for entry in home for each in replacement.get(id(entry), [entry])]
        _check_keys(home)
    return fresh


def _check_keys(home: list[Entry]) -> None:
    """Check that each key is unique, so that loading does not replace one value by another."""
    seen: set[str] = set()
    for entry in home:
        if isinstance(entry.key, str):
            if entry.key in seen:
                raise UnsupportedError(f"{HERE}: {show(entry.key)} already exists, and is not a tensor; use {BAKE}")
            seen.add(entry.key)


def _home(named: NamedNode) -> tuple[list[Entry], Entry, str]:
    home, entry = named.branch.home, named.branch.entry
    if home is None or entry is None or not isinstance(entry.key, str):
        raise UnsupportedError(
            f"{HERE}: {show(named.name)} lies in a list or under a number, where a mask cannot be named; use {BAKE}"
        )
    return home, entry, entry.key


def _key_for(new_name: str, name: str, key: str) -> str:
    """Return the key that gives a tensor the dotted `new_name`, in the mapping that holds `name` under `key`.

    Raises:
        UnsupportedError: only another mapping could give it that name.
    """
    above = name[: len(name) - len(key)]
    if not new_name.startswith(above):
        raise UnsupportedError(
            f"{show(name)} lies in a dict of its own, and its mask cannot be baked there; save a flat state dict"
        )
    return new_name[len(above) :]

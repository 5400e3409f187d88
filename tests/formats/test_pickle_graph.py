"""Pickle graphs: what is read and written back means the same, with the same sharing."""

import collections
import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from prunecli.errors import DamagedError, UnsupportedError
from prunecli.formats.pickles.dump import dump
from prunecli.formats.pickles.graph import load
from prunecli.formats.pickles.nodes import (
    ByteArrayNode,
    ByteStringNode,
    Call,
    DictNode,
    Entry,
    Global,
    GraphNode,
    ListNode,
    Node,
    Persistent,
    SetNode,
    TupleNode,
    children,
    walk,
)

PROTOCOLS = range(6)


class Plain:
    """NEWOBJ and BUILD. All have one hash, so that the order in a set is the order of its filling."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)

    def __hash__(self) -> int:
        return 7

    def __eq__(self, other: object) -> bool:
        return self is other


class Listed(list[Any]):
    """APPENDS on an object."""


class Mapped(dict[Any, Any]):
    """SETITEMS on an object."""


class Reduced(Plain):
    """REDUCE with arguments."""

    def __init__(self, first: Any = None) -> None:
        super().__init__(first=first)

    def __reduce__(self) -> Any:
        return Reduced, (self.first,)


class Keyworded(Plain):
    """NEWOBJ_EX."""

    word: Any

    def __new__(cls, *args: Any, word: Any = None, **attributes: Any) -> "Keyworded":
        made = super().__new__(cls)
        made.word = word
        return made

    def __getnewargs_ex__(self) -> Any:
        return (1,), {"word": self.word}


class Stateful(Plain):
    """BUILD with a state that is no dict."""

    def __getstate__(self) -> Any:
        return (1, self.__dict__["x"])

    def __setstate__(self, state: Any) -> None:
        self.__dict__["x"] = state[1]


# No NaN: it is hashed by identity, so no two sets that hold it have one order. It has a test of its own.
ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(1 << 300), 1 << 300)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec=None), max_size=5)
    | st.binary(max_size=5)
)
CONTAINERS: dict[str, Callable[[list[Any]], Any]] = {
    "list": list,
    "tuple": tuple,
    "listed": Listed,
    "dict": lambda items: dict(enumerate(items)),
    "odd keys": lambda items: {f"key{i}": item for i, item in enumerate(items)},
    "ordered": lambda items: collections.OrderedDict(enumerate(items)),
    "mapped": lambda items: Mapped(enumerate(items)),
    "plain": lambda items: Plain(**{f"a{i}": item for i, item in enumerate(items)}),
    "reduced": lambda items: Reduced(items[0] if items else None),
    "keyworded": lambda items: Keyworded(word=list(items)),
    "stateful": lambda items: Stateful(x=list(items)),
    "bytearray": lambda items: bytearray(len(items)),
}
HASHED: dict[str, Callable[[list[Any]], Any]] = {
    "frozenset": frozenset,
    "set": set,
    "keys": lambda items: dict.fromkeys(items, 0),
    "pair": tuple,
}


def is_hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


@st.composite
def objects(draw: st.DrawFn, protocol: int) -> Any:
    """Build a pool where each object holds some before it, so that sharing is the rule; then close some cycles."""
    pool: list[Any] = draw(st.lists(ATOMS, min_size=1, max_size=5))
    for kind in draw(st.lists(st.sampled_from([*CONTAINERS, *HASHED]), max_size=12)):
        candidates = pool if kind in CONTAINERS else [value for value in pool if is_hashable(value)]
        members = draw(st.lists(st.sampled_from(candidates), max_size=4)) if candidates else []
        pool.append({**CONTAINERS, **HASHED}[kind](members))
    # Below protocol 2, pickle copies a list's subclass to write it, and so never comes to the end of a cycle.
    open_types = [list, dict, Plain] if protocol < 2 else [list, dict, Plain, Listed, Mapped, collections.OrderedDict]
    for holder in [value for value in pool if type(value) in open_types]:
        if draw(st.booleans()):
            close_cycle(holder, draw(st.sampled_from(pool)))
    return pool[-1] if draw(st.booleans()) else pool


def close_cycle(holder: Any, value: Any) -> None:
    if isinstance(holder, list):
        holder.append(value)
    elif isinstance(holder, dict):
        holder["back"] = value
    else:
        holder.back = value


def parts(value: Any) -> list[Any]:
    own: list[Any] = []
    if isinstance(value, dict):
        own = [part for item in value.items() for part in item]
    elif isinstance(value, list | tuple | set | frozenset):
        own = list(value)
    return [*own, value.__dict__] if hasattr(value, "__dict__") else own


def assert_same(one: Any, other: Any) -> None:
    """Same types, same atoms bit by bit, and the same objects in the same places: a one-to-one map of identities."""
    forth: dict[int, int] = {}
    back: dict[int, int] = {}
    todo = [(one, other)]
    while todo:
        a, b = todo.pop()
        assert type(a) is type(b)
        if isinstance(a, bool | int | float | str | bytes | bytearray | None):
            assert atom_key(a) == atom_key(b)
        if isinstance(a, bool | int | float | str | bytes | None):
            continue
        known = id(a) in forth
        assert forth.setdefault(id(a), id(b)) == id(b)
        assert back.setdefault(id(b), id(a)) == id(a)
        if not known:
            todo.extend(zip(parts(a), parts(b), strict=True))


def atom_key(value: Any) -> Any:
    return struct.pack(">d", value) if isinstance(value, float) else value


def label(node: GraphNode) -> Any:
    match node:
        case Global():
            return node.module, node.name
        case Call():
            return node.kind, len(node.items), len(node.entries), len(node.states)
        case ByteArrayNode() | ByteStringNode():
            return node.data
        case SetNode():
            return node.frozen
    return None


def assert_isomorphic(one: Node, other: Node) -> None:
    """The two graphs differ in nothing but the identity of their nodes."""
    forth: dict[int, int] = {}
    back: dict[int, int] = {}
    todo = [(one, other)]
    while todo:
        a, b = todo.pop()
        assert type(a) is type(b) or (isinstance(a, str) and isinstance(b, str))  # of one letter
        if isinstance(a, bool | int | float | str | bytes | None):
            assert atom_key(a) == atom_key(b)
            continue
        assert not isinstance(b, bool | int | float | str | bytes | None)
        assert label(a) == label(b)
        known = id(a) in forth
        assert forth.setdefault(id(a), id(b)) == id(b)
        assert back.setdefault(id(b), id(a)) == id(a)
        if not known:
            todo.extend(zip(children(a), children(b), strict=True))


def written_or_rejected(root: Node, protocol: int) -> bytes:
    try:
        return dump(root, protocol)
    except UnsupportedError as refused:
        if "among its own arguments" in str(refused):  # has a test of its own
            reject()
        raise


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(derandomize=True, deadline=None, max_examples=40)
@given(data=st.data())
def test_a_pickle_that_was_read_and_written_means_the_same(protocol: int, data: st.DataObject) -> None:
    original = pickle.dumps(data.draw(objects(protocol)), protocol)
    graph = load(original)
    written = written_or_rejected(graph.root, protocol)
    assert_same(pickle.loads(original), pickle.loads(written))
    assert_isomorphic(graph.root, load(written).root)
    assert (graph.protocol, graph.end) == (protocol if protocol >= 2 else 0, len(original))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 999, 1000, 1001, 2500])
def test_containers_of_every_size(protocol: int, size: int) -> None:
    numbers = list(range(70_000, 70_000 + size))
    ordered = collections.OrderedDict.fromkeys(numbers)
    value = [
        numbers,
        tuple(numbers),
        dict.fromkeys(numbers),
        set(numbers),
        frozenset(numbers),
        ordered,
        Listed(numbers),
    ]
    assert_same(pickle.loads(dump(load(pickle.dumps(value, protocol)).root, protocol)), value)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 65536])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_strings_and_numbers_of_every_length(protocol: int, size: int) -> None:
    number = 1 << size
    edges = [number, number - 1, -number, -number - 1] if protocol >= 2 or size < 10_000 else []
    value = ["é" * size, "a" * size, b"\xff" * size, bytearray(size), *edges]
    assert_same(pickle.loads(dump(load(pickle.dumps(value, protocol)).root, protocol)), value)


@pytest.mark.parametrize("bits", ["7ff8000000000001", "7ff0000000000001", "fff8dead0000beef", "8000000000000000"])
def test_floats_keep_their_bits(bits: str) -> None:
    pickled = b"\x80\x02G" + bytes.fromhex(bits) + b"."
    assert dump(load(pickled).root, 2) == pickled


def test_a_tuple_that_contains_itself() -> None:
    for width in (1, 2, 3, 4, 7):
        inner: list[Any] = []
        value = (inner,) * width
        inner.append(value)
        for protocol in PROTOCOLS:
            assert_same(pickle.loads(dump(load(pickle.dumps(value, protocol)).root, protocol)), value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_sets_whose_members_know_them(protocol: int) -> None:
    member = Plain()
    vars(member).update(frozen=frozenset([member]), set={member})
    roots = [member, member.frozen, member.set] if protocol >= 4 else [member]
    for value in roots:
        original = pickle.dumps(value, protocol)
        assert_same(pickle.loads(original), pickle.loads(dump(load(original).root, protocol)))


def test_an_object_among_its_own_arguments_is_read_and_not_written() -> None:
    # The set was made of a full list before its member got its state; written from the set, the list would be empty.
    member = Plain()
    vars(member).update(set={member})
    holder: list[Any] = []
    holder.append(Reduced(holder))
    for value in (member.set, holder[0]):
        root = load(pickle.dumps(value, 2)).root
        with pytest.raises(UnsupportedError, match="among its own arguments"):
            dump(root, 2)


def test_the_text_opcodes_of_python_2() -> None:
    pickled = b"(lp0\nI01\naI00\naI-7\naL12L\naF1.5\naS'a\\n\\x41\\'b'\np1\nag1\naVx\\u20ac\naNa."
    assert pickle.loads(pickled) == [True, False, -7, 12, 1.5, "a\nA'b", "a\nA'b", "x€", None]
    assert pickle.loads(dump(load(pickled).root, 0)) == pickle.loads(pickled)


def test_a_string_of_python_2_that_is_not_ascii_stays_as_it_is() -> None:
    pickled = b"\x80\x02]q\x00(U\x02\xe9\xffq\x01h\x01e."
    root = load(pickled).root
    assert isinstance(root, ListNode)
    assert isinstance(root.items[0], ByteStringNode)
    assert root.items[0] is root.items[1]
    assert dump(root, 2) == pickled
    assert pickle.loads(dump(load(b"S'\\xe9'\n.").root, 0), encoding="latin-1") == "é"


def test_pickles_in_a_row_are_read_by_their_ends() -> None:
    data = memoryview(b"garbage" + pickle.dumps([1], 2) + pickle.dumps("x" * 3000, 0) + b"tensors")
    first = load(data, 7)
    second = load(data, first.end)
    assert second.root == "x" * 3000
    assert bytes(data[second.end :]) == b"tensors"


def test_ids_of_persistent_objects_and_names_are_kept() -> None:
    for pickled in (
        b"cmod.ule\nna.me\n.",
        b"\x80\x02cmod\xc3\xbcle\nname\nq\x00.",
        b"\x80\x04\x8c\x01m\x8c\x01n\x93.",
    ):
        graph = load(pickled)
        assert isinstance(graph.root, Global)
        assert graph.globals == [graph.root]
        again = load(dump(graph.root, graph.protocol)).root
        assert_isomorphic(graph.root, again)
    root = load(b"(Pan id\n(I1\nI2\ntQd.").root
    assert isinstance(root, DictNode)
    assert isinstance(root.entries[0].key, Persistent)
    assert root.entries[0].key.id == "an id"
    assert_isomorphic(root, load(dump(root, 0)).root)


def test_globals_lists_also_what_is_thrown_away() -> None:
    graph = load(b"\x80\x02cos\nsystem\n0N.")
    assert (graph.root, [(named.module, named.name) for named in graph.globals]) == (None, [("os", "system")])


def test_renaming_an_entry_leaves_those_alone_that_shared_the_key() -> None:
    name = "shared key"
    root = load(pickle.dumps([{name: 1}, {name: 2}, name], 2)).root
    assert isinstance(root, ListNode)
    assert isinstance(root.items[0], DictNode)
    root.items[0].entries[0].key = "renamed"
    root.items[0].entries.append(Entry("added", TupleNode([])))
    assert pickle.loads(dump(root, 2)) == [{"renamed": 1, "added": ()}, {name: 2}, name]


def test_a_key_that_is_set_twice_is_there_twice() -> None:
    root = load(b"}(K\x01K\x02K\x01K\x03u.").root
    assert isinstance(root, DictNode)
    assert [(entry.key, entry.value) for entry in root.entries] == [(1, 2), (1, 3)]


@given(st.lists(st.sampled_from([b"q\x00", b"q\x01", b"q\x02", b"r\x07\x00\x00\x00", b"p9\n", b"\x94"]), min_size=1))
def test_a_memo_with_gaps_is_that_of_pickle(puts: list[bytes]) -> None:
    """Values are put under indices in any order, and more than once; those that are there are fetched."""
    pickled = b"\x80\x04(" + b"".join(b"K%c" % number + put for number, put in enumerate(puts))
    for index in range(16):
        try:
            expected = pickle.loads(pickled + b"h%ct." % index)
        except pickle.UnpicklingError:
            with pytest.raises(DamagedError, match="which nothing was put under"):
                load(pickled + b"h%ct." % index)
        else:
            root = load(pickled + b"h%ct." % index).root
            assert isinstance(root, TupleNode)
            assert tuple(root.items) == expected


def test_walk_visits_each_node_once() -> None:
    shared: list[Any] = [1]
    value: list[Any] = [shared, (shared, "x"), {"k": shared}]
    value.append(value)
    nodes = list(walk(load(pickle.dumps(value)).root))
    assert [type(node) for node in nodes] == [ListNode, ListNode, TupleNode, DictNode]
    assert list(walk("an atom")) == []


# torch's files


def tied() -> Any:
    weight = torch.arange(12.0).reshape(3, 4)
    return collections.OrderedDict(a=weight, b=weight, view=weight.t(), row=weight[1], own=torch.ones(2))


def trained() -> Any:
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    model(torch.ones(4, 3)).square().sum().backward()
    optimizer.step()
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 1 << 40, "names": ("x", None)}


def assorted() -> Any:
    parameter = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    dtypes = [torch.bfloat16, torch.float8_e4m3fn, torch.uint16, torch.bool, torch.complex64, torch.int8]
    tensors = [torch.ones(3).to(dtype) for dtype in dtypes]
    return {
        "p": parameter,
        3: tensors,
        "size": torch.Size([1, 2]),
        "bytes": b"\x00\xff",
        "dtype": torch.float16,
        "é": 1.5,
    }


def repacked(file: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """The archive with `data.pkl` changed, without the records that promise torch's own layout."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(file)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            if not name.endswith((".format_version", ".storage_alignment")):
                record = old.read(name)
                new.writestr(name, change(record) if name.endswith("data.pkl") else record)
    return out.getvalue()


def flattened(value: Any) -> list[Any]:
    """The leaves; of a tensor its type, values, strides, and which other tensors begin in the same place."""
    leaves: list[Any] = []
    places: dict[int, int] = {}
    todo = [value]
    while todo:
        part = todo.pop()
        if isinstance(part, torch.Tensor):
            place = places.setdefault(part.data_ptr(), len(places))
            leaves.append((type(part), part.dtype, part.tolist(), part.stride(), part.requires_grad, place))
        elif isinstance(part, dict):
            todo.extend([type(part).__name__, *part.keys(), *part.values(), *getattr(part, "__dict__", {}).values()])
        elif isinstance(part, list | tuple):
            todo.extend([type(part).__name__, *part])
        else:
            leaves.append(part)
    return leaves


@pytest.mark.parametrize("make", [tied, trained, assorted])
@pytest.mark.parametrize("protocol", [2, 4])
def test_torch_reads_what_was_written(make: Callable[[], Any], protocol: int) -> None:
    buffer = io.BytesIO()
    torch.save(make(), buffer, pickle_protocol=protocol)
    written = repacked(buffer.getvalue(), lambda pickled: dump(load(pickled).root, protocol))
    weights_only = protocol == 2  # torch's restricted reader knows no opcodes of protocol 4
    original = torch.load(io.BytesIO(buffer.getvalue()), weights_only=weights_only)
    assert flattened(torch.load(io.BytesIO(written), weights_only=weights_only)) == flattened(original)


@pytest.mark.parametrize("make", [tied, assorted])
def test_what_torch_saved_comes_out_byte_for_byte(make: Callable[[], Any]) -> None:
    buffer = io.BytesIO()
    torch.save(make(), buffer)
    with zipfile.ZipFile(buffer) as archive:
        pickled = archive.read("archive/data.pkl")
    assert dump(load(pickled).root, 2) == pickled


# What cannot be written


def test_names_that_the_text_opcode_cannot_hold() -> None:
    for name in ("two\nlines", "\ud800"):
        with pytest.raises(DamagedError, match="cannot be a name"):
            dump(Global("module", name), 2)
        assert_isomorphic(load(dump(Global("module", name), 4)).root, Global("module", name))


def test_cycles_that_no_pickle_can_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prunecli.formats.pickles.dump._MOST_WASTE", 10_000)
    node = SetNode([], frozen=True)
    node.items.append(node)
    persistent = Persistent(None)
    persistent.id = persistent
    for root in (node, persistent):
        with pytest.raises(UnsupportedError, match="contain each other"):
            dump(root, 2)


def test_a_value_that_is_not_a_node() -> None:
    with pytest.raises(TypeError, match="not a node"):
        dump(object(), 2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="protocol 6"):
        dump(None, 6)

"""Pickles that are damaged, or made to harm: prunecli's own errors, quickly, and nothing is ever run."""

import collections
import pathlib
import pickle
import pickletools
import random
import re
import subprocess
import sys
import tracemalloc
from typing import Any

import pytest

from prunecli.errors import DamagedError, PrunecliError, UnsupportedError
from prunecli.formats.pickles.dump import dump
from prunecli.formats.pickles.graph import load
from prunecli.formats.pickles.nodes import Call, DictNode, Entry, ListNode, TupleNode, walk

DAMAGED = {
    "nothing": b"",
    "no STOP": b"\x80\x02N",
    "STOP alone": b".",
    "values left": b"NN.",
    "a MARK left": b"(0(N.",
    "unknown opcode": b"\xff.",
    "argument cut off": b"J\x01\x02",
    "one byte cut off": b"K",
    "PROTO cut off": b"\x80",
    "PROTO in the middle": b"N\x80\x02.",
    "a string of 4 GiB": b"X\xff\xff\xff\xffabc.",
    "a string of 2**64 bytes": b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffabc.",
    "bytes of 2**63": b"\x8e\x00\x00\x00\x00\x00\x00\x00\x80abc.",
    "a bytearray of 2**63": b"\x96\x00\x00\x00\x00\x00\x00\x00\x80abc.",
    "a long of 2 GiB": b"\x8b\xff\xff\xff\x7f\x01.",
    "a frame longer than the data": b"\x80\x04\x95\xff\x00\x00\x00\x00\x00\x00\x00N.",
    "not UTF-8": b"X\x02\x00\x00\x00\xc3\x28.",
    "a name that is not UTF-8": b"c\xff\n\xff\n.",
    "a line without end": b"I1",
    "a long line without end": b"V" + b"x" * 5000,
    "an INT that is none": b"Ix\n.",
    "an INT of 5000 digits": b"I" + b"9" * 5000 + b"\n.",
    "a LONG of a million digits": b"L" + b"9" * 1_000_000 + b"L\n.",
    "a FLOAT that is none": b"F1.2.3\n.",
    "a STRING without quotes": b"Sabc\n.",
    "a STRING with one quote": b"S'\n.",
    "a STRING with a bad escape": b"S'\\q'\n.",
    "a STRING that ends in an escape": b"S'a\\'\n.",
    "a UNICODE with a bad escape": b"V\\u12\n.",
    "a persistent id that is not ASCII": b"P\xe9\n.",
    "a memo key that is missing": b"h\x00.",
    "a memo key that is missing, as text": b"g17\n.",
    "a memo key that is not a number": b"Np\n.",
    "a memo key that is negative": b"Np-1\n.",
    "a negative memo key that is fetched": b"Nq\x00g-1\n.",
    "PUT of nothing": b"q\x00.",
    "PUT across a MARK": b"N(q\x00.",
    "MEMOIZE of nothing": b"\x94.",
    "DUP of nothing": b"2.",
    "POP of nothing": b"0.",
    "POP_MARK without MARK": b"N1.",
    "TUPLE without MARK": b"Nt.",
    "TUPLE3 of two": b"NN\x87.",
    "TUPLE2 across a MARK": b"N(N\x86.",
    "LIST without MARK": b"l.",
    "APPEND to nothing": b"Na.",
    "APPEND to a tuple": b")Na.",
    "APPEND to a class": b"cm\nn\nNa.",
    "APPENDS without MARK": b"]e.",
    "APPENDS to a dict": b"}(Ne.",
    "SETITEM of one": b"}Ns.",
    "SETITEM in a list": b"]NNs.",
    "SETITEMS of three": b"}(NNNu.",
    "SETITEMS in a set": b"\x8f(NNu.",
    "SETITEMS to nothing": b"(NNu.",
    "DICT of one": b"(Nd.",
    "ADDITEMS to a list": b"](N\x90.",
    "ADDITEMS to a frozenset": b"(\x91(N\x90.",
    "FROZENSET without MARK": b"\x91.",
    "BUILD on a list": b"]Nb.",
    "BUILD on a class": b"cm\nn\nNb.",
    "BUILD on nothing": b"Nb.",
    "REDUCE without a function": b")R.",
    "REDUCE of text": b"U\x01a)R.",
    "REDUCE of a tuple": b"))R.",
    "REDUCE with a list": b"cm\nn\n]R.",
    "NEWOBJ with None": b"cm\nn\nN\x81.",
    "NEWOBJ_EX with a list": b"cm\nn\n)]\x92.",
    "STACK_GLOBAL of numbers": b"K\x01K\x02\x93.",
    "STACK_GLOBAL of one": b"U\x01a\x93.",
    "BINPERSID of nothing": b"Q.",
    "INST without MARK": b"im\nn\n.",
    "OBJ without MARK": b"cm\nn\no.",
    "OBJ of nothing": b"(o.",
    "OBJ of a number": b"(K\x01o.",
}
UNSUPPORTED = {
    "EXT1": b"\x82\x01.",
    "EXT2": b"\x83\x01\x00.",
    "EXT4": b"\x84\x01\x00\x00\x00.",
    "NEXT_BUFFER": b"\x80\x05\x97.",
    "READONLY_BUFFER": b"\x80\x05N\x98.",
    "protocol 6": b"\x80\x06N.",
}
LOST = {
    "a call for its side effect": b"Ncm\nn\n)R0.",
    "calls for their side effects": b"N(cm\nn\n)R1.",
    "APPEND after SETITEM": b"cm\nn\n)RK\x01K\x02sK\x03a.",
    "SETITEM after BUILD": b"cm\nn\n)RNbK\x01K\x02s.",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged(name: str) -> None:
    with pytest.raises(DamagedError, match=r"^some\.pkl: [^\n]* at byte \d+[^\n]*$") as caught:
        load(DAMAGED[name], where="some.pkl")
    assert not isinstance(caught.value, UnsupportedError)


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_unsupported(name: str) -> None:
    with pytest.raises(UnsupportedError, match=r"^some\.pkl: [^\n]* at byte \d+ [^\n]*$"):
        load(UNSUPPORTED[name], where="some.pkl")


@pytest.mark.parametrize("name", LOST)
def test_what_no_graph_can_hold_is_noted(name: str) -> None:
    lost = load(LOST[name], where="some.pkl").lost
    assert lost is not None
    assert re.match(r"^some\.pkl: [^\n]* at byte \d+ [^\n]*$", lost)


def test_the_first_loss_is_noted_with_all_globals() -> None:
    graph = load(b"cos\nsystem\n)R0cevil\nother\n)R0N.")
    assert graph.lost == "data.pkl: POP at byte 13 throws the result of a call away"
    assert [each.name for each in graph.globals] == ["system", "other"]


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_instances_of_python_2_are_carried(protocol: int) -> None:
    """INST and OBJ, which old-style classes were pickled with, are written as OBJ."""
    name = b"test_pickle_hostile\nInstance\n"
    pickled = b"(lp0\n(K\x01K\x02i" + name + b"p1\n}X\x01\x00\x00\x00xK\x03sbag1\na(c" + name + b"h\x00oa."
    graph = load(pickled)
    root = graph.root
    assert isinstance(root, ListNode)
    assert [each.kind for each in root.items if isinstance(each, Call)] == ["obj"] * 3
    assert [each.name for each in graph.globals] == ["Instance"] * 2
    for data in (pickled, dump(root, protocol)):
        one, same, cyclic = value = pickle.loads(data)
        assert one is same
        assert (one.arguments, one.x, cyclic.arguments) == ((1, 2), 3, (value,))


def test_the_message_says_what_and_where() -> None:
    with pytest.raises(DamagedError) as caught:
        load(b"\x80\x02N(q\x00.", where="model.pt:\x1b[2Jdata.pkl")
    assert str(caught.value) == "model.pt:\\x1b[2Jdata.pkl: BINPUT at byte 4 takes a value where the stack has none"


def test_every_opcode_there_is_has_a_meaning() -> None:
    for op in pickletools.opcodes:
        with pytest.raises(PrunecliError) as caught:
            load(op.code.encode("latin-1"))
        assert "not an opcode" not in str(caught.value)


def test_nothing_is_imported_or_called(tmp_path: pathlib.Path) -> None:
    canary = tmp_path / "canary"
    pickled = b"cpathlib\nPath.touch\n(cpathlib\nPath\n(V%s\ntRtR." % str(canary).encode()
    module = b"cprunecli_no_such_module\nname\n."
    code = (
        "import sys\n"
        "from prunecli.formats.pickles.dump import dump\nfrom prunecli.formats.pickles.graph import load\n"
        "from prunecli.formats.pickles.nodes import walk\n"
        "before = set(sys.modules)\n"
        f"for data in ({pickled!r}, {module!r}, b'cthis\\ns\\n)R.'):\n"
        "    graph = load(data)\n"
        "    print(len(list(walk(graph.root))), len(dump(graph.root, 2)) > 10)\n"
        "print(set(sys.modules) - before, {'torch', 'numpy'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["6 True", "1 True", "3 True", "set() set()"]
    assert not canary.exists()


DEPTH = 20_000


@pytest.mark.parametrize(
    "pickled",
    [
        b"]" * DEPTH + b"a" * (DEPTH - 1) + b".",
        b")" + b"\x85" * DEPTH + b".",
        b"(" * DEPTH + b"t" * DEPTH + b".",
        b"(" * DEPTH + b"\x91" * DEPTH + b".",
        b"}K\x01" * DEPTH + b"Ns" + b"s" * (DEPTH - 1) + b".",
        b"cm\nn\n" * DEPTH + b")R" + b"\x85R" * (DEPTH - 1) + b".",
        b"N" + b"Q" * DEPTH + b".",
    ],
    ids=["lists", "tuples", "marks", "frozensets", "dicts", "calls", "persistent ids"],
)
def test_no_nesting_is_too_deep(pickled: bytes) -> None:
    root = load(pickled).root
    assert sum(1 for _ in walk(root)) >= DEPTH
    assert len(dump(root, 2)) > DEPTH


def test_a_high_memo_index_costs_nothing() -> None:
    tracemalloc.start()
    assert load(b"Nr\x40\x42\x0f\x000j\x40\x42\x0f\x00.").root is None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000  # an array of as many entries would take 8 MB


def test_keys_are_neither_hashed_nor_compared() -> None:
    key = b")" + b"\x85" * 100
    root = load(b"}(" + key + b"N" + key + b"Nu.").root
    assert isinstance(root, DictNode)
    assert len(root.entries) == 2


def test_a_bomb_of_shared_lists_stays_small() -> None:
    bomb = b"]q\x00" + b"".join(b"]q%c(h%ch%ce" % (i, i - 1, i - 1) for i in range(1, 15))
    root = load(b"(" + bomb + b"t.").root
    assert isinstance(root, TupleNode)
    assert sum(1 for _ in walk(root)) == 16
    assert len(dump(root, 2)) < 500


def test_a_long_number_that_is_shared_is_written_once() -> None:
    root = load(b"(\x8b\x00\x00\x01\x00" + b"\x01" * 65536 + b"q\x00" + b"h\x00" * 1000 + b"t.").root
    assert len(dump(root, 2)) < 70_000


def test_entangled_cycles_are_refused_before_they_explode() -> None:
    node = TupleNode([ListNode() for _ in range(5000)])
    for item in node.items:
        assert isinstance(item, ListNode)
        item.items.append(node)
    with pytest.raises(UnsupportedError, match="contain each other"):
        dump(node, 2)


def test_a_chain_of_persistent_ids_used_often_is_refused() -> None:
    root = load(b"(N" + b"Q" * 2000 + b"q\x00" + b"h\x00" * 2000 + b"t.").root
    with pytest.raises(UnsupportedError, match="contain each other"):
        dump(root, 2)


class Instance:
    """Stands for a class of Python 2."""

    x: int

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments


class Thing:
    """Something to pickle by reference."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


def originals() -> list[bytes]:
    shared = ["shared", 1.5, b"bytes", bytearray(b"array"), 1 << 70, -3, None, True]
    value = collections.OrderedDict(a=shared, b=(shared, {"k": {1, 2}}), c=Thing(x=frozenset("xy"), back=shared))
    cyclic: list[Any] = [value]
    cyclic.append((cyclic,))
    return [pickle.dumps(cyclic, protocol) for protocol in range(6)]


def mutated(source: bytes, rng: random.Random) -> bytes:
    data = bytearray(source)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        at = rng.randrange(len(data) or 1)
        what = rng.randrange(5)
        if what == 0:
            data[at : at + 1] = bytes([rng.randrange(256)])
        elif what == 1:
            del data[at : at + rng.choice((1, 1, 2, 8))]
        elif what == 2:
            data[at:at] = data[(start := rng.randrange(len(data) or 1)) : start + rng.randrange(12)]
        elif what == 3:
            data[at:at] = rng.choice(pickletools.opcodes).code.encode("latin-1")
        else:
            data[at : at + 1] = bytes([data[at] ^ (1 << rng.randrange(8))]) if data else b""
    return bytes(data)


def survives(data: bytes) -> bool:
    """Read, and if that works, write and read again; any exception that is not prunecli's own comes through."""
    try:
        graph = load(data)
        again = load(dump(graph.root, graph.protocol))
    except PrunecliError as refused:
        if "\n" in str(refused):
            raise
        return False
    assert sum(1 for _ in walk(graph.root)) == sum(1 for _ in walk(again.root))
    return True


def test_mutated_pickles_raise_nothing_but_our_errors() -> None:
    rng = random.Random(20240607)  # noqa: S311  (chance, not a secret)
    sources = originals()
    outcomes = collections.Counter(survives(mutated(rng.choice(sources), rng)) for _ in range(4000))
    assert min(outcomes[True], outcomes[False]) > 100


def test_every_prefix_is_refused() -> None:
    for source in originals():
        assert survives(source)
        assert not any(survives(source[:length]) for length in range(len(source)))


def test_a_call_can_be_edited() -> None:
    call = load(b"ccollections\nOrderedDict\n)R}(K\x01K\x02ub.").root
    assert isinstance(call, Call)
    call.set([Entry("k", 5)])
    made = pickle.loads(dump(call, 2))
    assert made == collections.OrderedDict(k=5)

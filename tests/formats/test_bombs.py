"""Small files that name the same things very often: refused or read in time and memory that their size promises.

Each of these took minutes or gigabytes once. The limits here are far above what is needed, and far below that.
"""

import io
import pickle
import resource
import signal
import struct
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from prunecli.errors import DamagedError, UnsafeError, UnsupportedError
from prunecli.formats.base import ReadOptions
from prunecli.formats.detect import open_checkpoint
from prunecli.formats.pickles.dump import dump
from prunecli.formats.pickles.graph import load
from prunecli.formats.pickles.machine import Room
from prunecli.formats.pickles.nodes import Call, walk
from prunecli.formats.torch.object_tree import Tree
from prunecli.formats.torch.objects import load_objects
from prunecli.formats.torch.state_dict import StateDict, find_state_dict
from prunecli.formats.torch.survey import Limits
from prunecli.surgery.names.select import Selection
from prunecli.surgery.plan.plan import plan_prune
from prunecli.surgery.plan.request import PruneGroup, PruneRequest
from prunecli.surgery.report.measure import measure

MIB = 1 << 20
SECONDS = 60


def _stop(*_: object) -> None:
    raise TimeoutError(f"more than {SECONDS} s of processor time")


@pytest.fixture(autouse=True)
def limited() -> Iterator[None]:
    """Stop what hangs, and what takes more than two GiB on top of what there is."""
    before = signal.signal(signal.SIGPROF, _stop)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + (2 << 30), hard))
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    yield
    signal.setitimer(signal.ITIMER_PROF, 0)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    signal.signal(signal.SIGPROF, before)


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def tensor(shape: bytes = b"K\x04\x85", stride: bytes = b"K\x01\x85", function: bytes = b"_rebuild_tensor_v2") -> bytes:
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x04tQ"
    return b"ctorch._utils\n" + function + b"\nq\x02(" + storage + b"K\x00" + shape + stride + b"\x89}tq\x03R"


FIRST = text("first") + tensor() + b"q\x01"
AGAIN = b"h\x02h\x03R"
"""Another tensor in the place of the last one."""


def pickled(*items: bytes, head: bytes = b"") -> bytes:
    """A pickle of `head` (which puts things into the memo), then a dict of a tensor and `items`."""
    return b"\x80\x02" + head + b"}(" + FIRST + b"".join(items) + b"u."


def checkpoint(path: Path, *items: bytes, head: bytes = b"") -> Path:
    """A torch zip of such a pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", pickled(*items, head=head))
        archive.writestr("m/data/0", bytes(16))
    return path


def remembered(index: int, value: bytes) -> bytes:
    return value + b"q" + bytes([index]) + b"0"


MANY, FEW = 20_000, 1000


SMALL = Limits(letters=1 << 20, widest=1 << 10)


def find(*items: bytes, head: bytes = b"", limits: Limits = SMALL) -> StateDict:
    """Find the state dict of a pickle within small limits."""
    graph = load_objects(pickled(*items, head=head), 0, "data.pkl")
    return find_state_dict(graph.root, None, Tree(), limits)


def test_a_long_key_in_many_places_of_what_is_carried() -> None:
    head = remembered(0, text("k" * 4000))
    entries = text("optimizer") + b"}" + text("x" * 4000) + b"}(" + b"h\x00h\x01" * 400 + b"us"
    tracemalloc.start()
    with pytest.raises(UnsupportedError, match="too many ways to name them all"):
        find(entries, head=head)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * MIB


def test_a_long_key_in_many_places_of_the_state_dict() -> None:
    head = remembered(0, text("k" * 3000))
    entries = [text("all"), b"](" + b"}h\x00h\x01s" * 1000 + b"e"]
    with pytest.raises(UnsupportedError, match="too many ways to name them all"):
        find(*entries, head=head)
    assert find(*entries, head=head, limits=Limits()).nodes


def test_a_tensor_among_many_parts_of_one_object() -> None:
    entries = [text("all"), b"(" + b"h\x01" + b"N" * 1200 + b"t"]
    with pytest.raises(UnsupportedError, match="in an object with 1201 parts"):
        find(*entries)
    assert find(*entries, limits=Limits()).nodes


@pytest.mark.parametrize(
    "explosion",
    [b"]" * 3000 + b"a" * 2999 + b".", b"(" * 6000, b"N" + b"\x94" * 6000, b"}" * 3000, b")\x85\x94" * 3000],
    ids=["lists", "marks", "memo entries", "dicts", "tuples"],
)
def test_more_objects_than_the_size_promises(explosion: bytes) -> None:
    """What a pickle of millions of bytes may take is checked with one of thousands."""
    room = Room(blocks=1000, look=256)
    with pytest.raises(UnsafeError, match="more objects than its size promises"):
        load(b"\x80\x04" + explosion, room=room)


def test_what_picklers_write_has_room() -> None:
    values = {f"layer{i}.weight": [i, float(i), f"{i}" * 5, (i, i)] for i in range(2000)}
    assert load(pickle.dumps(values), room=Room(blocks=1000, look=256)).root


def test_many_sizes_shared_by_many_tensors(tmp_path: Path) -> None:
    head = remembered(0, b"(" + b"K\x01" * MANY + b"t")
    items = [text(f"{i}") + tensor(b"h\x00", b"h\x00") for i in range(MANY // 10)]
    path = checkpoint(tmp_path / "m.pt", *items, head=head)
    with pytest.raises(DamagedError, match="a tensor has 20000 sizes or strides"), open_checkpoint(path):
        pass
    strangers = [text(f"{i}") + tensor(b"h\x00", b"h\x00", b"_rebuild_qtensor") for i in range(MANY // 10)]
    with open_checkpoint(checkpoint(tmp_path / "q.pt", *strangers, head=head)) as opened:
        assert len(opened.tensors) == MANY // 10 + 1


def test_one_list_of_pairs_for_many_ordered_dicts() -> None:
    pairs = remembered(0, b"](" + b"(K\x01K\x02l" * MANY + b"e")
    call = b"ccollections\nOrderedDict\nh\x00\x85R"
    graph = load_objects(pairs + b"](" + call * MANY + b"e.", 0, "data.pkl")
    made = [node for node in walk(graph.root) if isinstance(node, Call)]
    assert len(made) == MANY
    assert [len(call.entries) for call in made] == [MANY] + [0] * (MANY - 1)


@pytest.mark.parametrize("how", ["arguments", "state", "modules"])
def test_many_objects_that_share_one_large_part(tmp_path: Path, how: str) -> None:
    padding = b"NN" * FEW + text("t") + tensor()
    registries = b"".join(text(name) + b"}" for name in ("_parameters", "_buffers", "_modules"))
    calls = {
        "arguments": (b"(" + padding + b"t", b"cevil\nC\nh\x00R"),
        "state": (b"}(" + padding + b"u", b"cevil\nC\n)\x81h\x00b"),
        "modules": (b"}(" + registries + padding + b"u", b"cevil\nC\n)\x81h\x00b"),
    }
    part, call = calls[how]
    items = text("x") + b"](" + call * (FEW // 2) + b"e"
    path = checkpoint(tmp_path / "m.pt", items, head=remembered(0, part))
    with pytest.raises(UnsupportedError, match="too many ways"), open_checkpoint(path, ReadOptions(foreign=True)):
        pass


def test_one_tensor_of_many_names(tmp_path: Path) -> None:
    items = b"".join(text(f"{i:05}") + AGAIN for i in range(2 * FEW))
    path = checkpoint(tmp_path / "m.pt", items)
    with open_checkpoint(path) as opened:
        assert len(opened.tensors) == 2 * FEW + 1
        for remove in (True, False):
            with pytest.raises(UnsupportedError, match="first shares its memory with more than 1000 tensors"):
                plan_prune(opened, PruneRequest((PruneGroup(Selection(("*",)), 0.5),), 1, remove=remove))


def test_one_mask_of_many_names(tmp_path: Path) -> None:
    names = [text(f"{i:05}_{kind}") + AGAIN for i in range(FEW) for kind in ("orig", "mask")]
    path = checkpoint(tmp_path / "m.pt", *names, text("w_orig") + tensor(), text("w_mask") + AGAIN)
    with open_checkpoint(path) as opened, pytest.raises(UnsupportedError, match="with more than 1000 tensors"):
        plan_prune(opened, PruneRequest((PruneGroup(Selection(("w",)), 0.5),), 1))


def test_names_of_very_many_parts(tmp_path: Path) -> None:
    dots = text("ema" + "." * 2000)
    items = [
        text("optimizer") + b"}" + dots + b"}(" + b"".join(text(f"{i}") + tensor() for i in range(2000)) + b"us",
    ]
    with open_checkpoint(checkpoint(tmp_path / "m.pt", *items)) as opened:
        assert len(opened.carried) == 2000
        assert measure(opened, None).totals.parameters == 1


def test_one_long_name_of_many_classes(tmp_path: Path) -> None:
    head = remembered(0, text("m" * 50_000)) + remembered(1, text("C"))
    body = head + b"](" + b"h\x00h\x01\x93" * FEW + b"e"
    graph = load(b"\x80\x02" + body + b".")
    assert len(dump(graph.root, 2)) < MIB // 4
    path = checkpoint(tmp_path / "m.pt", text("x") + body)
    with pytest.raises(UnsafeError, match=r"\(m{20,}…m{20,}\.C\)"), open_checkpoint(path):
        pass


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_code_that_unpacks_to_far_more_than_the_file(tmp_path: Path) -> None:
    out = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), out)
    path = tmp_path / "m.pt"
    for count, refused in ((50_000, False), (200_000, True)):
        names = '"weight", ' * count
        code = f"class Linear(Module):\n  __parameters__ = [{names}]\n  __buffers__ = []\n"
        code += "  def forward(self): pass\n" + "#" * (30 * MIB if refused else 0)
        with zipfile.ZipFile(out) as old, zipfile.ZipFile(path, "w") as new:
            for record in old.infolist():
                packed = record.filename.endswith(".py")
                new.writestr(
                    record.filename, code if packed else old.read(record), zipfile.ZIP_DEFLATED if packed else None
                )
        if refused:
            with pytest.raises(UnsafeError, match="its code unpacks to more than"), open_checkpoint(path):
                pass
        else:
            with open_checkpoint(path) as opened:
                assert opened.format == "TorchScript"

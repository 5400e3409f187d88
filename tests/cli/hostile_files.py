"""Checkpoints made to harm: pickles that would run code, that explode, or that lie, in torch's two containers."""

import io
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.package.package_exporter import PackageExporter

MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
VERSION = b"\x80\x02M\xe9\x03."
FACTS = pickle.dumps({"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}, 2)
KEYS = pickle.dumps(["0"], 2)
STORAGE = struct.pack("<4f", 1, 2, 3, 4)


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def tensor(part: bytes = b"") -> bytes:
    """Opcodes that rebuild the one tensor of four elements; `part` is N in legacy files, whose ids have six parts."""
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x04" + part + b"tQ"
    hooks = b"ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00K\x04\x85K\x01\x85\x89" + hooks + b"tR"


def beside_a_weight(body: bytes, part: bytes = b"") -> bytes:
    """The pickle of {"w": tensor, "x": what the opcodes of `body` leave on the stack}."""
    return b"\x80\x02}(" + text("w") + tensor(part) + text("x") + body + b"u."


def zipped(pickled: bytes) -> bytes:
    """A torch zip, of any pickle."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in {"data.pkl": pickled, "byteorder": b"little", "data/0": STORAGE, "version": b"3\n"}.items():
            archive.writestr(f"m/{name}", data)
    return out.getvalue()


def legacy(
    pickled: bytes,
    *,
    version: bytes = VERSION,
    facts: bytes = FACTS,
    keys: bytes = KEYS,
    storages: bytes = struct.pack("<Q", 4) + STORAGE,
) -> bytes:
    """A file of torch's old format, of any pickles."""
    return MAGIC + version + facts + pickled + keys + storages


CONTAINERS: dict[str, Callable[[bytes], bytes]] = {
    "zip": lambda body: zipped(beside_a_weight(body)),
    "legacy": lambda body: legacy(beside_a_weight(body, b"N")),
}

_TOUCH = b"(Vtouch canary\nt"
_POSIX_SYSTEM = b"cposix\nsystem\n" + _TOUCH + b"R"
_EVIL = b"\x80\x02" + _POSIX_SYSTEM + b"."

RUNS: dict[str, tuple[bytes, str]] = {
    "REDUCE": (_POSIX_SYSTEM, "posix.system"),
    "REDUCE of exec": (b"cbuiltins\nexec\n(Vopen('canary', 'w').close()\ntR", "builtins.exec"),
    "REDUCE of eval, as Python 2": (b"c__builtin__\neval\n(Vopen('canary', 'w').close()\ntR", "__builtin__.eval"),
    "STACK_GLOBAL": (text("posix") + text("system") + b"\x93" + _TOUCH + b"R", "posix.system"),
    "INST": (b"(Vtouch canary\niposix\nsystem\n", "posix.system"),
    "OBJ": (b"(cposix\nsystem\nVtouch canary\no", "posix.system"),
    "NEWOBJ": (b"chostile_files\nMade\n(Vcanary\nt\x81", "hostile_files.Made"),
    "NEWOBJ_EX": (b"chostile_files\nMade\n)}Vpath\nVcanary\ns\x92", "hostile_files.Made"),
    "BUILD": (b"chostile_files\nStateful\n)\x81Vcanary\nb", "hostile_files.Stateful"),
    "APPENDS": (b"chostile_files\nFilled\n)\x81(Vcanary\ne", "hostile_files.Filled"),
    "SETITEMS": (b"chostile_files\nFilled\n)\x81(Vcanary\nNu", "hostile_files.Filled"),
    "a nested pickle": (b"c_pickle\nloads\n(C" + bytes([len(_EVIL)]) + _EVIL + b"tR", "_pickle.loads"),
    "a chain of calls": (
        b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(Vposix\ntRVsystem\ntR" + _TOUCH + b"R",
        "builtins.getattr, builtins.__import__",
    ),
    "a call under a key": (b"}" + _POSIX_SYSTEM + b"Ns", "posix.system"),
    "a call in a persistent id of a class": (
        b"(" + text("module") + b"cposix\nsystem\n" + text("f.py") + _POSIX_SYSTEM + b"tQ",
        "posix.system",
    ),
}
"""What torch.load would run: the opcodes, and the name that the refusal shows."""

RUNS_AND_IS_LOST: dict[str, tuple[bytes, str, str]] = {
    "a call whose result is popped": (_POSIX_SYSTEM + b"0N", "posix.system", "POP at byte"),
    "calls whose results are popped": (b"(" + _POSIX_SYSTEM + b"1N", "posix.system", "POP_MARK at byte"),
    "BUILD before SETITEM": (b"cevil\nC\n)\x81NbNNs", "evil.C", "SETITEM at byte"),
    "SETITEM before APPEND": (b"cevil\nC\n)\x81NNsNa", "evil.C", "APPEND at byte"),
}
"""The same, but no graph can hold it: the name, and what is said with --allow-foreign-objects."""

DAMAGED: dict[str, tuple[bytes, str]] = {
    "EXT1": (b"\x82\x01", "EXT1 at byte"),
    "EXT2": (b"\x83\x01\x00", "EXT2 at byte"),
    "EXT4": (b"\x84\x01\x00\x00\x00", "EXT4 at byte"),
    "NEXT_BUFFER": (b"\x97", "NEXT_BUFFER at byte"),
    "READONLY_BUFFER": (b"N\x98", "READONLY_BUFFER at byte"),
    "an opcode that there is not": (b"\xff", "is not an opcode of any pickle"),
    "an empty stack": (b"\x87\x87", "takes a value where the stack has none"),
    "a memo entry that there is not": (b"j\xff\xff\xff\xff", "which nothing was put under"),
    "a MARK that there is not": (b"11", "needs a MARK"),
    "a call of no tuple": (b"cevil\nC\nNR", "has arguments that are not a tuple"),
    "a call of a text": (text("evil") + b")R", "calls something that cannot be called"),
    "an instance of a number": (b"(K\x01o", "calls something that cannot be called"),
    "a name of numbers": (b"K\x01K\x02\x93", "has a name that is not text"),
    "LONG4 of 1 GiB": (b"\x8b\x00\x00\x00\x40\x01", "announces 1073741824 bytes"),
    "BINUNICODE8 of 8 EiB": (b"\x8d" + b"\xff" * 7 + b"\x7f", "announces 9223372036854775807 bytes"),
    "BINBYTES8 of 16 EiB": (b"\x8e" + b"\xff" * 8, "announces 18446744073709551615 bytes"),
    "BYTEARRAY8 of 16 EiB": (b"\x96" + b"\xff" * 8, "announces 18446744073709551615 bytes"),
    "BINUNICODE of 4 GiB": (b"X\xff\xff\xff\xff", "announces 4294967295 bytes"),
    "FRAME that lies": (b"\x95" + b"\xff" * 8, "announces 18446744073709551615 bytes"),
    "a decimal of 100,000 digits": (b"L" + b"7" * 100_000 + b"L\n", "a number that cannot be read"),
    "PROTO again": (b"\x80\x02N", "stands in the middle"),
    "a persistent id that is a text": (text("evil") + b"Q", "names no storage"),
}
"""What is no pickle, or none that can be carried: exit 4 with the flag and without."""

INERT: dict[str, bytes] = {
    "a memo index of 4 thousand million": b"Nr\xff\xff\xff\xff",
    "tuples shared 2 ** 200 times": b")\x85" + b"2\x86" * 200,
    "lists shared 2 ** 200 times": b"]" + b"q\x000](h\x00h\x00e" * 200,
    "texts shared 2 ** 200 times": text("lol" * 50)
    + b"q\x000](h\x00h\x00eq\x000"
    + b"](h\x00h\x00eq\x000" * 199
    + b"h\x00",
    "a text in 20,000 places": text("x" * 5000) + b"q\x000(" + b"h\x00" * 20_000 + b"l",
    "DUP 20,000 times": b"(N" + b"2" * 20_000 + b"t",
    "a long number in 5,000 places": b"\x8b\x00\x10\x00\x00" + b"\x11" * 4096 + b"q\x000(" + b"h\x00" * 5000 + b"l",
    "20,000 memo entries of one object": b"]" + b"".join(b"r" + struct.pack("<I", i) for i in range(20_000)),
    "20,000 lists deep": b"]" * 20_000 + b"a" * 19_999,
    "20,000 tuples deep": b")" + b"\x85" * 20_000,
    "20,000 MARKs deep": b"(" * 20_000 + b"t" * 20_000,
    "20,000 dicts deep": b"}K\x01" * 19_999 + b"}" + b"s" * 19_999,
    "20,000 dicts as keys": b"}" * 20_000 + b"Ns" * 19_999,
    "a list that contains itself": b"]q\x00h\x00a",
    "a key that cannot be hashed": b"}]Ns",
    "a number as an attribute of a set": b"c__builtin__\nset\n](NNNe\x85R",
    "a class that is admitted, by INST": b"(icollections\nOrderedDict\n",
    "a class that is admitted, and never called": b"ctorch\nTensor\n",
}
"""What looks like a bomb and is none for a reader of graphs: done as if it were not there."""

_PLAIN = beside_a_weight(b"N", b"N")
HIDDEN: dict[str, tuple[bytes, int]] = {
    "the version": (legacy(_PLAIN, version=b"\x80\x02" + _POSIX_SYSTEM + b"."), 4),
    "the pickle of the version": (legacy(_PLAIN, version=b"\x80\x02" + _POSIX_SYSTEM + b"0M\xe9\x03."), 4),
    "the facts": (legacy(_PLAIN, facts=b"\x80\x02" + _POSIX_SYSTEM + b"."), 0),
    "the keys": (legacy(_PLAIN, keys=b"\x80\x02](" + _POSIX_SYSTEM + b"e."), 4),
    "the pickle of the keys": (legacy(_PLAIN, keys=b"\x80\x02" + _POSIX_SYSTEM + b"0](" + text("0") + b"e."), 4),
}
"""Where else a legacy file can have a call, and the exit code with --allow-foreign-objects."""


def old_tar(storages: bytes = b"") -> bytes:
    """A file of torch 0.1: a tar of pickles."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in {"sys_info": FACTS, "pickle": _EVIL, "tensors": b"", "storages": storages}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def package() -> bytes:
    """A torch.package archive with a pickle in it."""
    out = io.BytesIO()
    with PackageExporter(out) as exporter:
        exporter.save_pickle("model", "model.pkl", {"w": torch.ones(2)})
    return out.getvalue()


@dataclass(frozen=True)
class Other:
    """A whole file: exit codes of reading and of applying, without --allow-foreign-objects and with it, and words."""

    make: Callable[[], bytes]
    words: str
    foreign_words: str
    reading: tuple[int, int] = (4, 4)
    applying: tuple[int, int] = (4, 4)


def _both(make: Callable[[], bytes], words: str) -> Other:
    return Other(make, words, words)


def _saved(value: Callable[[], object], *, as_zip: bool) -> Callable[[], bytes]:
    def make() -> bytes:
        out = io.BytesIO()
        torch.save(value(), out, _use_new_zipfile_serialization=as_zip)
        return out.getvalue()

    return make


def _everywhere(name: str, pickled: Callable[[bytes], bytes], words: str) -> dict[str, Other]:
    without = {} if b"storage" in pickled(b"N") else {"keys": pickle.dumps([], 2), "storages": b""}
    return {
        f"{name}, zip": _both(lambda: zipped(pickled(b"")), words),
        f"{name}, legacy": _both(lambda: legacy(pickled(b"N"), **without), words),
    }


def _alone(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


_NAMELESS = "share each other in too many ways"
OTHERS: dict[str, Other] = {
    "torch 0.1": _both(old_tar, "torch's format from before 0.1.10"),
    "torch.package": _both(package, "is a torch.export or torch.package archive"),
    "a bare pickle that runs": _both(lambda: _EVIL, "is a plain pickle, not a checkpoint"),
    "protocol 6": _both(lambda: zipped(b"\x80\x06N."), "asks for protocol 6"),
    "an old version": _both(
        lambda: legacy(b"N.", version=b"\x80\x02M\xe8\x03."), "another version of torch's old format"
    ),
    "a count of 2**63": _both(lambda: legacy(_PLAIN, storages=b"\0" * 7 + b"\x80" + STORAGE), "elements"),
    "keys that are a dict": _both(lambda: legacy(_PLAIN, keys=b"\x80\x02}."), "no list of storages"),
    "keys that repeat": _both(lambda: legacy(_PLAIN, keys=pickle.dumps(["0", "0"], 2)), "storage 0 is listed twice"),
    "no keys": _both(lambda: legacy(_PLAIN, keys=pickle.dumps([], 2)), "storage 0 is missing"),
    **_everywhere(
        "a state dict that is a number", lambda _: _alone(b"}" + text("state_dict") + b"K\x03s"), "no tensors"
    ),
    **_everywhere(
        "a state dict that is a text", lambda _: _alone(b"}" + text("state_dict") + text("w") + b"s"), "no tensors"
    ),
    **_everywhere("no object at all", lambda _: _alone(b"N"), "no tensors; it is a pickled nonetype"),
    **_everywhere("a dict without tensors", lambda _: _alone(b"}"), "no tensors; it is a pickled dict"),
    **_everywhere(
        "a tensor with 2 ** 60 names",
        lambda part: _alone(b"](" + tensor(part) + b"q\x00e" + b"q\x000](h\x00h\x00e" * 60),
        _NAMELESS,
    ),
    **_everywhere(
        "a tensor 20,000 lists deep",
        lambda part: _alone(b"]" * 20_000 + tensor(part) + b"a" * 20_000),
        "too long a name",
    ),
    **{
        f"arguments of a trainer, {name}": Other(
            _saved(lambda: Made("nothing"), as_zip=as_zip),
            "weights-only loading refuses (hostile_files.Made)",
            "holds no tensors; it is a pickled hostile_files.Made",
            reading=(5, 4),
            applying=(5, 4),
        )
        for name, as_zip in {"zip": True, "legacy": False}.items()
    },
    **{
        f"a quantised tensor, {name}": Other(
            _saved(lambda: {"w": torch.quantize_per_tensor(torch.ones(4), 0.5, 1, torch.qint8)}, as_zip=as_zip),
            "no floating point weight",
            "no floating point weight",
            reading=(0, 0),
            applying=(2, 2),
        )
        for name, as_zip in {"zip": True, "legacy": False}.items()
    },
}


def _leave(path: object) -> None:
    if path == "canary":
        Path("canary").touch()


class Made:
    """Writes a file where it is made."""

    def __new__(cls, path: str = "") -> "Made":
        _leave(path)
        return super().__new__(cls)


class Stateful:
    """Writes a file where it gets its state."""

    def __setstate__(self, state: object) -> None:
        _leave(state)


class Filled:
    """Writes a file where it gets items or entries."""

    def extend(self, items: list[object]) -> None:
        _leave(items[0])

    def __setitem__(self, key: object, value: object) -> None:
        _leave(key)

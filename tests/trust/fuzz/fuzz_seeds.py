"""What the fuzzer starts from: one sound input for each way through the readers, taken apart so that it can be bent.

Pickles are lists of opcodes. Containers are their parts, so that what is inside can be changed and the outside (sizes,
checksums, lengths) written anew to match.
"""

import collections
import functools
import io
import json
import pickle
import pickletools
import struct
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch

Ops = list[bytes]


def ops_of(data: bytes) -> tuple[Ops, int]:
    """Cut the pickle that `data` begins with into its opcodes; also tell where it ends."""
    starts = [at for _, _, at in pickletools.genops(io.BytesIO(data)) if at is not None]
    end = starts[-1] + 1
    return [data[start:stop] for start, stop in zip(starts, [*starts[1:], end], strict=True)], end


@dataclass(frozen=True)
class ZipParts:
    """A torch zip: its records, and the names of those that are deflated. `pickles` are cut into opcodes."""

    records: Mapping[str, bytes]
    deflated: frozenset[str]
    pickles: Mapping[str, Ops]

    def render(self, changed: Mapping[str, bytes]) -> bytes:
        """Write the archive with some records changed, its checksums right."""
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for name, data in {**self.records, **changed}.items():
                method = zipfile.ZIP_DEFLATED if name in self.deflated else zipfile.ZIP_STORED
                archive.writestr(zipfile.ZipInfo(name), data, method)
        return out.getvalue()


@dataclass(frozen=True)
class LegacyParts:
    """A file of torch's old format: its five pickles, and number and bytes of each storage."""

    pickles: tuple[Ops, ...]
    storages: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True)
class TensorsParts:
    """A safetensors file: its header as text, and its data."""

    header: str
    data: bytes


Parts = ZipParts | LegacyParts | TensorsParts


@dataclass(frozen=True)
class Seed:
    """A file as a library wrote it, and its parts."""

    whole: bytes
    parts: Parts


class Module(torch.nn.Module):
    """A module whose class weights-only loading refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(2, 2)
        self.register_buffer("count", torch.zeros(1), persistent=False)

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """Scripted, so it needs one."""
        result: torch.Tensor = self.linear(value) + self.count
        return result


class Runs:
    """Would create a file named canary when it is loaded."""

    def __reduce__(self) -> Any:
        return exec, ("open('canary', 'w').close()",)


def _flat() -> dict[str, torch.Tensor]:
    return {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.arange(3).half(), "n": torch.tensor(7)}


def _views() -> dict[str, Any]:
    flat = torch.arange(24.0)
    return {
        "ih": flat[:6].view(2, 3),
        "hh": flat[6:12].view(2, 3),
        "t": flat[12:18].view(2, 3).t(),
        "tied": flat[:6].view(2, 3),
        "expanded": torch.ones(2, 1).expand(2, 4),
        "empty": torch.empty(0, 3),
        "columns": torch.ones(4, 6)[:, 4:],
    }


def _masked() -> dict[str, Any]:
    return {
        "w_orig": torch.ones(2, 4),
        "w_mask": torch.tensor([[1.0, 0, 1, 1], [0, 0, 1, 1]]),
        "v_orig": torch.ones(3),
        "v_mask": torch.tensor([True, False, True]),
        "f8": torch.ones(4).to(torch.float8_e4m3fn),
        "woven_orig": torch.ones(3, 2).t(),
        "woven_mask": torch.tensor([[1.0, 0], [0, 1], [1, 0.5]]).t(),
    }


def _lightning() -> dict[str, Any]:
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    state = model.state_dict()
    return {
        "epoch": 3,
        "state_dict": state,
        "optimizer_states": [optimizer.state_dict()],
        "ema": {"weight": torch.ones(2, 2)},
    }


def _strange() -> dict[Any, Any]:
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.note = "kept"  # type: ignore[attr-defined]
    return {
        "p": parameter,
        "size": torch.Size([1, 2]),
        "dtype": torch.float16,
        "device": torch.device("cpu"),
        "sparse": torch.eye(2).to_sparse(),
        "counter": collections.Counter("aab"),
        3: [torch.ones(1), (True, None)],
        "meta": torch.ones(2, device="meta"),
        "set": {1},
        "complex": 1j,
        "b": b"\0\xff",
    }


def _foreign() -> dict[str, Any]:
    return {"w": torch.ones(2, 2), "run": Runs(), "args": collections.deque([1])}


def _saved(value: Any, protocol: int = 2, *, old: bool = False) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(value, out, pickle_protocol=protocol, _use_new_zipfile_serialization=not old)
    return out.getvalue()


def _unsummed(value: Any) -> bytes:
    torch.serialization.set_crc32_options(False)
    try:
        return _saved(value)
    finally:
        torch.serialization.set_crc32_options(True)


def _part() -> bytes:
    """A legacy file whose persistent id names a part of its storage, as before torch 0.4."""
    whole = _saved({"w": torch.ones(6)}, old=True)
    assert whole.count(b"Ntq") == 1
    return whole.replace(b"Ntq", b"(X\x01\x00\x00\x00vK\x00K\x06ttq")


def _wide() -> bytes:
    """A zip whose headers all have zip64 fields."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(_saved(_flat()))) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            with new.open(zipfile.ZipInfo(name), "w", force_zip64=True) as record:
                record.write(old.read(name))
    return out.getvalue()


def _scripted() -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(Module()), out)
    return out.getvalue()


def _python_2() -> bytes:
    """A zip as Python 2 pickled it: an OrderedDict made from a list of pairs, an old-style class."""
    seed = _taken_apart(_saved(collections.OrderedDict(w=torch.ones(2))))
    assert isinstance(seed, ZipParts)
    tensor = b"".join(seed.pickles["archive/data.pkl"])
    value = tensor[tensor.index(b"ctorch._utils") : tensor.rindex(b"s.")]
    pickled = (
        b"\x80\x02ccollections\nOrderedDict\nq\x00](](U\x01w"
        + value
        + b"e](U\x01x(U\x01yiold\nStyle\n}U\x01zNsbee\x85R."
    )
    return seed.render({"archive/data.pkl": pickled})


def _taken_apart(whole: bytes) -> Parts:
    if whole[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(whole)) as archive:
            for info in archive.infolist():
                del info.CRC  # which stands for nothing in one of them; without it, zipfile does not check
            records = {info.filename: archive.read(info) for info in archive.infolist()}
            deflated = frozenset(info.filename for info in archive.infolist() if info.compress_type)
        pickles = {name: ops_of(data)[0] for name, data in records.items() if name.endswith("/data.pkl")}
        return ZipParts(records, deflated, pickles)
    if whole[8:9] == b"{":
        stop = 8 + int.from_bytes(whole[:8], "little")
        return TensorsParts(whole[8:stop].decode(), whole[stop:])
    return _legacy_parts(whole)


def _legacy_parts(whole: bytes) -> LegacyParts:
    pickles, at = [], 0
    for _ in range(5):
        ops, length = ops_of(whole[at:])
        pickles.append(ops)
        at += length
    storages = []
    while at < len(whole):
        (count,) = struct.unpack_from("<Q", whole, at)
        rest = len(whole) - at - 8
        size = next(size for width in (1, 2, 4, 8, 16) if _is_cut(whole, at + 8 + (size := min(count * width, rest))))
        storages.append((count, whole[at + 8 : at + 8 + size]))
        at += 8 + size
    return LegacyParts(tuple(pickles), tuple(storages))


def _is_cut(whole: bytes, at: int) -> bool:
    """Whether a storage may end here: with the file, or before a small number."""
    return at == len(whole) or (len(whole) - at >= 8 and int.from_bytes(whole[at : at + 8], "little") < 1 << 10)


_FILES: dict[str, Callable[[], bytes]] = {
    "zip": lambda: _saved(_flat()),
    "zip, unsummed": lambda: _unsummed(_flat()),
    "zip, wide": _wide,
    "zip, views": lambda: _saved(_views()),
    "zip, masked": lambda: _saved(_masked()),
    "zip, Lightning": lambda: _saved(_lightning()),
    "zip, strange": lambda: _saved(_strange()),
    "zip, foreign": lambda: _saved(_foreign()),
    "zip, module": lambda: _saved(Module()),
    "zip, protocol 4": lambda: _saved(_lightning(), 4),
    "zip, Python 2": _python_2,
    "zip, TorchScript": _scripted,
    "legacy": lambda: _saved(_flat(), old=True),
    "legacy, masked": lambda: _saved({"w_orig": torch.ones(4), "w_mask": torch.ones(4)}, old=True),
    "legacy, part": _part,
    "legacy, views": lambda: _saved(_views(), 4, old=True),
    "legacy, foreign": lambda: _saved(_foreign(), 5, old=True),
    "legacy, module": lambda: _saved(Module(), old=True),
    "safetensors": lambda: safetensors.torch.save(_flat(), {"note": "ä"}),
    "safetensors, masked": lambda: safetensors.torch.save({name: w.contiguous() for name, w in _masked().items()}),
}

NAMES = tuple(_FILES)
"""What there is, for tests that are collected where they do not run: some of the files take imports of a second."""


@functools.cache
def files() -> dict[str, Seed]:
    """All files, by what they are."""
    torch.manual_seed(0)
    return {name: seed_of(make()) for name, make in _FILES.items()}


def seed_of(whole: bytes) -> Seed:
    """Take a file apart."""
    return Seed(whole, _taken_apart(whole))


_VALUES: tuple[Any, ...] = (
    [
        None,
        True,
        False,
        0,
        -1,
        255,
        65536,
        -(1 << 31),
        1 << 63,
        -(1 << 70),
        1.5,
        float("nan"),
        "",
        "é\ud800",
        b"",
        b"\xff",
    ],
    collections.OrderedDict(a=[1], b=({"k": {1, 2}}, frozenset("xy"))),
    (bytearray(b"ab"), (1, 2, 3, 4), (), (1,), (1, 2), (1, 2, 3), [[], {}]),
    collections.deque([1, 2], 3),
)
_TEXTS: tuple[bytes, ...] = (
    b"(lp0\nI01\naI-7\naL12L\naF1.5\naS'a\\n\\x41'\np1\nag1\naVx\\u20ac\naNa.",
    b"(dp0\nS'k'\n(iold\nStyle\np1\n(dp2\nS'x'\nI1\nsbs(cold\nStyle\nI1\no.",
    b"(Pan id\n(I1\nI2\ntQd.",
    b"\x80\x02](cposix\nsystem\n(X\x0c\x00\x00\x00touch canarytRe.",
    b"\x80\x04\x95\x0e\x00\x00\x00\x00\x00\x00\x00\x8c\x01m\x8c\x01n\x93\x94)}\x92\x94N.",
)


@functools.cache
def pickles() -> list[Ops]:
    """All pickles: of plain values in every protocol, in text, and those of the files."""
    cyclic: list[Any] = [1]
    cyclic.append((cyclic, {"back": cyclic}))
    found = [pickle.dumps(value, protocol) for value in (*_VALUES, cyclic) for protocol in range(6)]
    listed = [ops_of(data)[0] for data in (*found, *_TEXTS)]
    for name, seed in files().items():
        if isinstance(seed.parts, ZipParts) and name not in ("zip, Lightning", "zip, module"):
            listed += seed.parts.pickles.values()
    return listed


def header_of(parts: TensorsParts) -> dict[str, Any]:
    """The header of a safetensors file, to be changed."""
    header: dict[str, Any] = json.loads(parts.header)
    return header

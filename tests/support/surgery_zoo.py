"""What the tests of the use cases share: odd tensors, files of them, and oracles that know both formats themselves."""

import json
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from prunecli import RandomUnstructured
from prunecli.core.amount import Amount
from prunecli.core.methods.request import MethodRequest
from prunecli.formats.base import ReadOptions
from prunecli.formats.detect import open_checkpoint
from prunecli.surgery.names.select import Selection
from prunecli.surgery.plan.plan import plan_bake, plan_prune
from prunecli.surgery.plan.request import PruneGroup, PruneRequest
from prunecli.surgery.report.measure import measure
from prunecli.surgery.report.model import Report
from prunecli.surgery.rewrite import rewrite
from prunecli.surgery.run.destination import Destination
from prunecli.surgery.run.options import Run

BLOCK = 1 << 20
FLOATS = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.float8_e4m3fnuz,
    torch.float8_e5m2fnuz,
)
INTEGERS = (
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint64,
    torch.uint32,
    torch.uint16,
    torch.uint8,
    torch.bool,
)
COMPLEX = (torch.complex32, torch.complex64, torch.complex128)
_HALVES = dict(zip(COMPLEX, (torch.float16, torch.float32, torch.float64), strict=True))
_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def bits(tensor: Tensor) -> Tensor:
    """See a tensor's elements as integers of their width; shares memory, keeps strides."""
    return tensor.detach().view(_BITS[tensor.element_size()])


def raw(tensor: Tensor) -> bytes:
    """Return the bytes of a tensor's elements, row-major."""
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    return bits(tensor).contiguous().view(-1).numpy().tobytes()


def noise(shape: Sequence[int], dtype: torch.dtype = torch.float32, seed: int = 1) -> Tensor:
    """Make a tensor of random bits: NaNs of every payload, infinities, subnormals, both zeros."""
    generator = torch.Generator().manual_seed(seed)
    if dtype in _HALVES:
        return torch.view_as_complex(noise((*shape, 2), _HALVES[dtype], seed))
    if dtype is torch.bool:
        return torch.randint(0, 2, tuple(shape), generator=generator).bool()
    width = 8 * dtype.itemsize
    high = (1 << (width - 1)) - 1
    bound = torch.randint(-high - 1, high, tuple(shape), generator=generator, dtype=_BITS[dtype.itemsize])
    return bound.view(dtype)


def save(tensors: Mapping[str, Any], path: Path) -> Path:
    """Write a checkpoint in the format of its suffix."""
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(dict(tensors), path, metadata={"format": "pt", "note": "ä"})
    else:
        torch.save(dict(tensors), path)
    return path


def load(path: Path) -> Any:
    """Read a checkpoint with the library that owns its format."""
    if path.suffix == ".safetensors":
        return safetensors.torch.load_file(path)
    return torch.load(path, weights_only=True)


def ask(
    amount: Amount | None, *patterns: str, seed: int = 7, excludes: Sequence[str] = (), **options: Any
) -> PruneRequest:
    """Put a request together; no pattern means all that patterns take."""
    min_dim, everywhere = options.pop("min_dim", 0), options.pop("everywhere", False)
    own = {key: options.pop(key) for key in ("allocation", "amounts", "order", "like", "per_row") if key in options}
    method = options.pop("method", MethodRequest())
    method = MethodRequest(method) if isinstance(method, str) else method
    group = PruneGroup(Selection(patterns or ("*",), excludes, min_dim), amount, everywhere, method=method, **own)
    return PruneRequest((group,), seed, **options)


def apply(source: Path, target: Path, prune: PruneRequest, *, jobs: int = 2, key: str | None = None) -> Report:
    """Run a whole `apply`, without a report file."""
    with open_checkpoint(source, ReadOptions(key)) as checkpoint:
        return rewrite(checkpoint, plan_prune(checkpoint, prune), Destination(target), Run(jobs))


def bake(source: Path, target: Path, *patterns: str) -> Report:
    """Run a whole `remove`."""
    selection = Selection(patterns) if patterns else None
    with open_checkpoint(source) as checkpoint:
        return rewrite(checkpoint, plan_bake(checkpoint, selection), Destination(target), Run(2))


def count(path: Path, *patterns: str) -> Report:
    """Run a whole `report`."""
    with open_checkpoint(path) as checkpoint:
        return measure(checkpoint, Selection(patterns) if patterns else None, Run(2))


def live_mask(tensor: Tensor, amount: Amount, key: str, *, seed: int = 7, before: Tensor | None = None) -> Tensor:
    """Ask the class on the live tensor for its mask, as booleans."""
    method = RandomUnstructured(amount, seed=seed, key=key)
    return method.compute_mask(tensor, torch.ones(tensor.shape, dtype=torch.bool) if before is None else before)


def zero_bits(tensor: Tensor, keep: Tensor) -> None:
    """Set what is not kept to all zero bits, in place, wherever the strides put it."""
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    bits(tensor)[~keep] = 0


def expected_file(source: Path, keeps: Mapping[str, Tensor]) -> bytes:
    """Return the file that baking must give: the source's, but for dropped elements and CRC-32 fields."""
    if source.suffix == ".safetensors":
        return _expected_safetensors(source, keeps)
    return _expected_zip(source, keeps)


def _expected_safetensors(source: Path, keeps: Mapping[str, Tensor]) -> bytes:
    data = bytearray(source.read_bytes())
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    tensors = load(source)
    for name, keep in keeps.items():
        start, stop = header[name]["data_offsets"]
        zero_bits(tensors[name], keep)
        data[8 + length + start : 8 + length + stop] = raw(tensors[name])
    return bytes(data)


def _expected_zip(source: Path, keeps: Mapping[str, Tensor]) -> bytes:
    data = bytearray(source.read_bytes())
    loaded = load(source)
    tensors = state_of(loaded)
    for name, keep in keeps.items():
        zero_bits(tensors[name], keep)
    with zipfile.ZipFile(source) as archive:
        infos = {info.filename.rpartition("/data/")[2]: info for info in archive.infolist()}
    for number, tensor in enumerate(_first_of_each_storage(loaded)):
        whole = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
        if whole.numel():
            _put_record(data, infos[str(number)], raw(whole))
    return bytes(data)


def _first_of_each_storage(loaded: Any) -> list[Tensor]:
    """Return a tensor of every storage, in the order in which torch.save met and numbered them."""
    found: dict[int, Tensor] = {}
    stack = [loaded]
    while stack:
        item = stack.pop()
        if isinstance(item, Tensor):
            found.setdefault(item.untyped_storage()._cdata, item)
        elif isinstance(item, dict):
            stack += reversed(item.values())
        elif isinstance(item, list | tuple):
            stack += reversed(item)
    return list(found.values())


def _put_record(data: bytearray, info: zipfile.ZipInfo, payload: bytes) -> None:
    name_length, extra_length = struct.unpack_from("<HH", data, info.header_offset + 26)
    start = info.header_offset + 30 + name_length + extra_length
    data[start : start + len(payload)] = payload
    crc = struct.pack("<I", zlib.crc32(payload))
    data[start + len(payload) + 4 : start + len(payload) + 8] = crc
    central = _central_entry(data, info.filename.encode())
    data[central + 16 : central + 20] = crc


def _central_entry(data: bytearray, name: bytes) -> int:
    """Find a record's entry in the central directory: its signature stands 46 bytes before its name."""
    at = len(data)
    while data[at - 46 : at - 42] != b"PK\x01\x02" or data[at - 18 : at - 16] != struct.pack("<H", len(name)):
        at = data.rindex(name, 0, at + len(name) - 1)
    return at - 46


def state_of(loaded: Any) -> dict[str, Tensor]:
    """Return the state dict of what `load` gave, under whichever wrapper the tests use."""
    for wrapper in ("state_dict", "model"):
        if wrapper in loaded and not isinstance(loaded[wrapper], Tensor):
            return state_of(loaded[wrapper])
    return dict(loaded)

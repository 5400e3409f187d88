"""How the fuzzer bends its seeds: by opcode, by field, by bit. Everything is drawn from the generator it is given."""

import json
import pickletools
import random
import struct
from collections.abc import Callable
from typing import Any

from fuzz_seeds import LegacyParts, Ops, Seed, TensorsParts, ZipParts, header_of, pickles

NUMBERS = (
    0,
    1,
    2,
    3,
    4,
    5,
    7,
    8,
    12,
    24,
    63,
    64,
    65,
    127,
    128,
    255,
    256,
    1000,
    1 << 15,
    (1 << 16) - 1,
    1 << 16,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    (1 << 53) + 1,
    (1 << 62) - 1,
    1 << 62,
    (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 1,
)
WORDS = (
    "",
    "0",
    "1",
    "w",
    "x",
    "w_orig",
    "w_mask",
    "weight",
    "state_dict",
    "model",
    "ema",
    "model_ema.w",
    "optimizer",
    "state",
    "param_groups",
    "storage",
    "module",
    "cpu",
    "cuda:0",
    "_parameters",
    "_buffers",
    "_modules",
    "_metadata",
    "_flat_weights",
    "_non_persistent_buffers_set",
    "_tensor_name",
    "_forward_pre_hooks",
    "a.b.c",
    ".",
    "..",
    "../0",
    "a\nb",
    "\x1b[2J",
    "é",
    "\ud800",
    "\u202e",
    "k" * 300,
    "running_mean",
    "-1",
    "007",
    "\u0661",
    "²",
)
NAMES = (
    ("collections", "OrderedDict"),
    ("collections", "defaultdict"),
    ("torch", "FloatStorage"),
    ("torch", "BoolStorage"),
    ("torch", "LongStorage"),
    ("torch", "QInt8Storage"),
    ("torch", "ComplexFloatStorage"),
    ("torch", "Size"),
    ("torch", "float32"),
    ("torch", "uint16"),
    ("torch", "int3"),
    ("torch", "Tensor"),
    ("torch", "device"),
    ("torch.storage", "UntypedStorage"),
    ("torch.storage", "TypedStorage"),
    ("torch._utils", "_rebuild_tensor"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_tensor_v3"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch._utils", "_rebuild_parameter_with_state"),
    ("torch._utils", "_rebuild_qtensor"),
    ("torch._utils", "_rebuild_sparse_tensor"),
    ("torch._utils", "_rebuild_wrapper_subclass"),
    ("torch._utils", "_rebuild_meta_tensor_no_storage"),
    ("torch._tensor", "_rebuild_from_type_v2"),
    ("torch.nn.parameter", "Parameter"),
    ("_codecs", "encode"),
    ("builtins", "set"),
    ("builtins", "exec"),
    ("posix", "system"),
    ("evil\u202e", "\x1b[2J"),
    ("", ""),
)
_OPCODES = pickletools.opcodes
_BY_CODE = {op.code.encode("latin-1"): op for op in _OPCODES}
_PUSHES = (b"N", b"\x88", b"\x89", b")", b"]", b"}", b"\x8f")
_PAIRS = "stringnl_noescape_pair"
Rng = random.Random


def bent_pickle(rng: Rng, ops: Ops) -> bytes:
    """A pickle with a few changes, most of which leave it a pickle."""
    bent = (
        [op for op in ops if op[:1] != b"\x95"] if rng.random() < 0.8 else list(ops)
    )  # frames break with every change
    for _ in range(rng.choice((1, 1, 1, 1, 2, 3, 8))):
        if bent:
            rng.choice(_BENDS)(rng, bent)
    return b"".join(bent)


def _argument(rng: Rng, bent: Ops) -> None:
    """Give an opcode another argument."""
    with_argument = [index for index, op in enumerate(bent) if _BY_CODE[op[:1]].arg is not None]
    if with_argument:
        index = rng.choice(with_argument)
        bent[index] = bent[index][:1] + argument_of(rng, bent[index][:1])


def _value(rng: Rng, bent: Ops) -> None:
    """Put one value in another's place."""
    values = [index for index, op in enumerate(bent) if op[:1] in _PUSHES or op[:1] in b"KMJGXU\x8c\x8ahjg"]
    if values:
        bent[rng.choice(values)] = value_of(rng)


def _swap(rng: Rng, bent: Ops) -> None:
    """Exchange two opcodes of one kind."""
    one = rng.randrange(len(bent))
    alike = [index for index, op in enumerate(bent) if op[:1] == bent[one][:1]]
    other = rng.choice(alike)
    bent[one], bent[other] = bent[other], bent[one]


def _delete(rng: Rng, bent: Ops) -> None:
    at = rng.randrange(len(bent))
    del bent[at : at + rng.choice((1, 1, 2, 5))]


def _double(rng: Rng, bent: Ops) -> None:
    """Repeat a run of opcodes."""
    at = rng.randrange(len(bent))
    run = bent[at : at + rng.choice((1, 2, 4, 12))]
    bent[at:at] = run * rng.choice((1, 1, 2, 40))


def _insert(rng: Rng, bent: Ops) -> None:
    code = rng.choice(_OPCODES).code.encode("latin-1")
    bent.insert(rng.randrange(len(bent) + 1), code + argument_of(rng, code))


def _replace(rng: Rng, bent: Ops) -> None:
    """Put another opcode before the same argument."""
    at = rng.randrange(len(bent))
    size = len(bent[at]) - 1
    codes = [code for code, op in _BY_CODE.items() if (op.arg.n if op.arg else 0) == size] or list(_BY_CODE)
    bent[at] = rng.choice(codes) + bent[at][1:]


def _splice(rng: Rng, bent: Ops) -> None:
    """Put a run of another pickle's opcodes in."""
    other = rng.choice(pickles())
    start = rng.randrange(len(other))
    at = rng.randrange(len(bent) + 1)
    bent[at : at + rng.choice((0, 0, 1, 8))] = other[start : start + rng.choice((1, 3, 10, 40))]


def _shared(rng: Rng, bent: Ops) -> None:
    """Fetch something from the memo where a value stands."""
    values = [index for index, op in enumerate(bent) if op[:1] in _PUSHES or op[:1] in b"KMJX"]
    if values:
        known = [b"h" + op[1:] for op in bent if op[:1] == b"q"]
        bent[rng.choice(values)] = rng.choice(known or [b"h\0"])


def _entry(rng: Rng, bent: Ops) -> None:
    """Set a key of a new dict, or of a new object, before all others."""
    starts = [index for index, op in enumerate(bent) if op[:1] in (b"}", b"R")]
    if starts:
        at = rng.choice(starts) + 1
        at += at < len(bent) and bent[at][:1] in (b"q", b"r", b"\x94")
        bent[at:at] = [op for _ in range(rng.choice((1, 1, 3))) for op in (value_of(rng), value_of(rng), b"s")]


def _cut(rng: Rng, bent: Ops) -> None:
    del bent[rng.randrange(len(bent)) :]
    bent += rng.choice(([], [b"."], [b"0", b"."], [b"e", b"."], [b"u", b"."], [b"t", b"."]))


def _flip(rng: Rng, bent: Ops) -> None:
    at = rng.randrange(len(bent))
    if bent[at]:
        data = bytearray(bent[at])
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        # No longer one opcode, perhaps: the rest of the changes take it for one all the same.
        bent[at] = bytes(data) if bytes(data[:1]) in _BY_CODE else bent[at]


_BENDS: tuple[Callable[[Rng, Ops], None], ...] = (
    *[_argument] * 5,
    *[_value] * 5,
    *[_entry] * 4,
    *[_swap] * 2,
    *[_shared] * 4,
    _delete,
    _double,
    _insert,
    _replace,
    *[_splice] * 2,
    _cut,
    _flip,
)


def argument_of(rng: Rng, code: bytes) -> bytes:
    """Some argument that fits an opcode; now and then its length lies."""
    argument = _BY_CODE[code].arg
    if argument is None:
        return b""
    if argument.name == _PAIRS:
        return "{}\n{}\n".format(*rng.choice(NAMES)).encode()
    if argument.n == pickletools.UP_TO_NEWLINE:
        line = rng.choice((str(rng.choice(NUMBERS)), "-1", "00", "01", "1.5", "'s'", "x", "12L", rng.choice(WORDS)))
        return line.encode("utf-8", "surrogatepass") + b"\n"
    if argument.n >= 0:
        number = rng.choice(NUMBERS) if rng.random() < 0.7 else rng.getrandbits(64)
        return (number % (1 << 8 * argument.n)).to_bytes(argument.n, rng.choice(("little", "little", "big")))
    word = rng.choice(WORDS).encode("utf-8", "surrogatepass")
    width = {-2: 1, -3: 4, -4: 4, -5: 8}[argument.n]
    length = len(word) if rng.random() < 0.95 else rng.choice(NUMBERS)
    return (length % (1 << 8 * width)).to_bytes(width, "little") + word


def value_of(rng: Rng) -> bytes:
    """Opcodes that push one value."""
    kind = rng.randrange(6)
    if kind == 0:
        return rng.choice(_PUSHES)
    if kind == 1:
        return "c{}\n{}\n".format(*rng.choice(NAMES)).encode()
    if kind == 2:
        number = rng.choice(NUMBERS) * rng.choice((1, 1, -1))
        raw = number.to_bytes(9, "little", signed=True)
        return b"\x8a\x09" + raw
    if kind == 3:
        return b"h" + bytes([rng.randrange(4)])
    word = rng.choice(WORDS).encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(word)) + word


def bent_file(rng: Rng, seed: Seed) -> bytes:
    """A file with a few changes: inside, with the outside right, or outside, or by bits."""
    way = rng.random()
    parts = seed.parts
    if way < 0.15:
        return flipped(rng, seed.whole)
    if isinstance(parts, ZipParts):
        return _bent_archive(rng, seed.whole) if way < 0.35 else _bent_zip(rng, parts)
    if isinstance(parts, LegacyParts):
        return _bent_legacy(rng, parts)
    return _bent_tensors(rng, parts)


def flipped(rng: Rng, data: bytes) -> bytes:
    """Bits flipped, bytes cut out, put in, or cut off."""
    bent = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 6))):
        at, what = rng.randrange(len(bent) or 1), rng.randrange(8)
        if what < 5 and bent:
            bent[at] ^= 1 << rng.randrange(8)
        elif what == 5:
            del bent[at : at + rng.choice((1, 4, 64))]
        elif what == 6:
            bent[at:at] = rng.randbytes(rng.choice((1, 4, 64)))
        else:
            del bent[at:]
    return bytes(bent)


_CODE = (
    b"weight",
    b"bias",
    b"linear",
    b"__parameters__",
    b"__buffers__",
    b"class ",
    b'"',
    b", ]",
    b"[",
    b"\\0",
    b"\0",
    b"\r",
    b"\n",
    b"\\777",
    b"\xff",
    b"",
)
"""What separates the names in a program's code, and what could break them."""


def _bent_zip(rng: Rng, parts: ZipParts) -> bytes:
    name = rng.choice(list(parts.pickles))
    changed = {name: bent_pickle(rng, parts.pickles[name])}
    if rng.random() < 0.15:
        other = rng.choice(list(parts.records))
        changed[other] = flipped(rng, parts.records[other] or b"\0")
    for other in parts.records:
        if other.endswith(".py") and rng.random() < 0.3:
            old, new = rng.choice(_CODE), rng.choice(_CODE)
            changed[other] = parts.records[other].replace(old, new, rng.choice((1, 1, 9)))
    if rng.random() < 0.05:
        changed[name.replace("data.pkl", rng.choice(("data/1", "data/9", "byteorder", "code/x.py", "../x")))] = b"big"
    return parts.render(changed)


_FIELDS = {
    b"PK\x01\x02": (4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 30, 32, 34, 36, 38, 42),
    b"PK\x03\x04": (4, 6, 8, 10, 12, 14, 18, 22, 26, 28),
    b"PK\x05\x06": (4, 6, 8, 10, 12, 16, 20),
    b"PK\x06\x06": (4, 12, 14, 16, 20, 24, 32, 40, 48),
    b"PK\x06\x07": (4, 8, 16),
    b"PK\x07\x08": (4, 8, 12),
}


def _bent_archive(rng: Rng, data: bytes) -> bytes:
    """Change fields of the zip's own headers."""
    bent = bytearray(data)
    for _ in range(rng.choice((1, 1, 2))):
        magic = rng.choice(list(_FIELDS))
        places = [at for at in range(len(data)) if data.startswith(magic, at)]
        if places:
            at = rng.choice(places) + rng.choice(_FIELDS[magic])
            width = rng.choice((2, 4, 4, 8))
            old = int.from_bytes(bent[at : at + width], "little")
            new = rng.choice((old + 1, old - 1, old ^ 8, rng.choice(NUMBERS))) % (1 << 8 * width)
            bent[at : at + width] = new.to_bytes(width, "little")
    return bytes(bent)


def _bent_legacy(rng: Rng, parts: LegacyParts) -> bytes:
    which = rng.choice((1, 2, 3, 3, 3, 3, 3, 4))
    bent = [b"".join(ops) for ops in parts.pickles]
    storages = list(parts.storages)
    if rng.random() < 0.8:
        bent[which] = bent_pickle(rng, parts.pickles[which])
    elif storages:
        at = rng.randrange(len(storages))
        count, data = storages[at]
        storages[at] = rng.choice(((rng.choice(NUMBERS), data), (count, data[:-1]), (count, data * 2)))
        if rng.random() < 0.3:
            rng.shuffle(storages)
    tail = [struct.pack("<Q", count) + data for count, data in storages]
    return b"".join([*bent, *tail])


def _bent_tensors(rng: Rng, parts: TensorsParts) -> bytes:
    if rng.random() < 0.2:
        text = flipped(rng, parts.header.encode())
    else:
        header = header_of(parts)
        for _ in range(rng.choice((1, 1, 2))):
            _bend_json(rng, header)
        text = json.dumps(header, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    length = len(text) if rng.random() < 0.95 else rng.choice(NUMBERS)
    return struct.pack("<Q", length) + text + parts.data


def _bend_json(rng: Rng, header: dict[str, Any]) -> None:
    name = rng.choice(list(header) or [""])
    entry = header.get(name)
    what = rng.randrange(6)
    if what == 0:
        header[rng.choice(WORDS)] = header.pop(name, {})
    elif what == 1:
        header[name] = rng.choice((None, [], 1, "x", {}, {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}))
    elif isinstance(entry, dict) and entry:
        key = rng.choice(list(entry))
        old = entry[key]
        choices = [
            rng.choice(NUMBERS),
            -1,
            None,
            1.5,
            True,
            [],
            [rng.choice(NUMBERS)],
            rng.choice(("F32", "F4", "U8", "F8_E8M0", "x")),
        ]
        if isinstance(old, list) and old:
            new = list(old)
            new[rng.randrange(len(new))] = rng.choice((rng.choice(NUMBERS), -1, 1e300, None))
            choices += [new, old[::-1], [*old, 1], [1, *old]]
        entry[key] = rng.choice(choices)

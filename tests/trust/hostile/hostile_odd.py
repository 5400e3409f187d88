"""Checkpoints that are odd and good, as people have them: they must go on working."""

import io
import struct
import warnings
from collections import Counter, OrderedDict
from typing import Any

import torch
from hostile_corpus import accepted
from hostile_makers import PLAIN_PICKLE, STORAGE, beside_a_weight, nested_zip, tensor, text, zipped


def _saved(value: Any, *, old: bool = False, protocol: int = 2) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(value, out, pickle_protocol=protocol, _use_new_zipfile_serialization=not old)
    return out.getvalue()


def _weight() -> torch.Tensor:
    return torch.arange(1.0, 13).reshape(3, 4)


@accepted(family="odd")
def a_parameter_with_attributes() -> bytes:
    parameter = torch.nn.Parameter(_weight())
    parameter.note = ["kept", {"so": 1}]  # type: ignore[attr-defined]
    return _saved({"w": parameter})


@accepted(family="odd")
def an_ordered_dict_with_metadata() -> bytes:
    state = OrderedDict(w=_weight())
    state._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]
    return _saved(state)


@accepted(family="odd")
def a_counter_beside() -> bytes:
    return _saved({"w": _weight(), "seen": Counter("aab")})


@accepted(family="odd")
def tied_weights() -> bytes:
    weight = _weight()
    return _saved({"head": weight, "embedding": weight})


@accepted(family="odd")
def a_slice_of_a_larger_weight() -> bytes:
    return _saved({"w": torch.arange(1.0, 101).reshape(10, 10)[2:5, 3:7]})


@accepted(family="odd")
def an_expanded_weight() -> bytes:
    return _saved({"w": torch.arange(1.0, 4)[:, None].expand(3, 5), "v": _weight()})


@accepted(family="odd")
def a_scalar_and_an_empty_one() -> bytes:
    return _saved({"s": torch.tensor(1.5), "e": torch.empty(0, 3), "w": _weight()})


@accepted(family="odd")
def eight_bit_floats() -> bytes:
    return _saved(
        {name: _weight().to(kind) for name, kind in {"a": torch.float8_e4m3fn, "b": torch.float8_e5m2}.items()}
    )


@accepted(family="odd")
def unsigned_numbers_of_16_bits_beside() -> bytes:
    return _saved({"w": _weight(), "u": torch.ones(3, dtype=torch.uint16)})


@accepted(family="odd")
def a_state_dict_far_below() -> bytes:
    return _saved({"epoch": 3, "inner": {"module": {"state_dict": {"w": _weight()}}}, "optimizer": {"state": {}}})


@accepted(family="odd")
def an_optimizer_beside() -> bytes:
    model = torch.nn.Linear(4, 3)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    return _saved({"state_dict": model.state_dict(), "optimizer": optimizer.state_dict()})


@accepted(family="odd")
def protocol_3() -> bytes:
    return _saved({"w": _weight()}, protocol=3)


@accepted(family="odd", reference="")
def protocol_5_in_the_old_format() -> bytes:
    return _saved({"w": _weight()}, old=True, protocol=5)


@accepted(family="odd")
def big_endian_bytes() -> bytes:
    swapped = torch.frombuffer(bytearray(STORAGE), dtype=torch.float32).numpy().byteswap().tobytes()
    records = {"data.pkl": PLAIN_PICKLE, "byteorder": b"big", "data/0": swapped, "version": b"3\n"}
    return nested_zip(records)


@accepted(family="odd")
def no_record_of_the_byte_order() -> bytes:
    """As torch before 2.1 wrote it."""
    return nested_zip({"data.pkl": PLAIN_PICKLE, "data/0": STORAGE, "version": b"3\n"})


@accepted(family="heavy")
def five_thousand_tensors_of_one_storage() -> bytes:
    """Each has two elements of its own."""
    one = tensor().replace(b"K\x04\x85K\x01\x85", b"K\x02\x85K\x01\x85").replace(b"K\x04tQ", b"M\x10\x27tQ")
    items = [text(f"w{at}") + one.replace(b"QK\x00", b"QM" + struct.pack("<H", 2 * at)) for at in range(5000)]
    weight = struct.pack("<10000f", *range(1, 10_001))
    return zipped(b"\x80\x02}(" + b"".join(items) + b"u.", weight=weight)


@accepted(family="odd", reference="")
def a_program() -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = io.BytesIO()
        torch.jit.save(torch.jit.script(torch.nn.Linear(4, 3)), out)
    return out.getvalue()


@accepted(family="odd", reference="")
def a_text_in_20_000_places() -> bytes:
    return zipped(beside_a_weight(text("x" * 5000) + b"q\x000(" + b"h\x00" * 20_000 + b"l"))

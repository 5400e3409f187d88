"""Masks that are drawn again when packed: several rounds, slices, parts of storages, optimizer state; and what is not.

What is recorded is only a suggestion: it is compared with each element, and the original comes back in any case.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dcp_tools import save as save_folder
from packed_tools import check_law
from surgery_zoo import BLOCK, noise, save

from prunecli import files
from prunecli.formats.packed.codec import DRAWN, STORED, CodecWorkspace, Drawn, ElementType, encode
from prunecli.surgery.packing import PackedFile

Options = dict[str, Any]


def layers() -> dict[str, torch.Tensor]:
    shapes = {"a.weight": (64, 64), "b.weight": (96, 40), "experts.w": (6, 128, 96), "c.bias": (8,)}
    tensors = {name: noise(shape, torch.bfloat16, seed) for seed, (name, shape) in enumerate(shapes.items())}
    return {name: torch.where(each == 0, torch.ones_like(each), each) for name, each in tensors.items()}


def rounds(folder: Path, suffix: str, *options: Options, report: bool = False) -> Path:
    """Prune in several rounds, and return the last file."""
    path = save(layers(), folder / f"0{suffix}")
    for number, each in enumerate(options):
        asked: Options = {"params": "*.w*", "amount": 0.5, "seed": number} | each
        out = folder / f"{number + 1}{suffix}"
        files.apply(path, **asked, output=out, no_report=not report)
        path = out
    return path


def packed(path: Path, **options: Any) -> PackedFile:
    check_law(path)
    return files.pack(path, output=path.with_name("packed.safetensors"), force=True, **options)


STAMPED: dict[str, list[Options]] = {
    "masked": [{}, {}, {"amount": 10}],
    "baked": [{"bake": True}],
    "baked again": [{"bake": True}, {"bake": True, "zeros_are_pruned": True}],
    "global": [{"global_": True}, {"global_": True, "amount": 0.3}],
    "divided": [{"allocation": "erk"}, {"allocation": "uniform", "amount": 0.6}],
    "single amounts": [{"amount": ["*=0.5", "a.weight=7"]}, {"key_prefix": "x."}],
    "slices": [{"per_slice": True}, {"per_slice": True, "amount": ["*=0.25", "experts.w#2=0.75"]}],
    "rows": [{"per_row": True, "amount": 3}],
}


MASKS = {"slices": (8, 0), "rows": (6, 2)}
"""The masks that are drawn and stored, if not three: of each slice, unless it is so short that its bits cost less."""


@pytest.mark.parametrize("what", STAMPED)
def test_stamps_say_how_masks_were_drawn(what: str, tmp_path: Path) -> None:
    path = rounds(tmp_path, ".safetensors", *({"stamp": True} | each for each in STAMPED[what]))
    found = packed(path)
    assert (found.drawn, found.stored) == MASKS.get(what, (3, 0))


def test_a_mask_that_was_baked_later_is_drawn(tmp_path: Path) -> None:
    """The report of `remove` has no draws; the stamps of the masks stay."""
    path = rounds(tmp_path, ".safetensors", {"stamp": True}, {"stamp": True})
    files.remove(path, output=tmp_path / "baked.safetensors")
    assert packed(tmp_path / "baked.safetensors").drawn == 3


@pytest.mark.parametrize("what", STAMPED)
def test_reports_say_so_too(what: str, tmp_path: Path) -> None:
    path = rounds(tmp_path, ".pt", *STAMPED[what], report=True)
    reports = sorted(str(each) for each in tmp_path.glob("*.report.json"))
    found = packed(path, from_report=reports)
    assert (found.drawn, found.stored) == MASKS.get(what, (3, 0))


def test_a_report_of_the_last_round_and_stamps_of_those_before_are_enough(tmp_path: Path) -> None:
    path = rounds(tmp_path, ".safetensors", {"stamp": True}, {"stamp": True})
    files.apply(path, params="*.w*", amount=0.5, seed=9, output=tmp_path / "3.safetensors")
    assert packed(tmp_path / "3.safetensors").drawn == 3
    size = packed(tmp_path / "3.safetensors").bytes
    (tmp_path / "3.safetensors.report.json").unlink()
    assert packed(tmp_path / "3.safetensors").bytes > size  # what the last round dropped is stored


@pytest.mark.parametrize(
    "stamp",
    [
        {"seed": 8},
        {"seed": -1},
        {"seed": None},
        {"stream": 2},
        {"schema": "prunecli.stamp/2"},
        {"groups": []},
        {"groups": 3},
        {"method": "masks"},
        {"method": "magic"},
        {"untie": True, "remove": True},
        {"key_prefix": "other."},
        {"groups": [{"params": ["z*"], "exclude": [], "min_dim": 0, "amount": 0.5, "global": False}]},
        {"groups": [{"params": ["re:("], "exclude": [], "min_dim": 0, "amount": 0.5, "global": False}]},
        {"groups": [{"params": ["a.weight"], "exclude": [], "min_dim": 0, "amount": 1e9, "global": False}]},
    ],
)
def test_stamps_that_are_not_true_make_masks_stored(stamp: Options, tmp_path: Path) -> None:
    path = rounds(tmp_path, ".safetensors", {"stamp": True})
    with Header(path) as header:
        [own] = json.loads(header["__metadata__"]["prunecli"])
        header["__metadata__"]["prunecli"] = json.dumps([own | stamp])
    found = packed(path)
    assert (found.drawn, found.stored) == (0, 3)


class Header:
    """The header of a safetensors file, to change."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> dict[str, Any]:
        self.raw = self.path.read_bytes()
        self.stop = 8 + int.from_bytes(self.raw[:8], "little")
        found: dict[str, Any] = json.loads(self.raw[8 : self.stop])
        self.header = found
        return found

    def __exit__(self, *_: object) -> None:
        text = json.dumps(self.header).encode()
        self.path.write_bytes(len(text).to_bytes(8, "little") + text + self.raw[self.stop :])


def test_a_chain_counts_as_far_as_it_is_known(tmp_path: Path) -> None:
    """Of two rounds, the report of the first is there: what the second pruned is stored as the zeros that it left."""
    one = {"bake": True}
    path = rounds(
        tmp_path, ".safetensors", one | {"amount": 0.9}, one | {"amount": 5, "zeros_are_pruned": True}, report=True
    )
    (tmp_path / "2.safetensors.report.json").unlink()
    first = tmp_path / "1.safetensors.report.json"
    assert packed(path, from_report=str(first)).drawn == 3
    (tmp_path / "b").mkdir()
    path = rounds(tmp_path / "b", ".safetensors", one | {"amount": 0.01}, one | {"zeros_are_pruned": True}, report=True)
    first = tmp_path / "b" / "1.safetensors.report.json"
    alone = check_law(path)
    assert files.pack(path, output=tmp_path / "x.safetensors").bytes <= alone.bytes


def block(drawn: float, more: float) -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    values = random.integers(1, 1 << 15, BLOCK).astype(np.uint16)
    keep = random.random(BLOCK) >= drawn
    values[~keep] = 0
    values[random.random(BLOCK) < more] = 0
    return values.view(np.uint8), keep


@pytest.mark.parametrize(("drawn", "more", "form"), [(0.5, 0, DRAWN), (0.5, 0.001, DRAWN), (0.01, 0.9, STORED)])
def test_of_a_drawn_mask_and_a_stored_one_the_smaller_is_taken(drawn: float, more: float, form: int) -> None:
    raw, keep = block(drawn, more)
    mask = Drawn(keep, int(np.count_nonzero(keep)))
    assert encode(raw, ElementType(2, 2, True), mask, CodecWorkspace(), compress=True).form == form


def test_a_slice_that_does_not_fit_has_a_stored_mask(tmp_path: Path) -> None:
    path = rounds(tmp_path, ".safetensors", {"bake": True, "per_slice": True}, report=True)
    data, size = bytearray(path.read_bytes()), 2 * 6 * 128 * 96
    with Header(path) as header:
        start, _ = header["experts.w"]["data_offsets"]
    start += 8 + int.from_bytes(data[:8], "little")
    place = next(at for at in range(start + size // 6, start + size, 2) if data[at : at + 2] == b"\0\0")
    data[place] = 1
    path.write_bytes(data)
    found = packed(path)
    assert (found.drawn, found.stored) == (7, 1)
    assert stored_as(path)["experts.w"] == "stored mask"


def stored_as(path: Path) -> dict[str, str]:
    """Return how the packed form of a file stores each tensor."""
    listed = files.params(path.with_name("packed.safetensors"), all_=True, allow_foreign_objects=True)
    return {each.tensor.name: each.stored for each in listed}


@pytest.mark.parametrize(
    "change",
    [
        {"slices": 5, "amount": 0.5},
        {"slices": 6, "amount": 0.4},
        {"slices": 6, "amount": "x"},
        {"slices": 6, "pruned": [1, 2]},
        {"slices": 6, "pruned": 7},
        {"slices": 6},
        {"amount": 0.5},
        {"slices": 6, "pruned": [6144 * 6, 0, 0, 0, 0, 0]},
    ],
)
def test_a_record_of_other_slices_makes_the_mask_stored(change: Options, tmp_path: Path) -> None:
    path = rounds(tmp_path, ".safetensors", {"bake": True, "per_slice": True}, report=True)
    report = tmp_path / "1.safetensors.report.json"
    content = json.loads(report.read_text())
    row = next(each for each in content["parameters"] if each["name"] == "experts.w")
    assert row["choice"]["slices"] == 6
    row["choice"] = change
    report.write_text(json.dumps(content))
    found = packed(path)
    assert (found.drawn, found.stored) == (2, 6)


def test_weights_in_one_storage_have_masks_of_their_own(tmp_path: Path) -> None:
    storage = noise((3 * 4096,))
    storage[storage == 0] = 1
    tensors = {
        "q.weight": storage[100:4196].view(64, 64),
        "k.weight": storage[5000:9096].view(64, 64),
        "all": storage[:7],
    }
    torch.save(tensors, tmp_path / "0.pt")
    files.apply(tmp_path / "0.pt", params="*.weight", amount=0.5, bake=True, output=tmp_path / "1.pt")
    found = packed(tmp_path / "1.pt")
    assert (found.drawn, found.stored) == (2, 0)
    assert stored_as(tmp_path / "1.pt") == {"q.weight": "drawn mask", "k.weight": "drawn mask", "all": "dense"}


def test_optimizer_state_has_the_mask_of_its_weight(tmp_path: Path) -> None:
    net = torch.nn.Linear(64, 64)
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.randn(4, 64)).square().sum().backward()
    optimizer.step()
    torch.save({"model": net.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "0.pt")
    files.apply(tmp_path / "0.pt", params="weight", amount=0.5, bake=True, with_state=True, output=tmp_path / "1.pt")
    found = packed(tmp_path / "1.pt")
    assert (found.drawn, found.stored) == (3, 0)


def test_tied_weights_have_one_mask(tmp_path: Path) -> None:
    weight = noise((64, 64))
    torch.save({"in.weight": weight, "out.weight": weight}, tmp_path / "0.pt")
    files.apply(tmp_path / "0.pt", params="*", amount=0.5, output=tmp_path / "1.pt")
    assert packed(tmp_path / "1.pt").drawn in (1, 2)
    files.apply(tmp_path / "0.pt", params="*", amount=0.5, bake=True, output=tmp_path / "2.pt")
    assert packed(tmp_path / "2.pt").drawn == 1


def test_nothing_of_a_masked_weight_is_left_out(tmp_path: Path) -> None:
    """`weight_orig` keeps its values where the mask drops; only the mask takes no space."""
    path = rounds(tmp_path, ".safetensors", {}, report=True)
    found = packed(path)
    assert (found.drawn, found.stored) == (3, 0)
    masks = {f"{name}_mask" for name in ("a.weight", "b.weight", "experts.w")}
    assert {name for name, form in stored_as(path).items() if form == "drawn mask"} == masks


def test_whole_tensors_of_a_distributed_checkpoint_are_drawn_and_parts_are_not(tmp_path: Path) -> None:
    """A part of a mask is not a draw of its own, and the format records no others."""
    tensors = layers()
    save_folder(tensors, tmp_path / "0", {"a.weight": [[0, 32, 64], [0, 64]]})
    files.apply(tmp_path / "0", params="*.w*", amount=0.5, bake=True, output=tmp_path / "1")
    found = files.pack(tmp_path / "1", output=tmp_path / "packed")
    assert (found.drawn, found.stored) == (2, 2)
    files.unpack(tmp_path / "packed", output=tmp_path / "again")
    for each in (tmp_path / "1").iterdir():
        assert (tmp_path / "again" / each.name).read_bytes() == each.read_bytes()

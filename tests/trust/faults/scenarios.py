"""What is run with faults: commands on small checkpoints, and what lies there before and after."""

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from folder_zoo import make_folder
from safetensors.torch import save_file

from prunecli import files as prunecli_files

__all__ = ["SCENARIOS", "Scenario", "State", "state_of"]

State = Mapping[str, str]
"""What lies in a folder: by path, what tells its content and mode."""

_BAKE = ("-p", "*", "-a", "0.5", "--seed", "7", "--remove", "-j", "1")
_MASK = ("-p", "*", "-a", "0.5", "--seed", "7", "-j", "1")


@dataclass(frozen=True, slots=True)
class Scenario:
    """A command line, and how the folder is prepared that it runs in."""

    name: str
    prepare: Callable[[Path], None]
    arguments: tuple[str, ...]
    again: tuple[str, ...] = ()
    """The arguments that the next run needs besides, to come to the same end."""

    def state(self, folder: Path) -> dict[str, str]:
        """Return what lies below a folder, but for what a run that can be resumed keeps on purpose."""
        keeps = "--resume" in self.arguments
        return {path: reported for path, reported in state_of(folder).items() if not (keeps and ".partial" in path)}


def tensors() -> dict[str, torch.Tensor]:
    """A few tensors, of one mask block and more."""
    values = torch.arange(1, (1 << 20) + 40_001, dtype=torch.float32)
    return {"a.weight": values.view(-1, 8), "b.weight": values[:600].clone().view(20, 30), "n": torch.arange(3)}


def _file(name: str, *others: str) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        if name.endswith(".safetensors"):
            save_file(tensors(), folder / name)
        else:
            torch.save(tensors(), folder / name)
        for other in others:
            (folder / other).write_bytes(b"what stood here before")

    return prepare


def _legacy(folder: Path) -> None:
    torch.save(tensors(), folder / "m.pt", _use_new_zipfile_serialization=False)


def _masked(folder: Path) -> None:
    weight = tensors()["a.weight"]
    torch.save({"w_orig": weight, "w_mask": torch.eye(*weight.shape)}, folder / "m.pt")


def _kept(*others: str) -> Callable[[Path], None]:
    """Make a file, two mask files for it, and older outputs."""

    def prepare(folder: Path) -> None:
        _file("m.pt", *others)(folder)
        for name, threshold in (("a", 300), ("b", 20)):
            kept = {key: value > threshold for key, value in tensors().items() if key != "n"}
            save_file(kept, folder / f"{name}.safetensors", {"prunecli.masks": "1"})

    return prepare


def _packed(name: str, *others: str) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        _file(name, *others)(folder)
        prunecli_files.pack(folder / name)

    return prepare


def _packed_shards(*others: str) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        _shards(*others)(folder)
        prunecli_files.pack(folder / "m")

    return prepare


def _shards(*others: str) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        make_folder(folder / "m", [{name: tensor} for name, tensor in tensors().items()])
        for other in others:
            shutil.copytree(folder / "m", folder / other)
            (folder / other / "note.txt").write_text("an older one")

    return prepare


SCENARIOS = (
    Scenario("bake safetensors", _file("m.safetensors"), ("apply", "m.safetensors", *_BAKE), ("--force",)),
    Scenario("mask safetensors", _file("m.safetensors"), ("apply", "m.safetensors", *_MASK), ("--force",)),
    Scenario("bake torch zip", _file("m.pt"), ("apply", "m.pt", *_BAKE), ("--force",)),
    Scenario(
        "mask torch zip over an older output",
        _file("m.pt", "m.pruned.pt", "m.pruned.pt.report.json"),
        ("apply", "m.pt", *_MASK, "--force"),
    ),
    Scenario("bake legacy", _legacy, ("apply", "m.pt", *_BAKE), ("--force",)),
    Scenario("remove masks", _masked, ("remove", "m.pt", "-j", "1", "-o", "out.pt"), ("--force",)),
    Scenario("bake in place", _file("m.pt"), ("apply", "m.pt", *_BAKE, "-o", "m.pt", "--force")),
    Scenario(
        "mask in place",
        _file("m.safetensors"),
        ("apply", "m.safetensors", *_MASK, "-o", "m.safetensors", "--no-report", "--force"),
    ),
    Scenario("bake a folder", _shards(), ("apply", "m", *_BAKE), ("--force",)),
    Scenario("mask a folder over an older output", _shards("m.pruned"), ("apply", "m", *_MASK, "--force")),
    Scenario("bake a folder in place", _shards(), ("apply", "m", *_BAKE, "-o", "m", "--force")),
    Scenario("restore", _masked, ("restore", "m.pt", "-j", "1", "-o", "out.pt"), ("--force",)),
    Scenario("extract masks", _masked, ("mask", "extract", "m.pt", "-j", "1", "-o", "k.safetensors"), ("--force",)),
    Scenario(
        "combine masks over an older output",
        _kept("k.safetensors"),
        (*("mask", "combine", "--or", "a.safetensors", "b.safetensors"), "-j", "1", "-o", "k.safetensors", "--force"),
    ),
    Scenario(
        "bake given masks over an older output",
        _kept("out.pt"),
        ("apply", "m.pt", "--masks", "a.safetensors", "--remove", "-j", "1", "-o", "out.pt", "--force"),
    ),
    Scenario(
        "pack over an older output",
        _file("m.safetensors", "m.safetensors.packed.safetensors"),
        ("pack", "m.safetensors", "-j", "1", "--force"),
    ),
    Scenario("unpack", _packed("m.pt"), ("unpack", "m.pt.packed.safetensors", "-j", "1", "-o", "out.pt"), ("--force",)),
    Scenario("pack a folder", _shards(), ("pack", "m", "-j", "1"), ("--force",)),
    Scenario(
        "unpack a folder over an older output",
        _packed_shards("old"),
        ("unpack", "m.packed", "-j", "1", "-o", "old", "--force"),
    ),
    Scenario("pack a folder in units", _shards(), ("pack", "m", "-j", "1", "--resume"), ("--force",)),
    Scenario("bake in units", _file("m.safetensors"), ("apply", "m.safetensors", *_BAKE, "--resume"), ("--force",)),
)


def state_of(folder: Path) -> dict[str, str]:
    """Return what lies below a folder."""
    found = {}
    for root, folders, files in os.walk(folder):
        for name in folders:
            found[str(Path(root, name).relative_to(folder))] = "folder"
        for name in files:
            path = Path(root, name)
            found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found

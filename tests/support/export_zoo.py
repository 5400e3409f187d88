"""Small models for torch.export, the archives of them that torch writes, and archives with records changed by hand."""

import json
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["INPUT", "Exported", "changed", "config_of", "export", "load", "package", "save"]

INPUT = torch.tensor([1, 2, 5])


class Exported(nn.Module):
    """Tied weights, a transposed parameter, buffers that are saved and one that is not, a constant, a frozen weight."""

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        super().__init__()
        self.embed = nn.Embedding(6, 4)
        self.lin = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 6, bias=False)
        self.head.weight = self.embed.weight
        self.across = nn.Parameter(torch.randn(8, 4).t())
        self.gain = nn.Parameter(torch.randn(4).bfloat16())
        self.frozen = nn.Parameter(torch.randn(4), requires_grad=False)
        self.shift: Tensor
        self.lost: Tensor
        self.register_buffer("shift", torch.randn(4))
        self.register_buffer("lost", torch.randn(4), persistent=False)
        self.fixed = torch.randn(4)

    def forward(self, ids: Tensor) -> Tensor:
        """Map ids to scores of 6 words."""
        hidden = self.norm(self.lin(self.embed(ids))) + self.shift + self.lost + self.fixed * self.frozen
        hidden = (hidden @ self.across)[:, :4] * self.gain.float() + torch.tensor([1.0, 2.0, 3.0, 4.0])
        scores: Tensor = self.head(hidden)
        return scores


def export(module: nn.Module, *inputs: Tensor) -> torch.export.ExportedProgram:
    """Export a module; what torch warns of on the way does not matter."""
    with warnings.catch_warnings(action="ignore"):
        return torch.export.export(module.eval(), inputs or (INPUT,))


def save(module: nn.Module, path: Path, *inputs: Tensor, **options: Any) -> Path:
    """Write the archive of a module."""
    program = export(module, *inputs)
    with warnings.catch_warnings(action="ignore"):
        torch.export.save(program, path, **options)
    return path


def package(programs: Mapping[str, nn.Module], path: Path) -> Path:
    """Write an archive of several programs."""
    from torch.export.pt2_archive._package import package_pt2  # takes seconds, and few tests need it

    exported = {name: export(module) for name, module in programs.items()}
    with warnings.catch_warnings(action="ignore"):
        package_pt2(str(path), exported_programs=exported)
    return path


def load(path: Path) -> nn.Module:
    """Load an archive with torch and return its program as a module."""
    with warnings.catch_warnings(action="ignore"):
        module: nn.Module = torch.export.load(path).module()
    return module


def changed(path: Path, out: Path, change: Callable[[str, bytes], bytes | None], **added: bytes) -> Path:
    """The records of an archive, changed (or left out, for None) and with others added, in a zip by Python."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        root = old.namelist()[0].partition("/")[0]
        for name in old.namelist():
            data = change(name.partition("/")[2], old.read(name))
            if data is not None:
                new.writestr(name, data)
        for name, data in added.items():
            new.writestr(f"{root}/{name}", data)
    return out


def config_of(path: Path, name: str = "data/weights/model_weights_config.json") -> dict[str, Any]:
    """The entries of one of an archive's configurations."""
    with zipfile.ZipFile(path) as archive:
        root = archive.namelist()[0].partition("/")[0]
        entries: dict[str, Any] = json.loads(archive.read(f"{root}/{name}"))["config"]
    return entries

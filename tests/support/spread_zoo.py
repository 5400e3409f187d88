"""Checkpoints to rewrite in units, runs that fail in the middle of it, and what they leave."""

import json
from pathlib import Path
from typing import Any

import torch
from surgery_zoo import ask, noise, save

from prunecli.formats.base import ReadOptions
from prunecli.formats.opening import open_any
from prunecli.surgery.plan.plan import plan_prune
from prunecli.surgery.plan.request import PruneRequest
from prunecli.surgery.report.codec import as_dict
from prunecli.surgery.report.model import Report
from prunecli.surgery.rewrite import rewrite
from prunecli.surgery.run.destination import Destination
from prunecli.surgery.run.options import Run

KINDS = ["folder of safetensors", "folder of bin", "model.safetensors", "model.pt", "legacy.pt"]


def state() -> dict[str, torch.Tensor]:
    wide = noise((375, 250), torch.float32, seed=3)  # more than one of the small blocks of a mask
    return {
        "a.weight": wide,
        "b.weight": noise((75, 100), torch.bfloat16, seed=4),
        "c.weight": noise((125, 78), torch.float32, seed=5).t(),  # not row-major: found element by element
        "d.bias": noise((77,), torch.float64, seed=6),
        "e.weight": noise((300, 225), torch.float32, seed=7),
        "step": torch.tensor(3),
    }


def make(kind: str, root: Path) -> Path:
    tensors = state()
    if kind == "legacy.pt":
        torch.save(tensors, root / kind, _use_new_zipfile_serialization=False)
        return root / kind
    if kind.startswith("model"):
        return save({name: t.contiguous() for name, t in tensors.items()}, root / kind)
    suffix = kind.rpartition(" ")[2]
    folder = root / "m"
    folder.mkdir()
    (folder / "config.json").write_text("{}\n")
    weight_map: dict[str, str] = {}
    names = list(tensors)
    for number, start in enumerate(range(0, len(names), 2)):
        file = f"shard-{number}.{suffix}"
        part = {name: tensors[name] for name in names[start : start + 2]}
        if suffix == "bin":
            torch.save(part, folder / file)
        else:
            save({name: tensor.contiguous() for name, tensor in part.items()}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    content = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())}, "weight_map": weight_map}
    (folder / f"model.{suffix}.index.json").write_text(json.dumps(content))
    return folder


def pruned(source: Path, target: Path, run: Run, prune: PruneRequest | None = None) -> Report:
    with open_any(source, ReadOptions()) as checkpoint:
        plan = run.ranks.from_leader(lambda: plan_prune(checkpoint, prune or ask(0.5, "*.weight")))
        return rewrite(checkpoint, plan, Destination(target), run)


def contents(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def reported(report: Report) -> dict[str, Any]:
    return {**as_dict(report), "output": None}

"""The diagnosis of a folder without a checkpoint at its top: what it is, by the file names in it, and what to name.

Each common situation has its own message, with a remedy.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from prunecli.errors import PrunecliError, UnreadableError, UnsupportedError, show
from prunecli.formats.folders.files import METADATA
from prunecli.formats.folders.weights import weights_among
from prunecli.formats.io.locations import Location
from prunecli.terms import SEED

__all__ = ["no_checkpoint"]

_SNAPSHOT = re.compile(r"((?:models--[^/]+/)?snapshots/[^/]+)/.+")
"""Files in snapshots of a Hugging Face cache, seen from the cache or from one model in it."""

_CONSOLIDATED = re.compile(r"consolidated(\.\d+)?\.(safetensors|pth)")
"""Files in the original layout of Mistral and Llama; each numbered file contains a slice of every tensor."""

_UNPACKED = re.compile(r"(?:[^/]+/)?data\.pkl")

_STEP = re.compile(r"(?:checkpoint|ckpt|global_step|step|iter|epoch|version)[-_=]?(\d+)")
"""Numbered folders of trainers: transformers and accelerate, DeepSpeed, torchtitan, Megatron, Lightning."""

_LOOSE = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
"""Suffixes of files that a user may name."""

_PATH, _PLACE, _SHOWN = 70, 90, 3


def no_checkpoint(path: Location, names: Iterable[str]) -> PrunecliError:
    """Return the error for a folder without an index or a whole file of weights; `names` are those of its files."""
    listed = list(names)
    for diagnose in (_distributed, _cache, _consolidated, _unpacked, _steps):
        found = diagnose(path, listed)
        if found is not None:
            return found
    places = _places(listed)
    near = [place for place in places if place.count("/") < 2] or places
    remedy = f"name a checkpoint in it: {_all(path, near)}" if near else "no checkpoint lies in it or below"
    return UnreadableError(
        f"{show(path, _PATH)} is a folder without an index of shards (*.index.json), model.safetensors or "
        f"pytorch_model.bin; {remedy}"
    )


def _distributed(path: Location, names: Sequence[str]) -> PrunecliError | None:
    if METADATA in names:
        return UnsupportedError(
            f"{show(path, _PATH)} is a folder of torch.distributed.checkpoint, which can be read here only; fetch it"
        )
    if not any(name.endswith(".distcp") and "/" not in name for name in names):
        return None
    return UnreadableError(
        f"{show(path, _PATH)} holds .distcp files of torch.distributed.checkpoint, but no {METADATA}, which says what "
        "is in them and is written last; copy that file too (its name begins with a dot), or save again"
    )


def _cache(path: Location, names: Sequence[str]) -> PrunecliError | None:
    snapshots = sorted({found[1] for found in map(_SNAPSHOT.fullmatch, names) if found})
    if not snapshots:
        return None
    which = "the snapshot in it" if len(snapshots) == 1 else "one of the snapshots in it"
    return UnreadableError(f"{show(path, _PATH)} is a Hugging Face cache; name {which}: {_all(path, snapshots)}")


def _consolidated(path: Location, names: Sequence[str]) -> PrunecliError | None:
    files = sorted(name for name in names if _CONSOLIDATED.fullmatch(name))
    whole = [name for name in files if name == "consolidated.safetensors"] or files
    if not files:
        return None
    if len(whole) == 1:
        return UnreadableError(
            f"{show(path, _PATH)} holds a model in the original layout of Mistral or Llama, in one file; name that: "
            f"{show(path / whole[0], _PLACE)}"
        )
    return UnsupportedError(
        f"{show(path, _PATH)} holds {len(whole)} slices of every tensor ({show(whole[0])}, ...), as model-parallel "
        f"training writes them; make one checkpoint of them, or name each file with a {SEED} of its own, since one "
        "seed gives all of them the same mask"
    )


def _unpacked(path: Location, names: Sequence[str]) -> PrunecliError | None:
    pickle = next((name for name in names if _UNPACKED.fullmatch(name)), None)
    if pickle is None:
        return None
    top = pickle.rpartition("/")[0]
    if not any(name.startswith(f"{top}/data/" if top else "data/") for name in names):
        return None
    where, folder = ("there", top) if top else ("in the folder above it", path.name)
    verb = "holds" if top else "is"
    return UnsupportedError(
        f"{show(path, _PATH)} {verb} a .pt file that was unpacked, as browsers and unzip do, and nothing loads it so; "
        f"fetch the file again, or pack it {where}: zip -0 -D -r model.pt {show(folder, 40)}"
    )


def _steps(path: Location, names: Sequence[str]) -> PrunecliError | None:
    steps: dict[str, int] = {}
    for place in _places(names):
        parts = PurePosixPath(place).parts
        found = next((found for found in map(_STEP.fullmatch, parts) if found), None)
        if found is not None:
            steps[place] = int(found[1])
    if not steps:
        return None
    latest = sorted(steps, key=lambda place: (-steps[place], place))
    which = "it" if len(latest) == 1 else "one"
    return UnreadableError(
        f"{show(path, _PATH)} is the folder of a training run, with its checkpoints in folders; name {which}: "
        f"{_all(path, latest)}"
    )


def _places(names: Iterable[str]) -> list[str]:
    """Return the paths a user could name: folders with a checkpoint, and files in other folders, sorted by folder."""
    below: dict[str, list[str]] = {}
    for name in names:
        folder, _, file = name.rpartition("/")
        below.setdefault(folder, []).append(file)
    found = []
    for folder, files in sorted(below.items()):
        if folder and (METADATA in files or weights_among(files)):
            found.append(folder)
        else:
            found += [f"{folder}/{file}".lstrip("/") for file in sorted(files) if file.endswith(_LOOSE)]
    return found


def _all(path: Location, places: Sequence[str]) -> str:
    more = f", and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
    return ", ".join(show(path / each, _PLACE) for each in places[:_SHOWN]) + more

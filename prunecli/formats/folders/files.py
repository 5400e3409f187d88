"""The files of a folder, without those outside it that links lead to."""

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from prunecli.errors import UnreadableError, UnsafeError, show
from prunecli.formats.base import PassthroughFile
from prunecli.formats.io.locations import Location
from prunecli.terms import FOLLOW_LINKS

__all__ = [
    "DEEP",
    "ENTRIES",
    "METADATA",
    "NOT_THE_MODEL",
    "SHARDING_INFO",
    "entry_names",
    "list_files",
    "too_many",
    "weight_files",
]

METADATA = ".metadata"
"""The file by which a folder is recognised as one of torch.distributed.checkpoint."""

SHARDING_INFO = "DCP_SHARDING_INFO"
"""The entry of a safetensors file's `__metadata__` that records where its slices of tensors begin."""

NOT_THE_MODEL = (".git", ".cache")
"""The records of git (a file in a worktree) and huggingface_hub, which can contain other copies of the weights."""

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".gguf", ".ot")

_SAME_WEIGHTS = ("", "consolidated", "sharded", "original")
"""The top, and folders with another copy of the same weights: those of torch's and transformers' distributed
checkpoints, and Llama's."""

DEEP = 16
ENTRIES = 100_000
"""Limits on the levels and entries of a folder; no checkpoint has more."""


def list_files(root: Path, *, follow_links: bool = False) -> Iterator[PassthroughFile]:
    """Yield the regular files below a folder, with names relative to it; `follow_links` allows links out of the folder.

    Raises:
        UnreadableError: a folder cannot be listed, is very large, or contains a pipe or a device.
        UnsafeError: a link leads out of it, other than into the blobs of the same repository of a Hugging Face cache.
    """
    todo, seen = [(root, "")], 0
    inside = Path(os.path.realpath(root))
    while todo:
        folder, prefix = todo.pop()
        for entry in _listed(folder):
            name, seen = prefix + entry.name, seen + 1
            if seen > ENTRIES or name.count("/") > DEEP:
                raise too_many(root)
            if entry.name in NOT_THE_MODEL:
                continue
            try:
                status = entry.stat()
            except OSError as error:
                raise UnreadableError(f"cannot look at {show(folder / entry.name)}: {error.strerror}") from error
            if entry.is_symlink() and not follow_links:
                _check_link(inside, Path(entry.path))
            if stat.S_ISDIR(status.st_mode):
                todo.append((Path(entry.path), f"{name}/"))  # the limit on levels ends a loop of links
            elif stat.S_ISREG(status.st_mode):
                yield PassthroughFile(name, Path(entry.path), status.st_size)
            else:
                raise UnreadableError(f"{show(entry.path)} is not a regular file; take it out of the folder")


def entry_names(folder: Path, most: int) -> list[str]:
    """Return the names of up to `most` entries of a folder, in any order; an empty list if it cannot be listed."""
    with suppress(OSError), os.scandir(folder) as entries:
        return [entry.name for entry in islice(entries, most)]
    return []


def too_many(root: Location) -> UnreadableError:
    """Return the error for a folder with more than `ENTRIES` entries or `DEEP` levels."""
    return UnreadableError(f"{show(root)} holds more files or levels than any checkpoint; name a file in it")


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise UnreadableError(f"cannot list {show(folder)}: {error.strerror}") from error


def _check_link(root: Path, link: Path) -> None:
    target = Path(os.path.realpath(link))
    if target.is_relative_to(root):
        return
    snapshots = root.parent
    if snapshots.name == "snapshots" and target.is_relative_to(snapshots.parent / "blobs"):
        return
    raise UnsafeError(
        f"{show(link, 80)} is a link that leads out of its folder, to {show(target, 80)}; copy the file instead, or "
        f"read what it leads to with {FOLLOW_LINKS}"
    )


def weight_files(files: Iterable[PassthroughFile]) -> list[str]:
    """Return the names of files that a library may load as the folder's weights, at the top or as copies below it."""
    return [
        each.name for each in files if each.name.endswith(_WEIGHTS) and each.name.rpartition("/")[0] in _SAME_WEIGHTS
    ]

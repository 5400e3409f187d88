"""Which files of a folder are its weights, by name: an index with its shards, or one whole file.

Names are those of transformers, diffusers and peft. A variant (`fp16`, `bf16`, `non_ema`) comes before the last part:
`model.safetensors.index.fp16.json`, `diffusion_pytorch_model.fp16.safetensors`.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from prunecli.errors import UnsupportedError, show
from prunecli.formats.io.locations import Location, Url
from prunecli.terms import HERE

__all__ = ["find_weights", "folder_of_index", "is_index", "is_whole", "plain_weights", "weights_among"]

_INDEX = re.compile(r"[^/]+\.(safetensors|bin)\.index(\.[\w-]+)?\.json")
_WHOLE = re.compile(
    r"((model|diffusion_pytorch_model|adapter_model)(\.\w+)?\.safetensors"
    r"|(pytorch_model|diffusion_pytorch_model|adapter_model)(\.\w+)?\.bin)"
)
_OWN = re.compile(r".*\.(pruned|baked)\.[^.]+")
"""Not variants, but the outputs of `apply` and `remove` for a file of the folder."""

_KINDS = ("safetensors", "bin")
"""Kinds of files, in the order in which the libraries look for them."""


def is_index(name: str) -> bool:
    """Whether a file name is that of an index of shards, also of a variant."""
    return _INDEX.fullmatch(name) is not None


def is_whole(name: str) -> bool:
    """Whether a file name is that of a single file with all weights of a folder, also of a variant."""
    return _WHOLE.fullmatch(name) is not None and _OWN.fullmatch(name) is None


def folder_of_index(location: Location) -> Location | None:
    """Return the folder of the checkpoint if the location is an index; None if it is something else.

    A folder with the name of an index is not an index.
    """
    if not is_index(location.name) or (isinstance(location, Url) and location.is_dir()):
        return None
    if isinstance(location, Url):
        return location.with_name("")
    if not location.is_file():
        return None
    return location.parent if location.parent.name not in ("", "..") else Path(location.parent).resolve()


def weights_among(names: Iterable[str]) -> list[str]:
    """Return the indexes and whole files among the names of a folder's files, safetensors first."""
    found = [name for name in names if is_index(name) or is_whole(name)]
    return sorted(found, key=lambda name: (_kind_of(name), name.count("."), name))


def find_weights(names: Iterable[str]) -> str | None:
    """Return the name of a folder's index or only file of weights; safetensors take precedence over torch's files.

    Raises:
        UnsupportedError: there are several of one kind.
    """
    found = weights_among(names)
    first = [name for name in found if _kind_of(name) == _kind_of(found[0])]
    if len(first) > 1:
        listed = ", ".join(show(name, 60) for name in first[:4])
        raise UnsupportedError(
            f"{HERE} holds several checkpoints ({listed}); name one of these files instead of the folder"
        )
    return next(iter(first), None)


def plain_weights(names: Iterable[str]) -> str | None:
    """Return the index or whole file that a library loads if no variant is asked for; None unless it is exactly one."""
    plain = [name for name in weights_among(names) if name.endswith(".index.json") or name.count(".") == 1]
    first = [name for name in plain if _kind_of(name) == _kind_of(plain[0])]
    return first[0] if len(first) == 1 else None


def _kind_of(name: str) -> int:
    return next(place for place, kind in enumerate(_KINDS) if f".{kind}.index." in name or name.endswith(f".{kind}"))

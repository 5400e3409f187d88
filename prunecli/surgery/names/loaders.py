"""Which library's `from_pretrained` reads a checkpoint, according to the configuration next to the weights."""

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from prunecli.errors import PrunecliError
from prunecli.formats.base import Layout
from prunecli.formats.detect import open_location
from prunecli.formats.io.locations import Location

__all__ = ["loader_of"]

_CONFIGS = ("adapter_config.json", "model_index.json", "config.json")
"""The configuration files that identify a library, the most specific first."""

_LIMIT = 1 << 20
_WEIGHTS = ("model", "pytorch_model", "adapter_model", "diffusion_pytorch_model")
"""The prefixes of the file names that the libraries look for."""
_SUFFIXES = (".safetensors", ".bin")


def loader_of(checkpoint: Layout) -> str | None:
    """Return "transformers", "diffusers" or "peft", None without a configuration of theirs next to the weights."""
    for name, location in sorted(_configurations(checkpoint), key=lambda each: _CONFIGS.index(each[0])):
        found = _loader(name, location)
        if found is not None:
            return found
    return None


def _configurations(checkpoint: Layout) -> Iterator[tuple[str, Location]]:
    """Yield the configurations in a folder, at any depth, or next to a file with a name that the libraries use."""
    if checkpoint.is_folder:
        for each in checkpoint.passthrough:
            name = PurePosixPath(each.name).name
            if name in _CONFIGS and each.size <= _LIMIT:
                yield name, each.path
        return
    if checkpoint.path is None:
        return
    path = Path(str(checkpoint.path))
    if path.suffix in _SUFFIXES and path.name.startswith(_WEIGHTS):
        yield from ((name, path.with_name(name)) for name in _CONFIGS if path.with_name(name).is_file())


def _loader(name: str, location: Location) -> str | None:
    try:
        with open_location(location) as source:
            content = json.loads(source.read(0, min(source.size, _LIMIT)))
    except (PrunecliError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    if name == "adapter_config.json":
        return "peft" if "peft_type" in content else None
    if "_class_name" in content or "_diffusers_version" in content:
        return "diffusers"
    return "transformers" if isinstance(content.get("architectures"), list) else None

"""Which folders below a folder are the components of one model.

- diffusers: `model_index.json` (`modular_model_index.json` for modular pipelines) maps each component to its class; the
  folder of a component has its name. If there are several ControlNets or T2I adapters, all but the first lie in
  numbered folders (`controlnet_1`), which the index does not list.
- sentence-transformers and libraries based on it: `modules.json` lists modules with their `path`, which may be empty. A
  module with `router_config.json` (Router) has modules of its own, in the folders that its `types` names.
- peft: adapters that are saved together lie in folders with their names; the one called `default` lies at the top.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any

from prunecli.errors import DamagedError, UnsafeError, show
from prunecli.formats.folders.reader import Listing
from prunecli.formats.folders.weights import weights_among
from prunecli.formats.json_text import parse_json, parse_object
from prunecli.lean import dataclass

__all__ = ["Components", "find_components"]

_PIPELINES = ("model_index.json", "modular_model_index.json")
_MODULES = "modules.json"
_ROUTER = "router_config.json"
_LARGEST = 1 << 20
"""The largest list of components, in bytes; real ones have a few thousand."""

_ADAPTER = "adapter_model."
_EARLIER = re.compile(r"checkpoint-\d+")
"""Folders in which a trainer saves earlier states of the adapter at the top; they are not further adapters."""


@dataclass(frozen=True)
class Components:
    """The component folders below a folder; "" is the folder itself.

    `names` contain weights, `bare` contain none that prunecli finds, and `absent` are listed but do not exist. The list
    is the file `named_by`, "" if there is none.
    """

    names: Sequence[str]
    bare: Sequence[str] = ()
    absent: Sequence[str] = ()
    named_by: str = ""


@dataclass
class _FoundComponents:
    named_by: str
    names: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)


def find_components(listing: Listing) -> Components | None:
    """Return the components of a folder; None if no component contains weights.

    Raises:
        UnsafeError: a component's name leads out of the folder, or a list of components is larger than any model's.
        DamagedError: a list of components is not in the form that its library writes.
        UnreadableError: a list of components cannot be read.
    """
    weights = _folders_with_weights(listing)
    found = _listed(listing, weights)
    names = list(dict.fromkeys(found.names))
    held, bare = ([name for name in names if (name in weights) is holds] for holds in (True, False))
    return Components(held, bare, found.absent, found.named_by) if any(held) else None


def _listed(listing: Listing, weights: Mapping[str, Sequence[str]]) -> _FoundComponents:
    for name in _PIPELINES:
        if name in listing.files:
            return _pipeline(listing, name)
    if _MODULES in listing.files:
        return _modules(listing)
    return _FoundComponents("", _adapters(weights))


def _folders_with_weights(listing: Listing) -> dict[str, list[str]]:
    """Return the names of the indexes and whole files of weights in each folder."""
    files: dict[str, list[str]] = {}
    for path in listing.files:
        folder, _, name = path.rpartition("/")
        files.setdefault(folder, []).append(name)
    found = {folder: weights_among(names) for folder, names in files.items()}
    return {folder: names for folder, names in found.items() if names}


def _pipeline(listing: Listing, index: str) -> _FoundComponents:
    folders = {path.partition("/")[0] for path in listing.files if "/" in path}
    found = _FoundComponents(index)
    for name, entry in parse_object(_text(listing, index), show(listing.location / index)).items():
        if name.startswith("_") or not isinstance(entry, list) or not any(isinstance(each, str) for each in entry):
            continue  # a setting, or an optional component that this pipeline does not have
        _check_name(name, listing, index)
        if name in folders:
            found.names += [name, *_further(name, folders)]
        elif index == _PIPELINES[0]:  # the components of a modular pipeline may lie elsewhere
            found.absent.append(name)
    return found


def _further(name: str, folders: set[str]) -> Iterator[str]:
    """Yield the numbered folders of a component: `controlnet_1`, `controlnet_2`; `adapter_1`, `adapter_1_2`."""
    last = name
    for number in range(1, len(folders)):
        last = next((each for each in (f"{name}_{number}", f"{last}_{number}") if each in folders), "")
        if not last:
            return
        yield last


def _modules(listing: Listing) -> _FoundComponents:
    modules = parse_json(_text(listing, _MODULES), show(listing.location / _MODULES))
    if not isinstance(modules, list):
        raise _wrong(listing, _MODULES, "is not a list of modules")
    found, seen = _FoundComponents(_MODULES), set()
    for module in modules:
        path = module.get("path") if isinstance(module, dict) else None
        if not isinstance(path, str):
            raise _wrong(listing, _MODULES, "has a module without a path")
        path = path.removesuffix("/")
        if path:
            _check_path(path, listing, _MODULES)
        if path in seen:
            raise _wrong(listing, _MODULES, f"has the path {show(path)} twice")
        seen.add(path)
        found.names += [path, *_routes(listing, path)]
    return found


def _routes(listing: Listing, path: str) -> Iterator[str]:
    """Yield the folders of the modules that a router has."""
    prefix = f"{path}/" if path else ""
    config = f"{prefix}{_ROUTER}"
    if config not in listing.files:
        return
    types: Any = parse_object(_text(listing, config), show(listing.location / config)).get("types")
    if not isinstance(types, dict):
        raise _wrong(listing, config, "has no types of modules")
    for name in types:
        _check_name(name, listing, config)
        yield f"{prefix}{name}"


def _adapters(weights: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the folders of adapters, if there is an adapter below the top and not another model at the top."""
    folders = {name for name, files in weights.items() if "/" not in name and files[0].startswith(_ADAPTER)}
    named = sorted(name for name in folders if name and not _EARLIER.fullmatch(name))
    if weights.get("") and "" not in folders:
        return []
    return ["", *named] if "" in folders else named


def _text(listing: Listing, name: str) -> bytes:
    with listing.folder.open(name) as source:
        if source.size > _LARGEST:
            raise UnsafeError(f"{source.label} has {source.size} bytes; no list of components is so large")
        return source.read(0, source.size)


def _check_path(path: str, listing: Listing, config: str) -> None:
    for part in path.split("/"):
        _check_name(part, listing, config, path)


def _check_name(name: str, listing: Listing, config: str, path: str = "") -> None:
    if name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
        named = show(path or name)
        raise UnsafeError(
            f"{show(listing.location / config)} names the component {named}, which is not a folder below it"
        )


def _wrong(listing: Listing, config: str, what: str) -> DamagedError:
    return DamagedError(f"{show(listing.location / config)} {what}; fetch it again")

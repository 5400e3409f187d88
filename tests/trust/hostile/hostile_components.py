"""Lists of components that lead out of their folder or are none, and slices that contradict each other."""

import json
from collections.abc import Callable
from pathlib import Path

from hostile_corpus import FOLDER, refused
from hostile_makers import STORAGE, folder_of, tensors, tensors_entry

Make = Callable[..., object]


def _list(code: int, says: str) -> Callable[[Make], Make]:
    return refused(code, says, family="index", kind=FOLDER)


def _components(folder: Path, name: str, content: object) -> None:
    """Write a folder of two components, each of two shards, and a list of them; bytes are taken as they are."""
    folder.mkdir()
    for part in ("unet", "vae"):
        folder_of(folder / part)
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    (folder / name).write_bytes(raw)


def _slice(at: object) -> bytes:
    info = json.dumps({"a.weight": {"saved_offsets": at}}) if not isinstance(at, str) else at
    entries = {"__metadata__": {"DCP_SHARDING_INFO": info, "DCP_VERSION": "1.0"}, "a.weight": tensors_entry()}
    return tensors(entries, STORAGE[:8])


def _slices(folder: Path, *offsets: object) -> None:
    folder.mkdir()
    for rank, at in enumerate(offsets, 1):
        (folder / f"shard-{rank:05d}-model-00001-of-00001.safetensors").write_bytes(_slice(at))


@_list(5, "names the component")
def a_component_above_its_folder(folder: Path) -> None:
    _components(folder, "model_index.json", {"..": ["diffusers", "UNet"], "unet": ["diffusers", "UNet"]})


@_list(5, "names the component")
def a_component_at_an_absolute_path(folder: Path) -> None:
    _components(folder, "model_index.json", {"/etc": ["diffusers", "UNet"], "unet": ["diffusers", "UNet"]})


@_list(5, "names the component")
def a_component_with_a_null_byte(folder: Path) -> None:
    _components(folder, "model_index.json", {"unet\0": ["diffusers", "UNet"]})


@_list(5, "names the component")
def a_module_above_its_folder(folder: Path) -> None:
    _components(folder, "modules.json", [{"path": "unet"}, {"path": "vae/../../x"}])


@_list(4, "has the path unet twice")
def a_module_that_is_there_twice(folder: Path) -> None:
    _components(folder, "modules.json", [{"path": "unet"}, {"path": "unet"}])


@_list(4, "has a module without a path")
def modules_without_paths(folder: Path) -> None:
    _components(folder, "modules.json", [1, 2])


@_list(4, "is not (a )?JSON")
def a_hundred_thousand_modules_deep(folder: Path) -> None:
    _components(folder, "modules.json", b"[" * 100_000)


@_list(4, "has unet twice")
def a_component_that_is_listed_twice(folder: Path) -> None:
    _components(folder, "model_index.json", b'{"unet": ["a", "b"], "unet": ["a", "b"]}')


@_list(5, "no list of components is so large")
def a_list_of_components_without_end(folder: Path) -> None:
    _components(folder, "model_index.json", b"{" + b" " * (1 << 20) + b"}")


@_list(5, "names the component")
def a_router_that_leads_out(folder: Path) -> None:
    _components(folder, "modules.json", [{"path": "unet"}, {"path": "vae"}])
    (folder / "vae" / "router_config.json").write_text(json.dumps({"types": {"../unet": "x"}}))


@_list(4, "overlap, or leave gaps")
def slices_that_overlap(folder: Path) -> None:
    _slices(folder, [0], [1])


@_list(4, "overlap, or leave gaps")
def a_slice_at_the_end_of_everything(folder: Path) -> None:
    _slices(folder, [0], [2**61])


@_list(4, "does not say where")
def a_slice_before_the_beginning(folder: Path) -> None:
    _slices(folder, [-2], [0])


@_list(4, "does not say where")
def a_slice_of_more_dimensions(folder: Path) -> None:
    _slices(folder, [0, 0], [0])


@_list(4, "is not (a )?JSON")
def offsets_a_hundred_thousand_deep(folder: Path) -> None:
    _slices(folder, "[" * 100_000)

"""Imports go downwards only, and the way that a file takes needs no torch."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_PACKAGE = Path(__file__).parent.parent / "prunecli"
_ALLOWED = {
    "cli": {"cli", "reporting", "surgery", "core", "formats", "errors", "terms", "lean"},
    "reporting": {"reporting", "surgery", "core", "formats", "errors", "terms", "lean"},
    "surgery": {"surgery", "core", "formats", "errors", "terms", "lean"},
    "modules": {"modules", "surgery", "core", "formats", "errors", "terms", "lean"},
    "core": {"core", "errors", "terms", "lean"},
    "formats": {"formats", "errors", "terms", "lean"},
    "errors": {"terms"},
    "terms": set[str](),
    "lean": set[str](),
    "files": {"files", "reporting", "surgery", "core", "formats", "errors", "terms"},
    "__main__": {"cli", "errors", "terms", "lean"},
    "__init__": {"modules", "errors", "terms", "lean"},
}
_ORDER = ["roles", "names", "data", "masks", "plan", "run", "report", "compare", "replay", "verify", "rewrite"]
_ORDER += [
    "places",
    "listing",
    "packing",
    "pack_layout",
    "pack",
    "rescue",
    "unpack",
    "pack_folder",
    "unpack_folder",
    "mask_jobs",
    "like",
    "division",
    "apply",
    "seeds",
    "jobs",
    "prepare",
]
"""The parts of prunecli.surgery from the lowest to the highest; a part imports itself and those before it."""
_FOLDERS = {
    "core.allocation": set[str](),
    "core.kernel": set[str](),
    "core.methods": set[str](),
    "core.structure": set[str](),
    "formats.io": set[str](),
    "formats.packed": {"io", "safetensors"},
    "formats.pickles": set[str](),
    "formats.safetensors": {"io"},
    "formats.torch": {"io", "pickles"},
    "formats.folders": {"io", "packed", "pickles", "safetensors", "torch"},
    "formats.outputs": {"io", "folders"},
}
"""The other folders: what each may import beside itself and the files at the top of its layer."""
_DRAWING = {("formats.packed", "core")}
"""The one folder of a layer that imports a layer which the others do not: packed files contain masks as draws."""
_VERSION = {("surgery", "__init__"), ("cli", "__init__"), ("reporting", "__init__")}
_WITH_TORCH = {
    "modules.chosen",
    "modules.global_unstructured",
    "modules.hooks",
    "modules.layout",
    "modules.load_masked",
    "modules.load_packed",
    "modules.masks",
    "modules.methods",
    "modules.passes",
    "modules.prune_module",
    "modules.pruning_method",
    "modules.random_unstructured",
    "modules.scores",
    "modules.shards",
    "modules.sites",
    "modules.state_file",
    "surgery.run.ranks",
}
_MODULES = sorted(_PACKAGE.rglob("*.py"))


def _name(path: Path) -> str:
    return ".".join(path.relative_to(_PACKAGE).with_suffix("").parts)


def _imports(text: str) -> Iterator[str]:
    """Every module that a source names in an import, wherever in it; `from prunecli import x` as prunecli.x."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            assert node.module is not None
            below = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from below if node.module == "prunecli" else [node.module]


def _layer(module: str) -> str:
    """`prunecli.formats.views` -> `formats`; what is no module of prunecli is a name in its `__init__`."""
    part = module.split(".")[1] if "." in module else "__init__"
    is_module = (_PACKAGE / part).is_dir() or (_PACKAGE / f"{part}.py").exists()
    return part if is_module else "__init__"


def _wrong(name: str, text: str) -> Iterator[str]:
    """Yield the imports of a module, by its name below prunecli, that lead upwards or to torch."""
    layer, *rest = name.split(".")
    for used in _imports(text):
        if used.split(".")[0] == "torch" and name not in _WITH_TORCH:
            yield used
        if used.split(".")[0] == "prunecli":
            other = _layer(used)
            drawing = (f"{layer}.{rest[0]}" if rest else layer, other) in _DRAWING
            if other not in _ALLOWED[layer] and (layer, other) not in _VERSION and not drawing:
                yield used
            if other == layer and not _is_below(layer, _part(f"prunecli.{name}") if rest else "__init__", _part(used)):
                yield used


def _part(module: str) -> str:
    """`prunecli.surgery.plan.recipe` -> `plan`; "__init__" for what is no folder or file of a layer."""
    return module.split(".")[2] if module.count(".") > 1 else "__init__"


def _is_below(layer: str, part: str, other: str) -> bool:
    """Whether a part of a layer may import another one."""
    if layer == "surgery":
        return other in (_ORDER[: _ORDER.index(part) + 1] if part in _ORDER else [])
    row = _FOLDERS.get(f"{layer}.{part}")
    return row is None or other == part or other in row or f"{layer}.{other}" not in _FOLDERS


@pytest.mark.parametrize("path", _MODULES, ids=_name)
def test_imports_go_downwards_only(path: Path) -> None:
    assert list(_wrong(_name(path), path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("name", "text", "wrong"),
    [
        ("core.amount", "import prunecli.formats.base", "prunecli.formats.base"),
        ("core.amount", "def late():\n    from prunecli import surgery", "prunecli.surgery"),
        ("formats.base", "from prunecli.core.amount import Amount", "prunecli.core.amount"),
        ("reporting.html", "from prunecli.cli.app import run", "prunecli.cli.app"),
        ("surgery.names.select", "from prunecli.surgery.plan.model import Plan", "prunecli.surgery.plan.model"),
        ("surgery.names.select", "from prunecli.surgery.rewrite import rewrite", "prunecli.surgery.rewrite"),
        ("formats.io.stream", "from prunecli.formats.torch.zip import TorchZip", "prunecli.formats.torch.zip"),
        ("formats.torch.zip", "import prunecli.formats.folders.dcp.folder", "prunecli.formats.folders.dcp.folder"),
        ("surgery.verify", "import torch", "torch"),
        ("formats.views", "from torch.nn import Module", "torch.nn"),
    ],
)
def test_a_wrong_import_is_found(name: str, text: str, wrong: str) -> None:
    assert list(_wrong(name, text)) == [wrong]


def test_every_layer_has_its_rule_and_the_exceptions_exist() -> None:
    assert {_name(path).split(".")[0] for path in _MODULES} == set(_ALLOWED)
    assert set(map(_name, _MODULES)) >= _WITH_TORCH
    parts = {_part(f"prunecli.{_name(path)}") for path in _MODULES if _name(path).startswith("surgery.")}
    assert parts - {"__init__"} == set(_ORDER)
    folders = {".".join(_name(path).split(".")[:2]) for path in _MODULES if _name(path).count(".") > 1}
    assert {each for each in folders if not each.startswith("surgery.")} == set(_FOLDERS)


_SLOW = "'torch', 'numpy', 'pydantic', 'rich', 'prunecli.surgery'"
_LOADED = f"import sys, {{}}; print(*sorted({{{{{_SLOW}}}}} & set(sys.modules)))"


@pytest.mark.parametrize("module", ["prunecli", "prunecli.__main__", "prunecli.cli.app"])
def test_starting_loads_nothing_slow(module: str) -> None:
    command = [sys.executable, "-c", _LOADED.format(module)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == []


def test_the_file_path_does_not_load_torch(tmp_path: Path) -> None:
    code = _LOADED.format("prunecli.surgery.rewrite, prunecli.surgery.plan.plan, prunecli.formats.detect")
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "rich"} & set(loaded)

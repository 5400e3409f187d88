"""Imports go downwards only, and the way that a file takes needs no torch."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_PACKAGE = Path(__file__).parent.parent / "prunecli"
_ALLOWED = {
    "cli": {"cli", "reporting", "surgery", "core", "formats", "errors", "terms"},
    "reporting": {"reporting", "surgery", "core", "formats", "errors", "terms"},
    "surgery": {"surgery", "core", "formats", "errors", "terms"},
    "modules": {"modules", "surgery", "core", "formats", "errors", "terms"},
    "core": {"core", "errors", "terms"},
    "formats": {"formats", "errors", "terms"},
    "errors": {"terms"},
    "terms": set[str](),
    "__main__": {"cli", "errors", "terms"},
    "__init__": {"modules", "errors", "terms"},
}
_ORDER = ["roles", "names", "data", "plan", "run", "report", "compare", "replay", "verify", "rewrite_folder", "rewrite"]
_ORDER += ["places", "apply", "jobs"]
"""The parts of prunecli.surgery from the lowest to the highest; a part imports itself and those before it."""
_VERSION = {("surgery", "__init__"), ("cli", "__init__"), ("reporting", "__init__")}
_WITH_TORCH = {
    "modules.hooks",
    "modules.layout",
    "modules.masks",
    "modules.passes",
    "modules.prune_module",
    "modules.random_unstructured",
    "modules.shards",
    "surgery.run.ranks",
}
_MODULES = sorted(_PACKAGE.rglob("*.py"))


def _name(path: Path) -> str:
    return ".".join(path.relative_to(_PACKAGE).with_suffix("").parts)


def _imports(path: Path) -> Iterator[str]:
    """Every module that the file names in an import, wherever in the file; `from prunecli import x` as prunecli.x."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            assert node.module is not None
            below = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from below if node.module == "prunecli" else [node.module]


def _layer(module: str) -> str:
    """`prunecli.formats.views` -> `formats`; what is no module of prunecli is a name in its `__init__`."""
    part = module.split(".")[1] if "." in module else "__init__"
    is_module = (_PACKAGE / part).is_dir() or (_PACKAGE / f"{part}.py").exists()
    return part if is_module else "__init__"


@pytest.mark.parametrize("path", _MODULES, ids=_name)
def test_imports_go_downwards_only(path: Path) -> None:
    layer = _name(path).split(".")[0]
    used = {_layer(name) for name in _imports(path) if name.split(".")[0] == "prunecli"}
    wrong = {each for each in used - _ALLOWED[layer] if (layer, each) not in _VERSION}
    assert not wrong


def _part(module: str) -> str:
    """`prunecli.surgery.plan.recipe` -> `plan`."""
    return module.split(".")[2] if module.count(".") > 1 else "__init__"


@pytest.mark.parametrize("path", sorted((_PACKAGE / "surgery").rglob("*.py")), ids=_name)
def test_the_parts_of_surgery_are_in_order(path: Path) -> None:
    part = _part(f"prunecli.{_name(path)}")
    below = set(_ORDER[: _ORDER.index(part) + 1]) if part in _ORDER else set[str]()
    assert {_part(name) for name in _imports(path) if name.startswith("prunecli.surgery.")} <= below


@pytest.mark.parametrize("path", [path for path in _MODULES if _name(path) not in _WITH_TORCH], ids=_name)
def test_only_the_modules_on_tensors_import_torch(path: Path) -> None:
    assert not {name for name in _imports(path) if name.split(".")[0] == "torch"}


def test_every_layer_has_its_rule_and_the_exceptions_exist() -> None:
    assert {_name(path).split(".")[0] for path in _MODULES} == set(_ALLOWED)
    assert set(map(_name, _MODULES)) >= _WITH_TORCH
    parts = {_part(f"prunecli.{_name(path)}") for path in _MODULES if _name(path).startswith("surgery.")}
    assert parts - {"__init__"} == set(_ORDER)


_LOADED = "import sys, {}; print(*sorted({{'torch', 'rich', 'prunecli.surgery'}} & set(sys.modules)))"


@pytest.mark.parametrize("module", ["prunecli", "prunecli.__main__", "prunecli.cli.app"])
def test_starting_loads_neither_torch_nor_rich(module: str) -> None:
    command = [sys.executable, "-c", _LOADED.format(module)]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "rich"} & set(loaded)


def test_the_file_path_does_not_load_torch(tmp_path: Path) -> None:
    code = _LOADED.format("prunecli.surgery.rewrite, prunecli.surgery.plan.plan, prunecli.formats.detect")
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == ["prunecli.surgery"]

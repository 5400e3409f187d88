"""What is exported is sorted, complete and there; the package itself imports nothing slow."""

import ast
import functools
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import prunecli

MODULES = ["prunecli", *(each.name for each in pkgutil.walk_packages(prunecli.__path__, "prunecli."))]


@functools.cache
def tree(name: str) -> ast.Module:
    module = importlib.import_module(name)
    assert module.__file__
    return ast.parse(Path(module.__file__).read_text(encoding="utf-8"))


def made_in(name: str) -> set[str]:
    """Return the functions and classes that a module defines for others."""
    nodes = [node for node in tree(name).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return {node.name for node in nodes if not node.name.startswith("_")}


@functools.cache
def imports() -> dict[str | None, set[str]]:
    """Return the names that modules import, by the module that they import them from."""
    found: dict[str | None, set[str]] = {}
    for other in MODULES:
        for node in ast.walk(tree(other)):
            if isinstance(node, ast.ImportFrom):
                found.setdefault(node.module, set()).update(alias.name for alias in node.names)
    return found


def packages() -> set[str]:
    return {each.name for each in pkgutil.walk_packages(prunecli.__path__, "prunecli.") if each.ispkg}


def exporting() -> list[str]:
    return sorted(set(MODULES) - {"prunecli.__main__"} - packages())


@pytest.mark.parametrize("name", exporting())
def test_all(name: str) -> None:
    module = importlib.import_module(name)
    exported = list(module.__all__)
    assert exported == sorted(set(exported), key=rank)
    assert all(hasattr(module, each) for each in exported)
    assert made_in(name) | imports().get(name, set()) <= set(exported)


def rank(name: str) -> tuple[int, str]:
    """Sort as ruff does: constants, classes, then the rest."""
    return (0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2, name)


def test_the_package_lists_what_it_resolves() -> None:
    assert dir(prunecli) == sorted(prunecli.__all__)
    assert {*prunecli._HOMES, "__version__"} == set(prunecli.__all__)
    for name, home in prunecli._HOMES.items():
        assert getattr(prunecli, name) is getattr(importlib.import_module(home), name)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        getattr(prunecli, "nothing")  # noqa: B009


def test_torch_is_imported_only_when_needed() -> None:
    program = """
import sys
import prunecli
assert prunecli.__version__ and prunecli.PrunecliError
assert "torch" not in sys.modules and "numpy" not in sys.modules
prunecli.RandomUnstructured
assert "torch" in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr

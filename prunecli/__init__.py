"""prunecli: random unstructured pruning of model checkpoints, exact and reproducible.

The names below are resolved when first used, so that the command line starts without importing torch.
"""

import importlib
import sys

TYPE_CHECKING = False  # importing typing takes longer than the rest of this module
if TYPE_CHECKING:
    from typing import Any

    from prunecli.errors import PrunecliError
    from prunecli.modules.load_masked import load_masked
    from prunecli.modules.load_packed import load_packed
    from prunecli.modules.prune_module import bake_module, prune_module
    from prunecli.modules.random_unstructured import RandomUnstructured, random_unstructured, remove

__all__ = [
    "PrunecliError",
    "RandomUnstructured",
    "__version__",
    "bake_module",
    "load_masked",
    "load_packed",
    "prune_module",
    "random_unstructured",
    "remove",
]

__version__ = "0.1.0"

_HOMES = {
    "PrunecliError": "prunecli.errors",
    "RandomUnstructured": "prunecli.modules.random_unstructured",
    "bake_module": "prunecli.modules.prune_module",
    "load_masked": "prunecli.modules.load_masked",
    "load_packed": "prunecli.modules.load_packed",
    "prune_module": "prunecli.modules.prune_module",
    "random_unstructured": "prunecli.modules.random_unstructured",
    "remove": "prunecli.modules.random_unstructured",
}

_POSIX = ("prunecli.modules.load_masked", "prunecli.modules.load_packed", "prunecli.modules.prune_module")
"""The modules that also work on files."""


def __getattr__(name: str) -> "Any":
    if name == "files":
        return importlib.import_module("prunecli.files")
    if name not in _HOMES:
        raise AttributeError(f"module 'prunecli' has no attribute {name!r}")
    if sys.platform == "win32" and _HOMES[name] in _POSIX:
        raise ImportError(f"{name} is not supported on Windows; run it in WSL, or in a container")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

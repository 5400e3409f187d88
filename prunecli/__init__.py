"""prunecli: pruning of model checkpoints, at random and by other methods, exact and reproducible.

The names below are resolved when first used, so that the command line starts without importing torch.
"""

import importlib
import sys

TYPE_CHECKING = False  # importing typing takes longer than the rest of this module
if TYPE_CHECKING:
    from typing import Any

    from prunecli.errors import PrunecliError
    from prunecli.modules.global_unstructured import global_unstructured
    from prunecli.modules.load_masked import load_masked
    from prunecli.modules.load_packed import load_packed
    from prunecli.modules.methods import (
        CustomFromMask,
        Identity,
        L1Unstructured,
        LnStructured,
        RandomStructured,
        custom_from_mask,
        identity,
        l1_unstructured,
        ln_structured,
        random_structured,
    )
    from prunecli.modules.prune_module import bake_module, prune_module
    from prunecli.modules.pruning_method import is_pruned, remove
    from prunecli.modules.random_unstructured import RandomUnstructured, random_unstructured

__all__ = [
    "CustomFromMask",
    "Identity",
    "L1Unstructured",
    "LnStructured",
    "PrunecliError",
    "RandomStructured",
    "RandomUnstructured",
    "__version__",
    "bake_module",
    "custom_from_mask",
    "global_unstructured",
    "identity",
    "is_pruned",
    "l1_unstructured",
    "ln_structured",
    "load_masked",
    "load_packed",
    "prune_module",
    "random_structured",
    "random_unstructured",
    "remove",
]

__version__ = "0.1.0"

_HOMES = {
    "CustomFromMask": "prunecli.modules.methods",
    "Identity": "prunecli.modules.methods",
    "L1Unstructured": "prunecli.modules.methods",
    "LnStructured": "prunecli.modules.methods",
    "PrunecliError": "prunecli.errors",
    "RandomStructured": "prunecli.modules.methods",
    "RandomUnstructured": "prunecli.modules.random_unstructured",
    "bake_module": "prunecli.modules.prune_module",
    "custom_from_mask": "prunecli.modules.methods",
    "global_unstructured": "prunecli.modules.global_unstructured",
    "identity": "prunecli.modules.methods",
    "is_pruned": "prunecli.modules.pruning_method",
    "l1_unstructured": "prunecli.modules.methods",
    "ln_structured": "prunecli.modules.methods",
    "load_masked": "prunecli.modules.load_masked",
    "load_packed": "prunecli.modules.load_packed",
    "prune_module": "prunecli.modules.prune_module",
    "random_structured": "prunecli.modules.methods",
    "random_unstructured": "prunecli.modules.random_unstructured",
    "remove": "prunecli.modules.pruning_method",
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

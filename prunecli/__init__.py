"""prunecli: random unstructured pruning of model checkpoints, exact and reproducible.

The names below are resolved when first used, so that the command line starts without importing torch.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prunecli.core.random_unstructured import RandomUnstructured, random_unstructured, remove
    from prunecli.errors import PrunecliError
    from prunecli.surgery.live import bake_module, prune_module

__all__ = [
    "PrunecliError",
    "RandomUnstructured",
    "__version__",
    "bake_module",
    "prune_module",
    "random_unstructured",
    "remove",
]

__version__ = "0.1.0"

_HOMES = {
    "PrunecliError": "prunecli.errors",
    "RandomUnstructured": "prunecli.core.random_unstructured",
    "bake_module": "prunecli.surgery.live",
    "prune_module": "prunecli.surgery.live",
    "random_unstructured": "prunecli.core.random_unstructured",
    "remove": "prunecli.core.random_unstructured",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'prunecli' has no attribute {name!r}")
    if sys.platform == "win32" and _HOMES[name].startswith("prunecli.surgery"):
        raise ImportError(f"{name} is not supported on Windows; run it in WSL, or in a container")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

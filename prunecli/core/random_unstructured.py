"""The old module of `RandomUnstructured`: pickles of whole torch modules refer to it, and still load."""

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    return getattr(importlib.import_module("prunecli.modules.random_unstructured"), name)

"""The old module of `ProductRefresh`: pickles of whole torch modules refer to it, and still load."""

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    return getattr(importlib.import_module("prunecli.modules.hooks"), name)

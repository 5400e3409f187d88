"""The old home of `ProductRefresh`: modules that torch pickled whole name it here, and still load."""

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    return getattr(importlib.import_module("prunecli.modules.hooks"), name)

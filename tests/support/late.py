"""Modules that few tests use, imported when one of them runs: all workers of a run import what is collected."""

import importlib
from typing import Any

__all__ = ["Late"]


class Late:
    """A module, which is imported when one of its public names is looked up."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("_", "pytest")):  # pytest asks every object that it collects for marks
            raise AttributeError(name)
        return getattr(importlib.import_module(self._name), name)

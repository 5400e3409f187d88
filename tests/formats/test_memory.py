"""Memory is returned to the system where the C library can do that, and nothing happens where it cannot."""

import ctypes
from types import SimpleNamespace

import pytest

from prunecli.formats.io.memory import return_freed


@pytest.mark.parametrize("way", ["glibc", "another C library", "linked statically"])
def test_freed_memory_is_returned_where_that_can_be_done(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trimmed = list[int]()

    def load(name: None) -> object:
        if way == "linked statically":
            raise OSError("Dynamic loading not supported")
        return SimpleNamespace(malloc_trim=trimmed.append) if way == "glibc" else SimpleNamespace()

    monkeypatch.setattr(ctypes, "CDLL", load)
    return_freed()
    assert trimmed == ([0] if way == "glibc" else [])

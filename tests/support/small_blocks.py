"""Blocks, chunks and units of a sixteenth of their size: laws about their borders hold at any size, in small files.

At the real size they are held by the tests of `apply`, of folders of torch.distributed, and of golden masks.
"""

import functools
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import prunecli
from prunecli.core import block, random_stream
from prunecli.formats.io import pieces, stream
from prunecli.surgery.run import units

__all__ = ["SCALE", "SMALL_BLOCK", "small_blocks"]

SCALE = 16
SMALL_BLOCK = block.BLOCK // SCALE
_SIZES = {"BLOCK": block.BLOCK, "CHUNK": pieces.CHUNK, "_LONGEST": stream._LONGEST}
_NEEDED = re.compile(r"import .*\b(?:BLOCK|CHUNK)\b")


@functools.cache
def _places() -> list[tuple[Any, str, int]]:
    """Return where each size is kept, as object, attribute and size: in modules, and in classes as their `block`."""
    root, found = Path(prunecli.__file__).parent, list[tuple[Any, str, int]]()
    for path in sorted(root.rglob("*.py")):
        if not _NEEDED.search(path.read_text(encoding="utf-8")):
            continue
        name = ".".join(path.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__")
        module = importlib.import_module(name)
        found += [(module, key, size) for key, size in _SIZES.items() if vars(module).get(key) == size]
        classes = [each for each in vars(module).values() if isinstance(each, type) and each.__module__ == name]
        sizes = set(_SIZES.values())
        found += [(each, "block", size) for each in classes for size in sizes if vars(each).get("block") == size]
    return [(block, "BLOCK", block.BLOCK), (pieces, "CHUNK", pieces.CHUNK), *found]


def small_blocks() -> Iterator[None]:
    """Make them small while the tests of a module run, for the module to declare as a fixture of its scope."""
    places = _places()
    with pytest.MonkeyPatch.context() as patch:
        for owner, name, size in places:
            patch.setattr(owner, name, size // SCALE)
        patch.setattr(units, "_SMALLEST", (1 << 20) // SCALE)  # even these files are cut into many units
        _forget()
        yield
    _forget()


def _forget() -> None:
    """Clear what is cached by blocks of the other size."""
    random_stream._allocation.cache_clear()
    random_stream._drawn_block.cache_clear()

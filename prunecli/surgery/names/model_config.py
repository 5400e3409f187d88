"""The configuration beside a checkpoint (`config.json`), as far as it says which embeddings its library ties.

Measured with transformers 5.24, which ties by the top configuration's `tie_word_embeddings`, and those of models within
by their own: it writes the value for all 390 classes that have one but for one. Older versions left out what was the
default, which was to tie. Composed models disagree with themselves: 14 say true at the top and false below, and tie.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from prunecli.errors import PrunecliError
from prunecli.formats.base import Layout
from prunecli.formats.detect import open_location
from prunecli.formats.io.locations import Location
from prunecli.formats.json_text import parse_object

__all__ = ["may_tie", "read_config", "vocabularies"]

_NAME = "config.json"
_LIMIT = 1 << 20
"""Bytes; a configuration has a few thousand."""

_DEEPEST = 8
"""Levels of configurations within each other; Qwen's talkers and thinkers have three."""

_VOCABULARY = "vocab_size"
_OTHER_VOCABULARIES = frozenset({"n_words", "n_vocab"})
"""What XLM and Flaubert, and early ports of GPT, call it."""


def read_config(checkpoint: Layout, component: str = "") -> Mapping[str, Any] | None:
    """Return the configuration that lies beside a checkpoint's file, or in its folder; None if none can be read.

    `component` is that of a checkpoint that has several: the folder below, with a slash.
    """
    place = _place(checkpoint, component)
    if place is None:
        return None
    try:
        with open_location(place) as source:
            if source.size > _LIMIT:
                return None
            return parse_object(source.read(0, source.size), source.label)
    except PrunecliError:
        return None


def _place(checkpoint: Layout, component: str) -> Location | None:
    if checkpoint.is_folder:
        return next((each.path for each in checkpoint.passthrough if each.name == f"{component}{_NAME}"), None)
    path = checkpoint.path
    return path.with_name(_NAME) if path is not None and path.name else None


def vocabularies(config: Mapping[str, Any]) -> frozenset[int]:
    """Return the sizes of all vocabularies that a configuration names, at the top or in one within."""
    return frozenset(size for each in _within(config) for size in _sizes(each))


def may_tie(config: Mapping[str, Any]) -> bool:
    """Whether the embeddings may be tied: some configuration says so, or none that has a vocabulary says otherwise."""
    settings = [each.get("tie_word_embeddings") for each in _within(config) if each is config or any(_sizes(each))]
    return True in settings or False not in settings


def _within(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a configuration, and those within it."""
    todo = [(config, 0)]
    while todo:
        each, depth = todo.pop()
        yield each
        if depth < _DEEPEST:
            todo += [(value, depth + 1) for value in each.values() if isinstance(value, dict)]


def _sizes(config: Mapping[str, Any]) -> Iterator[int]:
    for key, value in config.items():
        named = key == _VOCABULARY or key.endswith(f"_{_VOCABULARY}") or key in _OTHER_VOCABULARIES
        if named and type(value) is int and value > 0:
            yield value

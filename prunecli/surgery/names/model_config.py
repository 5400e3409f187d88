"""The configuration next to a checkpoint (`config.json`), and whether it says that embeddings are tied.

Measured with transformers 5.24: it ties according to `tie_word_embeddings` of the top configuration, and inner models
according to their own. It writes the value for all but one of the 390 classes that have one. Older versions left out
the default, which was to tie. Composed models can contradict themselves: 14 say true at the top and false below, and
do tie.
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
"""The largest configuration in bytes; a usual one has a few thousand."""

_DEEPEST = 8
"""The most levels of nested configurations; Qwen's talkers and thinkers have three."""

_VOCABULARY = "vocab_size"
_OTHER_VOCABULARIES = frozenset({"n_words", "n_vocab"})
"""The names of the vocabulary size in XLM and Flaubert, and in early ports of GPT."""


def read_config(checkpoint: Layout, component: str = "") -> Mapping[str, Any] | None:
    """Return the configuration next to a checkpoint's file, or in its folder; None if none can be read.

    `component` is the subfolder of one component, with a slash at the end, in a checkpoint of several components.
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
    """Return the sizes of all vocabularies in a configuration and its nested ones."""
    return frozenset(size for each in _within(config) for size in _sizes(each))


def may_tie(config: Mapping[str, Any]) -> bool:
    """Whether the embeddings may be tied: some configuration says so, or none with a vocabulary says otherwise."""
    settings = [each.get("tie_word_embeddings") for each in _within(config) if each is config or any(_sizes(each))]
    return True in settings or False not in settings


def _within(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a configuration and its nested ones."""
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

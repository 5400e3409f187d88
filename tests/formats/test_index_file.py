"""The index of shards: what is read from it, what is refused, and what is written when names change."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunecli.errors import PrunecliError, UnsafeError
from prunecli.formats.folders.index_file import Index, read_index, render_index
from prunecli.formats.io.source import open_source

NAMES = st.text(st.characters(exclude_categories=()), max_size=8)
"""Lone surrogates, too: JSON can spell them."""


def read(path: Path, content: Any) -> Index:
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with open_source(path) as source:
        return read_index(source, path.name)


def made(content: dict[str, Any]) -> Index:
    return Index("x.index.json", b"", content)


def test_what_was_read_is_what_was_written(tmp_path: Path) -> None:
    content = {"metadata": {"total_size": 8}, "weight_map": {"b": "two.bin", "a": "one.bin"}, "more": [1]}
    index = read(tmp_path / "m.bin.index.json", content)
    assert (index.name, index.content) == ("m.bin.index.json", content)
    assert list(index.weight_map.items()) == [("b", "two.bin"), ("a", "one.bin")]
    assert index.raw == (tmp_path / "m.bin.index.json").read_bytes()


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/etc/passwd", "a/b", "a/../../b", "./a", "a\\b", "a\0b"])
def test_a_shard_is_a_plain_file_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnsafeError, match="is not a plain file name") as caught:
        read(tmp_path / "index.json", {"weight_map": {"a": "fine.bin", "b": name}})
    assert str(caught.value).isprintable()


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.integers() | NAMES, lambda each: st.lists(each) | st.dictionaries(NAMES, each)).map(
        lambda content: json.dumps({"weight_map": content}).encode()
    )
)
def test_any_bytes_are_an_index_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    with suppress(PrunecliError):
        index = read(tmp_path_factory.getbasetemp() / "index.json", content)
        assert index.weight_map
        assert not any("/" in shard for shard in index.weight_map.values())


@given(st.dictionaries(NAMES, st.sampled_from(["one", "two"]), min_size=1), st.integers(0, 1 << 62), st.booleans())
def test_what_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, weight_map: dict[str, str], size: int, ordered: bool
) -> None:
    old = {"metadata": {"note": "ä", "total_size": 1}, "weight_map": {"b": "one", "a": "one"}, "more": {"x": [None]}}
    if ordered:
        old["weight_map"] = {"a": "one", "b": "one"}
    path = tmp_path_factory.getbasetemp() / "written.json"
    index = read(path, render_index(made(old), weight_map, size))
    assert list(index.weight_map.items()) == (sorted(weight_map.items()) if ordered else list(weight_map.items()))
    assert index.content["metadata"] == {"note": "ä", "total_size": size}
    assert list(index.content) == list(old)
    assert index.content["more"] == old["more"]


@pytest.mark.parametrize("metadata", [None, [], "x", {}])
def test_the_size_is_recorded_whatever_the_old_index_said(metadata: object) -> None:
    written = json.loads(render_index(made({"metadata": metadata, "weight_map": {"a": "x"}}), {"a": "x"}, 5))
    assert written["metadata"] == {"total_size": 5}


def test_the_layout_is_that_of_transformers() -> None:
    content = {"metadata": {"total_parameters": 2, "total_size": 8}, "weight_map": {"a": "x", "b": "y"}}
    expected = json.dumps(content, indent=2, sort_keys=True) + "\n"
    assert render_index(made(content), {"a": "x", "b": "y"}, 8) == expected.encode()

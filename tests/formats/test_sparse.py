"""Sparse tensors (`sparse-bitmask`) are read as dense ones, whatever their shape; what contradicts itself is refused.

The golden files were written by compressed-tensors 0.8.1 and 0.14.0.1 (torch 2.13), from a module with a convolution,
linear layers and a norm: `ModelCompressor(sparsity_config=...).compress`, safetensors' `save_file`, `update_config`.
The dense ones are what its own `decompress` yields, saved by `save_file`.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save, save_file
from sparse_by_hand import members_of, sparse

from prunecli import files
from prunecli.errors import DamagedError, OutputError, UsageError
from prunecli.formats.detect import open_checkpoint
from prunecli.formats.packed import bitmask
from prunecli.formats.packed.bitmask_config import without_sparsity

GOLDEN = Path(__file__).parent / "golden" / "sparse"
NAMES = ("0.8.1", "0.14.0.1", "0.14.0.1-two-of-four")
Tensors = dict[str, Any]


def golden(name: str) -> Path:
    return GOLDEN / f"{name}.safetensors"


def dense(name: str) -> bytes:
    return (GOLDEN / f"{name}.dense.safetensors").read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_what_compressed_tensors_wrote_becomes_what_it_reads(name: str, tmp_path: Path) -> None:
    out = tmp_path / "dense.safetensors"
    found = files.unpack(golden(name), output=out)
    assert out.read_bytes() == dense(name)
    assert (found.bytes, found.original_bytes) == (golden(name).stat().st_size, len(dense(name)))
    assert found.stored == (7 if name == "0.8.1" else 2)
    assert not files.diff(golden(name), out).differing
    assert files.report(golden(name)).parameters == files.report(out).parameters


def test_params_shows_what_is_sparse() -> None:
    found = {each.name: each.stored for each in files.params(golden("0.14.0.1"), all_=True)}
    assert found["fc.weight"] == "stored mask"
    assert found["fc.bias"] == "dense"


def shards_of(name: str, folder: Path) -> Path:
    """Write a golden file as a folder in which the members of each tensor are in different shards."""
    folder.mkdir()
    tensors = load_raw(golden(name))
    names, where = sorted(tensors), dict[str, str]()
    for number in range(3):
        own, file = names[number::3], f"model-0000{number + 1}-of-00003.safetensors"
        (folder / file).write_bytes(raw_file({each: tensors[each] for each in own}))
        where |= dict.fromkeys(own, file)
    index = {"metadata": {"total_size": 1}, "weight_map": dict(sorted(where.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    shutil.copy(GOLDEN / f"{name}.config.json", folder / "config.json")
    (folder / "tokenizer.json").write_text("{}")
    return folder


def load_raw(path: Path) -> dict[str, tuple[dict[str, Any], bytes]]:
    """Return the descriptions and bytes of tensors: numpy has no bfloat16."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    return {
        name: (each, data[start + each["data_offsets"][0] : start + each["data_offsets"][1]])
        for name, each in header.items()
    }


def raw_file(tensors: dict[str, tuple[dict[str, Any], bytes]]) -> bytes:
    header, at, body = {}, 0, b""
    for name, (entry, data) in sorted(tensors.items(), key=lambda item: -len(item[1][1])):
        header[name] = {**entry, "data_offsets": [at, at + len(data)]}
        at, body = at + len(data), body + data
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


@pytest.mark.parametrize("name", NAMES)
def test_folders_become_dense_and_their_configuration_says_so(name: str, tmp_path: Path) -> None:
    folder, out, file = shards_of(name, tmp_path / "sparse"), tmp_path / "dense", tmp_path / "dense.safetensors"
    found = files.unpack(folder, output=out)
    files.unpack(golden(name), output=file)
    assert not files.diff(out, file).differing
    assert not files.diff(folder, file).differing
    assert found.stored == (7 if name == "0.8.1" else 2)
    index = json.loads((out / "model.safetensors.index.json").read_text())
    tensors = {each: shard for shard in sorted(out.glob("*.safetensors")) for each in load_raw(shard)}
    assert index["weight_map"] == {each: shard.name for each, shard in tensors.items()}
    sizes = [len(data) for shard in out.glob("*.safetensors") for _, data in load_raw(shard).values()]
    assert index["metadata"] == {"total_size": sum(sizes)}
    assert json.loads((out / "config.json").read_text()) == {"architectures": ["M"], "hidden_size": 12, "vocab_size": 5}
    assert (out / "tokenizer.json").read_text() == "{}"
    with pytest.raises(OutputError, match="exists"):
        files.unpack(folder, output=out)


def test_a_folder_with_one_file_becomes_dense(tmp_path: Path) -> None:
    (tmp_path / "sparse").mkdir()
    shutil.copy(golden("0.8.1"), tmp_path / "sparse" / "model.safetensors")
    files.unpack(tmp_path / "sparse", output=tmp_path / "dense")
    assert [each.name for each in (tmp_path / "dense").iterdir()] == ["model.safetensors"]
    assert (tmp_path / "dense" / "model.safetensors").read_bytes() == dense("0.8.1")


def test_what_is_not_done_with_sparse_tensors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unpack it first"):
        files.apply(golden("0.8.1"), params="fc.weight", amount=0.5, output=tmp_path / "out.safetensors")
    with pytest.raises(UsageError, match="name the output"):
        files.unpack(golden("0.8.1"))
    with pytest.raises(UsageError, match="nothing is converted"):
        files.unpack(golden("0.8.1"), output=tmp_path / "out.pt")
    packed = tmp_path / "model.packed.safetensors"
    files.pack(golden("0.8.1"), output=packed)  # the law holds for these files, too
    files.unpack(packed, output=tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == golden("0.8.1").read_bytes()


SHAPES = ((1,), (17,), (40,), (3, 1), (5, 8), (7, 33), (2, 0), (0, 4), (4, 3, 5), (2, 3, 2, 9), (3, 40), (2, 2, 17))


@pytest.mark.parametrize("block", [1 << 20, 16, 32])
def test_any_shape_comes_back_in_blocks_of_any_size(
    block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bitmask, "BLOCK", block)
    random = np.random.default_rng(block)
    tensors: Tensors = {}
    for number, shape in enumerate(SHAPES):
        kind = ("f2", "f4", "f8", "i1", "c8", "u2")[number % 6]
        tensors[f"{number}.weight"] = (random.integers(1, 9, shape) * (random.random(shape) < 0.4)).astype(kind)
    save_file(sparse(tensors), tmp_path / "sparse.safetensors")
    out = tmp_path / "dense.safetensors"
    for jobs in (1, 3):
        files.unpack(tmp_path / "sparse.safetensors", output=out, jobs=jobs, force=True)
        assert out.read_bytes() == save(tensors)
    with open_checkpoint(tmp_path / "sparse.safetensors") as checkpoint:  # reads that begin and end anywhere
        source, whole = checkpoint.source, save(tensors)
        for _ in range(300):
            start, stop = sorted(random.integers(0, len(whole) + 1, 2).tolist())
            assert source.read(start, stop - start) == whole[start:stop]
        with pytest.raises(DamagedError, match="ends at byte"):
            source.read(len(whole), 1)


def sound() -> Tensors:
    weight = np.arange(60, dtype=np.float32).reshape(6, 10) % 3
    bias = np.array([1, 0, 2], dtype=np.float32)
    return sparse({"fc.weight": weight, "fc.bias": bias, "conv.weight": weight.reshape(3, 2, 10)})


def _with(name: str, change: Callable[[Any], Any]) -> Callable[[Tensors], None]:
    def mutate(tensors: Tensors) -> None:
        tensors[name] = np.array(change(tensors[name].copy()), order="C")

    return mutate


def _set(place: Any, value: Any) -> Callable[[Any], Any]:
    def change(array: Any) -> Any:
        array[place] = value
        return array

    return change


def _without(name: str) -> Callable[[Tensors], None]:
    def mutate(tensors: Tensors) -> None:
        del tensors[name]

    return mutate


def _both(tensors: Tensors) -> None:
    tensors["fc.weight"] = np.zeros((6, 10), dtype=np.float32)


HOSTILE: dict[str, tuple[Callable[[Tensors], None], str]] = {
    "offsets that are wrong": (_with("fc.weight.row_offsets", _set(3, 0)), "row_offsets that contradict"),
    "negative offsets": (_with("conv.weight.row_offsets", _set((1, 1), -1)), "row_offsets that contradict"),
    "an offset of a vector": (_with("fc.bias.row_offsets", _set((), 1)), "row_offsets that contradict"),
    "offsets of other rows": (_with("fc.weight.row_offsets", lambda each: each[:5]), "not one number for each row"),
    "offsets of another type": (_with("fc.weight.row_offsets", lambda each: each.astype(np.int32)), "not one number"),
    "bits in the padding": (_with("fc.weight.bitmask", _set((2, 1), 255)), "behind the end of a row"),
    "one bit more": (_with("conv.weight.bitmask", lambda each: each | 1), "row_offsets that contradict"),
    "a bit more in the last row": (_with("fc.weight.bitmask", lambda each: _last(each)), "another number of values"),
    "a bitmask of fewer rows": (_with("fc.weight.bitmask", lambda each: each[:5]), "not have a bit for each"),
    "a bitmask of another type": (_with("fc.weight.bitmask", lambda each: each.astype(np.int8)), "not have a bit"),
    "fewer values": (_with("fc.weight.compressed", lambda each: each[:-1]), "another number of values"),
    "more values": (_with("fc.weight.compressed", lambda each: np.append(each, each[:1])), "another number of values"),
    "values in rows": (_with("fc.weight.compressed", lambda each: each.reshape(4, -1)), "not those of a bitmask"),
    "a shape that is smaller": (_with("fc.weight.shape", _set(0, 5)), "not have a bit for each"),
    "a shape that is larger": (_with("fc.weight.shape", _set(1, 1 << 40)), "not have a bit for each"),
    "a shape beyond all limits": (_with("fc.weight.shape", lambda each: each + (1 << 60)), "that no tensor has"),
    "a negative shape": (_with("fc.weight.shape", lambda each: -each), "that no tensor has"),
    "a shape of nothing": (_with("fc.weight.shape", lambda each: each[:0]), "not a list of whole numbers"),
    "a shape of another type": (_with("fc.weight.shape", lambda each: each.astype(float)), "not a list of whole"),
    "many dimensions": (_with("fc.weight.shape", lambda each: np.ones(65, np.int64)), "not a list of whole numbers"),
    "no shape": (_without("fc.weight.shape"), "fc.weight.shape is missing"),
    "no offsets": (_without("fc.weight.row_offsets"), "fc.weight.row_offsets is missing"),
    "no bitmask": (_without("fc.weight.bitmask"), "fc.weight.bitmask is missing"),
    "no values": (_without("fc.weight.compressed"), "fc.weight.compressed is missing"),
    "a dense one beside it": (_both, "fc.weight twice"),
}


def _last(bits: Any) -> Any:
    bits[-1, 0] ^= 1 if not bits[-1, 0] & 1 else 2
    return bits


@pytest.mark.parametrize("what", HOSTILE)
def test_what_contradicts_itself_is_refused_and_nothing_is_written(what: str, tmp_path: Path) -> None:
    change, message = HOSTILE[what]
    tensors = sound()
    change(tensors)
    path = _saved(tensors, tmp_path)
    for act in (lambda: files.unpack(path, output=tmp_path / "out.safetensors"), lambda: files.report(path)):
        with pytest.raises(DamagedError, match=message) as raised:
            act()
        assert "\n" not in str(raised.value)
    assert [each.name for each in tmp_path.iterdir()] == ["sparse.safetensors"]


def test_without_a_contradiction_it_is_read(tmp_path: Path) -> None:
    assert files.report(_saved(sound(), tmp_path)).totals.elements == 123


def _saved(tensors: Tensors, folder: Path) -> Path:
    save_file(tensors, folder / "sparse.safetensors")
    return folder / "sparse.safetensors"


def test_sizes_without_elements_take_no_memory(tmp_path: Path) -> None:
    found = members_of(np.zeros((0, 3, 8), dtype=np.float32))
    found |= {"shape": np.array([0, 1 << 50, 8]), "bitmask": np.zeros((0, 1), np.uint8)}
    tensors = {f"x.weight.{key}": value for key, value in found.items()}
    with pytest.raises(DamagedError, match="not have a bit"):
        files.report(_saved(tensors, tmp_path))


def test_other_tensors_with_these_names_are_plain(tmp_path: Path) -> None:
    tensors = {"a.compressed": np.ones(3, np.float32), "b.shape": np.ones(2, np.int64), "c.bitmask": np.ones(2, "u1")}
    assert len(files.params(_saved(tensors, tmp_path), all_=True)) == 3
    with pytest.raises(UsageError, match="not a packed file"):
        files.unpack(tmp_path / "sparse.safetensors", output=tmp_path / "out")
    assert load_file(tmp_path / "sparse.safetensors").keys() == tensors.keys()


S = '"sparsity_config": {"format": "sparse-bitmask"}'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"a": 1,\n "quantization_config": {' + S + ', "version": "0.8.1"},\n "z": 2}', '{"a": 1,\n "z": 2}'),
        ('{"quantization_config" : {' + S + "}}", "{}"),
        ('{ "a": "é\\"{,",  ' + S + " }\n", '{ "a": "é\\"{," }\n'),
        (
            '{"quantization_config": {"format": "x", ' + S + '}, "b":1.50}',
            '{"quantization_config": {"format": "x"}, "b":1.50}',
        ),
        ('{"compression_config": {' + S + ', "transform_config": {}, "quant_method": "c"}, "b": 1}', '{"b": 1}'),
        (
            '{"compression_config": {' + S + ', "transform_config": {"x": 1}}, "b": 1}',
            '{"compression_config": {"transform_config": {"x": 1}}, "b": 1}',
        ),
        ('{"quantization_config": {"sparsity_config": {"format": "dense"}}}', None),
        ('{"sparsity_config": ["sparse-bitmask"], "quantization_config": 3}', None),
        ("{}", None),
    ],
)
def test_a_configuration_keeps_all_other_bytes(before: str, after: str | None) -> None:
    assert without_sparsity(before.encode(), "config").decode() == (before if after is None else after)


@pytest.mark.parametrize("text", [b"[]", b"{", b'{"a": 1, "a": 2}', b"\xff", b"[" * 100_000])
def test_a_damaged_configuration_is_refused(text: bytes) -> None:
    with pytest.raises(DamagedError):
        without_sparsity(text, "config")

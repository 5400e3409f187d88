"""Folders of torch.distributed.checkpoint whose `.metadata` contradicts itself or the files."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hostile_corpus import FOLDER, accepted, refused
from hostile_makers import distributed
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, MetadataIndex

Change = Callable[[Any], object]


def _tensor(data: Any, name: str = "model.a.weight") -> Any:
    return data.state_dict_metadata[name]


def _info(data: Any, name: str = "model.a.weight") -> Any:
    return data.storage_data[MetadataIndex(name, _tensor(data, name).chunks[0].offsets)]


def _chunks(*boxes: tuple[list[int], list[int]]) -> Change:
    def change(data: Any) -> None:
        info = _info(data)
        _tensor(data).chunks = [ChunkStorageMetadata(torch.Size(at), torch.Size(own)) for at, own in boxes]
        for at, _ in boxes:
            data.storage_data[MetadataIndex("model.a.weight", at)] = info

    return change


def _set(what: Callable[[Any], Any], **values: Any) -> Change:
    def change(data: Any) -> None:
        for name, value in values.items():
            setattr(what(data), name, value)

    return change


def _properties(data: Any) -> Any:
    return _tensor(data).properties


def _swap(data: Any) -> None:
    names = [MetadataIndex(name, [0] * dims) for name, dims in (("model.a.weight", 2), ("model.b", 1))]
    one, other = (data.storage_data[name] for name in names)
    data.storage_data |= {names[0]: other, names[1]: one}


def _repeat_a_chunk(data: Any) -> None:
    _tensor(data).chunks = _tensor(data).chunks * 100_000


def _share_a_large_state(data: Any) -> None:
    _tensor(data).chunks[0].__dict__.update({f"field {number}": None for number in range(1000)})


@refused(4, "overlap, or leave gaps", family="distributed", kind=FOLDER)
def gap(folder: Path) -> None:
    distributed(folder, _chunks(([0, 0], [2, 4])))


@refused(4, "overlap, or leave gaps", family="distributed", kind=FOLDER)
def overlap(folder: Path) -> None:
    distributed(folder, _chunks(([0, 0], [2, 4]), ([1, 0], [2, 4])))


@refused(4, "overlap, or leave gaps", family="distributed", kind=FOLDER)
def same_count(folder: Path) -> None:
    distributed(folder, _chunks(([0, 0], [2, 3]), ([1, 1], [2, 3])))


@refused(4, "overlap, or leave gaps", family="distributed", kind=FOLDER)
def outside(folder: Path) -> None:
    distributed(folder, _chunks(([0, 0], [3, 5])))


@refused(4, "overlap, or leave gaps", family="distributed", kind=FOLDER)
def no_chunk(folder: Path) -> None:
    distributed(folder, _chunks())


@refused(4, "as many dimensions", family="distributed", kind=FOLDER)
def dimensions(folder: Path) -> None:
    distributed(folder, _chunks(([0], [12])))


@refused(4, "items of .metadata overlap", family="distributed", kind=FOLDER)
def item_twice(folder: Path) -> None:
    distributed(folder, _chunks(([0, 0], [2, 4]), ([2, 0], [1, 4])))


@refused(4, "does not say where", family="distributed", kind=FOLDER)
def not_stored(folder: Path) -> None:
    distributed(folder, lambda data: data.storage_data.clear())


@refused(4, "stored in it itself", family="distributed", kind=FOLDER)
def in_itself(folder: Path) -> None:
    distributed(folder, _set(_info, relative_path=".metadata"))


@refused(3, "is missing, though .metadata names it", family="distributed", kind=FOLDER)
def file(folder: Path) -> None:
    distributed(folder, _set(_info, relative_path="__9_9.distcp"))


@refused(5, "which is outside the folder", family="distributed", kind=FOLDER)
def parent(folder: Path) -> None:
    distributed(folder, _set(_info, relative_path="../out.distcp"))


@refused(5, "which is outside the folder", family="distributed", kind=FOLDER)
def inner_parent(folder: Path) -> None:
    distributed(folder, _set(_info, relative_path="a/../../x"))


@refused(5, "which is outside the folder", family="distributed", kind=FOLDER)
def absolute(folder: Path) -> None:
    distributed(folder, _set(_info, relative_path="/etc/passwd"))


@refused(5, "which is outside the folder", family="distributed", kind=FOLDER)
def itself(folder: Path) -> None:
    distributed(folder, _set(_info, relative_path="."))


@refused(4, "ends at byte", family="distributed", kind=FOLDER)
def offset(folder: Path) -> None:
    distributed(folder, _set(_info, offset=1 << 40))


@refused(4, "the place of .* is none", family="distributed", kind=FOLDER)
def huge_offset(folder: Path) -> None:
    distributed(folder, _set(_info, offset=10**5000))


@refused(4, "the place of .* is none", family="distributed", kind=FOLDER)
def huge_length(folder: Path) -> None:
    distributed(folder, _set(_info, length=1 << 63))


@refused(4, "the path of epoch", family="distributed", kind=FOLDER)
def huge_place(folder: Path) -> None:
    distributed(folder, lambda data: data.planner_data.update({"epoch": (10**5000,)}))


@refused(4, "a name is missing or not a string", family="distributed", kind=FOLDER)
def no_name(folder: Path) -> None:
    distributed(folder, lambda data: data.state_dict_metadata.update({(): 1}))


@refused(4, "the place of .* is none", family="distributed", kind=FOLDER)
def negative(folder: Path) -> None:
    distributed(folder, _set(_info, offset=-1))


@refused(4, "the place of .* is none", family="distributed", kind=FOLDER)
def no_number(folder: Path) -> None:
    distributed(folder, _set(_info, offset="1"))


@refused(4, "ends at byte|overlap", family="distributed", kind=FOLDER)
def length(folder: Path) -> None:
    distributed(folder, _set(_info, length=1 << 40))


@refused(4, ".", family="distributed", kind=FOLDER)
def short(folder: Path) -> None:
    distributed(folder, _set(_info, length=200))


@refused(4, ".", family="distributed", kind=FOLDER)
def shifted(folder: Path) -> None:
    distributed(folder, lambda data: setattr(_info(data), "offset", _info(data).offset + 1))


@refused(4, "not a zip of torch.save", family="distributed", kind=FOLDER)
def nothing(folder: Path) -> None:
    distributed(folder, _set(_info, length=0))


@refused(4, "through no text;", family="distributed", kind=FOLDER)
def transformed_by_a_number(folder: Path) -> None:
    distributed(folder, _set(_info, transform_descriptors=[10**5000]))


@refused(4, "is stored through zstd", family="distributed", kind=FOLDER)
def transformed(folder: Path) -> None:
    distributed(folder, _set(_info, transform_descriptors=["zstd"]))


@refused(4, "laid out as torch.sparse_coo", family="distributed", kind=FOLDER)
def layout(folder: Path) -> None:
    distributed(folder, _set(_properties, layout=torch.sparse_coo))


@refused(4, "qint8, which is not supported", family="distributed", kind=FOLDER)
def quantised(folder: Path) -> None:
    distributed(folder, _set(_properties, dtype=torch.qint8))


@refused(4, "is float32 .*, .metadata says int32", family="distributed", kind=FOLDER)
def dtype(folder: Path) -> None:
    distributed(folder, _set(_properties, dtype=torch.int32))


@refused(4, r"is bfloat16 \[5\], .metadata says float32 \[3, 4\]", family="distributed", kind=FOLDER)
def swapped(folder: Path) -> None:
    distributed(folder, _swap)


@refused(4, "stands where", family="distributed", kind=FOLDER)
def paths(folder: Path) -> None:
    distributed(folder, lambda data: data.planner_data.update({"model.b": ("model", "a.weight")}))


@refused(4, "stands where", family="distributed", kind=FOLDER)
def crossing(folder: Path) -> None:
    distributed(folder, lambda data: data.planner_data.update({"epoch": ("model", "b", "c")}))


@refused(4, "a list in it lacks", family="distributed", kind=FOLDER)
def list_(folder: Path) -> None:
    distributed(folder, lambda data: data.planner_data.update({"layers.0": ("layers", 7)}))


@refused(4, "stands where", family="distributed", kind=FOLDER)
def mixed(folder: Path) -> None:
    distributed(folder, lambda data: data.planner_data.update({"epoch": ("layers", "x")}))


@refused(4, "the path of epoch", family="distributed", kind=FOLDER)
def deep(folder: Path) -> None:
    distributed(folder, lambda data: data.planner_data.update({"epoch": ("x",) * 999}))


@refused(4, "the path of epoch", family="distributed", kind=FOLDER)
def no_path(folder: Path) -> None:
    distributed(folder, lambda data: data.planner_data.update({"epoch": ()}))


@refused(4, "a mapping is missing", family="distributed", kind=FOLDER)
def no_mapping(folder: Path) -> None:
    distributed(folder, lambda data: setattr(data, "state_dict_metadata", None))


@refused(4, "of nothing where it is stored", family="distributed", kind=FOLDER)
def no_places(folder: Path) -> None:
    distributed(folder, lambda data: setattr(data, "storage_data", None))


@refused(4, "neither a tensor nor an object", family="distributed", kind=FOLDER)
def entry(folder: Path) -> None:
    distributed(folder, lambda data: data.state_dict_metadata.update({"x": 3}))


@refused(4, "holds no tensors", family="distributed", kind=FOLDER)
def no_tensors(folder: Path) -> None:
    distributed(
        folder, lambda data: [data.state_dict_metadata.pop(name) for name in list(data.planner_data) if name != "epoch"]
    )


@refused(4, "no list of chunks of its own", family="distributed", kind=FOLDER)
def a_list_of_chunks_that_two_share(folder: Path) -> None:
    def change(data: Any) -> None:
        _tensor(data, "layers.0").chunks = _tensor(data, "model.b").chunks

    distributed(folder, change)


@refused(4, "lists a chunk twice", family="distributed", kind=FOLDER)
def a_chunk_listed_100_000_times(folder: Path) -> None:
    distributed(folder, _repeat_a_chunk)


@refused(4, "has 100[0-9] fields", family="distributed", kind=FOLDER)
def a_state_of_a_thousand_fields(folder: Path) -> None:
    distributed(folder, _share_a_large_state)


@refused(4, ".", family="distributed", kind=FOLDER)
def metadata_of_no_byte(folder: Path) -> None:
    (distributed(folder) / ".metadata").write_bytes(b"")


@refused(4, ".", family="distributed", kind=FOLDER)
def metadata_of_none(folder: Path) -> None:
    (distributed(folder) / ".metadata").write_bytes(pickle.dumps(None))


@refused(4, ".", family="distributed", kind=FOLDER)
def metadata_cut(folder: Path) -> None:
    path = distributed(folder) / ".metadata"
    path.write_bytes(path.read_bytes()[:-30])


@refused(5, "prunecli reads up to 256 MiB", family="distributed", kind=FOLDER)
def metadata_of_300_mb(folder: Path) -> None:
    with (distributed(folder) / ".metadata").open("r+b") as file:
        file.truncate(300 << 20)


@refused(5, "more objects than its size promises", family="heavy", kind=FOLDER)
def metadata_of_three_million_lists(folder: Path) -> None:
    (distributed(folder) / ".metadata").write_bytes(b"\x80\x02" + b"]" * 3_000_000 + b".")


@refused(4, "ends at byte .* copy it again", family="distributed", kind=FOLDER)
def a_file_of_tensors_cut(folder: Path) -> None:
    (file,) = distributed(folder).glob("*.distcp")
    file.write_bytes(file.read_bytes()[:-1])


@refused(3, "is missing, though .metadata names it", family="distributed", kind=FOLDER)
def a_file_of_tensors_missing(folder: Path) -> None:
    (file,) = distributed(folder).glob("*.distcp")
    file.unlink()


@refused(4, "its CRC-32 is", family="distributed", but={"params": 0}, kind=FOLDER)
def a_bit_of_a_weight_flipped(folder: Path) -> None:
    (file,) = distributed(folder).glob("*.distcp")
    raw, weight = bytearray(file.read_bytes()), torch.arange(1.0, 13).numpy().tobytes()
    raw[raw.index(weight)] ^= 1
    file.write_bytes(raw)


@refused(4, "holds several checkpoints", family="distributed", kind=FOLDER)
def an_index_beside(folder: Path) -> None:
    (distributed(folder) / "model.safetensors.index.json").write_text("{}")


@accepted(family="distributed", reference="", kind=FOLDER)
def as_torch_wrote_it(folder: Path) -> None:
    distributed(folder)


@accepted(family="distributed", reference="", kind=FOLDER)
def a_path_that_many_names_share(folder: Path) -> None:
    """Read once, however often it is named: here by one name."""
    distributed(folder, lambda data: data.planner_data.update({"epoch": tuple("deep" for _ in range(200))}))


@accepted(family="distributed", reference="", kind=FOLDER)
def bytes_between_the_items(folder: Path) -> None:
    (file,) = distributed(folder).glob("*.distcp")
    with file.open("ab") as more:
        more.write(b"PK\x05\x06 and more")

"""torch.export's archives: pickles in them that run, configurations that lie about records, bombs of JSON."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from hostile_corpus import Kind, accepted, refused
from hostile_makers import PLAIN_PICKLE, STORAGE, nested_zip, zipped

_EVIL = b"\x80\x02cposix\nsystem\nX\x0c\x00\x00\x00touch canary\x85R."
_ARCHIVE = Kind(".pt2", ".safetensors")
_META: dict[str, Any] = {
    "dtype": 7,
    "sizes": [{"as_int": 4}],
    "requires_grad": True,
    "device": {"type": "cpu", "index": None},
    "strides": [{"as_int": 1}],
    "storage_offset": {"as_int": 0},
    "layout": 7,
}
_ENTRY: dict[str, Any] = {"path_name": "weight_0", "is_param": True, "use_pickle": False, "tensor_meta": _META}
_OBJECT: dict[str, Any] = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}


def _archive(
    weights: Mapping[str, Any] | None = None,
    constants: Mapping[str, Any] | None = None,
    more: Mapping[str, bytes] | None = None,
) -> bytes:
    """An archive of one weight of four elements; `more` are other records, or ones in the place of these."""
    records = {
        "data/weights/weight_0": STORAGE,
        "data/weights/model_weights_config.json": _config({"w": _ENTRY} if weights is None else weights),
        "data/constants/model_constants_config.json": _config(constants or {}),
        "models/model.json": b"{}",
        "data/sample_inputs/model.pt": zipped(PLAIN_PICKLE),
        "archive_format": b"pt2",
        "archive_version": b"0",
        ".data/version": b"6\n",
        "byteorder": b"little",
    }
    return nested_zip({**records, **(more or {})})


def _config(entries: Mapping[str, Any]) -> bytes:
    return json.dumps({"config": entries}).encode()


def _with(**fields: Any) -> bytes:
    return _archive({"w": {**_ENTRY, "tensor_meta": {**_META, **fields}}})


def _hidden(foreign: int) -> Callable[[Callable[..., object]], Callable[..., object]]:
    says = r"weights-only loading refuses \(posix.system\)"
    return refused(5, says, family="exports", foreign=foreign, kind=_ARCHIVE)


@accepted(family="exports", reference="", kind=_ARCHIVE)
def an_archive_by_hand() -> bytes:
    return _archive()


@_hidden(0)
def sample_inputs_that_run() -> bytes:
    return _archive(more={"data/sample_inputs/model.pt": zipped(_EVIL)})


@_hidden(0)
def sample_inputs_that_are_a_bare_pickle() -> bytes:
    return _archive(more={"data/sample_inputs/model.pt": _EVIL})


@_hidden(0)
def sample_inputs_that_no_program_has() -> bytes:
    return _archive(more={"data/sample_inputs/other.pt": zipped(_EVIL)})


@_hidden(0)
def a_pickled_weight_that_runs() -> bytes:
    entry = {**_ENTRY, "path_name": "weight_1", "use_pickle": True}
    return _archive({"w": _ENTRY, "x": entry}, more={"data/weights/weight_1": zipped(_EVIL)})


@_hidden(0)
def an_object_among_the_constants_that_runs() -> bytes:
    return _archive(constants={"x": _OBJECT}, more={"data/constants/opaque_obj_0": _EVIL})


@_hidden(0)
def an_object_that_says_it_is_not_pickled() -> bytes:
    entry = {**_OBJECT, "path_name": "custom_obj_0", "use_pickle": False, "tensor_meta": _META}
    return _archive(constants={"x": entry}, more={"data/constants/custom_obj_0": zipped(_EVIL)})


def _damaged(says: str) -> Callable[[Callable[..., object]], Callable[..., object]]:
    return refused(4, says, family="exports", kind=_ARCHIVE)


@_damaged("reaches behind the end of its record weight_0")
def a_weight_that_reads_its_neighbour() -> bytes:
    return _with(sizes=[{"as_int": 5}])


@_damaged("reaches behind the end of its record weight_0")
def an_offset_that_reads_its_neighbour() -> bytes:
    return _with(storage_offset={"as_int": 1})


@_damaged("not a whole number in range")
def an_offset_before_the_record() -> bytes:
    return _with(storage_offset={"as_int": -1})


@_damaged("not a whole number in range")
def a_size_of_300_digits() -> bytes:
    return _with(sizes=[{"as_int": 10**300}])


@_damaged("sizes and strides that make no tensor")
def more_elements_than_memory() -> bytes:
    return _with(sizes=[{"as_int": 1 << 61}] * 2, strides=[{"as_int": 0}] * 2)


@_damaged("where torch puts no payload")
def a_weight_that_is_the_configuration() -> bytes:
    return _archive({"w": {**_ENTRY, "path_name": "model_weights_config.json"}})


@_damaged("is missing: the archive has no record")
def a_weight_outside_its_folder() -> bytes:
    return _archive({"w": {**_ENTRY, "path_name": "../../models/model.json"}})


@_damaged("another element type than another payload")
def one_record_of_two_types() -> bytes:
    return _archive({"w": _ENTRY, "x": {**_ENTRY, "tensor_meta": {**_META, "dtype": 4}}})


@_damaged("is not JSON")
def a_configuration_too_deep() -> bytes:
    return _archive(more={"data/weights/model_weights_config.json": b"[" * 100_000})


@_damaged("has w twice")
def a_weight_described_twice() -> bytes:
    entry = json.dumps(_ENTRY)
    return _archive(
        more={"data/weights/model_weights_config.json": f'{{"config":{{"w":{entry},"w":{entry}}}}}'.encode()}
    )


@refused(5, "asks for more objects than its size promises", family="exports", kind=_ARCHIVE)
def a_configuration_of_a_million_dicts() -> bytes:
    return _archive(more={"data/weights/model_weights_config.json": b'{"config":[' + b"{}," * (1 << 20) + b"{}]}"})


@_damaged("code that AOTInductor compiled")
def compiled_code() -> bytes:
    return _archive(more={"data/aotinductor/model/model.so": b"\x7fELF"})

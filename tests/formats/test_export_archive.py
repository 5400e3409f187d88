"""torch.export's archives: what is in them, what changes in them, and what is refused."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from export_zoo import Exported, changed, config_of, export, load, package, save
from format_tools import Filled, geometry, geometry_of, opened, raw_storage, refused, rewrite
from torch import nn
from torch.testing._internal.two_tensor import TwoTensor as UntypedTwoTensor

from prunecli.errors import DamagedError, PrunecliError, UnsafeError, UnsupportedError, UsageError
from prunecli.formats.base import Edit, Patch, ReadOptions
from prunecli.formats.detect import open_checkpoint
from prunecli.terms import KEY

TwoTensor: Any = UntypedTwoTensor
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(Exported(), tmp_path_factory.mktemp("export") / "m.pt2", extra_files={"note.txt": "hello"})


def test_an_archive_is_read_as_torch_reads_it(archive: Path) -> None:
    expected = load(archive).state_dict()
    constants = {name: getattr(Exported(), name) for name in ("fixed", "lost")}
    with opened(archive) as checkpoint:
        assert (checkpoint.format, checkpoint.wrapper) == ("torch.export", "")
        assert sorted(checkpoint.tensors) == sorted(expected)
        for name, info in checkpoint.tensors.items():
            assert geometry_of(info) == geometry(expected[name]), name
            raw = checkpoint.source.read(info.storage.offset, info.storage.nbytes)
            assert raw == raw_storage(expected[name]), name
        carried = {info.name: info for info in checkpoint.carried}
        assert sorted(carried) == ["constants.fixed", "constants.lifted_tensor_0", "constants.lost"]
        for name, tensor in constants.items():
            storage = carried[f"constants.{name}"].storage
            assert checkpoint.source.read(storage.offset, storage.nbytes) == raw_storage(tensor), name


def test_buffers_are_those_that_the_signature_names(archive: Path) -> None:
    signature = export(Exported()).graph_signature
    with opened(archive) as checkpoint:
        buffers = {name for name, info in checkpoint.tensors.items() if info.buffer}
        parameters = set(checkpoint.tensors) - buffers
    assert buffers == set(signature.buffers) - {"lost"}
    assert parameters == set(signature.parameters)


def test_tied_weights_share_a_storage(archive: Path) -> None:
    with opened(archive) as checkpoint:
        keys = {name: info.storage.key for name, info in checkpoint.tensors.items()}
    assert keys["embed.weight"] == keys["head.weight"]
    assert len(set(keys.values())) == len(keys) - 1


def test_nothing_changes_if_nothing_is_edited(archive: Path, tmp_path: Path) -> None:
    assert rewrite(archive, tmp_path / "o.pt2", Edit()) == archive.read_bytes()


def test_only_patched_bytes_and_their_checksums_change(archive: Path, tmp_path: Path) -> None:
    with opened(archive) as checkpoint:
        storage = checkpoint.tensors["lin.weight"].storage
    out = rewrite(archive, tmp_path / "o.pt2", Edit({storage.key: [Patch(8, 4, Filled(0))]}))
    old = archive.read_bytes()
    assert len(out) == len(old)
    different = {at for at, (before, after) in enumerate(zip(old, out, strict=True)) if before != after}
    weight = set(range(storage.offset + 8, storage.offset + 12))
    crc = storage.crc.to_bytes(4, "little") if storage.crc is not None else b""
    fields = {at + i for at in range(len(old)) if old[at : at + 4] == crc for i in range(4)}
    assert weight & different
    assert different <= weight | fields
    with zipfile.ZipFile(tmp_path / "o.pt2") as checked:
        assert checked.testzip() is None
    expected = load(archive).state_dict()
    expected["lin.weight"].view(-1)[2] = 0
    found = load(tmp_path / "o.pt2").state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_masks_have_no_place(archive: Path, tmp_path: Path) -> None:
    with opened(archive) as checkpoint:
        assert checkpoint.no_masks_because == "the program in a torch.export archive names the tensors that it uses"
    with pytest.raises(UnsupportedError, match="whose program multiplies its masks in; bake the model before it is"):
        rewrite(archive, tmp_path / "o.pt2", Edit(removals=frozenset({"lin.weight"})))


def test_a_program_of_several_is_chosen_by_its_name(tmp_path: Path) -> None:
    both = package({"model": Exported(1), "draft": Exported(2)}, tmp_path / "both.pt2")
    for key, seed, other in ((None, 1, "draft"), ("model", 1, "draft"), ("draft", 2, "model")):
        with opened(both, key) as checkpoint:
            assert checkpoint.wrapper == (key or "model")
            assert checkpoint.notes == [
                f"the program {key or 'model'} is taken, and its neighbours are left alone ({KEY}: {other})"
            ]
            storage = checkpoint.tensors["lin.bias"].storage
            raw = checkpoint.source.read(storage.offset, storage.nbytes)
            assert raw == raw_storage(Exported(seed).lin.bias)
            names = {info.name for info in checkpoint.carried}
        assert {"constants.lost", f"{other}.lin.bias", f"{other}.constants.lost"} <= names
    refused(both, UsageError, r"--key other: .* has no such program, but draft, model", key="other")
    pair = package({"target": Exported(1), "draft": Exported(2)}, tmp_path / "pair.pt2")
    refused(pair, UnsupportedError, r"holds several programs; choose one of them by --key \(draft, target\)")


def test_a_single_program_needs_no_key(archive: Path) -> None:
    with opened(archive, "model") as checkpoint:
        assert checkpoint.wrapper == ""
    refused(archive, UsageError, "--key state_dict: .* has no such program, but model", key="state_dict")


class _Wrapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.Parameter(torch.ones(2, 2))
        self.both = nn.Parameter(TwoTensor(torch.ones(2, 2), torch.ones(2, 2)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.plain @ self.both


def test_a_pickled_subclass_is_a_foreign_object_without_plain_elements(tmp_path: Path) -> None:
    path = save(_Wrapped(), tmp_path / "m.pt2", torch.ones(2, 2))
    refused(path, UnsafeError, "holds objects that weights-only loading refuses .*TwoTensor")
    with open_checkpoint(path, ReadOptions(foreign=True)) as checkpoint:
        both = checkpoint.tensors["both"]
        assert (both.dtype.name, both.dtype.prunable, both.shape) == ("a pickled tensor subclass", False, (2, 2))
        assert checkpoint.tensors["plain"].dtype.prunable
        pieces = sum(piece.length for piece in checkpoint.pieces(Edit()))
    assert pieces == path.stat().st_size


def _saved(value: Any) -> bytes:
    out = io.BytesIO()
    torch.save(value, out)
    return out.getvalue()


def test_sample_inputs_are_held_to_what_weights_only_loading_admits(archive: Path, tmp_path: Path) -> None:
    inputs = "data/sample_inputs/model.pt"
    path = changed(archive, tmp_path / "m.pt2", lambda name, data: _saved(nn.Linear(1, 1)) if name == inputs else data)
    refused(path, UnsafeError, r"record m/data/sample_inputs/model.pt holds objects .*torch.nn.modules.linear.Linear")
    with open_checkpoint(path, ReadOptions(foreign=True)) as checkpoint:
        assert "lin.weight" in checkpoint.tensors
    empty = changed(archive, tmp_path / "e.pt2", lambda name, data: b"" if name == inputs else data)
    with opened(empty) as checkpoint:
        assert "lin.weight" in checkpoint.tensors


@pytest.mark.parametrize("prefix", ["opaque_obj_0", "custom_obj_0"])
def test_objects_among_the_constants_are_held_to_the_same(archive: Path, tmp_path: Path, prefix: str) -> None:
    entry = {"path_name": prefix, "is_param": False, "use_pickle": True, "tensor_meta": None}
    entries = {**config_of(archive, CONSTANTS), "thing": entry}
    path = changed(
        archive,
        tmp_path / "m.pt2",
        lambda name, data: json.dumps({"config": entries}).encode() if name == CONSTANTS else data,
        **{f"data/constants/{prefix}": b"cfractions\nFraction\n(I1\nI2\ntR."},
    )
    refused(path, UnsafeError, f"record m/data/constants/{prefix} holds objects .*fractions.Fraction")
    with open_checkpoint(path, ReadOptions(foreign=True)) as checkpoint:
        assert "constants.thing" not in {info.name for info in checkpoint.carried}


def _entry(change: Callable[[dict[str, Any]], object], name: str = "lin.weight") -> Callable[[str, bytes], bytes]:
    """Change the entry of one weight."""

    def apply(record: str, data: bytes) -> bytes:
        if record != WEIGHTS:
            return data
        config = json.loads(data)
        change(config["config"][name])
        return json.dumps(config).encode()

    return apply


def _meta(**fields: Any) -> Callable[[str, bytes], bytes]:
    return _entry(lambda entry: entry["tensor_meta"].update(fields))


def _record(wanted: str, data: bytes | None) -> Callable[[str, bytes], bytes | None]:
    return lambda name, old: data if name == wanted else old


def _n(*values: object) -> list[dict[str, object]]:
    return [{"as_int": value} for value in values]


_BAD: dict[str, tuple[Callable[[str, bytes], bytes | None], type[PrunecliError], str]] = {
    "a size that is an expression": (_meta(sizes=[{"as_expr": {}}] * 2), DamagedError, "not a whole number in range"),
    "a negative stride": (_meta(strides=_n(4, -1)), DamagedError, "not a whole number in range"),
    "a size that is true": (_meta(sizes=_n(True, 1)), DamagedError, "not a whole number in range"),
    "a fractional offset": (_meta(storage_offset={"as_int": 0.0}), DamagedError, "not a whole number in range"),
    "an offset without its kind": (_meta(storage_offset=0), DamagedError, "not a whole number in range"),
    "sizes beyond the record": (_meta(sizes=_n(5, 4)), DamagedError, "reaches behind the end of its record weight_"),
    "an offset beyond the record": (_meta(storage_offset={"as_int": 1}), DamagedError, "reaches behind the end"),
    "more sizes than strides": (_meta(sizes=_n(2, 2, 4)), DamagedError, "sizes and strides that make no tensor"),
    "65 dimensions": (_meta(sizes=_n(*[1] * 65), strides=_n(*[1] * 65)), DamagedError, "no sizes that torch could"),
    "more elements than can be counted": (
        _meta(sizes=_n(1 << 40, 1 << 40), strides=_n(0, 0)),
        DamagedError,
        "sizes and strides that make no tensor",
    ),
    "sizes that are text": (_meta(sizes="44"), DamagedError, "no sizes that torch could use"),
    "no sizes": (_entry(lambda entry: entry.update(tensor_meta=None)), DamagedError, "has no sizes"),
    "half an element": (_record("data/weights/weight_5", bytes(3)), DamagedError, "reaches behind the end"),
    "no record": (_record("data/weights/weight_3", None), DamagedError, "is missing: the archive has no record weight"),
    "a record that is another thing": (
        _entry(lambda entry: entry.update(path_name="model_weights_config.json")),
        DamagedError,
        "lies in model_weights_config.json, where torch puts no payload",
    ),
    "a record by a detour": (
        _entry(lambda entry: entry.update(path_name="../weights/weight_0")),
        DamagedError,
        "is missing",
    ),
    "one record of two types": (
        _entry(lambda entry: entry["tensor_meta"].update(dtype=4), "head.weight"),
        DamagedError,
        "another element type",
    ),
    "no flag": (_entry(lambda entry: entry.pop("is_param")), DamagedError, "not described as torch describes payloads"),
    "a flag that is a number": (
        _entry(lambda entry: entry.update(use_pickle=0)),
        DamagedError,
        "not described as torch describes payloads",
    ),
    "a path that is a number": (
        _entry(lambda entry: entry.update(path_name=3)),
        DamagedError,
        "not described as torch describes payloads",
    ),
    "an entry that is a list": (
        _record(WEIGHTS, b'{"config": {"w": []}}'),
        DamagedError,
        "not described as torch describes payloads",
    ),
    "no entries": (_record(WEIGHTS, b'{"config": []}'), DamagedError, "in data/weights/ has no entries"),
    "one name twice": (_record(WEIGHTS, b'{"config": {}, "config": {}}'), DamagedError, "has config twice"),
    "no JSON": (_record(WEIGHTS, b"{"), DamagedError, "is not JSON"),
    "no configuration": (_record(WEIGHTS, None), UnsupportedError, "archive without weights"),
    "no constants": (_record(CONSTANTS, None), DamagedError, "model_constants_config.json is missing"),
    "another kind": (_record("archive_format", b"pt3"), UnsupportedError, "its record archive_format says something"),
    "another version": (_record("archive_version", b"1"), UnsupportedError, "archive_version says something else"),
    "no version": (_record("archive_version", None), UnsupportedError, "its record archive_version is missing"),
    "a future zip": (_record(".data/version", b"11\n"), UnsupportedError, r"\.data/version says '11.n', where torch"),
    "an unknown byte order": (_record("byteorder", b"middle"), UnsupportedError, "byteorder says 'middle', where"),
    "sample inputs": (_record("data/sample_inputs/model.pt", b"\xff"), DamagedError, "is not an opcode"),
}


@pytest.mark.parametrize("case", _BAD)
def test_archives_that_contradict_themselves(archive: Path, tmp_path: Path, case: str) -> None:
    change, kind, pattern = _BAD[case]
    refused(changed(archive, tmp_path / "m.pt2", change), kind, pattern)


_OPAQUE: dict[str, tuple[Callable[[str, bytes], bytes | None], str]] = {
    "an unknown type": (_meta(dtype=99), "of element type 99"),
    "a type that is text": (_meta(dtype="FLOAT"), "of element type FLOAT"),
    "sparse": (_meta(layout=1), "sparse"),
    "no memory": (_record("data/weights/weight_3", b""), "without memory (FakeTensor)"),
}


@pytest.mark.parametrize("case", _OPAQUE)
def test_tensors_without_plain_elements(archive: Path, tmp_path: Path, case: str) -> None:
    change, kind = _OPAQUE[case]
    path = config_of(archive)["lin.weight"]["path_name"]
    if case == "no memory":
        change = _record(f"data/weights/{path}", b"")
    with opened(changed(archive, tmp_path / "m.pt2", change)) as checkpoint:
        info = checkpoint.tensors["lin.weight"]
        assert (info.dtype.name, info.dtype.prunable, info.shape) == (kind, False, (4, 4))


@pytest.mark.parametrize(
    ("record", "who"),
    [
        ("data/aotinductor/model/x.wrapper.so", "AOTInductor compiled"),
        ("data/executorch/model.pte", "ExecuTorch compiled"),
        ("data/mtia/model", "was compiled for MTIA"),
    ],
)
def test_compiled_code_is_refused(archive: Path, tmp_path: Path, record: str, who: str) -> None:
    path = changed(archive, tmp_path / "m.pt2", lambda _, data: data, **{record: b"x"})
    refused(path, UnsupportedError, f"is a torch.export archive with code that {who}, .*prune the model before it is")


@pytest.mark.parametrize("root", ["", "m/"])
def test_an_archive_of_compiled_code_alone_is_refused(tmp_path: Path, root: str) -> None:
    with zipfile.ZipFile(tmp_path / "m.pt2", "w") as new:
        new.writestr(f"{root}data/aotinductor/model/x.so", b"x")
    refused(tmp_path / "m.pt2", UnsupportedError, "code that AOTInductor compiled")


def test_archives_of_other_forms_say_what_they_are(archive: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "old.pt2", "w") as new:
        for name in ("version", "serialized_exported_program.json", "serialized_state_dict.pt"):
            new.writestr(name, b"8.1")
    refused(tmp_path / "old.pt2", UnsupportedError, "before torch 2.8; load it with torch.export.load and save it")
    with zipfile.ZipFile(tmp_path / "two.pt2", "w") as new:
        new.writestr("a/archive_format", b"pt2")
        new.writestr("b/archive_version", b"0")
    refused(tmp_path / "two.pt2", DamagedError, "do not lie in one folder")

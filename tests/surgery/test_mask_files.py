"""Mask files: what `apply` drew comes out again, from every format; sets of kept elements combine as sets do."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

import pytest
import torch
from component_zoo import make_pipeline
from folder_zoo import make_folder, save_shard
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from surgery_zoo import noise
from torch import Tensor

from prunecli import PrunecliError, files
from prunecli.core.mask_digest import MaskDigest
from prunecli.errors import DamagedError, OutputError, UnsupportedError, UsageError

MaskDtype = Literal["bool", "same"]
Operation = Literal["and", "or", "xor", "minus"]
STATE = {"a.weight": noise((5, 30)), "a.bias": noise((5,)), "b.weight": noise((3, 2, 7), torch.bfloat16)}


def legacy(path: Path) -> Path:
    torch.save({"state_dict": STATE}, path, _use_new_zipfile_serialization=False)
    return path


def wrapped(path: Path) -> Path:
    torch.save({"model": {f"module.{name}": each for name, each in STATE.items()}, "epoch": 3}, path)
    return path


def saved(path: Path) -> Path:
    save_shard(STATE, path)
    return path


def sharded(suffix: str) -> Callable[[Path], Path]:
    shards = [{"a.weight": STATE["a.weight"]}, {name: STATE[name] for name in ("a.bias", "b.weight")}]
    return lambda path: make_folder(path, shards, suffix)


FORMATS = {
    "m.pt": saved,
    "m.safetensors": saved,
    "wrapped.ckpt": wrapped,
    "legacy.pth": legacy,
    "folder": sharded(".safetensors"),
    "folder_of_torch": sharded(".bin"),
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("dtype", get_args(MaskDtype))
@pytest.mark.parametrize("name", FORMATS)
def test_what_apply_drew_is_extracted(name: str, dtype: MaskDtype) -> None:
    drawn = files.apply(
        FORMATS[name](Path(name)), params="*weight", amount=0.5, seed=3, mask_dtype=dtype, output="masked"
    )
    expected = {each.name: each.mask_sha256 for each in drawn.parameters if each.state == "masked"}
    made = files.mask_extract("masked", output="masks")
    masks = load_file("masks")
    assert {name: digest(each) for name, each in masks.items()} == expected
    assert (made.masks, made.elements, made.kept) == (2, 192, 96)
    files.mask_extract("masked", output="bits", bits=True)
    files.mask_extract("bits", output="again")
    assert Path("again").read_bytes() == Path("masks").read_bytes(), "bits are the same masks"
    assert made.bytes == Path("masks").stat().st_size
    assert {str(each.dtype) for each in load_file("bits").values()} == {"torch.uint8"}
    baked = files.remove("masked", output="baked", no_report=True)
    assert baked.totals.zeros > 0
    files.mask_extract("baked", from_zeros=True, params=["*.weight"], output="zeros")
    nonzero = {each.removeprefix("module."): STATE[each.removeprefix("module.")].float() != 0 for each in masks}
    for each, found in load_file("zeros").items():
        assert torch.equal(found, masks[each] & nonzero[each.removeprefix("module.")])


@pytest.mark.usefixtures("here")
def test_what_apply_drew_is_extracted_from_all_components_of_a_pipeline() -> None:
    drawn = files.apply(make_pipeline(Path("pipeline")), params="unet/*", amount=0.5, output="masked", no_report=True)
    made = files.mask_extract("masked", output="masks")
    expected = {each.name: each.mask_sha256 for each in drawn.parameters if each.state == "masked"}
    assert {name: digest(each) for name, each in load_file("masks").items()} == expected
    assert made.masks == len(expected) > 1


def digest(mask: Tensor) -> str:
    found = MaskDigest()
    found.add(found.look(0, mask.flatten().numpy()))
    return found.hexdigest()


A = {"w": torch.tensor([[1, 1, 0], [0, 1, 0]]).bool(), "v": torch.tensor([True, False])}
B = {"w": torch.tensor([[1, 0, 1], [0, 1, 0]]).bool(), "v": torch.tensor([True, True])}


@pytest.fixture
def pair(here: Path) -> Path:
    """Two dictionaries of masks, of different types, names and orders."""
    torch.save({name: each.int() for name, each in A.items()}, "a.pt")
    save_file({f"module.{name}": each.half() for name, each in B.items()}, "b.safetensors")
    return here


@pytest.mark.usefixtures("pair")
@pytest.mark.parametrize("bits", [False, True])
def test_kept_sets_combine_as_sets_do(bits: bool) -> None:
    expected: dict[Operation, dict[str, Tensor]] = {
        "and": {name: A[name] & B[name] for name in A},
        "or": {name: A[name] | B[name] for name in A},
        "xor": {name: A[name] ^ B[name] for name in A},
        "minus": {name: A[name] & ~B[name] for name in A},
    }
    kept = {}
    for operation, masks in expected.items():
        made = files.mask_combine("a.pt", "b.safetensors", operation, output=operation, bits=bits)
        kept[operation] = made.kept
        files.mask_extract(operation, output=f"{operation}.plain")
        found = load_file(f"{operation}.plain")
        assert found.keys() == masks.keys()
        assert all(torch.equal(found[name], masks[name]) for name in masks), operation
    assert kept["and"] + kept["or"] == sum(int(each.sum()) for each in (*A.values(), *B.values()))
    assert kept["xor"] == kept["or"] - kept["and"]


@pytest.mark.usefixtures("pair")
def test_inverted_twice_is_the_mask_and_de_morgan_holds() -> None:
    files.mask_extract("a.pt", output="a")
    files.mask_invert("a.pt", output="not_a")
    files.mask_invert("not_a", output="a_again")
    assert Path("a_again").read_bytes() == Path("a").read_bytes()
    assert not torch.equal(load_file("not_a")["w"], load_file("a")["w"])
    files.mask_invert("b.safetensors", output="not_b")
    files.mask_combine("a.pt", "b.safetensors", "or", output="either")
    files.mask_invert("either", output="neither")
    files.mask_combine("not_a", "not_b", "and", output="neither_again")
    assert Path("neither").read_bytes() == Path("neither_again").read_bytes()


@pytest.mark.usefixtures("pair")
def test_a_mask_file_says_what_it_is() -> None:
    files.mask_extract("a.pt", output="a")
    files.mask_extract("a.pt", output="bits", bits=True)
    with safe_open("a", "pt") as plain, safe_open("bits", "pt") as bits:
        assert plain.metadata() == {"prunecli.masks": "1", "prunecli.kept": "true", "prunecli.encoding": "bool"}
        shapes = {"prunecli.encoding": "bits", "prunecli.shapes": '{"w":[2,3],"v":[2]}'}
        assert bits.metadata() == plain.metadata() | shapes
        assert bits.get_tensor("w").tolist() == [0b010011]
        assert bits.get_tensor("v").tolist() == [0b01]


@pytest.mark.usefixtures("pair")
def test_selections_narrow_and_default_names_stand_beside() -> None:
    assert files.mask_extract("a.pt", params="w").path == "a.masks.safetensors"
    assert list(load_file("a.masks.safetensors")) == ["w"]
    assert files.mask_invert("a.pt").path == "a.inverted.safetensors"
    assert files.mask_combine("a.pt", "b.safetensors", "minus").path == "a.minus.safetensors"
    with pytest.raises(OutputError, match="exists"):
        files.mask_extract("a.pt")
    files.mask_extract("a.pt", force=True)
    assert set(load_file("a.masks.safetensors")) == {"v", "w"}


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: files.mask_combine("a.pt", "short.pt", "and"), UsageError, "only a.pt has masks of v"),
        (lambda: files.mask_combine("short.pt", "a.pt", "and"), UsageError, "only a.pt has masks of v"),
        (lambda: files.mask_combine("a.pt", "long.pt", "and"), UsageError, "w have shapes [2, 3] in a.pt and [3, 2]"),
        (lambda: files.mask_combine("a.pt", "a.pt", "nor"), UsageError, "no operation nor"),  # type: ignore[arg-type]
        (lambda: files.mask_extract("soft.pt"), DamagedError, "mask of v has a value other than 0 and 1, at [1]"),
        (lambda: files.mask_extract("dense.pt"), UsageError, "mask_extract(from_zeros=True, params=NAME)"),
        (lambda: files.mask_extract("dense.pt", from_zeros=True), UsageError, "names or patterns with params"),
        (lambda: files.mask_extract("cut.safetensors"), DamagedError, "truncated"),
        (lambda: files.mask_extract("a.pt", output="a.bin"), UsageError, "a mask file is a safetensors file"),
        (lambda: files.mask_extract("a.pt", output="none/a"), OutputError, "create its folder first"),
        (lambda: files.mask_extract("surrogate.pt"), UnsupportedError, "not text"),
        (lambda: files.mask_extract("reserved.pt"), UsageError, "__metadata__"),
    ],
)
def test_what_cannot_be_done_writes_nothing(
    pair: Path, call: Callable[[], object], kind: type[PrunecliError], words: str
) -> None:
    torch.save({"w": A["w"]}, "short.pt")
    torch.save({"w": A["w"].T, "v": A["v"]}, "long.pt")
    torch.save({"w": A["w"], "v": torch.tensor([0.0, 0.5])}, "soft.pt")
    torch.save({"\ud800": A["w"]}, "surrogate.pt")
    torch.save({"__metadata__": A["w"]}, "reserved.pt")
    torch.save(STATE, "dense.pt")
    Path("cut.safetensors").write_bytes(Path("b.safetensors").read_bytes()[:-3])
    before = {each: each.read_bytes() for each in pair.iterdir()}
    with pytest.raises(kind) as caught:
        call()
    assert words in str(caught.value)
    assert "--" not in str(caught.value)
    assert {each: each.read_bytes() for each in pair.iterdir()} == before


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", ["w_mask", "w_orig", "w"])
def test_a_flipped_bit_of_a_zip_is_found(name: str) -> None:
    """Bits that are right by their values, but not by the checksum that the zip records."""
    keep = torch.ones(64, dtype=torch.bool)
    state = {"w_orig": torch.full((64,), 3.0), "w_mask": keep.float()} if name != "w" else {"w": torch.full((64,), 3.0)}
    torch.save(state, "good.pt")
    torch.save(state, "m.pt")
    data = bytearray(Path("m.pt").read_bytes())
    at = data.index(state[name].numpy().tobytes())
    data[at : at + 4] = bytes(4)
    Path("m.pt").write_bytes(data)
    torch.save({"w": torch.ones(64)}, "dense.pt")
    calls: list[Callable[[], object]] = [
        lambda: files.mask_extract("m.pt", from_zeros=True, params="w", output="out"),
        lambda: files.mask_overlap("m.pt", "m.pt", from_zeros=True),
        lambda: files.diff("good.pt", "m.pt"),
        lambda: files.diff("m.pt", "good.pt"),
    ]
    if name == "w_mask":
        calls.append(lambda: files.mask_invert("m.pt", output="out"))
        calls.append(lambda: files.apply("dense.pt", masks="m.pt", bake=True, output="out", no_report=True))
    if name != "w_orig":  # where there is a mask, the values do not count
        calls.append(lambda: files.apply("dense.pt", params="*", like="m.pt", output="out"))
    for call in calls:
        with pytest.raises(DamagedError, match=f"m.pt: {name} is damaged: its CRC-32 is"):
            call()
    assert not Path("out").exists()


@pytest.mark.usefixtures("here")
def test_very_many_masks_are_paired_in_time() -> None:
    """Quadratic work would take minutes."""
    save_file({f"module.{number}": torch.ones(1, dtype=torch.bool) for number in range(5_000)}, "many")
    save_file({str(number): torch.ones(1, dtype=torch.bool) for number in range(5_000)}, "others")
    before = time.process_time()
    assert files.mask_overlap("many", "others").totals.both == 5_000
    assert time.process_time() - before < 10

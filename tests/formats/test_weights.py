"""Which files are a folder's weights by their names: indexes and whole files, those of variants too."""

import json
from pathlib import Path

import fsspec
import pytest
import safetensors.torch
import torch
from folder_zoo import files_of, make_folder, save_shard

from prunecli.errors import UnreadableError, UnsupportedError
from prunecli.formats.folders.weights import find_weights, folder_of_index, is_index, is_whole
from prunecli.formats.io.locations import Url
from prunecli.formats.opening import open_any
from prunecli.surgery.names.select import Selection
from prunecli.surgery.plan.plan import plan_prune
from prunecli.surgery.plan.request import PruneGroup, PruneRequest
from prunecli.surgery.report.model import Report
from prunecli.surgery.rewrite import rewrite
from prunecli.surgery.run.destination import Destination, default_output
from prunecli.terms import HERE

INDEXES = [
    "model.safetensors.index.json",
    "model.safetensors.index.fp16.json",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin.index.fp16.json",
    "diffusion_pytorch_model.safetensors.index.json",
    "diffusion_pytorch_model.safetensors.index.fp16.json",
    "diffusion_pytorch_model.safetensors.index.non_ema.json",
    "consolidated.safetensors.index.json",
    "diffusion_pytorch_model.fp16.safetensors.index.json",
]
WHOLES = [
    "model.safetensors",
    "model.fp16.safetensors",
    "model.bf16.safetensors",
    "pytorch_model.bin",
    "pytorch_model.fp16.bin",
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
    "diffusion_pytorch_model.non_ema.safetensors",
    "diffusion_pytorch_model.fp16.bin",
    "adapter_model.safetensors",
    "adapter_model.bin",
]
NEITHER = [
    "config.json",
    "model.index.json",
    "model.safetensors.index.json.bak",
    "sub/model.safetensors",
    "sub/model.safetensors.index.json",
    "model-00001-of-00002.safetensors",
    "model.fp16-00001-of-00002.safetensors.txt",
    "model.pruned.safetensors",
    "model.baked.safetensors",
    "model.fp16.pruned.safetensors",
    "optimizer.bin",
    "model.bin",
    "training_args.bin",
    "model_1.safetensors",
    "other.safetensors",
]


@pytest.mark.parametrize("name", [*INDEXES, *WHOLES, *NEITHER])
def test_names_say_what_a_file_is(name: str) -> None:
    assert (is_index(name), is_whole(name)) == (name in INDEXES, name in WHOLES)


@pytest.mark.parametrize("name", [*INDEXES, *WHOLES])
def test_one_alone_is_found_among_the_rest(name: str) -> None:
    assert find_weights([*NEITHER, name]) == name


def test_safetensors_go_first() -> None:
    names = ["pytorch_model.bin", "pytorch_model.fp16.bin", "model.fp16.safetensors"]
    assert find_weights(names) == "model.fp16.safetensors"
    assert find_weights([]) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("model.safetensors.index.json", "model.safetensors.index.fp16.json"),
        ("model.safetensors", "model.fp16.safetensors"),
        ("model.safetensors", "model.safetensors.index.fp16.json"),
        ("pytorch_model.bin", "pytorch_model.fp16.bin"),
    ],
)
def test_two_of_a_kind_are_named_and_how_to_choose(one: str, other: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        find_weights([other, one])
    assert caught.value.args[0] == (
        f"{HERE} holds several checkpoints ({one}, {other}); name one of these files instead of the folder"
    )


def test_an_index_behind_a_url_means_the_folder_that_it_lies_in() -> None:
    found = folder_of_index(Url("s3://bucket/m/model.safetensors.index.fp16.json"))
    assert isinstance(found, Url)
    assert found.address == "s3://bucket/m/"
    assert folder_of_index(Url("s3://bucket/m/model.safetensors")) is None


def test_the_shards_of_an_index_behind_a_url_are_read() -> None:
    files = fsspec.filesystem("memory")
    files.pipe("/weights/m/one.safetensors", safetensors.torch.save({"a": torch.ones(4)}))
    for variant in ("", ".fp16"):
        text = json.dumps({"weight_map": {"a": "one.safetensors"}})
        files.pipe(f"/weights/m/model.safetensors.index{variant}.json", text.encode())
    with open_any(Url("memory://weights/m/model.safetensors.index.fp16.json")) as opened:
        assert list(opened.tensors) == ["a"]
    with pytest.raises(UnsupportedError, match="holds several checkpoints"), open_any(Url("memory://weights/m")):
        pass
    files.rm("/weights", recursive=True)


# --- a plain checkpoint and a variant side by side

PLAIN, HALF = "model.safetensors.index.json", "model.safetensors.index.fp16.json"


def both(path: Path) -> Path:
    """Write a folder as transformers leaves one behind that was saved twice, with `variant="fp16"` the second time."""
    shards = [{"a.weight": torch.ones(4, 5)}, {"b.weight": torch.ones(6, 7)}]
    make_folder(path, shards)
    for number, shard in enumerate(shards, 1):
        half = {name: tensor.half() for name, tensor in shard.items()}
        save_shard(half, path / f"model.fp16-{number:05d}-of-00002.safetensors")
    text = (path / PLAIN).read_text()
    (path / HALF).write_text(text.replace('"model-', '"model.fp16-').replace("248", "124"))
    return path


def pruned(path: Path, out: Path, *, remove: bool = True) -> Report:
    prune = PruneRequest((PruneGroup(Selection(("*",)), 0.5),), 7, remove=remove)
    with open_any(path) as opened:
        return rewrite(opened, plan_prune(opened, prune), Destination(out, force=True))


def changed(old: Path, new: Path) -> set[str]:
    before, after = files_of(old), files_of(new)
    assert list(before) == list(after)
    return {name for name in before if before[name] != after[name]}


@pytest.mark.parametrize(
    ("index", "dtype", "changes"),
    [
        (PLAIN, "float32", {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}),
        (HALF, "float16", {"model.fp16-00001-of-00002.safetensors", "model.fp16-00002-of-00002.safetensors"}),
    ],
)
def test_the_index_that_is_named_is_read(tmp_path: Path, index: str, dtype: str, changes: set[str]) -> None:
    path = both(tmp_path / "m")
    with pytest.raises(UnsupportedError, match=r"holds several checkpoints \(model.safetensors.index.json, .*fp16"):
        pruned(path, tmp_path / "out")
    report = pruned(path / index, tmp_path / "out")
    assert report.source.path == str(path / index)
    assert {each.dtype for each in report.parameters} == {dtype}
    assert [each.zeros for each in report.parameters] == [10, 21]
    assert changed(path, tmp_path / "out") == changes
    masked = pruned(path / index, tmp_path / "masked", remove=False)
    assert masked.totals == report.totals
    assert changed(path, tmp_path / "masked") == {*changes, index}
    assert [each.mask_sha256 for each in masked.parameters] == [each.mask_sha256 for each in report.parameters]


def test_an_output_with_both_is_replaced_with_force(tmp_path: Path) -> None:
    path = both(tmp_path / "m")
    for _ in range(2):
        pruned(path / HALF, tmp_path / "out")
    with open_any(tmp_path / "out" / HALF) as opened:
        assert list(opened.tensors) == ["a.weight", "b.weight"]


def test_the_default_output_of_an_index_is_that_of_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = both(tmp_path / "m")
    assert default_output(path / HALF, "apply") == tmp_path / "m.pruned"
    assert default_output(path / HALF, "remove") == tmp_path / "m.baked"
    monkeypatch.chdir(path)
    assert default_output(Path(HALF), "apply") == tmp_path / "m.pruned"
    monkeypatch.chdir(tmp_path)
    assert default_output(Path("m", HALF), "apply") == Path("m.pruned")


def test_a_variant_alone_is_a_folder_s_checkpoint(tmp_path: Path) -> None:
    path = both(tmp_path / "m")
    (path / PLAIN).unlink()
    assert {each.dtype for each in pruned(path, tmp_path / "out").parameters} == {"float16"}
    (tmp_path / "w").mkdir()
    save_shard({"a.weight": torch.ones(4, 5)}, tmp_path / "w" / "diffusion_pytorch_model.fp16.safetensors")
    assert [each.zeros for each in pruned(tmp_path / "w", tmp_path / "out").parameters] == [10]


@pytest.mark.parametrize(("there", "lacking"), [(PLAIN, HALF), (HALF, PLAIN)])
def test_an_index_whose_shards_were_not_fetched_is_passed_over_with_a_note(
    tmp_path: Path, there: str, lacking: str
) -> None:
    path = both(tmp_path / "m")
    for each in path.glob("*.safetensors"):
        if each.name.startswith("model.fp16") == (lacking == HALF):
            each.unlink()
    with open_any(path) as opened:
        assert list(opened.notes) == [f"passed over, since no shard that it names is in the folder: {lacking}"]
        assert list(opened.tensors) == ["a.weight", "b.weight"]
    pruned(path, tmp_path / "out")
    pruned(path / there, tmp_path / "named")
    assert files_of(tmp_path / "out") == files_of(tmp_path / "named")
    with pytest.raises(UnreadableError, match="is missing, though the index names it"), open_any(path / lacking):
        pass


def test_an_index_that_lacks_one_shard_is_not_passed_over(tmp_path: Path) -> None:
    path = both(tmp_path / "m")
    (path / "model.fp16-00001-of-00002.safetensors").unlink()
    with pytest.raises(UnsupportedError, match="holds several checkpoints"), open_any(path):
        pass
    (path / PLAIN).unlink()
    with pytest.raises(UnreadableError, match=r"fp16-00001-of-00002.safetensors is missing"), open_any(path):
        pass


def test_what_apply_left_in_the_folder_is_not_a_variant(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    for name in ("model.safetensors", "model.pruned.safetensors"):
        save_shard({name: torch.ones(4, 5)}, tmp_path / "m" / name)
    with open_any(tmp_path / "m") as opened:
        assert list(opened.tensors) == ["model.safetensors"]

"""The commands on folders of components: each component comes out as if it had been pruned by itself."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from component_zoo import components_of, make_modules, make_pipeline
from folder_zoo import files_of, index_of, load_shard
from ranks import finish, start

Cli = Callable[..., Any]
Refusal = Callable[..., str]
pytestmark = pytest.mark.usefixtures("folder")

ASKED = ("-p", "*", "-a", "0.5", "--min-dim", "2", "--seed", "3")
FILES = {
    "text_encoder/": ("model.safetensors",),
    "unet/": ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"),
    "vae/": ("diffusion_pytorch_model.bin",),
}


@pytest.fixture
def pipeline(folder: Path) -> Path:
    return make_pipeline(folder / "p")


@pytest.mark.parametrize("bake", [(), ("--remove",)])
def test_a_component_alone_gets_the_masks_that_it_has_in_the_whole(
    cli: Cli, pipeline: Path, bake: tuple[str, ...]
) -> None:
    assert cli("apply", "p", *ASKED, *bake, "-o", "whole").out == "whole\n"
    for prefix, files in FILES.items():
        out = f"alone_{prefix[:-1]}"
        assert cli("apply", pipeline / prefix, *ASKED, *bake, "--key-prefix", prefix, "-o", out).code == 0
        assert files_of(Path(out)) == {
            name.removeprefix(prefix): data for name, data in files_of(Path("whole")).items() if name.startswith(prefix)
        }
        if len(files) == 1:
            file, suffix = pipeline / prefix / files[0], Path(files[0]).suffix
            assert cli("apply", file, *ASKED, *bake, "--key-prefix", prefix, "-o", f"{out}{suffix}").code == 0
            assert Path(f"{out}{suffix}").read_bytes() == Path("whole", prefix, files[0]).read_bytes()


def test_without_the_prefix_the_masks_are_others(cli: Cli, pipeline: Path) -> None:
    file = pipeline / "vae" / "diffusion_pytorch_model.bin"
    assert cli("apply", file, *ASKED, "--remove", "-o", "plain.bin").code == 0
    assert cli("apply", file, *ASKED, "--remove", "--key-prefix", "vae/", "-o", "within.bin").code == 0
    plain, within = (load_shard(Path(name))["conv_in.weight"] for name in ("plain.bin", "within.bin"))
    assert int((plain == 0).sum()) == int((within == 0).sum()) == plain.numel() // 2
    assert not torch.equal(plain, within)


def test_equal_names_in_two_components_get_masks_of_their_own(cli: Cli, pipeline: Path) -> None:
    assert cli("apply", "p", *ASKED, "--remove", "-o", "out").code == 0
    found = components_of(Path("out"))
    one, other = (found[name]["conv_in.weight"] == 0 for name in ("unet", "vae"))
    assert int(one.sum()) == int(other.sum()) == one.numel() // 2
    assert not torch.equal(one, other)


def test_a_component_can_be_selected_and_the_others_stay_byte_for_byte(cli: Cli, pipeline: Path) -> None:
    assert cli("apply", "p", "-p", "unet/*", "-a", "0.5", "--remove", "-o", "out").code == 0
    before, after = files_of(pipeline), files_of(Path("out"))
    assert before.keys() == after.keys()
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {f"unet/{name}" for name in FILES["unet/"]}


def test_masks_stand_in_their_component_and_its_index(cli: Cli, pipeline: Path) -> None:
    assert (
        cli("apply", "p", "-p", "unet/conv_in.weight", "-p", "vae/conv_in.weight", "-a", "0.5", "-o", "out").code == 0
    )
    found = components_of(Path("out"))
    assert sorted(found["unet"]) == ["conv_in.weight_mask", "conv_in.weight_orig", "conv_out.weight"]
    assert sorted(found["vae"]) == ["conv_in.bias", "conv_in.weight_mask", "conv_in.weight_orig"]
    index = index_of(Path("out", "unet"))
    first = FILES["unet/"][0]
    assert {name for name, file in index["weight_map"].items() if file == first} == {
        "conv_in.weight_orig",
        "conv_in.weight_mask",
    }
    assert index["metadata"]["total_size"] == sum(each.nbytes for each in found["unet"].values())
    assert not Path("out", "vae", "model.safetensors.index.json").exists()
    assert (
        Path("out", "text_encoder", "model.safetensors").read_bytes()
        == (pipeline / "text_encoder" / "model.safetensors").read_bytes()
    )


def test_masks_are_verified_baked_and_replayed(cli: Cli, pipeline: Path) -> None:
    assert cli("apply", "p", *ASKED, "-o", "masked").code == 0
    assert cli("verify", "masked", "masked.report.json").code == 0
    assert cli("remove", "masked", "-o", "baked").code == 0
    assert cli("apply", "p", *ASKED, "--remove", "-o", "direct").code == 0
    assert cli("apply", "p", "--from-report", "masked.report.json", "--remove", "-o", "replayed").code == 0
    assert components_of(Path("direct")).keys() == components_of(Path("baked")).keys()
    for name, tensors in components_of(Path("direct")).items():
        for other in ("baked", "replayed"):
            again = components_of(Path(other))[name]
            assert all(torch.equal(tensor, again[each]) for each, tensor in tensors.items())
    assert cli("report", "baked", "--baseline", "p").code == 0
    report = cli("report", "baked", "--format", "json").json
    assert report["source"]["format"] == "folder of components of safetensors and torch zip"
    sparse = {each["name"]: each["sparsity"] for each in report["parameters"]}
    assert sparse["unet/conv_out.weight"] == 0.5


def test_a_report_records_the_prefix_and_replays_it(cli: Cli, pipeline: Path) -> None:
    asked = ("--key-prefix", "unet/", "--remove")
    assert cli("apply", pipeline / "unet", *ASKED, *asked, "-o", "one").code == 0
    report = json.loads(Path("one.report.json").read_bytes())
    assert report["key_prefix"] == "unet/"
    assert [each["key"] for each in report["parameters"]] == ["unet/conv_in.weight", "unet/conv_out.weight"]
    assert cli("apply", pipeline / "unet", "--from-report", "one.report.json", "-o", "two").code == 0
    assert files_of(Path("one")) == files_of(Path("two"))
    Path("asked.toml").write_text(cli("apply", pipeline / "unet", *ASKED, *asked, "--dry-run").out)
    assert cli("apply", pipeline / "unet", "--recipe", "asked.toml", "-o", "three").code == 0
    assert files_of(Path("one")) == files_of(Path("three"))


def test_a_prefix_beside_a_report_is_refused(refused: Refusal, pipeline: Path) -> None:
    line = refused(2, "apply", pipeline / "unet", "--from-report", "x.json", "--key-prefix", "unet/")
    assert "--key-prefix asks for others" in line


def test_a_module_below_the_first_is_pruned_along(cli: Cli, folder: Path) -> None:
    make_modules(folder / "m")
    assert cli("apply", "m", *ASKED, "--remove", "-o", "out").code == 0
    found = components_of(Path("out"))
    zeros = [int((found[part][name] == 0).sum()) for part, name in ((".", "fc.weight"), ("2_Dense", "linear.weight"))]
    assert zeros == [15, 12]
    # What lies at the top has the masks of the same file alone.
    assert cli("apply", "m/model.safetensors", *ASKED, "--remove", "-o", "alone.safetensors").code == 0
    assert Path("alone.safetensors").read_bytes() == Path("out", "model.safetensors").read_bytes()


@pytest.mark.parametrize("bake", [(), ("--remove",)])
def test_ranks_and_runs_that_resume_write_what_one_process_writes(
    cli: Cli, pipeline: Path, bake: tuple[str, ...]
) -> None:
    assert cli("apply", "p", *ASKED, *bake, "-o", "one").code == 0
    assert cli("apply", "p", *ASKED, *bake, "-o", "kept", "--resume").code == 0
    outcomes = finish(start(2, ["apply", "p", *ASKED, *bake, "-o", "many"], pipeline.parent))
    assert [code for code, _, _ in outcomes] == [0, 0], outcomes
    assert files_of(Path("one")) == files_of(Path("kept")) == files_of(Path("many"))


def test_a_masked_folder_of_two_formats_takes_no_stamp(refused: Refusal, pipeline: Path) -> None:
    assert "cannot contain a stamp" in refused(4, "apply", "p", *ASKED, "--remove", "--stamp")


def test_nothing_is_written_when_a_component_is_damaged(refused: Refusal, pipeline: Path) -> None:
    (pipeline / "vae" / "diffusion_pytorch_model.bin").write_bytes(b"PK\x03\x04")
    assert "vae" in refused(4, "apply", "p", *ASKED, "--remove")


def test_other_weights_of_a_component_are_named(cli: Cli, pipeline: Path) -> None:
    (pipeline / "unet" / "diffusion_pytorch_model.onnx").write_bytes(b"weights")
    outcome = cli("apply", "p", *ASKED, "--remove", "-o", "out")
    assert "copied unchanged, although they contain weights: unet/diffusion_pytorch_model.onnx" in outcome.err


def test_optimizer_state_in_a_component_is_zeroed_with_its_parameter(cli: Cli, folder: Path) -> None:
    layer = torch.nn.Linear(6, 4, bias=False)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(3, 6)).sum().backward()
    optimizer.step()
    before: dict[str, Any] = {"state_dict": layer.state_dict(), "optimizer": optimizer.state_dict()}
    for name, content in (("a", before), ("b", {"state_dict": {"weight": torch.ones(4, 5)}})):
        (folder / "m" / name).mkdir(parents=True)
        torch.save(content, folder / "m" / name / "adapter_model.bin")
    asked = ("-p", "a/weight", "-a", "0.5", "--seed", "1", "--remove", "--with-state")
    assert cli("apply", "m", *asked, "-o", "o").code == 0
    after = torch.load("o/a/adapter_model.bin", weights_only=True)
    dropped = after["state_dict"]["weight"] == 0
    assert int(dropped.sum()) == 12
    new, old = after["optimizer"]["state"][0], before["optimizer"]["state"][0]
    for statistic in ("exp_avg", "exp_avg_sq"):
        assert torch.equal(new[statistic], old[statistic].masked_fill(dropped, 0))

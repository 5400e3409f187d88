"""Folders of components: which folders are components, what they are called, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from component_zoo import PIPELINE, make_modules, make_pipeline, save, text_encoder, values
from folder_zoo import make_folder
from slices_by_hand import save_slices

from prunecli.errors import DamagedError, PrunecliError, UnreadableError, UnsafeError, UnsupportedError
from prunecli.formats.folders.component_names import Components, find_components
from prunecli.formats.folders.components import ComponentsFolder
from prunecli.formats.folders.reader import list_folder
from prunecli.formats.folders.sharded import ShardedFolder
from prunecli.formats.opening import open_any
from prunecli.surgery.names.parameters import parameters_of


def names(path: Path) -> list[str]:
    with open_any(path) as opened:
        return list(opened.tensors)


def found(path: Path) -> Components | None:
    return find_components(list_folder(path))


def test_a_pipeline_is_one_checkpoint_of_its_components(tmp_path: Path) -> None:
    with open_any(make_pipeline(tmp_path / "p")) as opened:
        assert isinstance(opened, ComponentsFolder)
        assert list(opened.tensors) == [
            "text_encoder/logit_scale",
            "text_encoder/module.embed.weight",
            "text_encoder/module.fc.weight",
            "unet/conv_in.weight",
            "unet/conv_out.weight",
            "vae/conv_in.weight",
            "vae/conv_in.bias",
        ]
        assert opened.format == "folder of components of safetensors and torch zip"
        assert sorted(opened.sources) == [
            "text_encoder/model.safetensors",
            "unet/model-00001-of-00002.safetensors",
            "unet/model-00002-of-00002.safetensors",
            "vae/diffusion_pytorch_model.bin",
        ]
        assert {"README.md", "model_index.json", "scheduler/scheduler_config.json", "unet/config.json"} <= {
            each.name for each in opened.passthrough
        }
        assert opened.other_weight_files == []
        assert list(opened.notes) == []
        keys = {each.name: each.key for each in parameters_of(opened).values()}
        assert keys["text_encoder/module.fc.weight"] == "text_encoder/fc.weight"
        assert keys["unet/conv_in.weight"] == "unet/conv_in.weight"


def test_what_lies_at_the_top_has_no_prefix(tmp_path: Path) -> None:
    assert names(make_modules(tmp_path / "m")) == ["fc.weight", "2_Dense/linear.weight"]


def test_modules_without_weights_beside_the_first_leave_an_ordinary_folder(tmp_path: Path) -> None:
    source = make_modules(tmp_path / "m")
    (source / "2_Dense" / "model.safetensors").unlink()
    with open_any(source) as opened:
        assert isinstance(opened, ShardedFolder)


def test_a_router_has_modules_of_its_own(tmp_path: Path) -> None:
    source = tmp_path / "m"
    for part in ("query_0_Dense", "document_0_Dense"):
        save(source / "0_Router" / part / "model.safetensors", {"linear.weight": values(3, 4)})
    save(source / "1_Dense" / "model.safetensors", {"linear.weight": values(3, 4)})
    modules = [{"idx": 0, "path": "0_Router"}, {"idx": 1, "path": "1_Dense"}]
    (source / "modules.json").write_text(json.dumps(modules))
    types = {"query_0_Dense": "x.Dense", "document_0_Dense": "x.Dense", "query_1_Normalize": "x.Normalize"}
    (source / "0_Router" / "router_config.json").write_text(json.dumps({"types": types, "structure": {}}))
    assert names(source) == [
        "0_Router/query_0_Dense/linear.weight",
        "0_Router/document_0_Dense/linear.weight",
        "1_Dense/linear.weight",
    ]


@pytest.mark.parametrize("further", [("net_1", "net_2"), ("net_1", "net_1_2")])
def test_further_models_of_a_component_lie_in_numbered_folders(tmp_path: Path, further: tuple[str, ...]) -> None:
    source = tmp_path / "p"
    for part in ("net", *further, "net_4", "other"):
        save(source / part / "diffusion_pytorch_model.safetensors", {"w": values(3, 4)})
    (source / "model_index.json").write_text(json.dumps({"net": ["diffusers", "MultiControlNetModel"]}))
    assert found(source) == Components(["net", *further], bare=[], absent=[], named_by="model_index.json")
    with open_any(source) as opened:
        assert {each.name for each in opened.passthrough} >= {"other/diffusion_pytorch_model.safetensors"}


def test_a_modular_pipeline_names_what_may_lie_elsewhere(tmp_path: Path) -> None:
    source = tmp_path / "p"
    save(source / "unet" / "diffusion_pytorch_model.safetensors", {"w": values(3, 4)})
    index = {"unet": ["diffusers", "UNet", {"subfolder": "unet"}], "vae": ["diffusers", "VAE", {"subfolder": "vae"}]}
    (source / "modular_model_index.json").write_text(json.dumps(index))
    assert found(source) == Components(["unet"], bare=[], absent=[], named_by="modular_model_index.json")


def test_a_component_that_is_not_there_is_noted(tmp_path: Path) -> None:
    source = make_pipeline(tmp_path / "p")
    (source / "model_index.json").write_text(json.dumps(PIPELINE | {"unet_2": ["diffusers", "UNet"]}))
    with open_any(source) as opened:
        assert list(opened.notes) == ["model_index.json names components that are not in the folder: unet_2"]


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "adapter_model.bin"])
def test_adapters_that_were_saved_together_are_one_checkpoint(tmp_path: Path, file: str) -> None:
    source = tmp_path / "a"
    save(source / file, {"lora_A.weight": values(2, 4)})
    save(source / "french" / file, {"lora_A.weight": values(2, 4)})
    save(source / "checkpoint-500" / file, {"lora_A.weight": values(2, 4)})
    assert names(source) == ["lora_A.weight", "french/lora_A.weight"]
    (source / file).unlink()
    save(source / "german" / file, {"lora_A.weight": values(2, 4)})
    assert names(source) == ["french/lora_A.weight", "german/lora_A.weight"]


def test_states_of_one_adapter_are_not_several_adapters(tmp_path: Path) -> None:
    source = tmp_path / "a"
    save(source / "adapter_model.safetensors", {"lora_A.weight": values(2, 4)})
    save(source / "checkpoint-500" / "adapter_model.safetensors", {"lora_A.weight": values(2, 4)})
    with open_any(source) as opened:
        assert isinstance(opened, ShardedFolder)


def test_a_model_at_the_top_is_not_an_adapter_of_those_below(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "m", [{"w": values(3, 4)}])
    save(source / "speech" / "adapter_model.safetensors", {"lora_A.weight": values(2, 4)})
    assert names(source) == ["w"]


def test_a_component_picks_safetensors_first_and_the_rest_is_noted(tmp_path: Path) -> None:
    source = make_pipeline(tmp_path / "p")
    save(source / "vae" / "diffusion_pytorch_model.safetensors", {"conv_in.weight": values(3, 4)})
    with open_any(source) as opened:
        assert isinstance(opened, ComponentsFolder)
        assert opened.other_weight_files == ["vae/diffusion_pytorch_model.bin"]
        assert opened.format == "folder of components of safetensors"


def test_a_component_picks_what_is_no_variant(tmp_path: Path) -> None:
    source = make_pipeline(tmp_path / "p")
    save(source / "vae" / "diffusion_pytorch_model.fp16.safetensors", {"conv_in.weight": values(3, 4).half()})
    with open_any(source) as opened:
        assert isinstance(opened, ComponentsFolder)
        assert opened.tensors["vae/conv_in.weight"].dtype.name == "float32"
        assert opened.other_weight_files == ["vae/diffusion_pytorch_model.fp16.safetensors"]
    (source / "vae" / "diffusion_pytorch_model.bin").unlink()
    with open_any(source) as opened:
        assert opened.tensors["vae/conv_in.weight"].dtype.name == "float16"
    save(source / "vae" / "diffusion_pytorch_model.ema.safetensors", {"conv_in.weight": values(3, 4)})
    with pytest.raises(UnsupportedError, match="vae holds several checkpoints"):
        open_any(source).__enter__()


def test_weights_of_a_component_that_are_not_read_are_noted(tmp_path: Path) -> None:
    source = make_pipeline(tmp_path / "p")
    (source / "vae" / "diffusion_pytorch_model.bin").rename(source / "vae" / "flax_model.msgpack")
    with open_any(source) as opened:
        assert isinstance(opened, ComponentsFolder)
        assert "vae/conv_in.weight" not in opened.tensors
        assert opened.other_weight_files == ["vae/flax_model.msgpack"]


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/etc", "a\\b", "a\0b"])
def test_a_component_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    source = make_pipeline(tmp_path / "p")
    (source / "model_index.json").write_text(json.dumps(PIPELINE | {name: ["diffusers", "UNet"]}))
    with pytest.raises(UnsafeError, match=r"names the component .*, which is not a folder below it"):
        open_any(source).__enter__()


@pytest.mark.parametrize("path", ["..", "../x", "x/..", "/etc", "a//b", "a\\b", "./a", "a\0b"])
def test_a_module_that_leads_out_of_the_folder_is_refused(tmp_path: Path, path: str) -> None:
    source = make_modules(tmp_path / "m", [{"path": ""}, {"path": path}])
    with pytest.raises(UnsafeError, match=r"names the component .*, which is not a folder below it"):
        open_any(source).__enter__()


@pytest.mark.parametrize(
    ("modules", "said"),
    [
        ({}, "is not a list of modules"),
        ([{}], "has a module without a path"),
        ([["path", ""]], "has a module without a path"),
        ([{"path": 3}], "has a module without a path"),
        ([{"path": "2_Dense"}, {"path": "2_Dense"}], "has the path 2_Dense twice"),
        ([{"path": "2_Dense"}, {"path": "2_Dense/"}], "has the path 2_Dense twice"),
    ],
)
def test_modules_that_are_none_are_refused(tmp_path: Path, modules: Any, said: str) -> None:
    with pytest.raises(DamagedError, match=said):
        open_any(make_modules(tmp_path / "m", modules)).__enter__()


@pytest.mark.parametrize("name", ["model_index.json", "modules.json"])
@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (b"{", DamagedError),
        (b"", DamagedError),
        (b"\xff", DamagedError),
        (b"[" * 100_000, DamagedError),
        (b'{"a": 1, "a": 2}', DamagedError),
        (b"3", DamagedError),
        (b"[" + b" " * (1 << 20) + b"]", UnsafeError),
    ],
)
def test_lists_of_components_are_read_strictly(
    tmp_path: Path, name: str, text: bytes, kind: type[PrunecliError]
) -> None:
    source = make_pipeline(tmp_path / "p")
    (source / "model_index.json").unlink()
    (source / name).write_bytes(text)
    with pytest.raises(kind):
        open_any(source).__enter__()


def test_a_name_at_the_top_cannot_be_that_of_a_component(tmp_path: Path) -> None:
    source = make_modules(tmp_path / "m")
    save(source / "model.safetensors", {"2_Dense/linear.weight": values(4, 6)})
    with pytest.raises(DamagedError, match=r"2_Dense/linear\.weight is there twice"):
        open_any(source).__enter__()


def test_a_missing_shard_of_a_component_is_named(tmp_path: Path) -> None:
    source = make_pipeline(tmp_path / "p")
    (source / "unet" / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UnreadableError, match=r"unet/model-00002-of-00002.safetensors is missing"):
        open_any(source).__enter__()


def test_a_link_out_of_a_component_is_refused(tmp_path: Path) -> None:
    source = make_pipeline(tmp_path / "p")
    outside = save(tmp_path / "elsewhere" / "model.safetensors", text_encoder())
    (source / "text_encoder" / "model.safetensors").unlink()
    (source / "text_encoder" / "model.safetensors").symlink_to(outside)
    with pytest.raises(UnsafeError, match="link"):
        open_any(source).__enter__()


def test_a_component_in_slices_is_noted(tmp_path: Path) -> None:
    source = make_pipeline(tmp_path / "p")
    (source / "text_encoder" / "model.safetensors").unlink()
    (source / "text_encoder" / "config.json").unlink()
    (source / "text_encoder").rmdir()
    save_slices({"w": values(4)}, source / "text_encoder")
    with open_any(source) as opened:
        assert isinstance(opened, ComponentsFolder)
        assert opened.other_weight_files == ["text_encoder/shard-00001-model-00001-of-00001.safetensors"]

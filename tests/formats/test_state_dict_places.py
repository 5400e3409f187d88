"""Where the state dict is found, what lies beside it, and that nothing is ever taken for it in silence."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict_saver import save as save_distributed

from prunecli.errors import UnsupportedError
from prunecli.formats.base import Layout, Moment, ReadOptions
from prunecli.formats.opening import open_any
from prunecli.formats.torch.key_words import AVERAGE, OPTIMIZER, kind_of_key
from prunecli.terms import KEY

OPT, AVG = OPTIMIZER, AVERAGE


def net(value: float = 1.0) -> dict[str, Tensor]:
    return {"fc.weight": torch.full((3, 4), value), "fc.bias": torch.full((3,), value)}


def adam(*shapes: tuple[int, ...]) -> dict[str, Any]:
    """As torch.optim.Adam's state_dict() has it, for parameters of these shapes."""
    state = {
        number: {"step": torch.tensor(1.0), "exp_avg": torch.ones(shape), "exp_avg_sq": torch.ones(shape)}
        for number, shape in enumerate(shapes)
    }
    return {"state": state, "param_groups": [{"lr": 0.1, "params": list(range(len(shapes)))}]}


def trained() -> dict[str, Any]:
    return adam((3, 4), (3,))


def dcp_save(content: Any, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that there is no process group
        save_distributed(content, checkpoint_id=path, no_dist=True)


def zip_save(content: Any, path: Path) -> None:
    torch.save(content, path)


def legacy_save(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


CONTAINERS = pytest.mark.parametrize("save", [zip_save, legacy_save, dcp_save])


def kinds(layout: Layout) -> dict[str, str]:
    return {tensor.name: tensor.within for tensor in (*layout.tensors.values(), *layout.carried)}


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        *((key, OPT) for key in ("optimizer", "optimizers", "optimizer_states", "optim", "optimizerG", "g_optim")),
        *((key, OPT) for key in ("lr_schedulers", "lr_sched", "grad_scaler", "GradScaler", "scaler", "rng_state")),
        *((key, OPT) for key in ("last_optimizer_state", "Optimizer_0", "grads", "model_grads", "optimizer.adam")),
        *((key, AVG) for key in ("ema", "model_ema", "ema_model", "state_dict_ema", "ema_state_dict", "modelEMA")),
        *((key, AVG) for key in ("EMACallback", "g_ema", "params_ema", "swa_model", "averaging_state", "ema0.999")),
        *((key, AVG) for key in ("model_avg", "avg_model", "latent_avg", "shadow_params", "weight_averages")),
        *((key, "") for key in ("optimized_model", "grad_net", "averager", "schema_encoder", "cinema", "upscaler")),
        *((key, "") for key in ("avg_pool", "shadow_net", "swap", "gradient_net", "rngs", "scheme", "", "0", "häema")),
    ],
)
def test_keys_are_read_by_whole_words(key: str, kind: str) -> None:
    assert kind_of_key(key) == kind


@CONTAINERS
def test_optimizers_at_any_depth_are_no_part_of_the_state_dict(save: Any, tmp_path: Path) -> None:
    content = {side: {"model": net(), "solver": trained()} for side in ("G", "D")}
    save(content, tmp_path / "m")
    moments = {
        f"{side}.solver.state.{n}.{s}" for side in "GD" for n in (0, 1) for s in ("step", "exp_avg", "exp_avg_sq")
    }
    with open_any(tmp_path / "m") as opened:
        assert set(opened.tensors) == {f"{side}.model.fc.{name}" for side in "GD" for name in ("weight", "bias")}
        assert {tensor.name: tensor.within for tensor in opened.carried} == dict.fromkeys(moments, OPT)
    with open_any(tmp_path / "m", ReadOptions("")) as opened:
        assert not opened.carried
        assert {name for name, kind in kinds(opened).items() if kind == OPT} == moments
        assert {name for name, kind in kinds(opened).items() if not kind} == {
            f"{side}.model.fc.{name}" for side in "GD" for name in ("weight", "bias")
        }


def megatron() -> dict[str, Any]:
    masters = [[torch.ones(3, 4)], [torch.ones(3)]]
    return {"optimizer": trained(), "fp32_from_fp16_params": masters, "grad_scaler": {"scale": torch.ones(1)}}


def deepspeed(name: str) -> dict[str, Any]:
    return {"loss_scale": 1.0, name: [torch.ones(15)], "base_optimizer_state": [{"exp_avg": torch.ones(15)}]}


def flattened() -> dict[str, Any]:
    """As torch.distributed's get_optimizer_state_dict with flatten_optimizer_state_dict has it."""
    return {"state.fc.weight.exp_avg": torch.ones(3, 4), "param_groups.fc.weight.lr": 0.1}


@pytest.mark.parametrize(
    "state",
    [
        megatron(),
        deepspeed("single_partition_of_fp32_groups"),
        deepspeed("fp32_flat_groups"),
        flattened(),
        {"state": {"fc.weight": {"exp_avg": torch.ones(3, 4)}}, "param_groups": [{"params": ["fc.weight"]}]},
    ],
    ids=["megatron", "stage 1", "stage 3", "flattened", "by name"],
)
@CONTAINERS
def test_optimizer_state_in_other_forms(save: Any, state: dict[str, Any], tmp_path: Path) -> None:
    save({"side": {"net": net(), "engine": state}, "other": net()}, tmp_path / "m")
    with open_any(tmp_path / "m") as opened:
        assert set(opened.tensors) == {
            f"{side}.fc.{name}" for side in ("side.net", "other") for name in ("weight", "bias")
        }
        assert opened.carried
        assert {tensor.within for tensor in opened.carried} == {OPT}
        assert all(tensor.name.startswith("side.engine.") for tensor in opened.carried)


def moments_of(layout: Layout) -> dict[str, Moment | None]:
    return {tensor.name: tensor.moment for tensor in layout.carried}


def test_each_moment_is_known_by_group_and_place(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    optimizer = torch.optim.Adam([{"params": model[1].parameters()}, {"params": model[0].parameters()}])
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "m.pt")
    with open_any(tmp_path / "m.pt") as opened:
        found = moments_of(opened)
    assert found["optimizer.state.1.exp_avg"] == Moment("optimizer", 0, 1, None, "exp_avg")
    assert found["optimizer.state.2.exp_avg_sq"] == Moment("optimizer", 1, 0, None, "exp_avg_sq")


def test_each_moment_is_known_by_its_parameters_name(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 3))
    optimizer = torch.optim.Adam(model.named_parameters())
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "m.pt")
    with open_any(tmp_path / "m.pt") as opened:
        assert moments_of(opened)["optimizer.state.1.exp_avg"] == Moment("optimizer", 0, 1, "0.bias", "exp_avg")
    torch.save({"model": net(), "optimizer": flattened()}, tmp_path / "m.pt")
    with open_any(tmp_path / "m.pt") as opened:
        flat = "optimizer.state.fc.weight.exp_avg"
        assert moments_of(opened) == {flat: Moment("optimizer", None, None, "fc.weight", "exp_avg")}


def test_masters_are_known_by_group_and_place(tmp_path: Path) -> None:
    torch.save({"model": net(), "optimizer": megatron()}, tmp_path / "m.pt")
    with open_any(tmp_path / "m.pt") as opened:
        found = moments_of(opened)
    path = "optimizer.fp32_from_fp16_params"
    assert found[f"{path}.1.0"] == Moment(path, 1, 0, None, "fp32 master")
    assert found["optimizer.optimizer.state.1.exp_avg"] == Moment("optimizer.optimizer", 0, 1, None, "exp_avg")


SINGLE_PROCESS: Mapping[str, tuple[dict[str, Any], str]] = {
    "BasicSR": ({"params_ema": net()}, "params_ema"),
    "ultralytics": ({"model": None, "ema": net(), "epoch": -1}, "ema"),
    "StyleGAN2": ({"g_ema": net(), "latent_avg": torch.ones(8)}, "g_ema"),
    "timm": ({"state_dict_ema": net(), "arch": "x"}, "state_dict_ema"),
    "icefall": ({"model_avg": net(), "optimizer": trained()}, "model_avg"),
    "two levels": ({"ckpt": {"ema": {"model": net(), "decay": 0.9}, "optimizer": trained()}}, "ckpt.ema.model"),
}


@CONTAINERS
@pytest.mark.parametrize("name", SINGLE_PROCESS)
def test_an_average_that_alone_holds_weights_is_taken_and_said(save: Any, name: str, tmp_path: Path) -> None:
    content, wrapper = SINGLE_PROCESS[name]
    save(content, tmp_path / "m")
    with open_any(tmp_path / "m") as opened:
        assert opened.wrapper == wrapper
        assert list(opened.tensors) == list(net())
        assert {tensor.within for tensor in opened.tensors.values()} == {""}
        ((note,),) = [opened.notes]
        assert note.startswith(f"the state dict is that under {wrapper.removesuffix('.model')}: ")
    with open_any(tmp_path / "m", ReadOptions("")) as opened:
        assert {opened.tensors[f"{wrapper}.{each}"].within for each in net()} == {""}


def test_a_pickled_module_that_is_an_average(tmp_path: Path) -> None:
    torch.save({"model": None, "ema": nn.Linear(4, 3)}, tmp_path / "m.pt")
    with open_any(tmp_path / "m.pt", ReadOptions(foreign=True)) as opened:
        assert (opened.wrapper, list(opened.tensors)) == ("ema", ["weight", "bias"])
        assert len(opened.notes) == 1


NOTHING: Mapping[str, tuple[Any, str]] = {
    "an optimizer": (trained(), "only the state of an optimizer; --key '' reads it"),
    "an optimizer in a wrapper": (
        {"model": {"state": {0: {"m": torch.ones(2)}}, "param_groups": []}},
        "only optimizer",
    ),
    "one optimizer": (
        {"optimizer": trained(), "epoch": 1},
        "only optimizer state; --key reads one of these: optimizer$",
    ),
    "beside a trainer's notes": (
        {"optimizer": trained(), "rng_state": torch.get_rng_state()[:16], "loss": torch.tensor(0.5)},
        "of these: optimizer$",
    ),
    "two": ({"optimizerG": trained(), "optimizerD": trained()}, "of these: optimizerG, optimizerD$"),
    "two averages": ({"ema": net(), "swa": net(), "optimizer": trained()}, "averages; .*these: ema, swa, optimizer$"),
}


@CONTAINERS
@pytest.mark.parametrize("name", NOTHING)
def test_finding_no_state_dict_is_an_error_that_names_the_keys(save: Any, name: str, tmp_path: Path) -> None:
    content, message = NOTHING[name]
    if save is dcp_save and name == "an optimizer in a wrapper":
        pytest.skip("empty lists leave no trace in distributed checkpoints")
    save(content, tmp_path / "m")
    with pytest.raises(UnsupportedError, match=message), open_any(tmp_path / "m"):
        pass
    with open_any(tmp_path / "m", ReadOptions("")) as opened:
        assert opened.tensors


BESIDE: Mapping[str, tuple[dict[str, Any], str, dict[str, str]]] = {
    "OpenNMT": ({"model": net(), "generator": net()}, "model", {"generator": ""}),
    "ultralytics": ({"model": net(), "ema": net(), "optimizer": trained()}, "model", {"ema": AVG, "optimizer": OPT}),
    "VISSL": (
        {"classy_state_dict": {"base_model": {"model": {"trunk": net()}}, "loss": {"queue": torch.ones(4, 4)}}},
        "classy_state_dict.base_model.model.trunk",
        {"classy_state_dict.loss": ""},
    ),
    "timm": (
        {"state_dict": net(), "state_dict_ema": net(), "optimizer": trained()},
        "state_dict",
        {"state_dict_ema": AVG, "optimizer": OPT},
    ),
    "callbacks": ({"state_dict": net(), "message_hub": {"loss": torch.ones(3)}}, "state_dict", {"message_hub": ""}),
    "fairseq": ({"model": net(), "last_optimizer_state": trained()}, "model", {"last_optimizer_state": OPT}),
    "FSDP": ({"model": net(), "optim": flattened()}, "model", {"optim": OPT}),
    "Megatron": (
        {"model": net(), "fp32_from_fp16_params": megatron()["fp32_from_fp16_params"]},
        "model",
        {"fp32_from_fp16_params": OPT},
    ),
    "gradients": ({"model": net(), "grads": net()}, "model", {"grads": OPT}),
    "sounds like": ({"optimized_model": net(), "optimizer": trained()}, "optimized_model", {"optimizer": OPT}),
}


@CONTAINERS
@pytest.mark.parametrize("name", BESIDE)
def test_what_lies_beside_the_state_dict_is_known(save: Any, name: str, tmp_path: Path) -> None:
    content, wrapper, beside = BESIDE[name]
    save(content, tmp_path / "m")
    with open_any(tmp_path / "m") as opened:
        assert (opened.wrapper, list(opened.tensors), list(opened.notes)) == (wrapper, list(net()), [])
        found: dict[str, set[str]] = {}
        for tensor in opened.carried:
            place = next(place for place in beside if tensor.name.startswith(f"{place}."))
            found.setdefault(place, set()).add(tensor.within)
        assert found == {place: {kind} for place, kind in beside.items()}


@CONTAINERS
def test_averages_keep_their_role_where_a_key_forces_all(save: Any, tmp_path: Path) -> None:
    save({"model": net(), "ema": net(), "optimizer": trained()}, tmp_path / "m")
    with open_any(tmp_path / "m", ReadOptions("")) as opened:
        found = {name.partition(".")[0]: kind for name, kind in kinds(opened).items()}
    assert found == {"model": "", "ema": AVG, "optimizer": OPT}
    with open_any(tmp_path / "m", ReadOptions("ema")) as opened:
        assert {tensor.within for tensor in opened.tensors.values()} == {""}


def test_networks_that_only_sound_like_optimizers_keep_their_weights_in_flat_distributed_names(tmp_path: Path) -> None:
    names = ["optimized_model.w", "grad_net.w", "averager.w", "ema.query.weight"]
    dcp_save(
        {name: torch.ones(2, 2) for name in names} | {"optimizer.state.w.exp_avg": torch.ones(2, 2)}, tmp_path / "m"
    )
    with open_any(tmp_path / "m") as opened:
        assert list(opened.tensors) == names
        assert [tensor.name for tensor in opened.carried] == ["optimizer.state.w.exp_avg"]


def test_chained_optimizers_of_megatron_core(tmp_path: Path) -> None:
    names = {"decoder.w": torch.ones(2, 2), "chained_1.optimizer.state.exp_avg.decoder.w": torch.ones(2, 2)}
    dcp_save(names, tmp_path / "m")
    with open_any(tmp_path / "m") as opened:
        assert list(opened.tensors) == ["decoder.w"]
        assert [tensor.within for tensor in opened.carried] == [OPT]


SWAPPED: Mapping[str, tuple[str, dict[str, Any], dict[str, str]]] = {
    "Lightning 2.6, WeightAveraging": (
        "current_model_state",
        {"current_model_state": net(), "averaging_state": {"n_averaged": torch.tensor(3)}},
        {"current_model_state": "", "averaging_state": AVG},
    ),
    "MMEngine 0.10, EMAHook": (
        "ema_state_dict",
        {"ema_state_dict": {"steps": torch.tensor(3)} | {f"module.{name}": each for name, each in net().items()}},
        {"ema_state_dict": ""},
    ),
}


@CONTAINERS
@pytest.mark.parametrize("name", SWAPPED)
def test_an_average_in_the_place_of_the_trained_weights_is_said(save: Any, name: str, tmp_path: Path) -> None:
    key, beside, kinds_beside = SWAPPED[name]
    save({"state_dict": net(0.5), **beside, "optimizer_states": [trained()]}, tmp_path / "m")
    with open_any(tmp_path / "m") as opened:
        assert opened.wrapper == "state_dict"
        said = "state_dict is a running average; the trained weights, from which training goes on, are under "
        assert list(opened.notes) == [f"{said}{key} ({KEY} {key})"]
        found = {tensor.name.partition(".")[0]: tensor.within for tensor in opened.carried}
    assert found == {**kinds_beside, "optimizer_states": OPT}
    save({"state_dict": net(), "ema_state_dict": net()}, tmp_path / "timm")
    with open_any(tmp_path / "timm") as opened:
        assert not opened.notes
        assert {tensor.within for tensor in opened.carried} == {AVG}


def deepspeed_model(shape: tuple[int, ...]) -> dict[str, Any]:
    """A model file as DeepSpeed 0.19 writes it; with stage 3, its tensors are placeholders."""
    module = {name: torch.empty(0) if shape == (0,) else each for name, each in net().items()}
    return {
        "module": module,
        "buffer_names": [],
        "optimizer": None,
        "param_shapes": [{"fc.weight": torch.Size([3, 4])}],
        "frozen_param_shapes": None,
        "shared_params": {},
        "frozen_param_fragments": None,
        "lr_scheduler": None,
        "data_sampler": None,
        "random_ltd": None,
        "sparse_tensor_module_names": [],
        "skipped_steps": 0,
        "global_steps": 1,
        "global_samples": 8,
        "dp_world_size": 1,
        "mp_world_size": 1,
        "ds_version": "0.19.8",
    }


def test_deepspeed_model_files_hold_the_module_and_optimizer_files_no_state_dict(tmp_path: Path) -> None:
    torch.save(deepspeed_model((3, 4)), tmp_path / "mp_rank_00_model_states.pt")
    with open_any(tmp_path / "mp_rank_00_model_states.pt") as opened:
        assert (opened.wrapper, list(opened.tensors), list(opened.carried)) == ("module", list(net()), [])
    state = {"optimizer_state_dict": deepspeed("fp32_flat_groups"), "ds_config": {}, "ds_version": "0.19.8"}
    torch.save(state, tmp_path / "zero_pp_rank_0_mp_rank_00_optim_states.pt")
    with pytest.raises(
        UnsupportedError, match=r"only optimizer state; --key reads one of these: optimizer_state_dict$"
    ):
        open_any(tmp_path / "zero_pp_rank_0_mp_rank_00_optim_states.pt").__enter__()


def test_the_note_on_an_average_is_that_of_a_folder_too(tmp_path: Path) -> None:
    torch.save({"params_ema": net()}, tmp_path / "pytorch_model.bin")
    with open_any(tmp_path) as opened:
        assert [note.partition(":")[0] for note in opened.notes] == ["the state dict is that under params_ema"]


def test_shared_lists_of_parameters_are_read_once(tmp_path: Path) -> None:
    """A file could name one long list for very many groups."""
    numbers = list(range(3000))
    groups = [{"params": numbers} for _ in range(3000)]
    state = {"state": {0: {"exp_avg": torch.ones(3, 4)}}, "param_groups": groups}
    torch.save({"model": net(), "optimizer": state}, tmp_path / "m.pt")
    with open_any(tmp_path / "m.pt") as opened:
        assert opened.carried[0].moment == Moment("optimizer", 0, 0, None, "exp_avg")

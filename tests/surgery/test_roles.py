"""Which role each tensor has: layouts of the writers, at every depth, and their neighbours that are parameters."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from roles_by_hand import described, roles
from safetensors.torch import save_file
from surgery_zoo import apply, ask, count, load, noise, save
from torch import Tensor

from prunecli.errors import UsageError
from prunecli.formats.detect import open_checkpoint
from prunecli.formats.opening import open_any
from prunecli.surgery.names.parameters import parameters_of
from prunecli.surgery.roles import table
from prunecli.surgery.roles.modules import Module, modules_of
from prunecli.surgery.roles.norms import directions_of

P, Q, K, I8 = "parameter", "quantiser state", "packed weight", "quantised weight"
S, A, D, C, INT = "statistic", "auxiliary vector", "derived copy", "setting", "integer tensor"
OPAQUE, MASK = "tensor without plain elements", "mask"

LAYOUTS: dict[str, dict[str, tuple[str, str]]] = {
    "a linear layer": {"weight": ("f32 8x4", P), "bias": ("f32 8", P)},
    "bitsandbytes, 4 bit": {
        "weight": ("u8 1024x1", K),
        "bias": ("f32 32", P),
        "weight.absmax": ("u8 32", Q),
        "weight.quant_map": ("f32 16", Q),
        "weight.nested_absmax": ("f32 1", Q),
        "weight.nested_quant_map": ("f32 256", Q),
        "weight.quant_state.bitsandbytes__nf4": ("u8 167", Q),
    },
    "bitsandbytes, 8 bit": {
        "weight": ("i8 32x64", I8),
        "bias": ("f16 32", P),
        "SCB": ("f32 32", Q),
        "weight_format": ("u8", Q),
    },
    "GPTQ, AutoRound": {
        "qweight": ("i32 16x32", K),
        "qzeros": ("i32 1x4", Q),
        "scales": ("f16 1x32", Q),
        "g_idx": ("i32 128", Q),
        "bias": ("f16 32", P),
    },
    "AWQ": {"qweight": ("i32 128x4", K), "qzeros": ("i32 1x4", Q), "scales": ("f16 1x32", Q)},
    "Marlin": {"B": ("i32 8x64", K), "s": ("f16 1x32", Q), "workspace": ("i32 16", Q)},
    "HQQ": {
        "W_q": ("u8 32x64", K),
        "scale": ("f32 64x1", Q),
        "zero": ("f32 64x1", Q),
        "nbits": ("i32", Q),
        "shape": ("i64 2", Q),
        "bias": ("f32 32", P),
    },
    "mlx": {"weight": ("u32 32x16", K), "scales": ("f32 32x2", Q), "biases": ("f32 32x2", Q), "bias": ("f32 32", P)},
    "mlx, mxfp4": {"weight": ("u32 32x16", K), "scales": ("u8 32x4", Q), "bias": ("f32 32", P)},
    "compressed-tensors, int4": {
        "weight_packed": ("i32 32x16", K),
        "weight_scale": ("bf16 32x1", Q),
        "weight_zero_point": ("i32 4x1", Q),
        "weight_shape": ("i64 2", Q),
        "weight_g_idx": ("i32 128", Q),
    },
    "compressed-tensors, int8": {"weight": ("i8 32x64", I8), "weight_scale": ("bf16 32x1", Q)},
    "compressed-tensors, int8 with zero points": {
        "weight": ("i8 32x64", K),
        "weight_scale": ("bf16 32x1", Q),
        "weight_zero_point": ("i8 32x1", Q),
    },
    "nvfp4": {
        "weight_packed": ("u8 32x64", K),
        "weight_scale": ("f8 32x8", Q),
        "weight_global_scale": ("f32 1", Q),
        "input_global_scale": ("f32 1", Q),
    },
    "ModelOpt, nvfp4": {
        "weight": ("u8 32x64", K),
        "weight_scale": ("f8 32x8", Q),
        "weight_scale_2": ("f32", Q),
        "input_scale": ("f32", Q),
    },
    "fp4 of safetensors": {"weight": ("f4 32x32", K), "weight_scale": ("e8m0 32x1", Q), "bias": ("f32 32", P)},
    "fp8, DeepSeek": {"weight": ("f8 128x128", P), "weight_scale_inv": ("f32 1x1", Q)},
    "fp8, ComfyUI": {
        "weight": ("f8 8x4", P),
        "scale_weight": ("f32 1", Q),
        "scale_input": ("f32 1", Q),
        "bias": ("f16 8", P),
    },
    "fp8, TensorRT-LLM": {
        "weight": ("f8 8x4", P),
        "weights_scaling_factor": ("f32 1", Q),
        "activation_scaling_factor": ("f32 1", Q),
    },
    "fp8 without scales": {"weight": ("f8 8x4", P), "bias": ("f8 8", P), "gamma": ("bf16 8", P)},
    "torchao, int4": {
        "_weight_qdata": ("u8 32x64", K),
        "_weight_scale": ("bf16 2x32", Q),
        "_weight_zero_point": ("bf16 2x32", Q),
    },
    "torchao, fp8": {"_weight_qdata": ("f8 32x64", P), "_weight_scale": ("f32 32x1", Q)},
    "quanto, int8": {
        "weight._data": ("i8 32x128", I8),
        "weight._scale": ("f32 32x1", Q),
        "bias": ("f32 32", P),
        "input_scale": ("f32", Q),
        "output_scale": ("f32 1", Q),
    },
    "quanto, int4": {
        "weight._data._data": ("u8 16x128", K),
        "weight._scale": ("f32 32x1", Q),
        "weight._shift": ("f32 32x1", Q),
        "bias": ("f32 32", P),
        "input_scale": ("f32 1", Q),
    },
    "GPT-OSS": {
        "gate_up_proj_blocks": ("u8 2x64x2x16", K),
        "gate_up_proj_scales": ("u8 2x64x2", Q),
        "gate_up_proj_bias": ("bf16 2x64", P),
        "down_proj": ("bf16 2x64x64", P),
    },
    "fp8 experts": {
        "w13_weight": ("f8 2x64x64", P),
        "w13_weight_scale_inv": ("f32 2x1x1", Q),
        "w2_weight": ("bf16 2x64x64", P),
    },
    "attention with packed projections": {
        "in_proj_weight": ("i8 96x32", I8),
        "in_proj_weight_scale": ("f32 96", Q),
        "in_proj_bias": ("f32 96", P),
        "relative": ("f32 32x32", P),
    },
    "EETQ": {"weight": ("i8 64x64", K), "weight_scales": ("f16 64", Q), "bias": ("f16 64", P)},
    "TensorRT-LLM, int8": {"weight": ("i8 64x64", K), "per_channel_scale": ("f16 64", Q)},
    "Gemma, int2": {"weight": ("u8 32x16", K), "weight_scale": ("f32 32x1", Q), "input_activation_scale": ("f32", Q)},
    "Gemma, int8": {"embedding_quantized": ("i8 50x32", I8), "embedding_scale": ("f32 50x1", Q)},
    "Metal": {
        "weight": ("u32 32x16", K),
        "scales": ("bf16 32x2", Q),
        "qbiases": ("bf16 32x2", Q),
        "bias": ("f32 32", P),
    },
    "fp8, blocks": {
        "weight": ("f8 128x128", P),
        "weight_scale_inv": ("f32 1x1", Q),
        "activation_scale": ("f32", Q),
        "gate_up_proj": ("f8 2x64x64", P),
        "gate_up_proj_activation_scale": ("f32 2", Q),
        "gate_up_proj_bias": ("f32 2x64", P),
    },
    "EXL2": {
        "q_weight": ("i32 16x32", K),
        "q_scale": ("i32 1x4", Q),
        "q_scale_max": ("f16 1", Q),
        "q_groups": ("i16 2", Q),
        "q_invperm": ("i16 128", Q),
        "bias": ("f16 32", P),
    },
    "EXL3 as it began": {"trellis": ("i16 8x2x48", K), "su": ("i16 8", Q), "sv": ("i16 2", Q)},
    "EXL3": {
        "trellis": ("i16 8x2x48", K),
        "mcg": ("i32", Q),
        "suh": ("f16 128", Q),
        "svh": ("f16 32", Q),
        "bias": ("f16 32", P),
    },
    "AQLM": {"codes": ("i8 32x16x2", K), "codebooks": ("f16 2x256x1x8", Q), "scales": ("f16 32x1x1x1", Q)},
    "VPTQ": {
        "indices": ("i16 1x16x40", K),
        "centroids.weight": ("f16 1x2048", Q),
        "weight_scale": ("f16 128", Q),
        "weight_bias": ("f16 128", Q),
        "bias": ("f16 32", P),
    },
    "QuIP#": {"Qidxs": ("i64 32x16", K), "SU": ("f16 128", Q), "SV": ("f16 32", Q), "Wscale": ("f32", Q)},
    "HIGGS": {
        "weight": ("i16 16x32", K),
        "scales": ("f16 2x32", Q),
        "tables": ("f16 16", Q),
        "tables2": ("f32 16x16x1", Q),
    },
    "FP-Quant": {
        "qweight": ("u8 32x64", K),
        "scales": ("u8 32x4", Q),
        "weight_global_scale": ("f32 1", Q),
        "forward_hadamard_matrix": ("bf16 32x32", Q),
    },
    "nunchaku": {
        "qweight": ("i8 32x64", K),
        "wscales": ("bf16 2x32", Q),
        "smooth_factor": ("bf16 128", Q),
        "bias": ("bf16 32", P),
        "smooth_factor_orig": ("bf16 128", Q),
        "proj_down": ("bf16 128x16", P),
        "proj_up": ("bf16 32x16", P),
        "wcscales": ("bf16 32", Q),
    },
    "QServe": {"qweight": ("i8 32x64", K), "s1_scales": ("f16 32", Q), "s2_zeros": ("i8 2x32", Q)},
    "BitNet": {"weight": ("u8 8x64", K), "weight_scale": ("bf16 1", Q)},
    "FBGEMM embeddings": {"weight": ("u8 100x16", K), "weight_qscale": ("f32 100", Q), "weight_qbias": ("f32 100", Q)},
    "Quark": {"weight": ("f8 8x4", P), "weight_scale": ("f32 8", Q), "input_scale": ("f32 1", Q)},
    "observers of torch": {
        "weight": ("f32 3x4", P),
        "activation_post_process.histogram": ("f32 2048", Q),
        "activation_post_process.min_val": ("f32 1", Q),
        "activation_post_process.max_val": ("f32 1", Q),
        "activation_post_process.eps": ("f32 1", Q),
    },
    "quantisation-aware training in torch": {
        "weight": ("f32 3x4", P),
        "weight_fake_quant.scale": ("f32 3", Q),
        "weight_fake_quant.zero_point": ("i32 3", Q),
        "weight_fake_quant.fake_quant_enabled": ("i64 1", Q),
    },
    "ModelOpt": {
        "weight": ("bf16 8x4", P),
        "weight_quantizer._amax": ("f32 8x1", Q),
        "input_quantizer._amax": ("f32 1", Q),
    },
    "Brevitas": {"weight": ("f32 8x4", P), "weight_quant.tensor_quant.scaling_impl.value": ("f32 1", Q)},
    "NNCF": {"__nncf_hooks.post_hooks.conv:weight__0.0._scale": ("f32 8x1", Q), "conv.weight": ("f32 8x4", P)},
    "scales of a cache": {"k_scale": ("f32 1", Q), "v_scale": ("f32", Q), "q_norm": ("f32 8", P)},
    "Transformer Engine": {"weight": ("bf16 8x4", P), "layer_norm_weight": ("bf16 4", P), "_extra_state": ("u8 20", Q)},
    "a norm of flax": {"scale": ("f32 8", P)},
    "scales and zeros beside nothing": {
        "scale": ("f32 8", P),
        "zero": ("f32 8", P),
        "biases": ("f32 8", P),
        "weight_scale": ("f32 8x1", P),
        "weight": ("f32 8x4", P),
        "q_scale_max": ("f32 8", P),
    },
    "layer scale": {"gamma": ("f32 8", P), "ls1.scale": ("f32 8", P)},
    "a codebook": {"scales": ("f32 16x1", P), "codebook": ("f32 16x8", P), "quantizer.codebook": ("f32 16x8", P)},
    "indices": {
        "relative_position_index": ("i64 49x49", INT),
        "relative_position_bias_table": ("f32 169x3", P),
        "position_ids": ("i32 1x77", INT),
        "scale": ("f32 3", P),
    },
    "GPT-2": {"c_attn.weight": ("f32 8x24", P), "bias": ("u8 1x1x9x9", INT), "masked_bias": ("f32", C)},
    "spectral norm": {
        "weight_orig": ("f32 3x4", P),
        "weight_u": ("f32 3", A),
        "weight_v": ("f32 4", A),
        "bias": ("f32 3", P),
    },
    "spectral norm of torch 0.4": {"weight": ("f32 3x4", D), "weight_orig": ("f32 3x4", P), "weight_u": ("f32 3", A)},
    "spectral norm of SAGAN": {"weight_bar": ("f32 3x4", P), "weight_u": ("f32 3", A), "weight_v": ("f32 4", A)},
    "spectral norm of BigGAN": {"weight": ("f32 3x4", P), "u0": ("f32 1x3", A), "sv0": ("f32 1", A)},
    "spectral norm as a parametrization": {
        "parametrizations.weight.original": ("f32 3x4", P),
        "parametrizations.weight.0._u": ("f32 3", A),
        "parametrizations.weight.0._v": ("f32 4", A),
    },
    "orthogonal": {
        "parametrizations.weight.original": ("f32 4x4", P),
        "parametrizations.weight.0.base": ("f32 4x4", A),
    },
    "orthogonal and wide": {
        "parametrizations.weight.original": ("f32 4x6", P),
        "parametrizations.weight.0.base": ("f32 6x6", A),
    },
    "orthogonal and tall": {
        "parametrizations.weight.original": ("f32 2x6x4", P),
        "parametrizations.weight.0.base": ("f32 2x6x6", A),
    },
    "low rank as a parametrization": {
        "parametrizations.weight.original": ("f32 4x4", P),
        "parametrizations.weight.0.lora_A": ("f32 2x4", P),
    },
    "weight norm": {"weight_g": ("f32 3x1", A), "weight_v": ("f32 3x4", P), "bias": ("f32 3", P)},
    "weight norm over everything": {"weight_g": ("f32", A), "weight_v": ("f32 3x4", P)},
    "weight norm of an LSTM": {"weight_ih_l0_g": ("f32 12x1", A), "weight_ih_l0_v": ("f32 12x4", P)},
    "weight norm as a parametrization": {
        "parametrizations.weight.original0": ("f32 1x1x2", A),
        "parametrizations.weight.original1": ("f32 3x4x2", P),
    },
    "no weight norm": {"w_g": ("f32 4x4", P), "w_v": ("f32 4x4", P), "x_u": ("f32 3", P), "x_g": ("f32 3", P)},
    "DoRA": {
        "lora_A.weight": ("f32 2x4", P),
        "lora_B.weight": ("f32 3x2", P),
        "lora_magnitude_vector": ("f32 3", A),
    },
    "DoRA in a model": {"lora_magnitude_vector.default.weight": ("f32 3", A), "base_layer.weight": ("f32 3x4", P)},
    "LyCORIS": {
        "lora_down.weight": ("f32 2x4", P),
        "lora_up.weight": ("f32 3x2", P),
        "alpha": ("f32", C),
        "dora_scale": ("f32 3x1", A),
    },
    "Distiller": {
        "float_weight": ("f32 3x4", P),
        "weight": ("f32 3x4", D),
        "weight_scale": ("f32", C),
        "float_bias": ("f32 3", P),
        "bias": ("f32 3", D),
    },
    "batch norm": {
        "weight": ("f32 3", P),
        "running_mean": ("f32 3", S),
        "running_var": ("f32 3", S),
        "num_batches_tracked": ("i64", S),
    },
    "batch norm of Keras": {"gamma": ("f32 3", P), "moving_mean": ("f32 3", S), "moving_variance": ("f32 3", S)},
    "EnCodec": {
        "embed": ("f32 16x8", P),
        "embed_avg": ("f32 16x8", S),
        "cluster_size": ("f32 16", S),
        "inited": ("f32 1", S),
    },
    "Mimi": {"embed_sum": ("f32 16x8", S), "cluster_usage": ("f32 16", S), "initialized": ("f32 1", S)},
    "CLIP": {"logit_scale": ("f32", C), "text_projection": ("f32 4x4", P)},
    "rotary embeddings": {"rotary_emb.inv_freq": ("f32 8", C), "rope.freqs": ("f32 8", C)},
    "Swin": {"attn_mask": ("f32 4x49x49", C), "qkv.weight": ("f32 12x4", P)},
    "fairseq": {"version": ("f32 1", C), "embed_positions._float_tensor": ("f32 1", C), "embed_out": ("f32 9x4", P)},
    "DeepSpeed, top-k": {"weight": ("f32 3x4", P), "sparse_mask_scores": ("f32 3x4", "soft mask")},
    "masks that no weight was given": {"x_orig": ("f32 3x4", P), "x": ("f32 3x4", P), "x_mask": ("f32 3x4", MASK)},
    "opaque": {"weight": ("quantised", OPAQUE), "flags": ("b 3", INT), "half": ("e8m0 3", OPAQUE)},
}


@pytest.mark.parametrize("prefix", ["", "layer.", "state_dict.module.model.layers.0.self_attn.q_proj.", ".", "weight."])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_has_its_roles_at_every_depth(layout: str, prefix: str) -> None:
    tensors = LAYOUTS[layout]
    assert roles({name: text for name, (text, _) in tensors.items()}, prefix) == {
        name: role for name, (_, role) in tensors.items()
    }


def test_layouts_side_by_side_keep_their_roles() -> None:
    every = {
        f"m{place}.{name}": each for place, tensors in enumerate(LAYOUTS.values()) for name, each in tensors.items()
    }
    assert roles({name: text for name, (text, _) in every.items()}) == {name: role for name, (_, role) in every.items()}


def test_every_rule_claims_something_here_and_says_what_it_looks_for() -> None:
    claimed = {role for tensors in LAYOUTS.values() for _, role in tensors.values()}
    elsewhere = {table.Role.OPTIMIZER, table.Role.AVERAGE}
    assert {rule.role for rule in table.RULES} - elsewhere == {table.Role(role) for role in claimed} - {table.Role(P)}
    assert all(rule.evidence and rule.writers and rule.source for rule in table.RULES)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_pattern_zeroes_parameters_and_not_a_byte_of_anything_else(suffix: str, tmp_path: Path) -> None:
    spelled = {
        f"m{place}.{name}": each
        for place, tensors in enumerate(LAYOUTS.values())
        for name, each in tensors.items()
        if not any(text in ("quantised", "f4 32x32") or "e8m0" in text for text, _ in tensors.values())
    }
    described_by_name = described({name: text for name, (text, _) in spelled.items()})
    tensors = {
        name: noise(each.shape, getattr(torch, each.dtype.name), place)
        for place, (name, each) in enumerate(described_by_name.items())
    }
    source, target = save(tensors, tmp_path / f"in{suffix}"), tmp_path / f"out{suffix}"
    apply(source, target, ask(1.0, "*", remove=True))
    loaded = load(target)
    for name, (_, role) in spelled.items():
        before, after = (each.reshape(-1).view(torch.uint8) for each in (tensors[name], loaded[name]))
        assert torch.equal(after, torch.zeros_like(before) if role == P else before), name
    assert {each.name for each in count(source).parameters} == {
        name for name, (_, role) in spelled.items() if role == P
    }


@pytest.mark.parametrize(
    ("layout", "name", "message"),
    [
        ("bitsandbytes, 4 bit", "weight", "packed weight"),
        ("mlx", "weight", "packed weight"),
        ("GPTQ, AutoRound", "qweight", "0 is not zero"),
    ],
)
def test_a_packed_weight_is_refused_by_its_exact_name(layout: str, name: str, message: str, tmp_path: Path) -> None:
    tensors = {
        each.name: noise(each.shape, getattr(torch, each.dtype.name))
        for each in described({name: text for name, (text, _) in LAYOUTS[layout].items()}).values()
    }
    source = save(tensors, tmp_path / "in.safetensors")
    with pytest.raises(UsageError, match=f"{name} cannot be pruned: .*{message}"):
        apply(source, tmp_path / "out.safetensors", ask(0.5, name, remove=True))
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("name", ["SCB", "weight", "weight_format"])
def test_an_exact_name_takes_what_has_a_zero(name: str, tmp_path: Path) -> None:
    tensors = {"weight": noise((4, 8), torch.int8) | 1, "SCB": torch.ones(4), "weight_format": torch.tensor(3).byte()}
    source, target = save(tensors, tmp_path / "in.safetensors"), tmp_path / "out.safetensors"
    apply(source, target, ask(1.0, name, remove=True))
    assert {each: not tensor.any() for each, tensor in load(target).items()} == {each: each == name for each in tensors}


def test_what_lies_in_optimizer_state_or_an_average_is_not_a_parameter() -> None:
    for within, role in (("optimizer state", table.Role.OPTIMIZER), ("average", table.Role.AVERAGE)):
        assert set(table.roles_of(described({"weight": "f32 3x4", "step": "f32"}, within=within)).values()) == {role}


def test_directions_of_weight_norms_say_what_the_norm_keeps() -> None:
    spelled = {
        "a.weight_g": "f32 3x1",
        "a.weight_v": "f32 3x4",
        "b.weight_g": "f32",
        "b.weight_v": "f32 3x4",
        "c.parametrizations.weight.original0": "f32 1x1x2",
        "c.parametrizations.weight.original1": "f32 3x4x2",
        "d.weight_orig": "f32 3x4",
        "d.weight_u": "f32 3",
        "d.weight_v": "f32 4",
        "weight_g": "f32 1x4",
        "weight_v": "f32 3x4",
        "e.w_g": "f32 4x4",
        "e.w_v": "f32 4x4",
    }
    assert directions_of(described(spelled)) == {
        "a.weight_v": (0,),
        "b.weight_v": (),
        "c.parametrizations.weight.original1": (2,),
        "weight_v": (1,),
    }


def test_rules_are_asked_once_for_modules_that_look_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0
    judge = table._judge

    def counting(module: Any) -> Any:
        nonlocal asked
        asked += 1
        return judge(module)

    monkeypatch.setattr(table, "_judge", counting)
    gptq = {"qweight": "i32 16x32", "qzeros": "i32 1x4", "scales": "f16 1x32", "g_idx": "i32 128"}
    for modules in (1, 1000):
        asked = 0
        spelled = {f"experts.{place}.{name}": text for place in range(modules) for name, text in gptq.items()}
        assert list(table.roles_of(described(spelled)).values()) == [K, Q, Q, Q] * modules
        assert asked == 1
    asked = 0
    plain = {f"layers.{place}.weight": f"f32 {place + 1}x2" for place in range(1000)}
    assert set(table.roles_of(described(plain)).values()) == {P}
    assert asked == 0


def test_the_tensors_of_one_module_are_looked_at_a_fixed_number_of_times() -> None:
    """Whatever names a hostile file thinks of: the work grows with the number of tensors, and no faster."""

    class CountZeros(dict[str, Any]):
        looks = 0

        def __getitem__(self, key: str) -> Any:
            CountZeros.looks += 1
            return super().__getitem__(key)

        def get(self, key: str, default: Any = None) -> Any:
            CountZeros.looks += 1
            return super().get(key, default)

        def items(self) -> Any:
            for item in super().items():
                CountZeros.looks += 1
                yield item

    looks = []
    for many in (200, 400):
        spelled = {
            f"w{place}{end}": "u8 4x4" for place in range(many) for end in ("", "_scale", "_orig", "_u", "_mask")
        }
        (_, module), *_ = modules_of(described(spelled))
        CountZeros.looks = 0
        counted = CountZeros(module.own)
        table._judge(Module(module.tail, counted, None, counted, counted, counted, ()))
        looks.append(CountZeros.looks)
    assert looks[1] <= 2 * looks[0] + 100


def test_a_parameter_knows_its_role(tmp_path: Path) -> None:
    source = save({"weight_orig": noise((3, 4)), "weight_u": noise((3,)), "weight": noise((3, 4))}, tmp_path / "m.pt")
    with open_checkpoint(source) as checkpoint:
        found = {name: str(each.role) for name, each in parameters_of(checkpoint).items()}
    assert found == {"weight_orig": P, "weight_u": A, "weight": D}


CONTAINERS = {
    "zip": "m.pt",
    "legacy": "m.pth",
    "safetensors": "m.safetensors",
    "folder": "m",
    "wrapped": "w.ckpt",
}


def stored(container: str, state: dict[str, Tensor], folder: Path) -> Path:
    """Write a state dict in a container; a folder cuts a layer's tensors into two shards."""
    path = folder / CONTAINERS[container]
    if container == "safetensors":
        save_file(state, path)
    elif container == "folder":
        path.mkdir()
        names = list(state)
        shards = {f"model-0000{place + 1}-of-00002.safetensors": names[place::2] for place in range(2)}
        for shard, own in shards.items():
            save_file({name: state[name] for name in own}, path / shard)
        weight_map = {name: shard for shard, own in shards.items() for name in own}
        (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    elif container == "wrapped":
        torch.save({"epoch": 1, "state_dict": {f"module.{name}": each for name, each in state.items()}}, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=container == "zip")
    return path


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_layout_has_its_roles_in_every_container(container: str, tmp_path: Path) -> None:
    """In a folder, a weight and what belongs to it may lie in different shards."""
    spelled = {
        f"m{place}.{name}": each
        for place, tensors in enumerate(LAYOUTS.values())
        for name, each in tensors.items()
        if not any(text in ("quantised", "f4 32x32") or "e8m0" in text for text, _ in tensors.values())
        and not any(text.startswith(("u32", "f8")) for text, _ in tensors.values())
    }
    tensors = {
        name: noise(each.shape, getattr(torch, each.dtype.name), place)
        for place, (name, each) in enumerate(described({name: text for name, (text, _) in spelled.items()}).items())
    }
    with open_any(stored(container, tensors, tmp_path)) as checkpoint:
        found = {each.name.removeprefix("module."): str(each.role) for each in parameters_of(checkpoint).values()}
    assert found == {name: role for name, (_, role) in spelled.items()}

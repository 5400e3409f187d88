"""The role of each tensor of a checkpoint, from structure and siblings first, and from names last.

`RULES` is a table: the first rule that claims a tensor gives its role; a tensor that no rule claims is a parameter.
Patterns select only parameters. All evidence comes from the header (names, shapes, element types, nesting), so a
hostile file can at most give its own tensors wrong roles.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum

from prunecli.formats.base import TensorInfo
from prunecli.formats.torch.key_words import AVERAGE, OPTIMIZER, PART
from prunecli.lean import dataclass
from prunecli.surgery.roles import constants, masks, norms, quantisers
from prunecli.surgery.roles.modules import Module, modules_of

__all__ = ["RULES", "Role", "Rule", "roles_of"]


class Role(StrEnum):
    """What a tensor is, in the words of notes and reports."""

    PARAMETER = "parameter"
    STATISTIC = "statistic"
    OPTIMIZER = "optimizer state"
    MASK = "mask"
    SOFT_MASK = "soft mask"
    DERIVED = "derived copy"
    AUXILIARY = "auxiliary vector"
    QUANTISER = "quantiser state"
    SETTING = "setting"
    AVERAGE = "average"
    OTHER = "other network"
    PACKED = "packed weight"
    QUANTISED = "quantised weight"
    INTEGER = "integer tensor"
    OPAQUE = "tensor without plain elements"


@dataclass(frozen=True, slots=True)
class Rule:
    """A row of the table: `claims` yields the last name components of those tensors of a module that have the role.

    `evidence` describes the evidence in words; `writers` names the libraries that write such tensors, with the versions
    examined; `source` says where that was seen.
    """

    role: Role
    evidence: str
    writers: str
    claims: Callable[[Module], Iterable[str]]
    source: str


def _within(text: str) -> Callable[[Module], Iterator[str]]:
    return lambda module: (last for last, tensor in module.own.items() if tensor.within == text)


def _of_kind(*kinds: str) -> Callable[[Module], Iterator[str]]:
    return lambda module: (last for last, tensor in module.own.items() if tensor.dtype.kind in kinds)


RULES: tuple[Rule, ...] = (
    Rule(
        Role.OPTIMIZER,
        "lies in a dict that has both `state` and `param_groups`, at any depth",
        "torch.optim 2.13",
        _within(OPTIMIZER),
        "files written by torch",
    ),
    Rule(
        Role.AVERAGE,
        "lies under a key that names an average, beside the networks",
        "timm, ultralytics, BasicSR",
        _within(AVERAGE),
        "names in public code",
    ),
    Rule(
        Role.OPAQUE,
        "is a part of a tensor without plain elements: its indices, its values, what one rank held of it",
        "torch 2.13 (sparse, nested, DTensor, subclasses)",
        _within(PART),
        "files written by torch",
    ),
    Rule(
        Role.PACKED,
        "an integer or 4-bit weight with something that scales it beside it or below its name: its elements are codes, "
        "or several numbers each, and the byte 0 is seldom zero",
        "bitsandbytes 0.50.2 (4 bit), HQQ 0.2.8, mlx 0.32.4, torchao 0.18.0, optimum-quanto 0.2.7 (int4); GPTQ, AWQ, "
        "AutoRound, Marlin, compressed-tensors 0.20.1, GPT-OSS (mxfp4), HIGGS, FP-Quant, AQLM, VPTQ, BitNet, EETQ, "
        "EXL2, EXL3, QServe, QuIP#, nunchaku, FBGEMM",
        quantisers.packed,
        "files written by the first five; names in the public code of the others",
    ),
    Rule(
        Role.QUANTISED,
        "an 8-bit integer weight with one scale a row or one in all, and no zero point: 0 is zero",
        "bitsandbytes 0.50.2 (8 bit), optimum-quanto 0.2.7 (int8), compressed-tensors 0.20.1, Gemma in transformers",
        quantisers.quantised,
        "files written by the first two; transformers/integrations/gemma_quant.py",
    ),
    Rule(
        Role.QUANTISER,
        "lies beside a packed, integer, fp8 or 4-bit weight: everything in the module of its one weight but biases and "
        "low-rank branches; of an fp8 weight what is named a scale, a maximum or a zero point",
        "the writers of packed weights; fp8 of DeepSeek, ComfyUI, ModelOpt, TensorRT-LLM, Quark",
        quantisers.state_beside,
        "files written by bitsandbytes, HQQ, mlx, torchao, quanto; names in public code",
    ),
    Rule(
        Role.QUANTISER,
        "lies below the name of a packed weight (`weight.absmax`)",
        "bitsandbytes 0.50.2",
        quantisers.state_below,
        "files written by bitsandbytes",
    ),
    Rule(
        Role.QUANTISER,
        "state of an observer (`min_val` beside `max_val`, `scale` beside an integer `zero_point`), or "
        "of a module that imitates quantisation (`*_fake_quant`, `*_quantizer._amax`, `__nncf_hooks`)",
        "torch.ao 2.13, ModelOpt, NNCF 3.2, Brevitas",
        quantisers.fake_quantisers,
        "files written by torch; names in the public code of the others",
    ),
    Rule(
        Role.QUANTISER,
        "one number that scales a cache (`k_scale`), or bytes named `_extra_state`",
        "compressed-tensors 0.20.1, ModelOpt, Transformer Engine",
        quantisers.cache_scales,
        "compressed_tensors/quantization/lifecycle/initialize.py; names in public code",
    ),
    Rule(
        Role.MASK,
        "`x_mask` or `_x_mask` beside `x` or `x_orig`, `mask` or `sparse_pruning_mask` beside `weight`, "
        "`0.mask` in a parametrization, of the weight's shape; those that hold more than 0 and 1 are soft masks",
        "torch.nn.utils.prune 2.13, coremltools, SynFlow, ModelOpt, NNCF 3.2, DeepSpeed 0.19.8, MADE, PixelCNN",
        masks.masks,
        "nncf/torch/function_hook/hook_storage.py; modelopt/torch/sparsity; deepspeed/compression/basic_layer.py",
    ),
    Rule(
        Role.SOFT_MASK,
        "`mask` in `__nncf_hooks`, `sparse_mask_scores` beside `weight`: what a mask is computed from",
        "NNCF 3.2 (regularisation based), DeepSpeed 0.19.8 (top-k)",
        masks.scores,
        "nncf/torch/function_hook/pruning/rb/modules.py; deepspeed/compression/basic_layer.py",
    ),
    Rule(
        Role.DERIVED,
        "`x` beside `x_orig` and `x_u`, or beside `float_x`: computed from them at each forward",
        "torch 0.4 (spectral norm), Distiller (quantisation-aware training)",
        norms.derived_copies,
        "torch/nn/utils/spectral_norm.py; distiller/quantization/quantizer.py",
    ),
    Rule(
        Role.AUXILIARY,
        "`x_u`, `x_v` beside `x_orig` or `x_bar`; `_u`, `_v`, `base` in a parametrization; `u0` beside "
        "`sv0` and `weight`",
        "torch 0.4 to 2.13 (spectral norm, orthogonal), SAGAN and its kin, BigGAN-PyTorch",
        norms.spectral_vectors,
        "state dicts of torch; pytorch-spectral-normalization-gan; BigGAN-PyTorch/layers.py",
    ),
    Rule(
        Role.AUXILIARY,
        "magnitudes, one of which scales a whole row: `x_g` beside `x_v`, `original0` beside "
        "`original1`, of shapes that broadcast; `lora_magnitude_vector`, `dora_scale`",
        "torch 0.4 to 2.13 (weight norm), transformers 5.24 (Wav2Vec2), peft 0.21.2, LyCORIS",
        norms.magnitudes,
        "state dicts of torch; files written by peft; names in public code",
    ),
    Rule(
        Role.STATISTIC,
        "a buffer, where the file says so",
        "torch.nn.Module, TorchScript, torch.export",
        constants.buffers,
        "files written by torch",
    ),
    Rule(
        Role.STATISTIC,
        "`running_*`, `num_batches_tracked`, `moving_mean`, `moving_variance`",
        "torch.nn batch and instance norms, Keras 3, MXNet",
        constants.named_statistics,
        "torch/nn/modules/batchnorm.py; names in public code",
    ),
    Rule(
        Role.STATISTIC,
        "`cluster_size` beside `embed_avg`, `cluster_usage` beside `embed_sum`",
        "EnCodec, Mimi (transformers 5.24), vector-quantize-pytorch",
        constants.quantiser_statistics,
        "transformers/models/encodec, models/mimi",
    ),
    Rule(
        Role.SETTING,
        "a number without dimensions, real or complex",
        "kohya and LyCORIS (`alpha`), CLIP (`logit_scale`), GPT-2 (`masked_bias`)",
        constants.scalars,
        "transformers/models/clip, models/gpt2; names in public code",
    ),
    Rule(
        Role.SETTING,
        "tables that a model is built with, by name: `inv_freq`, `rope.freqs`, `attn_mask`, `pixel_mean`",
        "transformers 4 (Llama), Meta's Llama, Swin, detectron2, fairseq",
        constants.constants,
        "transformers/models/llama; names in public code",
    ),
    Rule(
        Role.OPAQUE,
        "an element type without elements of its own, or a tensor that torch rebuilds otherwise",
        "torch 2.13 (sparse, quantised, nested, DTensor, subclasses), safetensors 0.8 (F4, F6, F8_E8M0)",
        _of_kind("opaque"),
        "files written by torch and safetensors",
    ),
    Rule(
        Role.INTEGER,
        "whole numbers or truth values",
        "position ids, token types, attention masks",
        _of_kind("int", "bool"),
        "files written by transformers",
    ),
)
"""Every rule, in order of precedence."""


def roles_of(tensors: Mapping[str, TensorInfo]) -> dict[str, Role]:
    """Return the role of each tensor by its name, from the first rule that claims it; `Role.PARAMETER` if none does.

    The rules are applied once to modules that look the same, as most modules of a large model do.
    """
    found = dict.fromkeys(tensors, Role.PARAMETER)
    for prefixes, module in modules_of(tensors):
        roles = _judge(module)
        for prefix in prefixes:
            for last, role in roles.items():
                found[prefix + last] = role
    return found


def _judge(module: Module) -> dict[str, Role]:
    roles: dict[str, Role] = {}
    for rule in RULES:
        for last in rule.claims(module):
            roles.setdefault(last, rule.role)
    return roles

"""Evidence of quantised weights, and of the tensors that define the values of their numbers.

A quantised weight is recognised by its element type and by a tensor that scales it, next to it or below its name. Only
a module with such a weight has quantiser state: a `scale` on its own is the parameter of a norm.
"""

import re
from collections.abc import Iterator

from prunecli.formats.base import TensorInfo
from prunecli.surgery.roles.modules import Module, Siblings

__all__ = ["cache_scales", "fake_quantisers", "packed", "quantised", "state_below", "state_beside"]

_STATE = re.compile(
    r"(?i)(.*_)?q?(scales?|scaling|zeros?|absmax|amax|shift|smooth|zp|shape|biases|lut|scb|codebooks?)(?![a-z])"
    r"|.*(scale|absmax|quant_map|quant_state|zero_?point|weight_q?bias$|g_idx)"
)
"""Names of tensors that accompany a quantised weight; a name alone is not sufficient evidence."""

_TRAINED = re.compile(r"(.*_)?bias|lora_.*|proj_(down|up)|.*norm.*|.*weight(_[gv])?|.*embed.*")
"""Names of independent parameters in the module of a quantised weight: biases, low-rank branches, fused norms."""

_WHOLE = re.compile(
    r"(q_?)?weight(_q|_packed|_int\w+)?|_?weight_q?data|W_?q|B|codes|trellis|indices|Qidxs\w*|_?q?data|int_data"
)
"""Names of a module's only weight, which everything else in the module serves."""

_WEIGHT = re.compile(r"(?i).*(weight|blocks|packed|q?data|proj)(_q|_int\w+)?")
"""Names of weights, needed for types that indices can also have."""

_NO_WEIGHT = re.compile(r"(?i)(.*_)?(bias|mask|ids?|index|position\w*|perm|invperm|idx|offsets?|map|groups?)(_.*)?")

_OF_CACHE = re.compile(r"(q|k|v|kv|prob)(_cache|_proj)?_(scale|zero_point)")

_STEM = re.compile(r"_?(q_?weight|weight|blocks|packed|quantized|q?data|q)$")
_PARTS = 4
"""The most parts of a name, separated by `_`, that may follow the name of the weight."""

_DISTINCT = ("int8", "uint8", "uint32")
_SHARED = ("int32", "int16", "uint16")


def packed(module: Module) -> Iterator[str]:
    """Yield weights whose elements are codes or contain several numbers each: in most, a byte of 0 does not mean 0."""
    for last in _weights(module):
        tensor = module.own[last]
        if tensor.dtype.kind in ("int", "opaque") and not _has_plain_zero(module, last):
            yield last


def quantised(module: Module) -> Iterator[str]:
    """Yield weights of plain 8-bit integers with one scale per row or in all, and no zero point: 0 means 0."""
    for last in _weights(module):
        if _has_plain_zero(module, last):
            yield last


def state_beside(module: Module) -> Iterator[str]:
    """Yield the tensors in the module of a quantised weight that serve it."""
    if "centroids" in module.marks and "indices" in module.parent:
        yield from module.own
    weights = set(_weights(module))
    whole = _is_subclass(module) or any(_WHOLE.fullmatch(last) and not _is_float(module.own[last]) for last in weights)
    fractions = any(_is_float(module.own[last]) for last in weights) or _is_subclass(module, inner=True)
    stems = {_stem(last) for last in weights}
    for last, tensor in module.own.items():
        if last in weights or not (weights or whole or fractions):
            continue
        named = _STATE.match(last) is not None
        belongs = whole and (tensor.dtype.kind in ("int", "bool") or not _TRAINED.fullmatch(last))
        if belongs or (named and (whole or fractions or _follows(last, stems))):
            yield last


def state_below(module: Module) -> Iterator[str]:
    """Yield all tensors whose names continue that of a packed weight (`weight.absmax`)."""
    below = module.above is not None and module.above.dtype.name in _DISTINCT and _is_nested_state(module.own)
    if below or (module.tail == "quant_state" and _is_nested_state(module.parent)):
        yield from module.own


def fake_quantisers(module: Module) -> Iterator[str]:
    """Yield the state of observers and of modules that simulate quantisation during training."""
    own = module.own
    if ("min_val" in own and "max_val" in own) or "fake_quant_enabled" in own or module.tail.endswith("_fake_quant"):
        yield from own
    elif "scale" in own and "zero_point" in own and own["zero_point"].dtype.kind == "int":
        yield from ("scale", "zero_point")
    elif module.tail.endswith("_quantizer"):
        yield from (last for last in own if last.startswith("_"))
    elif module.tail == "scaling_impl":
        yield from (last for last in own if last == "value")
    elif "__nncf_hooks" in module.marks:
        yield from (last for last in own if "lora" not in last and not last.endswith("mask"))


def cache_scales(module: Module) -> Iterator[str]:
    """Yield the scales of an attention's quantised cache, one number each, and the state of Transformer Engine."""
    for last, tensor in module.own.items():
        of_cache = tensor.elements == 1 and _OF_CACHE.fullmatch(last)
        if of_cache or (last.endswith("_extra_state") and tensor.dtype.name == "uint8"):
            yield last


def _weights(module: Module) -> Iterator[str]:
    """Yield quantised weights: those of a type that quantised weights have, with a tensor that scales them."""
    own = module.own
    likely = [last for last, tensor in own.items() if _may_be_quantised(last, tensor)]
    if not likely:
        return
    followed = {stem for last, tensor in own.items() if _STATE.match(last) for stem in _begins(last)}
    beside = any(last not in likely and _is_state_of_module(last, tensor) for last, tensor in own.items())
    for last in likely:
        scaled = beside or last == "trellis" or _is_nested_state(module.inner) or _is_state_of_data(module)
        if (scaled and _WHOLE.fullmatch(last)) or _stem(last) in followed:
            yield last


def _may_be_quantised(last: str, tensor: TensorInfo) -> bool:
    dtype = tensor.dtype
    if len(tensor.shape) < 2 or _NO_WEIGHT.fullmatch(last) or (_STATE.match(last) and not _WHOLE.fullmatch(last)):
        return False
    if dtype.name in _DISTINCT or dtype.name.startswith(("float8", "float4")):
        return True
    return (dtype.name in _SHARED and bool(_WEIGHT.fullmatch(last) or _WHOLE.fullmatch(last))) or (
        dtype.kind == "int" and last.startswith("Qidxs")
    )


def _is_state_of_module(last: str, tensor: TensorInfo) -> bool:
    """Whether a tensor next to the only weight of a module serves it: any does, except independent parameters."""
    return _STATE.match(last) is not None or (tensor.dtype.kind == "float" and not _TRAINED.fullmatch(last))


def _has_plain_zero(module: Module, last: str) -> bool:
    """Whether the integer 0 means the number 0: 8-bit integers, one scale per row, and no zero point.

    Only names known for this count. Other names (EETQ's `weight_scales`, TensorRT-LLM's `per_channel_scale`) accompany
    integers that are reordered and offset by 128.
    """
    weight, own = module.own[last], module.own
    if weight.dtype.name != "int8" or weight.shape[-1] < 2:
        return False
    if any(re.search(r"(?i)zero|shift|zp", other) for other in own):
        return False
    rows = (1, weight.shape[0], weight.elements // weight.shape[-1])
    scales = [own.get(name) for name in ("SCB", f"{last}_scale", f"{_stem(last)}_scale")]
    return any(each is not None and each.dtype.kind == "float" and each.elements in rows for each in scales)


def _is_nested_state(below: Siblings) -> bool:
    return "absmax" in below or "quant_map" in below


def _is_state_of_data(module: Module) -> bool:
    return module.tail == "_data" and "_scale" in module.parent


def _is_subclass(module: Module, *, inner: bool = False) -> bool:
    """Whether a module is a weight of a tensor subclass stored in parts; with `inner`, whether it has such a weight."""
    if inner:
        return "_scale" in module.inner and ("_data" in module.inner or "_shift" in module.inner)
    return "_scale" in module.own and "_data" in module.data


def _is_float(tensor: TensorInfo) -> bool:
    return tensor.dtype.kind == "float"


def _stem(last: str) -> str:
    return _STEM.sub("", last)


def _begins(last: str) -> Iterator[str]:
    """Yield the stems of a name's beginnings: the name without its last part, without its last two parts, and so on."""
    for _ in range(_PARTS):
        last, underscore, _ = last.rpartition("_")
        if not underscore:
            return
        yield _stem(last)


def _follows(last: str, stems: set[str]) -> bool:
    return any(begin in stems for begin in _begins(last))

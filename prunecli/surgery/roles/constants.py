"""Evidence of statistics and settings: values that training measures, and values that a model was built with."""

import re
from collections.abc import Iterator

from prunecli.surgery.roles.modules import Module

__all__ = ["buffers", "constants", "named_statistics", "quantiser_statistics", "scalars"]

_STATISTIC = re.compile(r"running_.*|num_batches_tracked|moving_(mean|var|variance)|num_tracked")

_CODEBOOK = ("cluster_size", "cluster_usage", "embed_avg", "embed_sum", "initted", "inited", "initialized")

_CONSTANT = re.compile(
    r"inv_freq|original_inv_freq|freqs_cis|attn_mask|relative_coords_table|pixel_(mean|std)|_float_tensor|masked_bias"
)


def buffers(module: Module) -> Iterator[str]:
    """Yield the tensors that the file marks as buffers."""
    return (last for last, tensor in module.own.items() if tensor.buffer)


def named_statistics(module: Module) -> Iterator[str]:
    """Yield the statistics of norms."""
    return (last for last in module.own if _STATISTIC.fullmatch(last))


def quantiser_statistics(module: Module) -> Iterator[str]:
    """Yield the counts and sums from which a codebook's running average is computed."""
    own = module.own
    if ("cluster_size" in own or "cluster_usage" in own) and ("embed_avg" in own or "embed_sum" in own):
        yield from (last for last in own if last in _CODEBOOK)


def scalars(module: Module) -> Iterator[str]:
    """Yield single numbers: real or complex tensors without dimensions."""
    return (
        last for last, tensor in module.own.items() if not tensor.shape and tensor.dtype.kind in ("float", "complex")
    )


def constants(module: Module) -> Iterator[str]:
    """Yield fixed tables that a model is built with, in checkpoints that contain them nevertheless."""
    for last, tensor in module.own.items():
        named = _CONSTANT.fullmatch(last) and tensor.dtype.kind in ("float", "complex")
        if named or (last == "freqs" and module.tail == "rope") or (last == "version" and tensor.elements == 1):
            yield last

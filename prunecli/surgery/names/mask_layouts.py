"""Which tensors of a checkpoint are masks, of which weights, and what is left when they are baked."""

from collections.abc import Mapping
from dataclasses import dataclass

from prunecli.formats.base import TensorInfo

__all__ = ["MaskedWeight", "masked_weights"]


@dataclass(frozen=True, slots=True)
class MaskedWeight:
    """A weight with its mask. `name` is what the weight is called once the mask is baked.

    `leftovers` are other tensors that exist for the mask alone and go away with it.
    """

    name: str
    weight: TensorInfo
    mask: TensorInfo
    leftovers: tuple[str, ...] = ()


def masked_weights(tensors: Mapping[str, TensorInfo]) -> dict[str, MaskedWeight]:
    """Return the weights that have masks, by the names of their tensors.

    `x_orig` and `x_mask` of one shape, with no `x` beside them, are the pruned parameter `x` (torch.nn.utils.prune);
    coremltools puts a 0-d `x_amount` beside them. Of some opaque tensors (a pickled DTensor) the shape is not known.
    """
    found = {}
    for name, weight in tensors.items():
        base = name.removesuffix("_orig")
        mask = tensors.get(f"{base}_mask")
        if base != name and base not in tensors and mask is not None and _may_cover(mask, weight):
            amount = tensors.get(f"{base}_amount")
            leftovers = (amount.name,) if amount is not None and amount.shape == () else ()
            found[name] = MaskedWeight(base, weight, mask, leftovers)
    return found


def _may_cover(mask: TensorInfo, weight: TensorInfo) -> bool:
    unknown = any(each.dtype.kind == "opaque" and each.shape == () for each in (mask, weight))
    return mask.shape == weight.shape or unknown

"""Which tensors of a checkpoint are masks, which weights they belong to, and what remains after baking.

| writer | weight | mask | after baking |
|---|---|---|---|
| torch.nn.utils.prune, coremltools | `x_orig` | `x_mask` | `x`: the plain module loads it |
| SynFlow and similar methods | `x` | `x_mask` | `x` |
| ModelOpt | `x` | `_x_mask` | `x` |
| DeepSpeed | `weight` | `sparse_pruning_mask` | `weight` |
| masked layers of tutorials, MADE, PixelCNN | `weight` | `mask` | `weight` |
| a parametrization | `parametrizations.x.original` | `parametrizations.x.0.mask` | `x`: the plain module loads it |
| NNCF | `x` | `__nncf_hooks.post_hooks.x__0.0.binary_mask` | `x`: the model before NNCF wrapped it loads it |

In all layouts except the first, weight and mask are identified only by names and shapes, so a mask must also contain
only 0 and 1 (`binary.py` reads the values).
"""

import bisect
import re
from collections.abc import Iterator, Mapping

from prunecli.formats.base import TensorInfo
from prunecli.lean import dataclass

__all__ = ["MaskedWeight", "masked_weights"]

_PARAMETRIZED = re.compile(r"(?P<module>(?:.*\.)?)parametrizations\.(?P<leaf>[^.]+)\.\d+\.mask")
_HOOKED = re.compile(r"(?P<module>(?:.*\.)?)__nncf_hooks\.post_hooks\.(?P<node>[^.]+)__\d+\.\d+\.binary_mask")


@dataclass(frozen=True, slots=True)
class MaskedWeight:
    """A weight with its mask. `name` is the weight's name after baking.

    `leftovers` are other tensors that exist only for the mask and are removed with it. `certain` means that the names
    leave no doubt; otherwise the tensor counts as a mask only if it contains only 0 and 1.
    """

    name: str
    weight: TensorInfo
    mask: TensorInfo
    leftovers: tuple[str, ...] = ()
    certain: bool = True


def masked_weights(tensors: Mapping[str, TensorInfo], *, hooked: bool = False) -> dict[str, MaskedWeight]:
    """Return the weights with masks, certain or possible by names and shapes, by the names of the weights' tensors.

    With `hooked`, return only those of torch.nn.utils.prune: a module with another kind of mask needs it in its code.
    The shape of some opaque tensors (a pickled DTensor) is not known.
    """
    found: dict[str, MaskedWeight] = {}
    for name, mask in tensors.items():
        if not name.endswith("mask"):
            continue
        own = _pruned(tensors, name, mask)
        if own is None and not hooked:
            own = next(_beside(tensors, name, mask), None)
        if own is not None:
            found.setdefault(own.weight.name, own)
    _drop_entangled(tensors, found)
    return found


def _pruned(tensors: Mapping[str, TensorInfo], name: str, mask: TensorInfo) -> MaskedWeight | None:
    """Return `x_orig` and `x_mask` of one shape, if there is no `x`; coremltools also writes a 0-d `x_amount`."""
    base = name.removesuffix("_mask")
    weight = tensors.get(f"{base}_orig")
    if base == name or weight is None or base in tensors or not _may_cover(mask, weight):
        return None
    amount = tensors.get(f"{base}_amount")
    leftovers = (amount.name,) if amount is not None and amount.shape == () else ()
    return MaskedWeight(base, weight, mask, leftovers)


def _may_cover(mask: TensorInfo, weight: TensorInfo) -> bool:
    unknown = any(each.dtype.kind == "opaque" and each.shape == () for each in (mask, weight))
    return mask.shape == weight.shape or unknown


def _beside(tensors: Mapping[str, TensorInfo], name: str, mask: TensorInfo) -> Iterator[MaskedWeight]:
    """Yield the weights next to a mask that match it by name and shape."""
    for weight, baked in _weights_of(name):
        tensor = tensors.get(weight)
        if (
            tensor is not None
            and f"{weight}_orig" not in tensors
            and (baked == weight or baked not in tensors)
            and _covers(mask, tensor)
        ):
            yield MaskedWeight(baked, tensor, mask, certain=False)


def _weights_of(name: str) -> Iterator[tuple[str, str]]:
    """Yield the names of the weights to which a mask of this name may belong: as stored, and after baking."""
    cut = name.rfind(".") + 1
    module, last = name[:cut], name[cut:]
    if last in ("mask", "sparse_pruning_mask"):
        yield f"{module}weight", f"{module}weight"
    if last.endswith("_mask"):
        base = last.removesuffix("_mask")
        for leaf in dict.fromkeys((base, base.removeprefix("_"))):
            yield module + leaf, module + leaf
    parametrized = _PARAMETRIZED.fullmatch(name) if last == "mask" else None
    if parametrized:
        owner, leaf = parametrized["module"], parametrized["leaf"]
        yield f"{owner}parametrizations.{leaf}.original", owner + leaf
    hooked = _HOOKED.fullmatch(name) if last == "binary_mask" else None
    if hooked:
        weight = hooked["module"] + hooked["node"].replace(":", ".")
        yield weight, weight


def _covers(mask: TensorInfo, weight: TensorInfo) -> bool:
    """Whether a mask can belong to a weight: it has one number per element, of a type that can represent 0 and 1."""
    plain = all(each.dtype.prunable and each.view.nested and each.view.repeats <= 1 for each in (mask, weight))
    return plain and mask.shape == weight.shape != () and weight.dtype.kind in ("float", "complex")


def _drop_entangled(tensors: Mapping[str, TensorInfo], found: dict[str, MaskedWeight]) -> None:
    """Drop masks whose parametrization has other parts, which would lack their original after baking."""
    prefixes = [
        name.removesuffix("original") for name, own in found.items() if own.name != name and name.endswith(".original")
    ]
    names = sorted(tensors) if prefixes else []
    for prefix in prefixes:
        first = bisect.bisect_left(names, prefix)
        if first + 2 < len(names) and names[first + 2].startswith(prefix):
            del found[f"{prefix}original"]

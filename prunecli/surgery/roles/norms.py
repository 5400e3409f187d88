"""Evidence of norms of weights: the vectors and copies that they store, and the directions that they normalise.

A weight with a norm is stored in parts. One part is the parameter; the others scale whole rows of it, estimate its
largest singular value, or are its normalised copy.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from prunecli.formats.base import TensorInfo
from prunecli.surgery.roles.modules import Module, Siblings

__all__ = ["derived_copies", "directions_of", "magnitudes", "spectral_vectors"]

_PARAMETRIZED = ("original0", "original1")
_DIRECTIONS = ("_v", _PARAMETRIZED[1])


def spectral_vectors(module: Module) -> Iterator[str]:
    """Yield the vectors of spectral norms, and the fixed base of an orthogonal parametrization."""
    own = module.own
    for base, _ in _spectral(own):
        yield from (last for last in (f"{base}_u", f"{base}_v") if last in own and len(own[last].shape) == 1)
    for last in own if "weight" in own else ():
        numbered = re.fullmatch(r"(u|sv)(\d{1,3})", last)
        if numbered and {f"u{numbered[2]}", f"sv{numbered[2]}"} <= own.keys():
            yield last
    for last, tensor in own.items() if "original" in module.parent else ():
        vector = last in ("_u", "_v") and len(tensor.shape) == 1
        if vector or (last == "base" and _is_base(tensor.shape, module.parent["original"].shape)):
            yield last


def magnitudes(module: Module) -> Iterator[str]:
    """Yield the magnitudes of weight norms, and of low-rank adapters that have them: each scales a whole row."""
    for _, magnitude in _weight_norms(module.own):
        yield magnitude
    if "lora_magnitude_vector" in module.marks:
        yield from module.own
    for last in module.own:
        if last in ("lora_magnitude_vector", "dora_scale"):
            yield last


def derived_copies(module: Module) -> Iterator[str]:
    """Yield weights that each forward computes from another tensor of their module."""
    own = module.own
    for base, original in _spectral(own):
        if base in own and own[base].shape == own[original].shape:
            yield base
    for last, tensor in own.items():
        made = own.get(last.removeprefix("float_"))
        if last.startswith("float_") and made is not None and made.shape == tensor.shape != ():
            yield last.removeprefix("float_")


def directions_of(tensors: Mapping[str, TensorInfo]) -> dict[str, tuple[int, ...]]:
    """Return the directions of weight norms by name, with the dimensions that the norm keeps, () for none.

    If all elements at one index of those dimensions (a whole row of a linear layer) become zero, the norm is zero,
    and the first forward divides by it.
    """
    found = {}
    for name, tensor in tensors.items():
        if not name.endswith(_DIRECTIONS):
            continue
        magnitude = tensors.get(_magnitude_of(name))
        if magnitude is not None and f"{name[:-2]}_orig" not in tensors and _normalises(magnitude, tensor):
            found[name] = tuple(place for place, size in enumerate(magnitude.shape) if size != 1)
    return found


def _magnitude_of(name: str) -> str:
    module, dot, last = name.rpartition(".")
    if last == _PARAMETRIZED[1]:
        return f"{module}{dot}{_PARAMETRIZED[0]}"
    return f"{name[:-2]}_g" if name.endswith("_v") else ""


def _weight_norms(own: Siblings) -> Iterator[tuple[str, str]]:
    """Yield the direction and the magnitude of each weight norm."""
    for last, tensor in own.items():
        magnitude = _magnitude_of(last)
        if magnitude in own and f"{last[:-2]}_orig" not in own and _normalises(own[magnitude], tensor):
            yield last, magnitude


def _is_base(shape: Sequence[int], original: Sequence[int]) -> bool:
    """Whether a shape is that of the base of an orthogonal weight: square, with the weight's longer side."""
    return len(shape) == len(original) > 1 and tuple(shape) == (*original[:-2], *2 * (max(original[-2:]),))


def _normalises(magnitude: TensorInfo, direction: TensorInfo) -> bool:
    """Whether the shapes fit a norm over some or all dimensions: each dimension is 1, or has its full length."""
    sizes, all_sizes = magnitude.shape, direction.shape
    if magnitude.dtype.kind != "float" or direction.dtype.kind != "float" or not all_sizes:
        return False
    if not sizes:
        return True
    return (
        len(sizes) == len(all_sizes)
        and 1 in sizes
        and all(one in (1, whole) for one, whole in zip(sizes, all_sizes, strict=True))
    )


def _spectral(own: Siblings) -> Iterator[tuple[str, str]]:
    """Yield the names of each weight with a spectral norm and of its parameter, one dimension of which `x_u` fits."""
    for original, tensor in own.items():
        base = re.sub("_(orig|bar)$", "", original)
        vector = own.get(f"{base}_u") if base != original else None
        if vector is not None and len(vector.shape) == 1 and vector.shape[0] in tensor.shape:
            yield base, original

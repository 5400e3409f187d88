"""The modules of a checkpoint as rules of roles see them: a module's tensors, and those right above and below it."""

from collections.abc import Iterator, Mapping

from prunecli.formats.base import TensorInfo
from prunecli.lean import dataclass

__all__ = ["Module", "Siblings", "marks_of", "modules_of"]

Siblings = Mapping[str, TensorInfo]
"""The tensors of one module, by the last component of their names."""

_NOTHING: Siblings = {}
_NOWHERE = "nowhere"
"""A text that is not the prefix of any module, since prefixes end in a dot."""
_MARKS = ("__nncf_hooks", "lora_magnitude_vector", "centroids")
"""Components of a name that determine the role of everything below them."""

_TAILS = ("_fake_quant.", "_quantizer.", "quant_state.", "scaling_impl.", "rope.", "_data.")
"""The ends of module names that rules distinguish."""

_PLAIN = frozenset({"weight", "bias"})
_FRACTIONS = frozenset({"float64", "float32", "float16", "bfloat16"})
"""Names and types of tensors that rules claim only because of a sibling."""


@dataclass(frozen=True, slots=True)
class Module:
    """A module with its neighbourhood.

    `tail` is the last component of its name if that ends in one of `_TAILS`, else empty; `own` are its tensors.
    `above` is the tensor that has the module's name (`weight` for `weight.absmax`), `parent` are the tensors of the
    enclosing module, `inner` those of its submodule `weight`, and `data` those of its submodule `_data`; tensor
    subclasses are stored as such submodules. `marks` are the `_MARKS` that its name contains.
    """

    tail: str
    own: Siblings
    above: TensorInfo | None
    parent: Siblings
    inner: Siblings
    data: Siblings
    marks: tuple[str, ...]


def modules_of(tensors: Mapping[str, TensorInfo]) -> Iterator[tuple[list[str], Module]]:
    """Yield each distinct module once, with the prefixes of all modules that look the same to the rules.

    Modules that contain only plain weights and biases (most of them) are left out: no rule claims anything there.
    """
    grouped, notable = _grouped(tensors)
    numbered = _Numbers(grouped)
    alike: dict[object, list[str]] = {}
    for prefix in notable:
        tail, places = _places(prefix)
        above = tensors.get(prefix[:-1]) if prefix else None
        key = (
            tail,
            numbered[prefix],
            above and _look(above),
            marks_of(prefix),
            *[numbered[place] for place in places],
        )
        alike.setdefault(key, []).append(prefix)
    for prefixes in alike.values():
        prefix = prefixes[0]
        tail, places = _places(prefix)
        above = tensors.get(prefix[:-1]) if prefix else None
        parent, inner, data = [grouped.get(place, _NOTHING) for place in places]
        yield prefixes, Module(tail, grouped[prefix], above, parent, inner, data, marks_of(prefix))


def _places(prefix: str) -> tuple[str, list[str]]:
    """Return a module's tail, and the prefixes of the enclosing module and of two submodules."""
    start = prefix.rfind(".", 0, -1) + 1
    around = prefix[:start] if prefix else _NOWHERE
    return prefix[start:-1] if prefix.endswith(_TAILS) else "", [around, f"{prefix}weight.", f"{prefix}_data."]


def _grouped(tensors: Mapping[str, TensorInfo]) -> tuple[dict[str, dict[str, TensorInfo]], dict[str, None]]:
    """Return the tensors grouped by prefix (up to the last dot), and the prefixes of groups that rules must check."""
    grouped: dict[str, dict[str, TensorInfo]] = {}
    notable: dict[str, None] = {}  # a set that keeps the order
    for name, tensor in tensors.items():
        cut = name.rfind(".") + 1
        prefix, last = name[:cut], name[cut:]
        grouped.setdefault(prefix, {})[last] = tensor
        if (
            last not in _PLAIN
            or tensor.dtype.name not in _FRACTIONS
            or not tensor.view.shape
            or tensor.buffer
            or tensor.within
            or marks_of(prefix)
        ):
            notable[prefix] = None
    return grouped, notable


def marks_of(name: str) -> tuple[str, ...]:
    """Return the `_MARKS` that a name contains."""
    return tuple([mark for mark in _MARKS if mark in name])


class _Numbers(dict[str, int]):
    """A number for each prefix, equal for groups of tensors that look the same to the rules; -1 without tensors."""

    def __init__(self, grouped: Mapping[str, Siblings]) -> None:
        super().__init__()
        self._grouped = grouped
        self._looks: dict[object, int] = {}

    def __missing__(self, prefix: str) -> int:
        own = self._grouped.get(prefix)
        number = -1
        if own is not None:
            look = tuple([(last, *_look(tensor)) for last, tensor in own.items()])
            number = self._looks.setdefault(look, len(self._looks))
        self[prefix] = number
        return number


def _look(tensor: TensorInfo) -> tuple[object, ...]:
    """Return all properties of a tensor that a rule may use."""
    return tensor.dtype.name, tensor.view.shape, tensor.buffer, tensor.within

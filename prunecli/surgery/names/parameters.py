"""The parameters of a checkpoint: the tensors of its state dict, where a weight and its mask are one parameter."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from prunecli.formats.base import Layout, TensorInfo
from prunecli.lean import dataclass
from prunecli.surgery.names.binary import is_binary
from prunecli.surgery.roles.mask_layouts import MaskedWeight, masked_weights
from prunecli.surgery.roles.table import Role, roles_of

__all__ = ["DEEPEST", "Parameter", "canonical", "canonical_names", "is_among_averages", "parameters_of"]

_PREFIXES = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""Path components that torch's wrappers insert anywhere in a name."""

_AVERAGE = re.compile(r"(?i)(.*_)?(ema|swa)(_.*)?")
"""A component of a name below which averages lie, if their originals exist, too: `ema` has other meanings."""

_FLAT = "ema_"
"""The prefix of averages in mmcv (1.x): top-level buffers, with underscores for the dots of the parameter's name."""

DEEPEST = 128
"""The most components of a name to search averages and other copies for: every suffix of the name is tried."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A tensor of the state dict under its name, with its mask if it has one.

    `weight` contains its values (stored as `name` or `name_orig`); `role` says what it is. `key` is the canonical name,
    from which the random stream is derived. `average_of` names the parameter of the same state dict that this one is a
    running average of (`model_ema.fc.weight`). `leftovers` are tensors that are removed together with the mask.
    """

    name: str
    key: str
    weight: TensorInfo
    mask: TensorInfo | None
    average_of: str | None = None
    role: Role = Role.PARAMETER
    leftovers: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        """The dotted name of the module that owns it."""
        return self.name.rpartition(".")[0]

    @property
    def matches_globs(self) -> bool:
        """Whether a pattern may select it: its role is parameter, and the elements of its type can be zero."""
        return self.role is Role.PARAMETER and self.weight.dtype.prunable

    @property
    def countable(self) -> bool:
        """Whether its zeros can be counted: its elements, and those of its mask, can be read one by one."""
        weight, mask = self.weight, self.mask
        return weight.dtype.prunable and weight.view.nested and (mask is None or _is_plain(mask))

    def unprunable_reason(self) -> str | None:
        """The reason why single elements of it cannot be zeroed, None if they can."""
        if self.role is Role.PACKED:
            return "it is a packed weight, whose elements are codes or hold several numbers each: 0 is not zero there"
        if not self.weight.dtype.prunable:
            return f"it is {self.weight.dtype.name}, whose elements cannot be zeroed one by one"
        if self.weight.view.elements and self.weight.view.repeats > 1:
            return "it is expanded: many of its elements share one place in memory"
        if not self.weight.view.nested:
            return "its strides interleave, so that elements share memory"
        if self.mask is not None and not _is_plain(self.mask):
            dtype, stride = self.mask.dtype.name, self.mask.view.stride
            return f"its mask is not one of single elements (it is {dtype}, strides {stride})"
        return None


def _is_plain(mask: TensorInfo) -> bool:
    return mask.dtype.prunable and mask.view.nested and mask.view.repeats <= 1


def canonical(name: str) -> str:
    """Return a name without what wrappers add: a leading `module.`, and `_orig_mod.` and `_fsdp_...` anywhere."""
    if not (name.startswith("module.") or "_orig_mod" in name or "_wrapped_module" in name):
        return name  # as most names are: fast, and no copy
    parts = [part for part in name.split(".") if part not in _PREFIXES]
    while len(parts) > 1 and parts[0] == "module":
        parts = parts[1:]
    return ".".join(parts) or name


def is_among_averages(name: str) -> bool:
    """Whether a name, or a pattern for names, contains a component below which averages usually lie."""
    return _place_of_average(name.split(".")) is not None or name.startswith(_FLAT)


def _may_be_average(name: str) -> bool:
    """Whether a name contains letters that `_AVERAGE` needs: a fast test, as most names do not."""
    folded = name.casefold()
    return "ema" in folded or "swa" in folded


def _place_of_average(parts: list[str]) -> int | None:
    return next((place for place, part in enumerate(parts[:-1]) if _AVERAGE.fullmatch(part)), None)


def parameters_of(checkpoint: Layout) -> dict[str, Parameter]:
    """Return the tensors of the state dict by the names of their parameters, in the order of the file.

    A weight and its mask (`mask_layouts`) are one parameter. Each component of a folder of components is examined
    separately, under the names within that component. If only names and shapes suggest that a tensor is a mask, its
    values are read.

    Raises:
        DamagedError: the file ends early.
        UnreadableError: it cannot be read.
    """
    components: dict[str, dict[str, TensorInfo]] = {}
    for name, tensor in checkpoint.tensors.items():
        components.setdefault(tensor.component, {})[name] = tensor
    found = _parameters(checkpoint, components.pop("", {}))
    for prefix, tensors in components.items():
        inner = {
            name.removeprefix(prefix): replace(tensor, name=name.removeprefix(prefix))
            for name, tensor in tensors.items()
        }
        own = _parameters(checkpoint, inner)
        found |= {prefix + name: _within(parameter, prefix, tensors) for name, parameter in own.items()}
    return found


def _within(parameter: Parameter, prefix: str, tensors: Mapping[str, TensorInfo]) -> Parameter:
    """Return a component's parameter with the names that it has in the whole checkpoint."""
    return replace(
        parameter,
        name=prefix + parameter.name,
        key=prefix + parameter.key,
        weight=tensors[prefix + parameter.weight.name],
        mask=None if parameter.mask is None else tensors[prefix + parameter.mask.name],
        average_of=None if parameter.average_of is None else prefix + parameter.average_of,
        leftovers=tuple(prefix + name for name in parameter.leftovers),
    )


def _parameters(checkpoint: Layout, tensors: Mapping[str, TensorInfo]) -> dict[str, Parameter]:
    masked, soft = _masked(checkpoint, tensors)
    masks = set()
    for each in masked.values():
        masks |= {each.mask.name, *each.leftovers}
    weights = {
        masked[name].name if name in masked else name: tensor for name, tensor in tensors.items() if name not in masks
    }
    by_name = {each.name: each for each in masked.values()}
    roles, keys, averages = roles_of(weights), canonical_names(list(weights)), _averages(weights)
    found = {}
    for name, weight in weights.items():
        own, average_of, role = by_name.get(name), averages.get(name), roles[name]
        if average_of is not None and role is Role.PARAMETER:
            role = Role.AVERAGE
        if name in soft:
            role = Role.SOFT_MASK
        mask, leftovers = (own.mask, own.leftovers) if own else (None, ())
        found[name] = Parameter(name, keys[name], weight, mask, average_of, role, leftovers)
    return found


def _masked(checkpoint: Layout, tensors: Mapping[str, TensorInfo]) -> tuple[dict[str, MaskedWeight], set[str]]:
    """Return the weights that have masks, and the names of uncertain masks that have values other than 0 and 1."""
    masked = masked_weights(tensors, hooked=_has_code(checkpoint))
    doubtful = [(name, each.mask) for name, each in masked.items() if not each.certain]
    soft = {name: mask.name for name, mask in doubtful if not is_binary(checkpoint, mask)}
    return {name: each for name, each in masked.items() if name not in soft}, set(soft.values())


def _has_code(checkpoint: Layout) -> bool:
    """Whether a checkpoint is a module or a program: its own code applies the masks that it was saved with."""
    return checkpoint.format == "module" or bool(checkpoint.no_masks_because and "folder" not in checkpoint.format)


def canonical_names(names: list[str]) -> Mapping[str, str]:
    """Return the canonical name of each name; names whose canonical names would collide stay distinct."""
    keys = {name: canonical(name) for name in names}
    if len(set(keys.values())) == len(keys):
        return keys
    count = Counter(keys.values())
    return {name: key if count[key] == 1 else name for name, key in keys.items()}


def _averages(weights: Mapping[str, TensorInfo]) -> dict[str, str]:
    """Return the averages in a state dict, with their originals; the names of averages may have lost their dots."""
    rests: dict[str, str] = {}
    for name in filter(_may_be_average, weights):
        parts = name.split(".")
        place = _place_of_average(parts) if len(parts) <= DEEPEST else None
        if place is not None:
            rests[name] = "".join(parts[place + 1 :])
    flat = [name for name in weights if "." not in name and name.startswith(_FLAT)]
    if flat:
        by_look = {(name.replace(".", "_"), weight.shape): name for name, weight in weights.items() if "." in name}
        found = {name: by_look.get((name.removeprefix(_FLAT), weights[name].shape)) for name in flat}
        return {name: original for name, original in found.items() if original is not None} | _nested(weights, rests)
    return _nested(weights, rests)


def _nested(weights: Mapping[str, TensorInfo], rests: Mapping[str, str]) -> dict[str, str]:
    """Return the originals of averages below a component, matched by the rest of the name after that component."""
    if not rests:
        return {}
    wanted = set(rests.values())
    originals: dict[tuple[str, tuple[int, ...]], str] = {}
    for name in weights:
        parts = name.split(".")
        if name not in rests and len(parts) <= DEEPEST:
            for start in range(len(parts)):
                rest = "".join(parts[start:])
                if rest in wanted:
                    originals.setdefault((rest, weights[name].shape), name)
    pairs = {name: originals.get((rest, weights[name].shape)) for name, rest in rests.items()}
    return {name: original for name, original in pairs.items() if original is not None}

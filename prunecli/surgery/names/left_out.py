"""Tensors that a report does not count, and tensors that patterns matched but did not take, summed up by role."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import Annotated

from prunecli.core.records import REQUIRED, Count
from prunecli.formats.base import Layout, TensorInfo
from prunecli.lean import dataclass
from prunecli.surgery.names.companions import wrapper_of
from prunecli.surgery.names.parameters import Parameter
from prunecli.surgery.names.select import Selected
from prunecli.surgery.roles.table import Role, roles_of

__all__ = ["SHARDS", "WEIGHTS", "LeftOut", "PassedOver", "left_out", "masks_left", "passed_over", "roles_beside"]

_WEIGHTS = frozenset({Role.PACKED, Role.QUANTISED, Role.OPAQUE})
"""Roles of a state dict's tensors that contain weights: a broad pattern is meant for them even if it misses them."""

SHARDS = (".safetensors", ".bin", ".pt", ".pth")
"""The suffixes of keys that are names of shards; `--key` does not accept those."""

WEIGHTS = _WEIGHTS | {Role.AVERAGE, Role.OTHER}
"""Roles of tensors that contain weights, inside or outside the state dict: notes list these first."""

_BESIDE = WEIGHTS | {Role.OPTIMIZER}
"""Roles of tensors outside the state dict that notes mention; they do not mention counters, generators and settings."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Tensors of one role that a report does not count."""

    role: Role
    key: Annotated[str | None, REQUIRED] = field(default=None, kw_only=True)
    """Where they are in the file; null for tensors of the state dict."""
    tensors: Count
    elements: Count
    """As stored: one element of a packed weight holds several values."""
    bytes: Count
    """Memory that several tensors share counts once."""


@dataclass(frozen=True, slots=True)
class PassedOver:
    """Tensors that patterns matched but did not take, others that contain weights; the bytes of all tensors, if any."""

    groups: tuple[LeftOut, ...] = ()
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Item:
    """A tensor that is left out."""

    tensor: TensorInfo
    role: Role
    key: str | None = None


def left_out(checkpoint: Layout, parameters: Mapping[str, Parameter], counted: Collection[str]) -> tuple[LeftOut, ...]:
    """Return the tensors of a checkpoint that are not among the `counted` parameters, the largest groups first."""
    inside = [_Item(each.weight, each.role) for each in parameters.values() if each.name not in counted]
    if not inside and not checkpoint.carried:  # so a place for each of very many tensors is not needed
        return ()
    taken = {_place(parameters[name].weight) for name in counted}
    return _summed_up([*inside, *_beside(checkpoint, taken)], taken)


def passed_over(checkpoint: Layout, parameters: Mapping[str, Parameter], choices: Sequence[Selected]) -> PassedOver:
    """Return the passed-over tensors that a note should mention: none if every parameter was named exactly.

    Tensors that an exclude matches, or that have too few dimensions, were left out on purpose and are not included.
    """
    if not any(choice.by_pattern for choice in choices):
        return PassedOver()
    chosen = {parameter.name for choice in choices for parameter in choice.taken}
    passed = {name for choice in choices for name in choice.passed}
    excluded = {name for choice in choices for name in choice.excluded}
    passed |= {name for name, each in parameters.items() if each.role in _WEIGHTS and name not in excluded}
    passed -= chosen
    if not passed and not checkpoint.carried:  # as above
        return PassedOver()
    taken = {_place(parameters[name].weight) for name in chosen}
    inside = [_Item(each.weight, each.role) for name, each in parameters.items() if name in passed]
    beside = [item for item in _beside(checkpoint, taken) if item.role in _BESIDE]
    return PassedOver(_summed_up([*inside, *beside], taken), _bytes_of_all(checkpoint))


def masks_left(checkpoint: Layout, parameters: Mapping[str, Parameter], baked: Collection[str]) -> PassedOver:
    """Return the masks that remain when others are baked: soft, without a weight, or outside the state dict."""
    groups = left_out(checkpoint, parameters, baked)
    return PassedOver(tuple(group for group in groups if group.role in (Role.MASK, Role.SOFT_MASK)))


def _beside(checkpoint: Layout, taken: Collection[object]) -> Iterator[_Item]:
    """Yield the tensors outside the state dict, except those in the same memory as the taken ones."""
    carried = {tensor.name: tensor for tensor in checkpoint.carried}
    above = wrapper_of(checkpoint).split(".")
    for name, role in roles_beside(checkpoint).items():
        if _place(carried[name]) not in taken:
            yield _Item(carried[name], role, _key_of(name, above))


def roles_beside(checkpoint: Layout) -> dict[str, Role]:
    """Return the roles of the tensors outside the state dict, by name; a parameter there belongs to another network."""
    roles = roles_of({tensor.name: tensor for tensor in checkpoint.carried})
    return {name: Role.OTHER if role is Role.PARAMETER else role for name, role in roles.items()}


def _key_of(name: str, above: Sequence[str]) -> str:
    """Return the first part of a path that is not on the path to the state dict."""
    file, colon, _ = name.partition(": ")  # a shard with tensors that its folder's index does not list
    if colon and file.endswith(SHARDS):
        return file
    parts = name.split(".")
    same = 0
    while same < min(len(parts), len(above)) - 1 and parts[same] == above[same]:
        same += 1
    return ".".join(parts[: same + 1])


def _place(tensor: TensorInfo) -> object:
    """Return a key that is equal for tensors in the same memory."""
    return (tensor.storage.key, tensor.view.start, tensor.shape) if tensor.elements else tensor.name


def _bytes_of(tensor: TensorInfo) -> int:
    stored = sum(part.storage.nbytes for part in tensor.parts) if tensor.parts else tensor.storage.nbytes
    return min(tensor.elements * tensor.dtype.itemsize, stored)


def _bytes_of_all(checkpoint: Layout) -> int:
    distinct = {_place(tensor): tensor for tensor in (*checkpoint.tensors.values(), *checkpoint.carried)}
    return sum(map(_bytes_of, distinct.values()))


def _summed_up(items: Iterable[_Item], seen: Collection[object]) -> tuple[LeftOut, ...]:
    """Sum tensors up by role and key; memory in `seen`, or of an earlier tensor, adds no bytes."""
    places = set(seen)
    sums: dict[tuple[Role, str | None], list[int]] = {}
    for item in items:
        place = _place(item.tensor)
        of_role = sums.setdefault((item.role, item.key), [0, 0, 0])
        of_role[0] += 1
        of_role[1] += item.tensor.elements
        of_role[2] += 0 if place in places else _bytes_of(item.tensor)
        places.add(place)
    groups = [LeftOut(role, figures[0], figures[1], figures[2], key=key) for (role, key), figures in sums.items()]
    return tuple(sorted(groups, key=lambda each: (-each.bytes, -each.tensors)))

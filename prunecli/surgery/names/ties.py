"""Parameters that share memory: they are edited together, or not at all."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from prunecli.errors import UnsupportedError, UsageError, show
from prunecli.formats.base import Layout, TensorInfo
from prunecli.formats.views import overlap
from prunecli.surgery.names.parameters import Parameter
from prunecli.surgery.names.stored_twice import StoredTwice
from prunecli.terms import BAKE, CLONE

__all__ = ["Tie", "check_baked_masks", "check_shared_masks", "find_ties", "share_storages"]


_CROWD = 1000
"""The most tensors that may share a range of memory: each pair is compared, and a small file can list very many."""

_Entry = tuple[str, TensorInfo, Parameter | None]
"""A name, its tensor, and the parameter to find neighbours for; None if the tensor can only be a neighbour."""


class Tie(NamedTuple):
    """The name of a parameter's random stream, and the parameters that share its elements."""

    key: str
    partners: tuple[str, ...]


def find_ties(
    checkpoint: Layout,
    parameters: Mapping[str, Parameter],
    selected: Sequence[Parameter],
    remedy: str,
    stored_twice: StoredTwice,
    *,
    untie: bool = False,
) -> dict[str, Tie]:
    """Return the tie of each selected parameter; the tie has no partners if the parameter shares nothing.

    Equal copies in `stored_twice` count as sharing; with `untie`, only selected copies do. `remedy` is what error
    messages suggest for copies that are not selected.

    Raises:
        UsageError: a tensor that is not selected would change too, or overlaps without being equal.
        UnsupportedError: too many tensors share memory to compare them all.
    """
    everything: list[_Entry] = [(each.name, each.weight, each) for each in parameters.values()]
    everything += [(tensor.name, tensor, None) for tensor in checkpoint.carried]
    neighbours = _neighbours(everything)
    chosen = {parameter.name for parameter in selected}
    ties: dict[str, Tie] = {}
    for parameter in selected:
        if parameter.name not in neighbours and parameter.name not in stored_twice:  # as nearly all
            ties[parameter.name] = Tie(parameter.key, ())
            continue
        partners = []
        for name, tensor, other in _near(neighbours, parameter.name, checkpoint):
            if other is parameter or not _share(parameter.weight, tensor):
                continue
            together = other is not None and name in chosen
            if together or not untie:
                choices = remedy if other is None else f"select both, or {remedy}"
                _check_tie(parameter, name, tensor, "" if together else choices)
            if other is not None and together:
                partners.append(other)
        if parameter.name in stored_twice:
            partners += _stored_twice_of(parameter, stored_twice, parameters, chosen, untie=untie)
        keys = [parameter.key, *(partner.key for partner in partners)]
        ties[parameter.name] = Tie(min(keys), tuple(sorted(partner.name for partner in partners)))
    return ties


def _stored_twice_of(
    parameter: Parameter,
    stored_twice: StoredTwice,
    parameters: Mapping[str, Parameter],
    chosen: set[str],
    *,
    untie: bool,
) -> list[Parameter]:
    """Return the selected parameters that are equal copies of this one, which the model ties."""
    names = stored_twice[parameter.name]
    apart = next((name for name in names if name not in chosen), None)
    if apart is not None and not untie:
        raise UsageError(
            f"{show(parameter.name)} is tied to {show(apart)} (stored as its equal, for config.json to tie), which is "
            "not selected and would be parted from it; select both, or switch tie_word_embeddings off in config.json"
        )
    return [parameters[name] for name in names if name in chosen]


def _neighbours(entries: Sequence[_Entry]) -> dict[str, list[_Entry]]:
    """Return, by parameter, the tensors whose bytes lie in the same range of its storage, if any besides its own do."""
    if not share_storages([entry[1] for entry in entries]):
        return {}
    by_storage: dict[str, _Entry | list[_Entry]] = {}
    for entry in entries:
        first = by_storage.setdefault(entry[1].storage.key, entry)
        if first is not entry:
            group = first if isinstance(first, list) else [first]
            group.append(entry)
            by_storage[entry[1].storage.key] = group
    found: dict[str, list[_Entry]] = {}
    for own in by_storage.values():
        for group in _overlapping(own) if isinstance(own, list) else ():
            found |= {name: group for name, _, parameter in group if parameter is not None}
    return found


def share_storages(tensors: Collection[TensorInfo]) -> bool:
    """Whether two of these tensors lie in one storage; in most checkpoints, none do."""
    return len({tensor.storage.key for tensor in tensors}) < len(tensors)


def _overlapping(entries: Sequence[_Entry]) -> Iterator[list[_Entry]]:
    """Yield the groups of tensors of one storage whose ranges of bytes overlap."""
    group: list[_Entry] = []
    reach = 0
    for entry in sorted(entries, key=lambda entry: entry[1].span):
        low, high = entry[1].span
        if group and low >= reach:
            yield group
            group = []
        group.append(entry)
        reach = max(reach, high)
    yield group


def _near(neighbours: Mapping[str, list[_Entry]], name: str, checkpoint: Layout) -> Sequence[_Entry]:
    found = neighbours.get(name, ())
    if len(found) > _CROWD:
        raise UnsupportedError(
            f"{checkpoint.source.label}: {show(name)} shares its memory with more than {_CROWD} tensors; save the "
            "checkpoint with clones"
        )
    return found


def _share(one: TensorInfo, other: TensorInfo) -> bool:
    """Whether two tensors of one storage share memory; with different element sizes, whether their ranges overlap."""
    if one.dtype.itemsize == other.dtype.itemsize:
        return overlap(one.view, other.view)
    low, high = max(one.span[0], other.span[0]), min(one.span[1], other.span[1])
    return bool(one.elements and other.elements) and low < high


def _check_tie(parameter: Parameter, name: str, tensor: TensorInfo, choices: str) -> None:
    one, other = parameter.weight, tensor
    equal = one.dtype == other.dtype and one.view.start == other.view.start and one.view.normal() == other.view.normal()
    if not equal:
        raise UsageError(
            f"{show(parameter.name)} and {show(name)} overlap in memory without being equal; pruning one would change "
            f"part of the other, so select neither, or {CLONE}"
        )
    if choices:
        raise UsageError(
            f"{show(parameter.name)} is tied to {show(name)} (one storage), which is not selected and would be pruned "
            f"with it; {choices}"
        )


def check_shared_masks(
    checkpoint: Layout,
    parameters: Mapping[str, Parameter],
    ties: Mapping[str, Tie],
) -> None:
    """Refuse to edit a mask whose memory is also that of another mask or tensor."""
    everything: list[_Entry] = [(each.name, each.mask, each) for each in parameters.values() if each.mask]
    everything += [(each.weight.name, each.weight, None) for each in parameters.values()]
    everything += [(tensor.name, tensor, None) for tensor in checkpoint.carried]
    neighbours = _neighbours(everything)
    for name in ties:
        mask = parameters[name].mask
        for holder, tensor, other in _near(neighbours, name, checkpoint) if mask else ():
            partners = ties[holder].partners if other is not None and holder in ties else ()
            if mask and other is not parameters[name] and name not in partners and _share(mask, tensor):
                raise UsageError(
                    f"the mask of {show(name)} shares its memory with that of {show(holder)}, which would change, "
                    f"too; use {BAKE}, or {CLONE}"
                )


def check_baked_masks(
    checkpoint: Layout,
    parameters: Mapping[str, Parameter],
    ties: Mapping[str, Tie],
) -> None:
    """Refuse to zero a weight whose memory is also the mask of a parameter that is not baked."""
    everything: list[_Entry] = [(name, parameters[name].weight, parameters[name]) for name in ties]
    everything += [(each.name, each.mask, None) for each in parameters.values() if each.mask and each.name not in ties]
    neighbours = _neighbours(everything)
    for name in ties if neighbours else ():
        for holder, tensor, other in _near(neighbours, name, checkpoint):
            if other is None and _share(parameters[name].weight, tensor):
                raise UsageError(
                    f"{show(name)} shares its memory with the mask of {show(holder)}, which would change, too; "
                    f"select both, or {CLONE}"
                )

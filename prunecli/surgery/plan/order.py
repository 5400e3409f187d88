"""The order of a model's layers: that of the file where it keeps it, or one that the user names."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace

from prunecli.core.allocation import find_rule
from prunecli.core.methods.base import Target
from prunecli.errors import UsageError, show
from prunecli.formats.base import Layout
from prunecli.lean import dataclass
from prunecli.surgery.names.parameters import Parameter
from prunecli.surgery.names.select import match_each
from prunecli.surgery.plan.request import PruneGroup
from prunecli.terms import ALLOCATION, ORDER

__all__ = ["GroupTargets", "in_order"]

_SORTED = ("safetensors", "torch.distributed.checkpoint")
"""What the names of formats contain that do not keep the order in which tensors were saved."""


@dataclass(frozen=True, slots=True)
class GroupTargets:
    """The targets of a group by key, and the parameters of each: several if they are tied.

    `wholes` are the parameters of which the slices are targets, by name, with the keys of these.
    """

    targets: Mapping[str, Target]
    members: Mapping[str, Sequence[Parameter]]
    wholes: Mapping[str, tuple[Parameter, Sequence[str]]] = field(default_factory=dict)

    @property
    def names(self) -> dict[str, Parameter]:
        """The parameters that amounts and orders can name."""
        members = {each.name: each for those in self.members.values() for each in those}
        return members | {name: each for name, (each, _) in self.wholes.items()}

    @property
    def keys(self) -> dict[str, Sequence[str]]:
        """The keys of what each of the `names` means."""
        members = {each.name: [key] for key, those in self.members.items() for each in those}
        return members | {name: keys for name, (_, keys) in self.wholes.items()}


def in_order(checkpoint: Layout, group: PruneGroup, found: GroupTargets) -> tuple[GroupTargets, PruneGroup]:
    """Return a group's targets in the model's order if its rule needs that, and the group with this order.

    A tied group has the place of its first member. An order that the user names is checked in any case.

    Raises:
        UsageError: the format does not keep the order, and none is named; or the named order lacks a parameter, or has
            one twice.
    """
    if group.order:
        places = _named(group, found)
        missing = next((target.name for key, target in found.targets.items() if key not in places), None)
        if missing is not None:
            raise UsageError(f"{ORDER} does not name {show(missing)}, which is selected; every layer needs its place")
    elif group.allocation is not None and find_rule(group.allocation).ordered:
        places = _stored(checkpoint, group, found)
    else:
        return found, group
    targets = {key: found.targets[key] for key in sorted(found.targets, key=places.__getitem__)}
    return replace(found, targets=targets), replace(group, order=tuple(each.name for each in targets.values()))


def _named(group: PruneGroup, found: GroupTargets) -> dict[str, int]:
    """Return the place of each target in the named order, which may also have names that are not selected."""
    selected, keys = found.names, found.keys
    places: dict[str, int] = {}
    seen: dict[str, str] = {}
    for place, (name, names, exact) in enumerate(match_each(selected, group.order)):
        if not exact:
            continue
        if names[0] in seen:
            again = "" if name == names[0] == seen[name] else f" ({show(seen[names[0]], 80)} and {show(name, 80)})"
            raise UsageError(f"{ORDER} names {show(names[0])} twice{again}; every layer has one place")
        seen[names[0]] = name
        for key in keys[names[0]]:
            places.setdefault(key, place)
    return places


def _stored(checkpoint: Layout, group: PruneGroup, found: GroupTargets) -> dict[str, int]:
    """Return the place of each target in the file."""
    if any(kind in checkpoint.format for kind in _SORTED):
        raise UsageError(
            f"{ALLOCATION} {group.allocation} needs the model's order of layers, and {checkpoint.source.label} "
            f"({checkpoint.format}) sorts its tensors; give {ORDER} FILE, with a name per line"
        )
    places = {name: place for place, name in enumerate(_stored_names(checkpoint))}
    return {key: min(places[each.weight.name] for each in those) for key, those in found.members.items()}


def _stored_names(checkpoint: Layout) -> Iterable[str]:
    """Return the names of tensors in the order of the file; an index of shards may be sorted, the shards are not."""
    if checkpoint.is_folder:
        from prunecli.formats.folders.sharded import ShardedFolder

        if isinstance(checkpoint, ShardedFolder):
            return [name for shard in checkpoint.shards.values() for name in shard.tensors]
    return checkpoint.tensors

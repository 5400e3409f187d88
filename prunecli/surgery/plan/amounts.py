"""How many elements of each parameter a group prunes: by its own amount, by a rule, or as another mask does."""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import field

from prunecli.core.allocation import Layer, allocate
from prunecli.core.amount import Amount, to_count
from prunecli.core.methods import make_method
from prunecli.core.methods.base import Target
from prunecli.errors import UsageError, show
from prunecli.formats.base import Layout
from prunecli.lean import dataclass
from prunecli.surgery.names.pair import pair_names
from prunecli.surgery.names.parameters import canonical
from prunecli.surgery.names.select import match_each
from prunecli.surgery.names.suggest import nearest_names
from prunecli.surgery.plan.order import GroupTargets, in_order
from prunecli.surgery.plan.request import PruneGroup
from prunecli.terms import AMOUNT, LIKE

__all__ = ["Division", "LikeReader", "LikeRow", "divide", "division_notes"]


@dataclass(frozen=True, slots=True)
class LikeRow:
    """What another checkpoint or a report records for a parameter: its elements, and how many are pruned.

    `digest` is the digest of its mask, None if it is not known; `head` are its first flags in bits, of some parameters.
    """

    elements: int
    pruned: int
    digest: str | None = None
    head: bytes = b""


LikeReader = Callable[[str], Mapping[str, LikeRow]]
"""Reads the rows of a checkpoint or report by name."""


@dataclass(frozen=True, slots=True)
class Division:
    """The numbers of elements of a group's targets to prune by key; those that are not `given` any have the `amount`.

    `group` is the group with the order of layers that was used. `unlike` are the masks, by name, which the new
    ones must not all equal. `chosen` are the keys whose number the user wrote. `rows` are amounts by key if they
    are those of every row.
    """

    group: PruneGroup
    targets: Mapping[str, Target]
    given: Mapping[str, int]
    amount: Amount = 0
    chosen: Container[str] = ()
    unlike: Mapping[str, LikeRow] = field(default_factory=dict)
    notes: Sequence[str] = ()
    rows: Mapping[str, Amount] = field(default_factory=dict)
    own: Mapping[str, Amount] = field(default_factory=dict)
    """Amounts of single targets by key, which replace the amount, of methods that count units."""


def divide(checkpoint: Layout, group: PruneGroup, found: GroupTargets, read_like: LikeReader | None) -> Division:
    """Return how many elements of its targets a group prunes.

    Raises:
        UsageError: a pattern with an amount matches nothing, a parameter has no amount, an amount is more than is left,
            no division reaches the total, or the order of layers is needed and not known.
    """
    try:
        return _divided(checkpoint, group, found, read_like)
    except UsageError as error:
        raise error.inside(group.where if group.spread else "") from None


def _divided(checkpoint: Layout, group: PruneGroup, found: GroupTargets, read_like: LikeReader | None) -> Division:
    if group.like is not None and read_like is not None:
        return _like(group, found, read_like(group.like))
    amount, rule = group.amount, group.allocation
    counted = make_method(group.method).counts
    if counted == "nothing":
        return Division(group, found.targets, {})
    if counted == "units":
        own = _own_amounts(group, found) if group.amounts else {}
        if amount is None:
            _check_complete(group, found, own)
        return Division(group, found.targets, {}, amount or 0, own=own)
    if group.per_row:
        rows = _own_amounts(group, found)
        if amount is None:
            _check_complete(group, found, rows)
        else:
            rows = dict.fromkeys(found.targets, amount) | rows
        empty = {key: 0 for key, target in found.targets.items() if target.slices is None}
        rows = {key: amount for key, amount in rows.items() if key not in empty}
        return Division(group, found.targets, empty, rows=rows)
    fixed = _fixed(group, found) if group.amounts else {}
    if amount is None:
        _check_complete(group, found, fixed)
        return Division(group, found.targets, fixed, chosen=fixed)
    if rule is not None:
        found, group = in_order(checkpoint, group, found)
        counts = _allocated(rule, found, fixed, _rest(amount, found, fixed))
        return Division(group, found.targets, {**fixed, **counts}, chosen=fixed)
    if group.everywhere and fixed:
        amount = _rest(amount, found, fixed)
    return Division(group, found.targets, fixed, amount, chosen=fixed)


def division_notes(division: Division, pruned: Mapping[str, int]) -> Iterator[str]:
    """Yield the notes on a division: what it does not count, and the layers that keep nothing; `pruned` is by key."""
    yield from division.notes
    if division.group.allocation is None and not division.group.everywhere:
        return
    empty = [
        target.name
        for key, target in division.targets.items()
        if target.candidates and key not in division.chosen and pruned[key] == target.candidates
    ]
    if empty:
        more = f" and {len(empty) - 1:,} more layers keep" if len(empty) > 1 else " keeps"
        yield f"{show(empty[0], 60)}{more} nothing: the total leaves less than one element there"


def _check_complete(group: PruneGroup, found: GroupTargets, fixed: Container[str]) -> None:
    missing = next((target.name for key, target in found.targets.items() if key not in fixed), None)
    if missing is not None:
        where = group.amounts_where or AMOUNT
        raise UsageError(f"{where} has no amount for {show(missing)}, which is selected")


def _fixed(group: PruneGroup, found: GroupTargets) -> dict[str, int]:
    """Return the numbers of elements of the targets that have an amount of their own."""
    own = _own_amounts(group, found)
    return {
        key: to_count(own[key], target.candidates, show(target.name))
        for key, target in found.targets.items()
        if key in own
    }


def _own_amounts(group: PruneGroup, found: GroupTargets) -> dict[str, Amount]:
    """Return the amounts of the targets that have one of their own; that of a slice beats that of its parameter."""
    amounts = dict(group.amounts)
    selected, keys = found.names, found.keys
    best: dict[str, tuple[int, int]] = {}
    patterns = list(amounts)
    for number, (pattern, names, exact) in enumerate(match_each(selected, patterns)):
        if not names:
            raise UsageError(_no_match(group, pattern, list(selected)))
        for name in names:
            rank = int(exact) + int(exact and name not in found.wholes)
            for key in keys[name]:
                old, earlier = best.get(key, (0, number))
                if exact and old == rank and amounts[patterns[earlier]] != amounts[pattern]:
                    raise UsageError(_two_amounts(group, patterns[earlier], pattern))
                best[key] = max((old, earlier), (rank, number))
    return {key: amounts[patterns[number]] for key, (_, number) in best.items()}


def _two_amounts(group: PruneGroup, one: str, other: str) -> str:
    names = f"{show(one, 80)} and {show(other, 80)}"
    return f"{group.amounts_where or AMOUNT}: {names} are one layer, and have different amounts; give them the same"


def _no_match(group: PruneGroup, pattern: str, names: Sequence[str]) -> str:
    where, shown = group.amounts_where or AMOUNT, show(pattern, 80) or "''"
    near = nearest_names(pattern.removeprefix("re:"), names, 1)
    hint = f"; did you mean {show(near[0], 80)}?" if near else ""
    return f"{where} {shown} = {dict(group.amounts)[pattern]} matches none of the selected parameters{hint}"


def _rest(amount: Amount, found: GroupTargets, fixed: Mapping[str, int]) -> int:
    """Return what is left of a total for the targets without an amount of their own."""
    total = to_count(
        amount,
        sum(target.candidates for target in found.targets.values()),
        f"the {len(found.targets)} selected parameters together",
    )
    own = sum(fixed.values())
    left = sum(target.candidates for key, target in found.targets.items() if key not in fixed)
    if not own <= total <= own + left:
        raise UsageError(
            f"the total of {total:,} elements cannot be reached: {len(fixed):,} of {len(found.targets):,} layers have "
            f"amounts of their own, so between {own:,} and {own + left:,} elements can be pruned"
        )
    return total - own


def _allocated(rule: str, found: GroupTargets, fixed: Mapping[str, int], pruned: int) -> dict[str, int]:
    layers = [
        Layer(key, target.name, target.shape, target.candidates)
        for key, target in found.targets.items()
        if key not in fixed
    ]
    counts = {layer.key: 0 for layer in layers if not layer.size}
    sized = [layer for layer in layers if layer.size]
    return counts | (allocate(rule, sized, pruned) if sized else {})


def _like(group: PruneGroup, found: GroupTargets, rows: Mapping[str, LikeRow]) -> Division:
    """Return the numbers that another mask has, parameter by parameter."""
    given, used, label = {}, set(), show(group.like_shown or "")
    unlike: dict[str, LikeRow] = {}
    method = make_method(group.method)
    drawn = not (method.reads_values or method.reads_scores)
    names = {each.name: canonical(each.name) for members in found.members.values() for each in members}
    pairs = pair_names(names, {name: canonical(name) for name in rows})
    for key, members in found.members.items():
        paired = [pairs[each.name] for each in members if each.name in pairs]
        target = found.targets[key]
        if not paired:
            raise UsageError(f"{LIKE} {label} does not contain {show(target.name)}, which is selected")
        row = rows[paired[0]]
        if row.pruned > target.candidates:
            raise UsageError(
                f"{LIKE} {label} prunes {row.pruned:,} elements of {show(target.name)}: {target.candidates:,} are left "
                "unpruned"
            )
        used.update(paired)
        given[key] = row.pruned
        if drawn and row.digest is not None and 0 < row.pruned < row.elements:
            unlike[members[0].name] = row
    notes = list(_others(label, rows, used))
    if drawn and not unlike and any(0 < rows[name].pruned < rows[name].elements for name in used):
        notes.append(f"{label} has no digests of masks, so that nothing checks that the new masks are others")
    return Division(group, found.targets, given, unlike=unlike, notes=notes)


def _others(label: str, rows: Mapping[str, LikeRow], used: set[str]) -> Iterator[str]:
    """Yield a note on what is pruned in parameters that are not selected here."""
    others = [name for name, row in rows.items() if row.pruned and name not in used]
    if others:
        count = sum(rows[name].pruned for name in others)
        more = f" and {len(others) - 1:,} more" if len(others) > 1 else ""
        yield f"{label} has {count:,} zeros in parameters that are not selected: {show(others[0], 60)}{more}"

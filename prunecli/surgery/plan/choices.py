"""The choices of a method: which elements of each planned parameter are dropped."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from functools import partial

from prunecli.core.amount import Amount
from prunecli.core.methods import make_method
from prunecli.core.methods.base import Choice, Method, Scan, Target, TargetGroup
from prunecli.errors import UsageError, show
from prunecli.lean import dataclass
from prunecli.surgery.data.scanned import BlockScan, MethodScan
from prunecli.surgery.names.parameters import Parameter
from prunecli.surgery.plan.amounts import Division
from prunecli.surgery.plan.model import PlannedParameter
from prunecli.surgery.plan.order import GroupTargets
from prunecli.surgery.plan.request import PruneRequest
from prunecli.surgery.plan.scan import Steps
from prunecli.surgery.plan.slices import join_slices
from prunecli.terms import MASKS

__all__ = ["Choices", "choose_given", "given_notes", "group_targets", "make_choices"]


def group_targets(planned: Sequence[PlannedParameter], groups: Mapping[str, int], number: int) -> GroupTargets:
    """Return the targets of a group, in the order of the file, with their parameters; a tied group is one target."""
    targets: dict[str, Target] = {}
    members: dict[str, list[Parameter]] = {}
    for each in planned:
        if groups[each.parameter.name] == number:
            targets.setdefault(each.key, each.target)
            members.setdefault(each.key, []).append(each.parameter)
    return GroupTargets(targets, members)


@dataclass(frozen=True, slots=True)
class Choices:
    """The choices of the targets by key, what their methods note, and the numbers of dropped elements of slices."""

    by_key: Mapping[str, Choice]
    notes: Sequence[str] = ()
    sliced: Mapping[str, int] = field(default_factory=dict)

    @property
    def pruned(self) -> dict[str, int]:
        """The number of dropped elements of each target, of whole parameters and of slices, by key."""
        return {**self.sliced, **{key: choice.pruned for key, choice in self.by_key.items()}}


def make_choices(
    planned: Sequence[PlannedParameter], divisions: Sequence[Division], prune: PruneRequest
) -> Steps[Choices]:
    """Let the method of each group scan as often as it needs to, and choose.

    Global groups with equally many candidates get different names: with the same name, their draws would be the same.
    """
    by_key = {each.key: each for each in reversed(planned)}
    choices: dict[str, Choice] = {}
    counts: set[int] = set()
    notes: list[str] = []
    sliced: dict[str, int] = {}
    for division in divisions:
        method = make_method(division.group.method)
        for asked in _target_groups(division, prune.seed or 0, counts):
            whole = {key: target for key, target in asked.targets.items() if asked.global_ or key in by_key}
            sliced |= {key: count for key, count in _counts(asked, whole).items() if key not in whole}
            if whole:
                own = replace(asked, targets=whole)
                scans = yield from _scanned(method, own, by_key, prune)
                choices |= method.choose(own, scans)
                notes += method.notes(own, scans)
    sliced |= {key: choice.pruned for key, choice in choices.items() if key not in by_key}
    rows = {key: amount for division in divisions for key, amount in division.rows.items()}
    by_method: dict[int, tuple[Method, dict[str, Target]]] = {}
    for key, each in by_key.items():
        if each.target.slices is not None and each.method is not None:
            by_method.setdefault(id(each.method), (each.method, {}))[1][key] = each.target
            choose = partial(each.method.choose_slices, seed=prune.seed or 0)
            choices[key] = join_slices(each.target, sliced, rows, choose)
    for method, targets in by_method.values():
        own = TargetGroup(targets, 0, False, prune.seed or 0)
        notes += method.notes(own, (yield from _scanned(method, own, by_key, prune)))
    return Choices(choices, notes, sliced)


def _counts(asked: TargetGroup, whole: Mapping[str, Target]) -> Mapping[str, int]:
    """Return the number of elements of each target, if some of them are slices."""
    return asked.counts if len(whole) < len(asked.targets) else {}


def _target_groups(division: Division, seed: int, counts: set[int]) -> Iterator[TargetGroup]:
    """Yield the targets of a division with the amounts that its method gets, those with equal amounts together.

    `counts` are the numbers of candidates of the global groups so far.
    """
    given, targets, everywhere = division.given, division.targets, division.group.everywhere
    rest = {key: targets[key] for key in sorted(targets.keys() - given.keys() - division.rows.keys())}
    name = ""
    if everywhere:
        left = sum(target.candidates for target in rest.values())
        name = min(rest, default="") if left in counts else ""
        counts.add(left)
    own = {key: targets[key] for key in sorted(given)}
    by_amount: dict[tuple[type, Amount], dict[str, Target]] = {}  # 1 is an element, and 1.0 all of them
    for key, target in rest.items():
        amount = division.own.get(key, division.amount)
        by_amount.setdefault((type(amount), amount), {})[key] = target
    groups = [TargetGroup(each, amount, everywhere, seed, name) for (_, amount), each in by_amount.items()]
    yield from (each for each in (TargetGroup(own, 0, False, seed, given=given), *groups) if each.targets)


def choose_given(planned: Sequence[PlannedParameter], prune: PruneRequest) -> Steps[Mapping[str, Choice]]:
    """Let a method that reads given masks choose.

    Raises:
        UsageError: tied parameters have different masks.
    """
    (method,) = {group.method: make_method(group.method) for group in prune.groups}.values()
    named = {each.parameter.name: each for each in planned}  # a tied group may have several masks
    group = TargetGroup({name: each.target for name, each in named.items()}, 0, False, prune.seed or 0)
    scans = yield from _scanned(method, group, named, prune)
    choices = method.choose(group, scans)
    first: dict[str, str] = {}
    for name, each in named.items():
        other = first.setdefault(each.key, name)
        if choices[other].as_dict() != choices[name].as_dict():
            raise UsageError(
                f"{show(other)} and {show(name)} are tied, and {MASKS} has different masks of them; both need the same"
            )
    return {key: choices[name] for key, name in first.items()}


def _scanned(
    method: Method, group: TargetGroup, planned: Mapping[str, PlannedParameter], prune: PruneRequest
) -> Steps[list[Mapping[str, Scan]]]:
    """Carry out the passes that a method needs for a group, and return their scans."""
    passes: list[Mapping[str, Scan]] = []
    while scans := method.scans(group, passes):
        yield [
            BlockScan(
                planned[key].parameter,
                MethodScan(scan),
                prune.zeros_are_pruned,
                method.reads_values,
                method.granule(group.targets[key]),
                method.reads_given,
                planned[key].scores,
            )
            for key, scan in scans.items()
        ]
        passes.append(scans)
    return passes


def given_notes(planned: Sequence[PlannedParameter], choices: Mapping[str, Choice]) -> Iterator[str]:
    """Yield the notes on given masks: elements that were pruned before, and that nothing is pruned now."""
    targets = {each.key: (each.parameter.weight.elements, each.target.candidates) for each in planned}
    elements, left = (sum(column) for column in zip(*targets.values(), strict=True))
    if left < elements:
        yield f"{elements - left:,} of {elements:,} elements were pruned already, and stay pruned"
    if not any(choice.pruned for choice in choices.values()):
        yield "no element is pruned: the masks drop none that was unpruned"

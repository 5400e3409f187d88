"""A request to `apply`, made by options, a recipe or a report."""

from dataclasses import field
from typing import Any

from prunecli.core.amount import Amount
from prunecli.core.methods import make_method
from prunecli.core.methods.base import Method
from prunecli.core.methods.request import MethodRequest
from prunecli.formats.io.locations import Url, location_of
from prunecli.lean import dataclass
from prunecli.surgery.names.select import Selection

__all__ = ["SEVERAL", "PruneGroup", "PruneRequest", "request_as_dict"]

SEVERAL = "several"
"""What reports call the method if groups have different ones."""


@dataclass(frozen=True, slots=True)
class PruneGroup:
    """Parameters to prune by one amount: each separately, or with `everywhere` all of them together.

    With an `allocation`, the amount is the total of all of them, which that rule divides. The global allocation is
    `everywhere`. Without an amount, each parameter has its own in `amounts`, or `like` says how much is pruned.
    """

    selection: Selection
    amount: Amount | None
    everywhere: bool = False
    where: str = field(default="", compare=False)
    """The file and line of its source, for messages."""
    allocation: str | None = None
    """The rule that divides the total among the parameters; None for the same amount everywhere."""
    amounts: tuple[tuple[str, Amount], ...] = ()
    """Names and patterns with amounts of their own, outside the rule. Names beat patterns, later ones win."""
    amounts_where: str = field(default="", compare=False)
    """Where `amounts` were written, for messages."""
    order: tuple[str, ...] = ()
    """Names in the order of the model's layers, for rules that depend on it."""
    like: str | None = None
    """The place of a checkpoint or report: as many elements are pruned here as it records."""
    per_row: bool = False
    """Whether the amount is that of every row (index of the first dimension) of a parameter."""
    method: MethodRequest = MethodRequest()
    """The method that chooses the elements, with its settings."""

    @property
    def like_shown(self) -> str | None:
        """`like` without what may be secret in a URL."""
        return self.like and _shown(self.like)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of its method, without what may be secret in a URL."""
        scores = self.method.scores
        return self.method.settings | ({} if scores is None else {"scores": _shown(scores)})

    @property
    def spread(self) -> bool:
        """Whether it has a setting besides its amount, which reports of version 1 cannot record."""
        more = self.allocation or self.amounts or self.order or self.like or self.per_row or self.selection.per_slice
        return self.amount is None or bool(more) or self.method != MethodRequest()


@dataclass(frozen=True, slots=True)
class PruneRequest:
    """A request to `apply`. Without a seed, one is drawn; the plan and the report record it."""

    groups: tuple[PruneGroup, ...]
    seed: int | None = None
    remove: bool = False
    untie: bool = False
    zeros_are_pruned: bool = False
    mask_dtype: str = "bool"
    """Type of new masks: "bool", or "same" for the weight's."""
    key_prefix: str = ""
    """The prefix of the names from which random streams are derived, for a component of a larger checkpoint."""
    with_state: bool = False
    """Whether optimizer state is zeroed where elements are dropped."""
    rescale: bool = False
    """Whether what is kept of a baked parameter is divided by its share."""

    @property
    def methods(self) -> list[Method]:
        """The methods of the groups.

        Raises:
            UsageError: one is unknown, or does not take its settings.
        """
        return [make_method(group.method) for group in self.groups]

    @property
    def draws(self) -> bool:
        """Whether the seed has a meaning."""
        return any(each.draws for each in self.methods)

    @property
    def reads_given(self) -> bool:
        """Whether given masks decide which elements are dropped."""
        return any(each.reads_given for each in self.methods)

    @property
    def method_name(self) -> str:
        """The name of the method of all groups, or `several`."""
        names = {group.method.name for group in self.groups}
        return names.pop() if len(names) == 1 else SEVERAL

    @property
    def has_several_methods(self) -> bool:
        """Whether groups have different methods, or different settings of one."""
        return len({group.method for group in self.groups}) > 1


def _shown(place: str) -> str:
    location = location_of(place)
    return str(location) if isinstance(location, Url) else place


def request_as_dict(prune: PruneRequest) -> dict[str, Any]:
    """Return a request under the field names of reports and stamps."""
    groups = [_group_as_dict(group, prune.method_name) for group in prune.groups]
    more: dict[str, Any] = {"key_prefix": prune.key_prefix} if prune.key_prefix else {}
    if prune.with_state:
        more["with_state"] = True
    if prune.rescale:
        more["rescale"] = True
    return {
        "seed": prune.seed,
        "groups": groups,
        "remove": prune.remove,
        "mask_dtype": prune.mask_dtype,
        "untie": prune.untie,
        "zeros_are_pruned": prune.zeros_are_pruned,
        **more,
    }


def _group_as_dict(group: PruneGroup, method: str) -> dict[str, Any]:
    """Return a group; its method is written if it is not the `method` of all."""
    more = {
        "allocation": group.allocation,
        "amounts": dict(group.amounts),
        "order": list(group.order),
        "like": group.like_shown,
        "per_slice": group.selection.per_slice,
        "per_row": group.per_row,
        "method": "" if group.method.name == method else group.method.name,
    }
    return {
        "params": list(group.selection.patterns),
        "exclude": list(group.selection.excludes),
        "min_dim": group.selection.min_dim,
        "amount": group.amount,
        "global": group.everywhere,
        **{key: value for key, value in more.items() if value},
        **group.settings,
    }

"""The request of `apply`: from options, from a recipe that options override, or from a report to reproduce."""

from dataclasses import replace

from prunecli.core.allocation import find_rule
from prunecli.core.amount import Amount
from prunecli.errors import UsageError
from prunecli.formats.opening import AnyCheckpoint
from prunecli.lean import dataclass
from prunecli.surgery.names.select import Selection
from prunecli.surgery.places import input_location
from prunecli.surgery.plan.plan import Plan, plan_prune
from prunecli.surgery.plan.ratios import read_order, read_ratios
from prunecli.surgery.plan.recipe import read_recipe
from prunecli.surgery.plan.request import PruneGroup, PruneRequest
from prunecli.surgery.plan.scan import Scanner
from prunecli.surgery.plan.with_state import with_state
from prunecli.surgery.replay import plan_replay
from prunecli.surgery.report.model import Report
from prunecli.surgery.report.provenance import stamped
from prunecli.surgery.report.reading import read_report
from prunecli.terms import (
    ALLOCATION,
    AMOUNT,
    BAKE,
    FROM_REPORT,
    GLOBAL,
    KEY_PREFIX,
    LIKE,
    MASK_DTYPE,
    MATRICES,
    ORDER,
    PARAM,
    RATIOS,
    RECIPE,
    SEED,
    ZEROS_ARE_PRUNED,
)

__all__ = [
    "ApplyOptions",
    "ApplyRequest",
    "DivisionOptions",
    "RequestOverrides",
    "check_options",
    "plan_request",
    "read_request",
]

_GLOBAL = "global"
"""The allocation that treats all parameters as one tensor: `--global`."""


@dataclass(frozen=True, slots=True)
class RequestOverrides:
    """Options that override a recipe or a report; None and False where they are not given."""

    seed: int | None = None
    remove: bool | None = None
    mask_dtype: str | None = None
    untie: bool = False
    zeros_are_pruned: bool = False
    key_prefix: str | None = None
    with_state: bool = False

    def changing_masks(self) -> str | None:
        """Return the first option that would give masks other than those recorded in a report, or None."""
        if self.seed is not None:
            return SEED
        if self.key_prefix is not None:
            return KEY_PREFIX
        return ZEROS_ARE_PRUNED if self.zeros_are_pruned else None

    def over(self, prune: PruneRequest) -> PruneRequest:
        """Return a copy of a request in which these options replace its own."""
        return replace(
            prune,
            seed=prune.seed if self.seed is None else self.seed,
            remove=prune.remove if self.remove is None else self.remove,
            mask_dtype=prune.mask_dtype if self.mask_dtype is None else self.mask_dtype,
            untie=prune.untie or self.untie,
            zeros_are_pruned=prune.zeros_are_pruned or self.zeros_are_pruned,
            key_prefix=prune.key_prefix if self.key_prefix is None else self.key_prefix,
            with_state=prune.with_state or self.with_state,
        )


@dataclass(frozen=True, slots=True)
class DivisionOptions:
    """The options of `apply` that say how much is pruned where; `ratios`, `like` and `order` are files to read."""

    amounts: tuple[tuple[str, Amount], ...] = ()
    allocation: str | None = None
    ratios: str | None = None
    like: str | None = None
    order: str | None = None

    def given(self) -> list[str]:
        """Return the names of the options that are given."""
        options = {ALLOCATION: self.allocation, RATIOS: self.ratios, LIKE: self.like, ORDER: self.order}
        return [AMOUNT] * bool(self.amounts) + [option for option, value in options.items() if value is not None]


@dataclass(frozen=True, slots=True)
class ApplyOptions:
    """The options of `apply` that say what to prune, as given; `recipe` and `report` are files to read, or `-`."""

    selection: Selection | None
    amount: Amount | None
    global_: bool
    overrides: RequestOverrides
    recipe: str | None = None
    report: str | None = None
    stamp: bool = False
    division: DivisionOptions = DivisionOptions()

    def files(self) -> list[tuple[str, str | None]]:
        """Return the options that name a file to read, or `-`, and what they name."""
        ours = [(RECIPE, self.recipe), (FROM_REPORT, self.report), (RATIOS, self.division.ratios)]
        return [*ours, (LIKE, self.division.like), (ORDER, self.division.order)]


@dataclass(frozen=True, slots=True)
class ApplyRequest:
    """A request, and the report whose masks it reproduces, if any."""

    prune: PruneRequest
    report: Report | None = None


def check_options(options: ApplyOptions, *, stdin_is_taken: bool) -> None:
    """Refuse options that contradict each other, before anything is opened.

    Raises:
        UsageError: no option says what is pruned, or two do.
    """
    given = ((PARAM, options.selection is not None), (AMOUNT, options.amount is not None), (GLOBAL, options.global_))
    found = [*options.division.given(), *(option for option, is_given in given if is_given)]
    conflicting = next(iter(found), None)
    if options.overrides.remove and options.overrides.mask_dtype is not None:
        raise UsageError(f"{BAKE} writes no masks, and {MASK_DTYPE} is their type; leave one out")
    if options.recipe is not None and options.report is not None:
        raise UsageError(f"{RECIPE} and {FROM_REPORT} both say what is pruned; leave one out")
    for option, place in ((RECIPE, options.recipe), (FROM_REPORT, options.report)):
        if place is not None and conflicting:
            raise UsageError(f"{option} and {conflicting} both say what is pruned; leave one out")
    for option, place in options.files():
        if place == "-" and stdin_is_taken:
            raise UsageError(f"the checkpoint and {option} cannot both come from standard input; give one a path")
    others = options.overrides.changing_masks()
    if options.report is not None and others is not None:
        raise UsageError(f"{FROM_REPORT} reproduces recorded masks, and {others} asks for others; leave one out")
    if options.recipe is None and options.report is None:
        if options.selection is None:
            raise UsageError(f"nothing is selected; give {MATRICES} for all matrices named weight, or {PARAM} NAME")
        _check_division(options)


def _check_division(options: ApplyOptions) -> None:
    """Refuse options that do not say how much is pruned where, or say it twice."""
    division, total = options.division, options.amount is not None
    sources = {AMOUNT: total or division.amounts, RATIOS: division.ratios is not None, LIKE: division.like is not None}
    ways = [option for option, is_given in sources.items() if is_given]
    if not ways:
        raise UsageError(f"the amount is missing; give {AMOUNT} 0.5, 50% or a number of elements like 1000")
    if len(ways) > 1:
        raise UsageError(f"{ways[0]} and {ways[1]} both say how much is pruned; leave one out")
    rule = division.allocation
    if rule is not None:
        find_rule(rule)
    if options.global_ and rule not in (None, _GLOBAL):
        raise UsageError(f"{GLOBAL} and {ALLOCATION} {rule} divide the total in different ways; leave one out")
    if (rule is not None or options.global_) and not total:
        option = ALLOCATION if rule is not None else GLOBAL
        raise UsageError(
            f"{option} divides a total among all selected parameters; give it as {AMOUNT} 0.9, or leave {option} out"
        )
    if division.order is not None and rule is None:
        raise UsageError(f"{ORDER} is the order of layers for {ALLOCATION}; add that, or leave {ORDER} out")


def read_request(options: ApplyOptions) -> ApplyRequest:
    """Return the request that checked options describe; reads the recipe or the report.

    Raises:
        UsageError: the recipe is wrong, or another command wrote the report.
        UnreadableError: the recipe or the report cannot be read.
        DamagedError: the file is not a report of prunecli.
    """
    if options.report is not None:
        report = read_report(input_location(options.report, FROM_REPORT))
        if report.prune is None:
            raise UsageError(f"the report is of '{report.command}', which makes no masks; give one of 'apply'")
        return ApplyRequest(options.overrides.over(report.prune), report)
    if options.recipe is not None:
        return ApplyRequest(options.overrides.over(read_recipe(input_location(options.recipe, RECIPE))))
    if options.selection is None:
        raise UsageError(f"nothing is selected; name parameters with {PARAM}, and give {AMOUNT}")
    group = _group(options, options.selection)
    return ApplyRequest(options.overrides.over(PruneRequest((group,))))


def _group(options: ApplyOptions, selection: Selection) -> PruneGroup:
    """Return the group that options describe; the global allocation is `everywhere`."""
    division = options.division
    everywhere = options.global_ or division.allocation == _GLOBAL
    amounts, where = division.amounts, ""
    if division.ratios is not None:
        amounts, where = read_ratios(input_location(division.ratios, RATIOS))
    return PruneGroup(
        selection,
        options.amount,
        everywhere,
        allocation=None if everywhere else division.allocation,
        amounts=amounts,
        amounts_where=where,
        order=() if division.order is None else read_order(input_location(division.order, ORDER)),
        like=division.like,
    )


def plan_request(checkpoint: AnyCheckpoint, request: ApplyRequest, scanner: Scanner, *, stamp: bool) -> Plan:
    """Return the plan of a request, with a stamp in the metadata if asked for; all ranks plan together.

    Raises:
        PrunecliError: as `plan_prune`, `plan_replay`, `with_state` and `stamped`.
    """
    prune, report = request.prune, request.report
    if report is None:
        plan = plan_prune(checkpoint, prune, scanner=scanner)
    else:
        plan = plan_replay(checkpoint, report, prune, scanner=scanner)
    if prune.with_state:
        plan = scanner.from_leader(lambda: with_state(checkpoint, plan))
    return scanner.from_leader(lambda: stamped(checkpoint, plan)) if stamp else plan

"""The request of `apply`: from options, from a recipe that options override, or from a report to reproduce."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from prunecli.core.amount import Amount
from prunecli.core.methods.masks import Masks
from prunecli.core.methods.request import MethodRequest
from prunecli.errors import UsageError, show
from prunecli.formats.base import ReadOptions
from prunecli.formats.opening import AnyCheckpoint
from prunecli.lean import dataclass
from prunecli.surgery.data.kept import NOTHING, Given
from prunecli.surgery.division import DivisionOptions
from prunecli.surgery.names.select import Selection
from prunecli.surgery.places import input_location
from prunecli.surgery.plan.amounts import LikeRow
from prunecli.surgery.plan.model import Plan
from prunecli.surgery.plan.plan import plan_prune
from prunecli.surgery.plan.recipe import read_recipe
from prunecli.surgery.plan.request import PruneGroup, PruneRequest
from prunecli.surgery.plan.scan import Scanner
from prunecli.surgery.plan.with_state import with_state
from prunecli.surgery.replay import plan_replay
from prunecli.surgery.report.model import Report
from prunecli.surgery.report.provenance import stamped
from prunecli.surgery.report.reading import read_report
from prunecli.terms import (
    AMOUNT,
    BAKE,
    FROM_REPORT,
    GLOBAL,
    KEY_PREFIX,
    LIKE,
    MASK_DTYPE,
    MASKS,
    MATRICES,
    MISSING,
    ORDER,
    PARAM,
    RATIOS,
    RECIPE,
    SCORES,
    SEED,
    ZEROS_ARE_PRUNED,
)

__all__ = [
    "ApplyOptions",
    "ApplyRequest",
    "GivenMaskOptions",
    "RequestOverrides",
    "check_options",
    "plan_request",
    "read_request",
]


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
    rescale: bool = False

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
            rescale=prune.rescale or self.rescale,
        )


@dataclass(frozen=True, slots=True)
class GivenMaskOptions:
    """The options of `apply` for masks that are given: the file, and what to do where a name is on one side only."""

    file: str | None = None
    missing: str | None = None


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
    masks: GivenMaskOptions = GivenMaskOptions()

    def files(self) -> list[tuple[str, str | None]]:
        """Return the options that name a file to read, or `-`, and what they name."""
        ours = [(RECIPE, self.recipe), (FROM_REPORT, self.report), (RATIOS, self.division.ratios)]
        scores = None if self.division.method is None else self.division.method.scores
        theirs = [(LIKE, self.division.like), (ORDER, self.division.order), (MASKS, self.masks.file)]
        return [*ours, *theirs, (SCORES, scores)]


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
        if place is not None and conflicting and not (option == FROM_REPORT and found == [SCORES]):
            raise UsageError(f"{option} and {conflicting} both say what is pruned; leave one out")
    for option, place in options.files():
        if place == "-" and stdin_is_taken:
            raise UsageError(f"the checkpoint and {option} cannot both come from standard input; give one a path")
    others = options.overrides.changing_masks()
    if options.report is not None and others is not None:
        raise UsageError(f"{FROM_REPORT} reproduces recorded masks, and {others} asks for others; leave one out")
    _check_masks(options, found)
    if options.recipe is None and options.report is None and options.masks.file is None:
        if options.selection is None:
            raise UsageError(f"nothing is selected; give {MATRICES} for all matrices named weight, or {PARAM} NAME")
        options.division.check(options.amount, global_=options.global_)


def _check_masks(options: ApplyOptions, found: Sequence[str]) -> None:
    """Refuse options that contradict given masks; `found` are those that say what is pruned."""
    masks = options.masks
    if masks.missing not in (None, "kept"):
        raise UsageError(f"missing is {show(masks.missing, 40)}; the only choice is 'kept'")
    if masks.file is None:
        if masks.missing is not None:
            raise UsageError(f"{MISSING} is about {MASKS}; add that, or leave it out")
        return
    recipe = RECIPE if options.recipe is not None else None
    for other in (*found, recipe, options.overrides.changing_masks()):
        if other not in (None, PARAM):
            raise UsageError(f"{MASKS} and {other} both say what is pruned; leave one out")


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
        return ApplyRequest(_with_masks(options, report.prune), report)
    if options.recipe is not None:
        return ApplyRequest(options.overrides.over(read_recipe(input_location(options.recipe, RECIPE))))
    if options.masks.file is not None:
        group = PruneGroup(options.selection or Selection(("*",)), None, method=MethodRequest(Masks.name))
        return ApplyRequest(options.overrides.over(PruneRequest((group,))))
    if options.selection is None:
        raise UsageError(f"nothing is selected; name parameters with {PARAM}, and give {AMOUNT}")
    group = options.division.group(options.selection, options.amount, global_=options.global_)
    return ApplyRequest(options.overrides.over(PruneRequest((group,))))


def _with_masks(options: ApplyOptions, prune: PruneRequest) -> PruneRequest:
    """Return a report's request with the options over it; its methods must agree with options about other files."""
    if prune.reads_given and options.masks.file is None:
        raise UsageError(f"the masks are those of a file; give that with {MASKS}")
    if options.masks.file is not None and not prune.reads_given:
        raise UsageError(f"the report's masks were not given by a file; leave {MASKS} out")
    method = options.division.method
    if method is not None:  # only --scores: their place today
        if not any(group.method.scores for group in prune.groups):
            raise UsageError(f"the report's masks were not chosen by scores; leave {SCORES} out")
        prune = replace(prune, groups=tuple(_with_scores(group, method.scores) for group in prune.groups))
    return options.overrides.over(prune)


def _with_scores(group: PruneGroup, place: str | None) -> PruneGroup:
    return group if group.method.scores is None else replace(group, method=replace(group.method, scores=place))


def plan_request(
    checkpoint: AnyCheckpoint,
    request: ApplyRequest,
    scanner: Scanner,
    reading: ReadOptions,
    given: Given = NOTHING,
    *,
    stamp: bool,
) -> Plan:
    """Return the plan of a request, with a stamp in the metadata if asked for; all ranks plan together.

    A checkpoint whose counts are taken is opened with the options in `reading`, except for the key. `given` are the
    scores that methods read.

    Raises:
        PrunecliError: as `plan_prune`, `check_unlike`, `plan_replay`, `with_state` and `stamped`.
    """
    prune, report = request.prune, request.report
    if report is None:
        plan = plan_prune(checkpoint, prune, scanner, lambda place: _like(place, reading), given)
        if plan.unlike:
            scanner.from_leader(lambda: _check_unlike(checkpoint, plan))
    else:
        plan = plan_replay(checkpoint, report, prune, scanner, given)
    if prune.with_state:
        plan = scanner.from_leader(lambda: with_state(checkpoint, plan))
    return scanner.from_leader(lambda: stamped(checkpoint, plan)) if stamp else plan


def _check_unlike(checkpoint: AnyCheckpoint, plan: Plan) -> None:
    from prunecli.surgery.like import check_unlike  # as below

    check_unlike(checkpoint, plan)


def _like(place: str, reading: ReadOptions) -> Mapping[str, LikeRow]:
    from prunecli.surgery.like import read_like  # imported here: few runs take the counts of another mask

    return read_like(place, reading)

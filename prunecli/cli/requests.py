"""What `apply` is asked for: by its options, by a recipe with options over it, or by a report that is replayed."""

from dataclasses import dataclass, replace

from prunecli.cli.arguments import MaskDtype
from prunecli.cli.options import input_path
from prunecli.core.amount import parse_amount
from prunecli.errors import UsageError
from prunecli.formats.opening import AnyCheckpoint
from prunecli.surgery.names.select import Selection
from prunecli.surgery.plan.plan import Plan, plan_prune
from prunecli.surgery.plan.recipe import read_recipe
from prunecli.surgery.plan.request import PruneGroup, PruneRequest
from prunecli.surgery.plan.scan import Scanner
from prunecli.surgery.plan.with_state import with_state
from prunecli.surgery.replay import plan_replay
from prunecli.surgery.report.measure import Report
from prunecli.surgery.report.provenance import stamped
from prunecli.surgery.report.reading import read_report

__all__ = ["Asked", "Request", "Ways", "check_asked", "plan_of", "request_of"]


@dataclass(frozen=True, slots=True)
class Ways:
    """Options that hold for all groups; None and False where the command line does not name them."""

    seed: int | None = None
    remove: bool | None = None
    mask_dtype: MaskDtype | None = None
    untie: bool = False
    zeros_are_pruned: bool = False
    key_prefix: str | None = None
    with_state: bool = False

    def other_masks(self) -> str | None:
        """Return an option that asks for other masks than a report records, None if there is none."""
        if self.seed is not None:
            return "--seed"
        if self.key_prefix is not None:
            return "--key-prefix"
        return "--zeros-are-pruned" if self.zeros_are_pruned else None

    def over(self, prune: PruneRequest) -> PruneRequest:
        """Return a request with what the command line says instead of what the request says."""
        return replace(
            prune,
            seed=prune.seed if self.seed is None else self.seed,
            remove=prune.remove if self.remove is None else self.remove,
            mask_dtype=prune.mask_dtype if self.mask_dtype is None else self.mask_dtype.value,
            untie=prune.untie or self.untie,
            zeros_are_pruned=prune.zeros_are_pruned or self.zeros_are_pruned,
            key_prefix=prune.key_prefix if self.key_prefix is None else self.key_prefix,
            with_state=prune.with_state or self.with_state,
        )


@dataclass(frozen=True, slots=True)
class Asked:
    """The options of `apply` that say what is pruned, as the command line has them."""

    selection: Selection | None
    amount: str | None
    together: bool
    ways: Ways
    recipe: str | None = None
    report: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A request, and the report whose masks it asks for once more, if it does."""

    prune: PruneRequest
    told: Report | None = None


def check_asked(asked: Asked, *, stdin_is_taken: bool) -> None:
    """Refuse options that contradict each other, before anything is opened.

    Raises:
        UsageError: nothing says what is pruned, or two options do.
    """
    given = [
        option
        for option, is_given in (
            ("-p", asked.selection is not None),
            ("-a", asked.amount is not None),
            ("--global", asked.together),
        )
        if is_given
    ]
    if asked.ways.remove and asked.ways.mask_dtype is not None:
        raise UsageError("--remove leaves no masks, and --mask-dtype is about theirs; leave one out")
    if asked.recipe is not None and asked.report is not None:
        raise UsageError("--recipe and --from-report both say what is pruned; leave one out")
    for option, place in (("--recipe", asked.recipe), ("--from-report", asked.report)):
        if place is not None and given:
            raise UsageError(f"{option} says what is pruned, and {given[0]} does, too; leave one out")
        if place == "-" and stdin_is_taken:
            raise UsageError(f"the checkpoint and {option} cannot both come from standard input; give one a path")
    others = asked.ways.other_masks()
    if asked.report is not None and others is not None:
        raise UsageError(f"--from-report replays the report's masks, and {others} asks for others; leave one out")
    if asked.recipe is None and asked.report is None:
        if asked.selection is None:
            raise UsageError("nothing is selected; add -p NAME or a pattern like -p '*.weight'")
        if asked.amount is None:
            raise UsageError("nothing says how much is pruned; add -a 0.5, -a 50% or a count like -a 1000")
        parse_amount(asked.amount)


def request_of(asked: Asked) -> Request:
    """Return the request that the options make; a recipe or a report is read for it.

    Raises:
        UsageError: the recipe asks for what cannot be.
        UnreadableError: recipe or report cannot be read.
        DamagedError: the report is none.
    """
    if asked.report is not None:
        told = read_report(input_path(asked.report, "--from-report"))
        if told.prune is None:
            raise UsageError(f"the report is of '{told.command}', which draws no masks; give one of 'apply'")
        return Request(asked.ways.over(told.prune), told)
    if asked.recipe is not None:
        return Request(asked.ways.over(read_recipe(input_path(asked.recipe, "--recipe"))))
    if asked.selection is None or asked.amount is None:
        raise UsageError("nothing is selected; add -p NAME and -a 0.5")
    return Request(
        asked.ways.over(PruneRequest((PruneGroup(asked.selection, parse_amount(asked.amount), asked.together),)))
    )


def plan_of(opened: AnyCheckpoint, request: Request, scanner: Scanner, *, stamp: bool) -> Plan:
    """Plan a request, and the stamp if it is asked for; all ranks do so together.

    Raises:
        PrunecliError: as `plan_prune`, `plan_replay`, `with_state` and `stamped`.
    """
    told = request.told
    if told is None:
        plan = plan_prune(opened, request.prune, scanner=scanner)
    else:
        plan = plan_replay(opened, told, request.prune, scanner=scanner)
    if request.prune.with_state:
        plan = scanner.from_leader(lambda: with_state(opened, plan))
    return scanner.from_leader(lambda: stamped(opened, plan)) if stamp else plan

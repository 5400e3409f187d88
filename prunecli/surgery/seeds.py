"""One output for each of several seeds."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from prunecli.core.seed import check_seed
from prunecli.errors import UsageError, show
from prunecli.formats.io.locations import Location, Url
from prunecli.formats.outputs.base import exists_already
from prunecli.lean import dataclass
from prunecli.surgery.places import destination_of
from prunecli.surgery.run.destination import Destination, default_report, with_seed
from prunecli.terms import FROM_REPORT, MASKS, OUTPUT, REPORT, RESUME, SEED, SEEDS

__all__ = ["MOST_SEEDS", "SeededOutputs", "parse_seeds", "refuse_beside_seeds"]

MOST_SEEDS = 10_000

_FIELD = "{seed}"


def parse_seeds(given: str | range) -> range:
    """Return the seeds of a range, or from `A` to `B`, both included, of a text `A..B`.

    Raises:
        UsageError: it is something else, or there are too many.
    """
    if isinstance(given, str):
        found = re.fullmatch(r"([0-9]{1,39})\.\.([0-9]{1,39})", given.strip())
        seeds = range(int(found[1]), int(found[2]) + 1) if found else range(0)
    else:
        seeds = given
    if not seeds:
        what = show(given, 60) if isinstance(given, str) else repr(given)
        raise UsageError(f"{SEEDS} {what} is not a range of seeds; write 0..19 for the twenty from 0 to 19")
    if len(seeds[: MOST_SEEDS + 1]) > MOST_SEEDS:
        raise UsageError(f"{SEEDS} asks for more than {MOST_SEEDS:,} outputs; give fewer seeds")
    for seed in (seeds[0], seeds[-1]):
        check_seed(seed)
    return seeds


def refuse_beside_seeds(
    *,
    seed: object = None,
    from_report: object = None,
    masks: object = None,
    resume: object = None,
    ranks: int | None = 1,
) -> None:
    """Refuse what several seeds cannot be combined with.

    Raises:
        UsageError: something is.
    """
    if (ranks or 1) > 1:
        raise UsageError(f"{SEEDS} writes its outputs in one process; leave the launcher or {SEEDS} out")
    others = {
        SEED: seed is not None,
        FROM_REPORT: from_report is not None,
        MASKS: masks is not None,
        RESUME: bool(resume),
    }
    other = next((option for option, is_given in others.items() if is_given), None)
    if other is not None:
        raise UsageError(f"{SEEDS} draws from several seeds into new outputs, which {other} contradicts; leave one out")


@dataclass(frozen=True, slots=True)
class SeededOutputs:
    """The options that say where the outputs of several seeds go; names contain `{seed}` in the place of the seed."""

    output: str | None
    report: str | None
    no_report: bool = False
    force: bool = False

    def destinations(self, source: Location | None, seeds: Sequence[int]) -> dict[int, Destination]:
        """Return the destination for each seed, after a check that none exists.

        Raises:
            UsageError: a name has no place for the seed, or the checkpoint is standard input; or as `destination_of`.
            OutputError: an output exists; or as `destination_of`.
        """
        if source is None:
            raise UsageError(f"{SEEDS} reads the checkpoint once for each seed; give it a path instead of -")
        for option, name in ((OUTPUT, self.output), (REPORT, self.report)):
            if name is not None and _FIELD not in name:
                raise UsageError(f"{SEEDS} writes several outputs, and {option} {show(name, 80)} has no {_FIELD} in it")
        found = {seed: self._destination(source, seed) for seed in seeds}
        if any(isinstance(place, Url) for each in found.values() for place in (each.path, each.report)):
            raise UsageError(
                f"{SEEDS} writes outputs that appear together, which only this machine can; give {OUTPUT} a path"
            )
        for each in found.values() if not self.force else ():
            for place in (each.path, each.report if self.report is not None else None):
                if isinstance(place, Path) and os.path.lexists(place):
                    raise exists_already(show(place), is_input=False)
        return found

    def _destination(self, source: Location, seed: int) -> Destination:
        output, report = (name and name.replace(_FIELD, str(seed)) for name in (self.output, self.report))
        found = destination_of(source, "apply", output, report, no_report=self.no_report, force=self.force)
        if output is not None or found.path is None:
            return found
        path = with_seed(found.path, seed)
        return Destination(path, found.report if self.no_report or report else default_report(path), self.force)

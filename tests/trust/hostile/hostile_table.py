"""The corpus in figures.

python tests/trust/hostile/hostile_table.py              # the whole corpus: prints the rows, 1 if a figure is missed
python tests/trust/hostile/hostile_table.py zip legacy   # some families
"""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "support"))

from hostile_corpus import COMMANDS, Case, corpus
from hostile_judge import LETTERS, MEMORY, SECONDS, Outcome, judge, skipped

__all__ = ["HEAD", "HEAVY", "Row", "figures", "main", "rows"]

HEAD = "| what | goal | result |\n|---|---|---|"

HEAVY = "heavy"
REFUSED, ACCEPTED = 200, 40
"""How many files of each sort the corpus has to have."""


@dataclass(frozen=True)
class Row:
    """A row of the table: what was counted, what is to be reached, what was, and whether that is enough."""

    what: str
    to_reach: str
    reached: str
    met: bool

    @property
    def line(self) -> str:
        """The row in Markdown."""
        return f"| {self.what} | {self.to_reach} | {self.reached}{'' if self.met else ' (missed)'} |"


def rows(cases: Iterable[Case] | None = None, jobs: int | None = None, *, heavy: bool = True) -> list[Row]:
    """Put the corpus through all commands, and return the table's rows; what went wrong goes to standard error.

    `heavy` are files of a million objects; smaller ones exceed smaller limits in tests/formats.
    """
    chosen = [case for case in corpus().values() if heavy or case.family != HEAVY] if cases is None else list(cases)
    outcomes = list(judge(chosen, jobs or len(os.sched_getaffinity(0))))
    for outcome in outcomes:
        for problem in outcome.problems:
            print(f"{outcome.case}, {outcome.command}: {problem}", file=sys.stderr)
    return figures(chosen, outcomes, whole=cases is None)


def figures(cases: Sequence[Case], outcomes: Sequence[Outcome], *, whole: bool = True) -> list[Row]:
    """Count what `judge` found."""
    tried = [case for case in cases if not skipped(case)]
    sorts = Counter(case.is_refused for case in tried)
    counted = {"executions": "executed", "signals": "signal", "tracebacks": "traceback"}
    bad = {word: sum(getattr(each, name) for each in outcomes) for word, name in counted.items()}
    bad["exit 1"] = sum(each.code == 1 for each in outcomes)
    refusals = [each for each in outcomes if each.refusal]
    wrong = {each.case for each in outcomes if each.problems}
    letters, seconds = (max((getattr(each, key) for each in refusals), default=0) for key in ("letters", "seconds"))
    memory = max((each.memory for each in refusals), default=0)
    enough = not whole or (sorts[True] >= REFUSED and sorts[False] >= ACCEPTED)
    return [
        Row(
            f"hostile files x {len(COMMANDS)} commands, or those that take masks, ratios and orders",
            f"at least {REFUSED} refused, {ACCEPTED} odd ones accepted; 0 otherwise",
            f"{sorts[True]} refused, {sorts[False]} accepted, {len(outcomes)} runs; {len(wrong)} otherwise",
            enough and not wrong,
        ),
        Row(
            "what they did",
            "0 " + ", 0 ".join(bad),
            ", ".join(f"{count} {word}" for word, count in bad.items()),
            not any(bad.values()),
        ),
        Row(
            "each refusal",
            f"1 printable line of {LETTERS} characters, {SECONDS:.0f} s, the file's size and {MEMORY >> 20} MiB",
            f"up to {letters} characters, {seconds:.1f} s, the file's size and {memory >> 20} MiB",
            letters <= LETTERS and seconds <= SECONDS and memory <= MEMORY,
        ),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 1 where a figure is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", nargs="*", help="only these")
    parser.add_argument("--jobs", type=int)
    asked = parser.parse_args(arguments)
    chosen = [case for case in corpus().values() if case.family in asked.family] if asked.family else None
    found = rows(chosen, asked.jobs)
    print(HEAD)
    for row in found:
        print(row.line)
    return 0 if all(row.met for row in found) else 1


if __name__ == "__main__":
    sys.exit(main())

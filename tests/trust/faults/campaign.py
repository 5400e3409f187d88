"""Faults at every file-changing call of every scenario, and what each must leave behind."""

import random
import shutil
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from faults.injection import CALLS, Call, Fault, Outcome, Runner, changes
from faults.scenarios import Scenario, State

__all__ = ["FAULTS", "Findings", "Stage", "strike_all"]

FAULTS = ("KILL", "TERM", "INT", "ENOSPC", "EIO")

_CLEANING = frozenset({"unlink", "unlinkat", "rmdir"})


@dataclass
class Findings:
    """What a campaign has seen: how many faults of each kind, and everything that was not as it must be."""

    faults: Counter[str] = field(default_factory=Counter)
    damaged: list[str] = field(default_factory=list)
    inputs_changed: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    untidy: list[str] = field(default_factory=list)
    """Wrong exit codes, more than a line of errors, tracebacks."""

    def joined(self, other: "Findings") -> "Findings":
        """Return what this and another campaign have seen."""
        return Findings(
            self.faults + other.faults,
            self.damaged + other.damaged,
            self.inputs_changed + other.inputs_changed,
            self.leftovers + other.leftovers,
            self.untidy + other.untidy,
        )

    @property
    def problems(self) -> list[str]:
        """All of them."""
        return [*self.damaged, *self.inputs_changed, *self.leftovers, *self.untidy]


class Stage:
    """A scenario made ready: how its folder looks before and after a run without faults, and that run's calls."""

    def __init__(self, scenario: Scenario, runner: Runner, place: Path) -> None:
        self.scenario = scenario
        self._runner = runner
        self._template, self._folder = place / "template", place / "work"
        self._template.mkdir(parents=True)
        scenario.prepare(self._template)
        self.before: State = scenario.state(self._template)
        done = self.run("-e", f"trace={','.join(CALLS)}")
        assert done.code == 0, done.err
        self.after: State = scenario.state(self._folder)
        self.calls: Sequence[Call] = changes(done.trace, self._folder)

    def run(self, *options: str) -> Outcome:
        """Run the scenario in a fresh folder."""
        shutil.rmtree(self._folder, ignore_errors=True)
        shutil.copytree(self._template, self._folder, symlinks=True)
        return self._runner.run(self._folder, self.scenario.arguments, *options)

    def strike(self, fault: Fault, findings: Findings) -> None:
        """Run it with a fault, and look at what is left; then without one, as a user would next."""
        outcome = self.run("-e", f"trace={fault.call.name}", "-e", fault.option)
        findings.faults[fault.what] += 1
        label = f"{self.scenario.name}: {fault.what} at {fault.call.text[:150]}"
        self._judge(fault, outcome, label, findings)
        if self._is_in_place and self._inputs_are_replaced():
            return  # it was replaced before the fault came, and would be pruned twice
        again = self._runner.run(self._folder, (*self.scenario.arguments, *self.scenario.again))
        if again.code != 0:
            findings.untidy.append(f"{label}: the next run ends with {again.code}: {again.err}")
        elif self.scenario.state(self._folder) != self.after:
            findings.leftovers.append(f"{label}: after the next run {self._differing(self.after)}")

    @property
    def _is_in_place(self) -> bool:
        return (
            "-o" in self.scenario.arguments
            and self.scenario.arguments[1] == self.scenario.arguments[self.scenario.arguments.index("-o") + 1]
        )

    def _inputs_are_replaced(self) -> bool:
        name = self.scenario.arguments[1]
        return self._below(self.scenario.state(self._folder), name) == self._below(self.after, name)

    def _judge(self, fault: Fault, outcome: Outcome, label: str, findings: Findings) -> None:
        now = self.scenario.state(self._folder)
        for name in self._tops(now):
            found, old, new = (self._below(state, name) for state in (now, self.before, self.after))
            if found in (old, new):
                continue
            if not old and not new:
                if (
                    fault.what != "KILL"
                    and fault.call.name not in _CLEANING
                    and "--resume" not in self.scenario.arguments
                ):
                    findings.leftovers.append(f"{label}: {name}")
            elif name in self._inputs:
                findings.inputs_changed.append(f"{label}: {name}")
            else:
                findings.damaged.append(f"{label}: {name}")
        if outcome.code == 0 and now != self.after:
            findings.damaged.append(f"{label}: exit code 0, but {self._differing(self.after)}")
        findings.untidy += self._untidy(fault, outcome, label)

    @property
    def _inputs(self) -> set[str]:
        return {path.split("/")[0] for path, reported in self.before.items() if self.after.get(path) == reported}

    def _untidy(self, fault: Fault, outcome: Outcome, label: str) -> Iterator[str]:
        expected = {0, -signal.Signals[f"SIG{fault.what}"]} if fault.is_signal else {0, 6}
        if fault.call.name == "openat":
            expected.add(3)  # another thread's opening of an input has that number, too
        if outcome.code not in expected:
            yield f"{label}: exit code {outcome.code}: {outcome.err}"
        if "Traceback" in outcome.err or outcome.err.count("prunecli: error") > 1:
            yield f"{label}: {outcome.err}"
        if (
            not fault.is_signal
            and outcome.code == 6
            and not outcome.err.splitlines()[-1].startswith("prunecli: error: ")
        ):
            yield f"{label}: no error line: {outcome.err}"

    @staticmethod
    def _below(state: State, name: str) -> dict[str, str]:
        return {path: reported for path, reported in state.items() if path.split("/")[0] == name}

    def _tops(self, now: State) -> list[str]:
        return sorted({path.split("/")[0] for state in (now, self.before, self.after) for path in state})

    def _differing(self, expected: State) -> str:
        now = self.scenario.state(self._folder)
        return ", ".join(sorted(path for path in {*now, *expected} if now.get(path) != expected.get(path)))


def strike_all(stage: Stage, findings: Findings, *, every: int = 1) -> None:
    """Let each fault strike at each call of a scenario; with `every`, at a part of these pairs, drawn once for all."""
    pairs = [Fault(call, what) for call in stage.calls for what in FAULTS]
    random.Random(7).shuffle(pairs)  # noqa: S311
    for fault in pairs[::every]:
        stage.strike(fault, findings)

"""Comparison of commands by time and memory, goals for it, and the results as a table and as JSON."""

import json
import os
import platform
import resource
import select
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

import prunecli

__all__ = [
    "Command",
    "Cost",
    "Goal",
    "Row",
    "busy_core",
    "extra_memory",
    "interleave",
    "machine",
    "peak_memory",
    "run_command",
    "run_cost",
    "run_watched",
    "stopwatch",
    "table",
    "to_json",
]

MEGA = 1e6


@dataclass(frozen=True)
class Goal:
    """The goal of a row. Ratios are ours divided by theirs; with `faster`, theirs divided by ours.

    `limit` and `moonshot` bound the median ratio; `highest` bounds each of our values; `spread` is the allowed distance
    of the median ratio from one, in either direction.
    """

    limit: float | None = None
    moonshot: float | None = None
    faster: bool = False
    highest: float | None = None
    spread: float | None = None

    def text(self) -> str:
        """Return the goal as text for the table."""
        parts = [
            "" if self.limit is None else f"{'>=' if self.faster else '<='} {self.limit:g}x",
            "" if self.moonshot is None else f"moonshot {self.moonshot:g}x",
            "" if self.highest is None else f"value <= {self.highest:g}",
            "" if self.spread is None else f"1 +- {self.spread:g}",
        ]
        return ", ".join(part for part in parts if part) or "-"


@dataclass(frozen=True)
class Row:
    """The measurements of both sides; the i-th of ours was made right after the i-th of theirs."""

    what: str
    against: str
    unit: str
    ours: Sequence[float]
    theirs: Sequence[float]
    goal: Goal

    @property
    def ratios(self) -> list[float]:
        """The ratio of each pair."""
        pairs = zip(self.ours, self.theirs, strict=True)
        return [theirs / ours if self.goal.faster else ours / theirs for ours, theirs in pairs]

    def reached(self) -> str:
        """Return "yes", "yes, moonshot", "no", or "-" for a row without a goal."""
        goal, ratio = self.goal, statistics.median(self.ratios)
        met = [] if goal.limit is None else [ratio >= goal.limit if goal.faster else ratio <= goal.limit]
        met += [] if goal.highest is None else [max(self.ours) <= goal.highest]
        met += [] if goal.spread is None else [abs(ratio - 1) <= goal.spread]
        if not met or not all(met):
            return "no" if met else "-"
        return "yes, moonshot" if goal.moonshot is not None and ratio <= goal.moonshot else "yes"

    def cells(self) -> list[str]:
        """Return the row of the table."""
        medians = [f"{statistics.median(side):.3g} {self.unit}" for side in (self.ours, self.theirs)]
        ratios = self.ratios
        span = f"{min(ratios):.2f}-{max(ratios):.2f}"
        ratio = f"{statistics.median(ratios):.2f}"
        return [self.what, self.against, *medians, ratio, span, self.goal.text(), self.reached()]


_SETTLE = 2.0
"""Seconds to wait so that both sides start with the machine's memory in the same state."""


@dataclass(frozen=True)
class Command:
    """A command, the file or folder to put into the page cache before it, and its output folder, emptied after it."""

    argv: Sequence[str]
    out: Path
    warm: Path | None = None


@dataclass(frozen=True)
class Cost:
    """What a command took: seconds of wall time, and of processor time, user and system, with its children."""

    wall: float
    processor: float


Measured = TypeVar("Measured")


def interleave(
    rounds: int, ours: Callable[[], Measured], theirs: Callable[[], Measured]
) -> tuple[list[Measured], list[Measured]]:
    """Measure theirs, ours, theirs, ours, ...; return our values and their values."""
    pairs = [(theirs(), ours()) for _ in range(rounds)]
    return [pair[1] for pair in pairs], [pair[0] for pair in pairs]


def stopwatch(work: Callable[[], object]) -> float:
    """Return the wall time of `work` in seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def run_command(command: Command) -> float:
    """Return the wall time of a command after a warm-up; a failing command raises `CalledProcessError`."""
    return run_cost(command).wall


def run_cost(command: Command) -> Cost:
    """Return the cost of a command after a warm-up; a failing command raises `CalledProcessError`."""
    _warm_up(command)
    before = _processor_time()
    try:
        wall = stopwatch(lambda: _checked(command.argv))
        return Cost(wall, _processor_time() - before)
    finally:
        clear(command.out)


def _processor_time() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def busy_core() -> Iterator[None]:
    """Keep one core busy with a process that never waits, as on a machine that others use."""
    core = max(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, {{{core}}})\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        try:
            yield
        finally:
            process.kill()


def clear(folder: Path) -> None:
    """Empty a folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def peak_memory(command: Command, *, ranks: bool = False) -> float:
    """Return the largest anonymous memory, in MB, in samples of a command's process.

    With `ranks`, the command is a launcher, and its largest rank counts.
    """
    _warm_up(command)
    try:
        return _watched(command, ranks=ranks)
    finally:
        clear(command.out)


def run_watched(command: Command) -> tuple[Cost, float]:
    """Return the cost of a command and its largest anonymous memory in MB, in one run: looking takes a hundredth."""
    _warm_up(command)
    before, start = _processor_time(), time.perf_counter()
    try:
        peak = _watched(command)
        return Cost(time.perf_counter() - start, _processor_time() - before), peak
    finally:
        clear(command.out)


def _watched(command: Command, *, ranks: bool = False) -> float:
    peak = 0
    # Popen returns after the exec, so samples never measure this process.
    with subprocess.Popen(command.argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            looked_at = _children(process.pid) if ranks else [process.pid]
            peak = max([peak, *map(_anonymous, looked_at)])
            time.sleep(0.005)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(command.argv))
    return peak / MEGA


def extra_memory(script: Path, who: str, elements: int) -> float:
    """Return the peak memory for one mask, in bytes per element, without the mask itself; see `mask_once.py`."""
    argv = [sys.executable, str(script), who, str(elements)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        before = peak = _anonymous(process.pid)
        process.stdin.write(b"\n")
        process.stdin.flush()
        while not select.select([process.stdout], [], [], 0.0002)[0]:  # our mask takes only 20 ms
            peak = max(peak, _anonymous(process.pid))
        size = int(process.stdout.readline().split()[1])
        peak = max(peak, _anonymous(process.pid))
    return (peak - before - size) / elements


def machine(folder: Path) -> dict[str, str]:
    """Return a description of the machine."""
    model = next((line for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "?")
    memory = int(next(line for line in _lines("/proc/meminfo") if line.startswith("MemTotal")).split()[1])
    frame = subprocess.run(["df", "--output=fstype", str(folder)], check=True, capture_output=True, text=True)
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": model.partition(":")[2].strip() or platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory / 2**20:.1f} GiB",
        "kernel": platform.release(),
        "file system": frame.stdout.split()[-1],
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "prunecli": prunecli.__version__,
    }


def table(rows: Sequence[Row]) -> str:
    """Return a Markdown table with columns that are aligned as plain text, too."""
    head = ["what", "against", "ours", "theirs", "ratio", "min-max", "to reach", "reached"]
    lines = [head, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    lines.insert(1, ["-" * width for width in widths])
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in padded)


def to_json(about: dict[str, str], rows: Sequence[Row]) -> str:
    """Return all results as JSON, including each measurement."""
    results = [
        asdict(row)
        | {
            "median_ours": statistics.median(row.ours),
            "median_theirs": statistics.median(row.theirs),
            "ratios": row.ratios,
            "median_ratio": statistics.median(row.ratios),
            "reached": row.reached(),
        }
        for row in rows
    ]
    return json.dumps({"machine": about, "rows": results}, indent=2) + "\n"


def _warm_up(command: Command) -> None:
    """Read the source, then wait until the host of a virtual machine has taken back freed memory.

    Allocation is fast right after a file was deleted, and slow a moment later. Without the wait, a command that writes
    at once, such as cp, would have an advantage over one that takes time to start.
    """
    if command.warm is None:
        return
    for path in sorted(command.warm.iterdir()) if command.warm.is_dir() else [command.warm]:
        with path.open("rb", buffering=0) as file:
            while file.read(1 << 24):
                pass
    time.sleep(_SETTLE)


def _checked(argv: Sequence[str]) -> None:
    done = subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        sys.stderr.write(done.stderr.decode(errors="replace"))
        done.check_returncode()


def _anonymous(pid: int) -> int:
    """Return a process's RssAnon in bytes, 0 if it has ended."""
    try:
        lines = _lines(f"/proc/{pid}/status")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")), 0)


def _children(pid: int) -> list[int]:
    try:
        tasks = [task / "children" for task in Path(f"/proc/{pid}/task").iterdir()]
        return [int(child) for children in tasks for child in children.read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines()

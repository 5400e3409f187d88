"""The progress of a run: a bar on a terminal, a line every few seconds in a log."""

from __future__ import annotations  # rich's names are imported for the type checker only

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from prunecli.errors import show

if TYPE_CHECKING:
    from rich.progress import Progress, Task, TaskID
    from rich.table import Table

__all__ = ["Lines", "progress"]

_FIRST = 4.0
_EVERY = 5.0
"""Seconds before the first line, and between lines; a short run prints none."""

_SHORT = 0.5
"""Seconds before a delayed bar appears, for runs that write nothing."""


_NAME = 28
"""The most characters of a name before a bar, so that bar and figures fit a line of 80 columns."""

_FREE = 3
"""Columns to the right of a bar, for the `^C` that a terminal shows where the cursor is."""


@contextmanager
def progress(label: str, *, quiet: bool, delayed: bool = False) -> Iterator[Callable[[int, int], None] | None]:
    """Yield a callback that shows the bytes done and the total bytes on standard error; None if `quiet`.

    In front is the last part of the `label`. On a terminal that can redraw a line it shows a bar (after half a second
    if `delayed`), elsewhere a line every few seconds.
    """
    name = label.rstrip("/").rpartition("/")[2] or label
    if quiet:
        yield None
    elif not sys.stderr.isatty() or os.environ.get("TERM", "").lower() in ("dumb", "unknown"):  # as rich decides
        yield Lines(name)
    else:
        with ExitStack() as stack:
            yield _Bar(show(name, _NAME), stack, _SHORT if delayed else 0.0)


class _Bar:
    """A progress bar of rich, created when first shown, since rich takes long to import."""

    def __init__(self, label: str, stack: ExitStack, delay: float) -> None:
        self._label = label
        self._stack = stack
        self._began = time.monotonic()
        self._after = self._began + delay
        self._shown: tuple[Progress, TaskID] | None = None
        if not delay:
            self._shown = self._show()

    def __call__(self, done: int, total: int) -> None:
        if self._shown is None and time.monotonic() >= self._after:
            self._shown = self._show()
        if self._shown is not None:
            bar, task = self._shown
            rate = _rate(done, time.monotonic() - self._began)
            bar.update(task, completed=done, total=total, rate=rate)

    def _show(self) -> tuple[Progress, TaskID]:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as FullWidth

        console = Console(file=sys.stderr, highlight=False, markup=False, emoji=False)

        class Bar(FullWidth):
            def make_tasks_table(self, tasks: Iterable[Task]) -> Table:
                table = super().make_tasks_table(tasks)
                table.width = max(console.width - _FREE, 1)
                return table

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            DownloadColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        bar = self._stack.enter_context(Bar(*columns, console=console, transient=True, expand=True))
        return bar, bar.add_task(self._label, total=None, rate="")


class Lines:
    """Lines such as `model.pt: 35 % (1.2 of 3.4 GB), 410 MB/s, 5 s left`, the first after a few seconds."""

    def __init__(self, label: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._label = show(label, 80)
        self._clock = clock
        self._began = clock()
        self._next = self._began + _FIRST

    def __call__(self, done: int, total: int) -> None:
        """Write a line if it is time for one; ignore a closed standard error."""
        now = self._clock()
        if now < self._next or done >= total:
            return
        self._next = now + _EVERY
        try:
            sys.stderr.write(f"{self._label}: {_state(done, total, now - self._began)}\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            self._next = float("inf")


def _state(done: int, total: int, seconds: float) -> str:
    """Return the progress as text.

    >>> _state(1_190_000_000, 3_400_000_000, 2.9)
    '35 % (1.2 of 3.4 GB), 410 MB/s, 6 s left'
    """
    unit, size = next((each for each in _UNITS if total >= each[1]), _UNITS[-1])
    rate = done / seconds if seconds > 0 else 0.0
    left = f", {_duration((total - done) / rate)} left" if rate else ""
    digits = 0 if size == 1 else 1
    return (
        f"{100 * done // total} % ({done / size:.{digits}f} of {total / size:.{digits}f} {unit}), "
        f"{_rate(done, seconds)}{left}"
    )


def _rate(done: int, seconds: float) -> str:
    """Return a rate as text, without decimals.

    >>> _rate(1_230_000_000, 3.0), _rate(0, 0.0)
    ('410 MB/s', '0 bytes/s')
    """
    rate = done / seconds if seconds > 0 else 0.0
    unit, size = next((each for each in _UNITS if rate >= each[1]), _UNITS[-1])
    return f"{rate / size:.0f} {unit}/s"


_UNITS = (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3), ("bytes", 1))


def _duration(seconds: float) -> str:
    """Return a time as text in its two largest units.

    >>> _duration(4.2), _duration(200), _duration(7800)
    ('5 s', '3 min 20 s', '2 h 10 min')
    """
    whole = int(seconds) + 1 if seconds % 1 else int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"

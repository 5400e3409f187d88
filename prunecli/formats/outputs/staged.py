"""Several outputs on this machine that get their names together: all of them, or none.

Each is written completely into a hidden folder beside its place. When the last one is complete, all get their names; if
that fails, those that already have theirs are taken back.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from prunecli.errors import UsageError
from prunecli.formats.base import ONLY_FILE
from prunecli.formats.outputs.file import LocalFile, output_errors
from prunecli.formats.outputs.folder import LocalFolder
from prunecli.formats.outputs.resumable import discard_partial
from prunecli.formats.outputs.system import swap
from prunecli.formats.outputs.temp_files import remove_path, remove_stale, temp_beside
from prunecli.lean import dataclass

__all__ = ["Stage", "held", "staged"]

T = TypeVar("T")

_FOLDER, _OLD = "folder", "old"
"""The names of a complete folder and of a replaced file within a hidden folder."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An output, and the complete file or folder in its hidden folder."""

    output: LocalFile | LocalFolder
    made: Path

    @property
    def old(self) -> Path:
        """A second name of the file that the output replaces."""
        return self.made.with_name(_OLD)

    def publish(self) -> None:
        if isinstance(self.output, LocalFolder):
            self.output.publish(self.made)
            return
        if self.output.force:
            with suppress(OSError):  # it does not exist, or the file system has no hard links
                os.link(self.output.final, self.old)
        self.output.publish(self.made.parent)

    def take_back(self) -> None:
        """Remove the output from its place, and put back what it replaced."""
        if isinstance(self.output, LocalFolder):
            if not (self.output.replaces and swap(self.made, self.output.final)):
                remove_path(self.output.final)
        elif self.old.exists():
            self.old.replace(self.output.final)
        elif self.output.owner is None:
            self.output.final.unlink()


class Stage:
    """The outputs that are written now, and get their names later."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._waiting: list[_Waiting] = []

    def hold(self, output: Any) -> Any:
        """Return an output that is written into a hidden folder beside the place of the given one.

        Raises:
            UsageError: the output is not on this machine.
            OutputError: the folder cannot be made.
        """
        if not isinstance(output, LocalFile | LocalFolder):
            raise UsageError("several outputs that appear together are written to this machine; give a path for them")
        remove_stale(output.final)
        discard_partial(output.final)
        room = self._stack.enter_context(temp_beside(output.final))
        with output_errors(output.path, room):
            room.mkdir(0o700)
        self._waiting.append(_Waiting(output, room / ONLY_FILE))
        if isinstance(output, LocalFile):
            return replace(output, final=room / ONLY_FILE)
        return replace(output, final=room / ONLY_FILE, replaces=False, replaces_input=False)

    def publish(self) -> None:
        """Give all outputs their names.

        Raises:
            OutputError: one could not get its name; then none of the others has its name either.
        """
        begun: list[tuple[_Waiting, tuple[int, int]]] = []
        try:
            for each in self._waiting:
                with output_errors(each.output.path, each.output.final.parent):
                    begun.append((each, _identity(each.made)))
                    each.publish()
        except BaseException:
            for each, identity in reversed(begun):
                with suppress(OSError):
                    if _identity(each.output.final) == identity:
                        each.take_back()
            raise


def _identity(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_dev, status.st_ino


_stage: ContextVar[Stage | None] = ContextVar("stage", default=None)


@contextmanager
def staged() -> Iterator[None]:
    """Give all outputs that are written in the block their names at its end, if no exception ends it."""
    with ExitStack() as stack:
        stage = Stage(stack)
        token = _stage.set(stage)
        try:
            yield
            stage.publish()
        finally:
            _stage.reset(token)


def held(output: T) -> T:
    """Return an output as it is, or in a `staged` block one that gets its name at the end of the block.

    Raises:
        UsageError, OutputError: as `Stage.hold`.
    """
    stage = _stage.get()
    found: T = output if stage is None or output is None else stage.hold(output)
    return found

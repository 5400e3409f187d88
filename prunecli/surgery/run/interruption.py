"""Notes for a person who interrupts a run: what has been written or kept by then."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from prunecli.errors import show
from prunecli.formats.io.locations import Location

__all__ = ["noting", "written_by_now"]


@contextmanager
def noting(text: Callable[[], str]) -> Iterator[None]:
    """Add a note, unless it is empty, to an interruption of the block: an exception that is not an `Exception`."""
    try:
        yield
    except Exception:
        raise
    except BaseException as interruption:
        if note := text():
            interruption.add_note(note)
        raise


def written_by_now(final: Location | None) -> Callable[[], str]:
    """Return a function that says whether the output has got its name since this call; None is standard output."""
    before = _identity(final)

    def text() -> str:
        if final is None:
            return "what was written to standard output is not complete"
        return "" if _identity(final) == before else f"{show(final)} is complete, but its report may be missing"

    return text


def _identity(final: Location | None) -> tuple[int, int] | None:
    try:
        status = final.stat() if isinstance(final, Path) else None
    except OSError:
        return None
    return None if status is None else (status.st_dev, status.st_ino)

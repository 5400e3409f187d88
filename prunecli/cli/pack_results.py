"""The results of `pack` and `unpack`: where they go, and what is printed."""

import sys
from collections.abc import Callable

from prunecli.cli.messages import print_path, print_sentence, shown_path
from prunecli.errors import UsageError, percent
from prunecli.formats.io.locations import Location, location_of
from prunecli.reporting.numbers import size_of
from prunecli.surgery.packing import PackedFile

__all__ = ["binary_output", "print_packed", "print_unpacked"]


def binary_output(output: str | None, place: Callable[[], Location], *, dry_run: bool) -> Location | None:
    """Return where a binary file goes, None for standard output.

    Raises:
        UsageError: standard output is a terminal; or as `place`.
        OutputError: as `place`.
    """
    if output != "-":
        return place()
    if sys.stdout.isatty() and not dry_run:
        raise UsageError("-o - would write a binary file to the terminal; redirect it, or give -o a path")
    return None


def print_packed(found: PackedFile, *, quiet: bool, dry_run: bool) -> None:
    """Print the path of a packed file on standard output, and on standard error how much smaller it is."""
    share = f"{percent(found.bytes, found.original_bytes)} of {size_of(found.original_bytes)}"
    mask = "mask" if found.drawn == 1 else "masks"
    masks = f"{found.drawn:,} {mask} drawn again, {found.stored:,} stored"
    room = f"; a temporary file of {size_of(found.spool)} is needed" if found.spool and dry_run else ""
    _print(found, f"({size_of(found.bytes)}): {share}; {masks}{room}", quiet=quiet, dry_run=dry_run)


def print_unpacked(found: PackedFile, *, quiet: bool, dry_run: bool) -> None:
    """Print the path of an unpacked file on standard output, and its size on standard error."""
    _print(found, f"({size_of(found.original_bytes)})", quiet=quiet, dry_run=dry_run)


def _print(found: PackedFile, what: str, *, quiet: bool, dry_run: bool) -> None:
    if found.path is not None and not dry_run and (quiet or not sys.stdout.isatty()):
        print_path(location_of(found.path))
    if not quiet or dry_run:
        sys.stdout.flush()
        where = "standard output" if found.path is None else shown_path(found.path)
        print_sentence(f"{'would write' if dry_run else 'wrote'} {where} {what}")

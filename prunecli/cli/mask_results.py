"""The results of the commands on masks: where they go, and what is printed."""

import sys

from prunecli.cli.messages import print_path, print_sentence, shown_path
from prunecli.errors import UsageError, percent
from prunecli.formats.io.locations import Location, location_of
from prunecli.reporting.numbers import size_of
from prunecli.surgery import mask_jobs as _jobs
from prunecli.surgery.mask_jobs import MaskFile, MaskOutput

__all__ = ["mask_output", "print_mask_file"]


def mask_output(source: Location | None, what: str, output: str | None, *, bits: bool, force: bool) -> MaskOutput:
    """Return where a mask file goes.

    Raises:
        UsageError: standard output is a terminal; or as `mask_jobs.mask_output`.
        OutputError: as `mask_jobs.mask_output`.
    """
    if output != "-":
        return _jobs.mask_output(source, what, output, bits=bits, force=force)
    if sys.stdout.isatty():
        raise UsageError("-o - would write a mask file to the terminal; redirect it, or give -o a path")
    return MaskOutput(None, bits, force)


def print_mask_file(found: MaskFile, *, quiet: bool) -> None:
    """Print the path of a mask file on standard output, and on standard error what was written."""
    if found.path is not None and (quiet or not sys.stdout.isatty()):
        print_path(location_of(found.path))
    if not quiet:
        sys.stdout.flush()
        where = "standard output" if found.path is None else shown_path(found.path)
        kept = f"{found.kept:,} of {found.elements:,} elements kept ({percent(found.kept, found.elements)})"
        masks = f"{found.masks:,} mask{'s' * (found.masks != 1)}"
        print_sentence(f"wrote {where} ({size_of(found.bytes)}): {masks}, {kept}")

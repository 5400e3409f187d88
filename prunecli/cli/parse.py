"""Options that only the command line has: `-` for standard input and output, and `--params-from`."""

import os
import sys
from collections.abc import Sequence

from prunecli.errors import UnreadableError, UsageError, show
from prunecli.formats.io.locations import Location, Url, location_of
from prunecli.surgery import places
from prunecli.surgery.names.select import Selection
from prunecli.surgery.roles.table import Role
from prunecli.surgery.run.destination import Destination

__all__ = ["destination_of", "params_from", "selection_of"]

_NOT_MATCHED = {"by exact name only", "not prunable", *(role.value for role in Role if role is not Role.PARAMETER)}
"""The states in the fourth column of `params` that patterns do not select; the first is from an earlier version."""

_LONGEST = 64 << 20
"""The most bytes of a list: enough for the names of a million tensors."""


def selection_of(
    checkpoint: str,
    params: Sequence[str] | None,
    listed: str | None,
    exclude: Sequence[str] | None,
    min_dim: int = 0,
    *,
    reading: bool = False,
) -> Selection | None:
    """Return the selection described by `-p`, `--params-from`, `-x` and `--min-dim`, None without any.

    Raises:
        PrunecliError: as `params_from` and `places.selection_of`.
    """
    return places.selection_of(params_from(params, listed, checkpoint), exclude, min_dim, reading=reading)


def destination_of(
    source: Location | None, command: str, output: str | None, report: str | None, *, no_report: bool, force: bool
) -> Destination:
    """Return where to write a checkpoint and its report.

    Raises:
        UsageError: standard output is requested twice, or is a terminal; or as `places.destination_of`.
    """
    if output != "-":
        to_stdout = report == "-" and not no_report
        return places.destination_of(
            source, command, output, None if to_stdout else report, no_report=no_report or to_stdout, force=force
        )
    if report == "-":
        raise UsageError("-o - and --report - both want standard output; give one of them a path")
    if sys.stdout.isatty():
        raise UsageError("-o - would write a checkpoint to the terminal; redirect it, or give -o a path")
    if no_report and report is not None:
        raise UsageError("--report and --no-report contradict each other; leave one out")
    return Destination(None, None if report is None else places.output_location(report, "--report"), force)


def params_from(params: Sequence[str] | None, listed: str | None, checkpoint: str) -> list[str] | None:
    """Return the patterns of `-p` and those of a list, None without either.

    The text of a line before its first tab counts like an argument of `-p`. Lines of `params` with a state that
    patterns do not select are ignored.

    Raises:
        UsageError: the list is empty or not text, or standard input is used twice.
        UnreadableError: it cannot be read.
    """
    if listed is None:
        return list(params) if params else None
    if not listed:
        raise UsageError("--params-from is empty; give a path, or - for standard input")
    if listed == "-" and checkpoint == "-":
        raise UsageError("the checkpoint and --params-from cannot both come from standard input; give one a path")
    what = "standard input" if listed == "-" else show(location_of(listed))  # without credentials
    lines = _lines(_read(listed, what), what)
    if not lines:
        raise UsageError(f"--params-from: {what} contains no names; check the command that wrote it")
    columns = [line.split("\t") for line in lines]
    names = [each[0] for each in columns if len(each) < 4 or each[3] not in _NOT_MATCHED]
    if not names:
        raise UsageError(
            f"--params-from: {what} lists only tensors that patterns do not select; give their exact names with -p"
        )
    return list(dict.fromkeys((*(params or ()), *names)))


def _read(place: str, what: str) -> bytes:
    location = location_of(place)
    if isinstance(location, Url):
        from prunecli.formats.detect import open_location

        with open_location(location) as source:
            return source.read(0, min(source.size, _LONGEST + 1))
    if place != "-":
        try:
            with location.open("rb") as file:  # the file may be a pipe of the shell: <(grep ...)
                return file.read(_LONGEST + 1)
        except (OSError, ValueError) as error:
            raise UnreadableError(f"cannot read --params-from {what}: {getattr(error, 'strerror', error)}") from None
    if os.environ.get("WORLD_SIZE", "1") != "1" and "RANK" in os.environ:
        raise UsageError("several ranks cannot read one standard input; give --params-from a path")
    if os.isatty(0):
        raise UsageError("--params-from: standard input is a terminal; pipe names into it, or give a path")
    try:
        with open(0, "rb", closefd=False) as file:
            return file.read(_LONGEST + 1)
    except OSError as error:
        raise UnreadableError(f"cannot read standard input: {error.strerror}") from None


def _lines(data: bytes, what: str) -> list[str]:
    if len(data) > _LONGEST:
        raise UsageError(f"--params-from: {what} is not a list of names: it is larger than {_LONGEST >> 20} MiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise UsageError(f"--params-from: {what} is not text; give a list of names, one per line")
    return [line for each in text.split("\n") if (line := each.removesuffix("\r")).strip()]

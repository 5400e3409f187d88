"""`--params-from`: parameters by a list, a line each, as `prunecli params` prints them into a pipe."""

import os
from collections.abc import Sequence

from prunecli.errors import UnreadableError, UsageError, show
from prunecli.formats.detect import open_location
from prunecli.formats.io.locations import Url, location_of
from prunecli.surgery.roles.table import Role

__all__ = ["with_list"]


_LEFT_ALONE = {"by exact name only", "not prunable", *(role.value for role in Role if role is not Role.PARAMETER)}
"""States in the fourth column of `params`, one of an older one: a list that has them was hardly made to prune those."""

_LONGEST = 64 << 20
"""Bytes of a list: names of a million tensors."""


def with_list(params: Sequence[str] | None, place: str | None, checkpoint: str) -> list[str] | None:
    """Return the patterns of `-p` and those of a list, None if there is neither.

    What a line says before its first tab counts as if `-p` gave it. Lines of `params` whose state tells that patterns
    leave the tensor alone are left out, as patterns would.

    Raises:
        UsageError: the list is empty, or no text, or standard input is asked for twice.
        UnreadableError: it cannot be read.
    """
    if place is None:
        return list(params) if params else None
    if not place:
        raise UsageError("--params-from is empty; give a path, or - for standard input")
    if place == "-" and checkpoint == "-":
        raise UsageError("the checkpoint and --params-from cannot both come from standard input; give one a path")
    what = "standard input" if place == "-" else show(location_of(place))  # without what logs in
    lines = _lines(_read(place, what), what)
    if not lines:
        raise UsageError(f"--params-from: {what} holds no names; did what made it find any?")
    columns = [line.split("\t") for line in lines]
    names = [each[0] for each in columns if len(each) < 4 or each[3] not in _LEFT_ALONE]
    if not names:
        raise UsageError(
            f"--params-from: {what} lists only what patterns leave alone; give those by their exact names with -p"
        )
    return list(dict.fromkeys((*(params or ()), *names)))


def _read(place: str, what: str) -> bytes:
    location = location_of(place)
    if isinstance(location, Url):
        with open_location(location) as source:
            return source.read(0, min(source.size, _LONGEST + 1))
    if place != "-":
        try:
            with location.open("rb") as file:  # a pipe of the shell's, too: <(grep ...)
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
        raise UsageError(f"--params-from: {what} is no list of names: it is larger than {_LONGEST >> 20} MiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise UsageError(f"--params-from: {what} is no text; it takes a list of names, a line each")
    return [line for each in text.split("\n") if (line := each.removesuffix("\r")).strip()]

"""Amounts of single parameters and orders of layers, as files list them, and which settings of a group fit together."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from prunecli.core.amount import Amount, check_amount, parse_amount
from prunecli.errors import DamagedError, UsageError, show
from prunecli.formats.detect import open_location
from prunecli.formats.io.locations import Location
from prunecli.formats.json_text import parse_object
from prunecli.surgery.names.parameters import DEEPEST
from prunecli.surgery.plan.toml_text import parse_toml
from prunecli.terms import ORDER, RATIOS

__all__ = ["division_fault", "named_amounts", "read_order", "read_ratios"]

_LIMIT = 64 << 20
"""The most bytes of a file: enough for the names of a million tensors."""


def division_fault(settings: Mapping[str, Any], *, takes_amount: bool = True) -> str:
    """Return why the settings of a group contradict each other, with the names of recipes; "" if they do not."""
    own = "amount" if "amount" in settings else "amounts" if "amounts" in settings else ""
    rule = settings.get("allocation")
    if takes_amount and not own and "like" not in settings:
        return "has no amount"
    if own and "like" in settings:
        return f"has {own} and like, which both say how much is pruned; leave one out"
    if settings.get("global") and rule not in (None, "global"):
        return f"has global = true and the allocation {rule}, which divide the total in different ways; leave one out"
    if (rule or settings.get("global")) and "amount" not in settings:
        return f"has {'an allocation' if rule else 'global = true'}, and no amount as the total to divide"
    for key, others in (("per_row", ("allocation", "like", "global", "per_slice")), ("per_slice", ("like",))):
        other = next((each for each in others if settings.get(each)), None)
        if settings.get(key) and other is not None:
            return f"has {key} = true and {other}, which do not go together; leave one out"
    return "has an order, and no allocation that needs it" if "order" in settings and not rule else ""


def named_amounts(content: Mapping[str, Any]) -> tuple[tuple[str, Amount], ...]:
    """Return amounts by name or pattern, from tables as JSON and TOML have them.

    In a table within a table, names are joined with dots: TOML reads `fc.weight = 0.5` as that.

    Raises:
        UsageError: a value is not an amount, or a name occurs twice.
    """
    found: dict[str, Amount] = {}
    for name, value in _flat(content):
        if name in found:
            raise UsageError(f"{show(name, 80)} occurs twice")
        try:
            found[name] = parse_amount(value) if isinstance(value, str) else check_amount(value)
        except TypeError:
            raise UsageError(f'{show(name, 80)}: no amount; write 0.5, "50%" or a count like 1000') from None
        except UsageError as error:
            raise error.inside(show(name, 80) or "''") from None
    return tuple(found.items())


def _flat(content: Mapping[str, Any], above: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        if not isinstance(value, dict):
            yield above + name, value
        elif depth < DEEPEST:
            yield from _flat(value, f"{above}{name}.", depth + 1)
        else:
            raise UsageError(f"{show(above, 60)} is nested too deeply for a name")


def read_ratios(place: Location | None) -> tuple[tuple[tuple[str, Amount], ...], str]:
    """Return the amounts in a file (JSON or TOML), and the name of the file for messages.

    Raises:
        UnreadableError: it cannot be read.
        UsageError: it is neither JSON nor TOML, has no amounts, or as `named_amounts`.
        UnsafeError: its JSON would take far more memory than the text.
    """
    text, label = _read(place, RATIOS)
    content = _json(text, label) if text.lstrip()[:1] == "{" else None
    try:
        content = parse_toml(text) if content is None else content
        amounts = named_amounts(content)
    except UsageError as error:
        raise error.inside(label) from None
    except (ValueError, RecursionError) as error:  # the ValueError of an integer that is too long, too
        raise UsageError(f"{label} is neither JSON nor TOML: {show(str(error), 120)}") from None
    if not amounts:
        raise UsageError(f"{label} contains no amounts; {RATIOS} needs a name or pattern with an amount")
    return amounts, label


def _json(text: str, label: str) -> dict[str, Any]:
    """Return JSON that a person wrote, whose faults are corrected in its lines."""
    try:
        return parse_object(text.encode(), label)
    except DamagedError as error:
        try:
            json.loads(text)
        except json.JSONDecodeError as fault:
            raise UsageError(f"{label}:{fault.lineno}: not JSON: {show(fault.msg, 120)}") from None
        except (ValueError, RecursionError):
            raise UsageError(
                f"{label} is not JSON that can be read: it is nested too deeply, or has a number that is too long"
            ) from None
        raise UsageError(str(error).rpartition("; ")[0]) from None  # a name that occurs twice


def read_order(place: Location | None) -> tuple[str, ...]:
    """Return the names in a file, one per line; the text after a tab is ignored, as in lists of `params`.

    Raises:
        UnreadableError: it cannot be read.
        UsageError: it contains no names.
    """
    text, label = _read(place, ORDER)
    lines = (line.partition("\t")[0].strip() for line in text.splitlines())
    names = tuple(line for line in lines if line)
    if not names:
        raise UsageError(f"{ORDER}: {label} contains no names; it needs one per line")
    return names


def _read(place: Location | None, option: str) -> tuple[str, str]:
    """Return the text of a file, and its name for messages."""
    with open_location(place) as source:
        label = source.label
        if source.size > _LIMIT:
            raise UsageError(f"{option}: {label} is {source.size:,} bytes, too large for names; is it the checkpoint?")
        raw = source.read(0, source.size)
    try:
        return raw.decode("utf-8-sig"), label
    except UnicodeDecodeError as error:
        line = raw.count(10, 0, error.start) + 1
        raise UsageError(f"{option}: {label}:{line}: not UTF-8 text") from None

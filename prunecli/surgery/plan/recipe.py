"""A recipe: the request of an `apply` as a TOML file, with one or several groups of parameters.

::

    seed = 7
    remove = true

    [[group]]
    params = ["encoder.*.weight"]
    exclude = ["*.LayerNorm.*"]
    amount = "50%"
    min_dim = 2

    [[group]]
    params = ["pooler.dense.weight"]
    amount = 1000

A group may divide its amount by a rule (`allocation = "erk"`, `order = ["conv1.weight", "fc.weight"]`), have amounts of
single parameters in `[group.amounts]`, or take its counts from another checkpoint (`like = "masked.pt"`).
"""

import re
from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

from prunecli.core.methods import make_method
from prunecli.core.methods.request import MethodRequest, method_request
from prunecli.errors import UsageError, show, worded_as_in_recipe
from prunecli.formats.detect import open_location
from prunecli.formats.io.locations import Location
from prunecli.surgery.names.select import Selection
from prunecli.surgery.names.suggest import nearest_word
from prunecli.surgery.plan.method_fault import method_fault
from prunecli.surgery.plan.ratios import division_fault
from prunecli.surgery.plan.recipe_values import GROUP, SETTINGS, TOP, Checks
from prunecli.surgery.plan.request import PruneGroup, PruneRequest
from prunecli.surgery.plan.toml_text import parse_toml

__all__ = ["parse_recipe", "read_recipe"]

_LIMIT = 16 << 20

KeyPath = tuple[str | int, ...]
"""The path of a value in a recipe: `("group", 1, "amount")`."""


def read_recipe(place: Location | None) -> PruneRequest:
    """Return the request of a recipe in a file or on standard input.

    Raises:
        UnreadableError: it cannot be read.
        UsageError: as `parse_recipe`, or it is too large for a recipe.
    """
    with open_location(place) as source:
        label = source.label
        if source.size > _LIMIT:
            raise UsageError(f"{label} is {source.size} bytes, too large for a recipe; is it the checkpoint?")
        raw = source.read(0, source.size)
    return parse_recipe(raw, label)


def parse_recipe(raw: bytes, label: str) -> PruneRequest:
    """Return the request of a recipe's text; `label` names it in messages.

    Raises:
        UsageError: it is not TOML, or has an unknown key or a wrong value; the message names the line.
    """
    import tomllib

    try:
        text = raw.decode("utf-8")
        content = parse_toml(text)
    except UsageError as error:
        raise error.inside(label) from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{label}:{raw.count(10, 0, error.start) + 1}: a recipe is UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(_syntax_error(str(error), label, raw)) from None
    except (ValueError, RecursionError):
        raise UsageError(f"{label}: is nested too deeply for a recipe, or has a number that is too long") from None
    with worded_as_in_recipe():
        return _RecipeReader(text, label).prune(content)


def _syntax_error(message: str, label: str, raw: bytes) -> str:
    found = re.fullmatch(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", message, re.DOTALL)
    what, line = (found[1], found[2]) if found else (message, None)
    return f"{label}:{line or raw.count(10) + 1}: not valid TOML: {show(what, 120)}"


_HEADER = re.compile(r"""\s*\[\[\s*(group|"group"|'group')\s*\]\]""")
"""The first line of a group. There may be thousands, and to parse what is before each of them would take minutes."""


class _RecipeReader:
    """Checks the values of a recipe, and finds their lines for error messages."""

    def __init__(self, text: str, label: str) -> None:
        self._lines = text.splitlines(keepends=True)
        self._label = label
        self._headers = [number for number, line in enumerate(self._lines, 1) if _HEADER.match(line)]

    def prune(self, content: Mapping[str, Any]) -> PruneRequest:
        """Return the request of a whole recipe."""
        groups = content.get("group")
        if "bake" in content and "remove" in content:
            raise self._wrong(("bake",), "and remove are two names of one setting; leave one out")
        top = self._checked({key: value for key, value in content.items() if key != "group"}, TOP, ())
        if groups is None:
            raise self._wrong((), "selects nothing; it needs a [[group]] with params and amount")
        if not isinstance(groups, list) or not all(isinstance(each, dict) for each in groups):
            raise self._wrong(("group",), "is not a list of groups; write [[group]], in two brackets")
        if len(groups) != len(self._headers):  # a text of several lines contains one, or a group is written in braces
            self._headers = []
        if "bake" in top:
            top["remove"] = top.pop("bake")
        default = top.pop("method", None)
        return PruneRequest(tuple(self._group(each, number, default) for number, each in enumerate(groups)), **top)

    def _group(self, content: Mapping[str, Any], number: int, method: str | None) -> PruneGroup:
        place = ("group", number)
        found = self._checked(content, GROUP, place)
        request = self._method(found, place, method)
        made = make_method(request)
        given = {key: key for key, value in found.items() if value}
        given |= {"global": "allocation"} if found.get("allocation") == "global" else {}
        if fault := method_fault(made, given):
            raise self._wrong(place, f"cannot be pruned: {fault}")
        if "params" not in found:
            raise self._wrong(place, "has no params")
        if fault := division_fault(found, takes_amount=made.counts != "nothing"):
            raise self._wrong(place, fault)
        selection = Selection(
            found.pop("params"), found.pop("exclude", ()), found.pop("min_dim", 0), found.pop("per_slice", False)
        )
        everywhere = found.pop("global", False) or found.get("allocation") == "global"
        if everywhere:
            found = {key: value for key, value in found.items() if key not in ("allocation", "order")}
        return PruneGroup(
            selection,
            found.pop("amount", None),
            everywhere,
            self._where(place),
            amounts_where="amounts" if "amounts" in found else "",
            method=request,
            **found,
        )

    def _method(self, found: dict[str, Any], place: KeyPath, default: str | None) -> MethodRequest:
        """Return the method of a group, whose settings are taken out of what was `found`."""
        settings = {key: found.pop(key) for key in SETTINGS if key in found}
        try:
            request = method_request(found.pop("method", default), **settings)
            make_method(request)
        except UsageError as error:
            raise error.inside(self._where(place)) from None
        return request

    def _checked(self, content: Mapping[str, Any], checks: Checks, place: KeyPath) -> dict[str, Any]:
        found = {}
        for key, value in content.items():
            if key not in checks:
                known = list(checks) if place else [*checks, "group"]
                near = nearest_word(key[:40], known)
                hint = f"did you mean {near}?" if near else f"known are {', '.join(known)}"
                if key in (TOP if place else GROUP):
                    hint = "write it above the groups" if place else "write it in a [[group]]"
                raise self._wrong((*place, key), f"means nothing here; {hint}")
            try:
                found[key] = checks[key](value)
            except UsageError as error:
                raise self._wrong((*place, key), error.args[0]) from None
        return found

    def _wrong(self, place: KeyPath, what: str) -> UsageError:
        subject = place[-1] if place else "the recipe"
        if isinstance(subject, int):
            subject = f"group {subject + 1}"
        return UsageError(f"{self._where(place)}: {show(subject, 60)} {what}")

    def _where(self, place: KeyPath) -> str:
        return f"{self._label}:{self._line_of(place)}" if place else self._label

    def _line_of(self, place: KeyPath) -> int:
        """Return the line on which a value begins: after the longest valid beginning that does not contain it yet."""
        if self._headers and place[:-1] == ("group",):
            return self._headers[int(place[-1])]
        whole = bisect_left(range(len(self._lines)), True, key=lambda count: self._has(place, count))
        return min(self._valid(whole - 1)[0] + 1 if whole else 1, len(self._lines))

    def _has(self, place: KeyPath, count: int) -> bool:
        found: Any = self._valid(count)[1]
        for step in place:
            try:
                found = found[step]
            except (KeyError, IndexError, TypeError):
                return False
        return True

    def _valid(self, count: int) -> tuple[int, Mapping[str, Any]]:
        """Return how many of the first `count` lines are valid TOML by themselves, and their content."""
        import tomllib

        for lines in range(count, 0, -1):
            try:
                return lines, tomllib.loads("".join(self._lines[:lines]))
            except tomllib.TOMLDecodeError:
                continue
        return 0, {}

"""Which parameters a command works on: exact names first, then globs, then regular expressions."""

import fnmatch
import functools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field

from prunecli.errors import UsageError, show
from prunecli.lean import dataclass
from prunecli.surgery.names.parameters import Parameter, canonical, is_among_averages
from prunecli.surgery.names.slices import chosen_slices, slices_of, with_slices
from prunecli.surgery.names.suggest import no_match
from prunecli.surgery.roles.table import Role
from prunecli.surgery.roles.words import in_words
from prunecli.terms import EXCLUDE, PARAM, SUBJECT

__all__ = ["LONGEST", "Selected", "Selection", "choose", "match_each", "matcher", "select", "unmatched_excludes"]

LONGEST = 1000
"""The most characters of a name in a list of parameters."""

_REGEX = "re:"


@dataclass(frozen=True, slots=True)
class Selection:
    """The user's selection: patterns to take, patterns to exclude, and the fewest dimensions that patterns match.

    With `per_slice`, patterns with a `#` can name the slices of parameters of three dimensions: `experts.w1#3`.
    """

    patterns: Sequence[str]
    excludes: Sequence[str] = ()
    min_dim: int = 0
    per_slice: bool = False

    @property
    def names_slices(self) -> bool:
        """Whether a pattern may match slices."""
        return self.per_slice and any("#" in pattern for pattern in (*self.patterns, *self.excludes))


@dataclass(frozen=True, slots=True)
class Selected:
    """The parameters that a selection takes, in the order of the file, and the names that it leaves out.

    `passed` are names that a pattern matched, but that patterns do not take, regardless of their number of dimensions;
    `excluded` are names that an exclude matched. `by_pattern` means that at least one pattern was not an exact name.
    `slices` are the numbers of the selected slices, for parameters of which not all slices are.
    """

    taken: Sequence[Parameter]
    passed: frozenset[str] = frozenset()
    excluded: frozenset[str] = frozenset()
    by_pattern: bool = False
    slices: Mapping[str, Sequence[int]] = field(default_factory=dict)


def select(parameters: Mapping[str, Parameter], selection: Selection) -> list[Parameter]:
    """Return the selected parameters in the order of the file.

    Raises:
        UsageError: as `choose`.
    """
    return list(choose(parameters, selection).taken)


def choose(parameters: Mapping[str, Parameter], selection: Selection) -> Selected:
    """Return the parameters that a selection takes, and those that it leaves out.

    An exact name takes any parameter whose elements can be zeroed. A glob (`*` crosses dots) or `re:REGEX` (matched
    in full) takes only tensors whose role is parameter and that have at least `min_dim` dimensions.

    Raises:
        UsageError: a pattern matches nothing, or a named parameter cannot be pruned, or nothing is left.
    """
    if not selection.names_slices:
        return _choose(parameters, selection)
    slices = slices_of(parameters)
    found = _choose(with_slices(parameters, slices), selection)
    taken = {each.name for each in found.taken}
    kept = chosen_slices(slices, taken, found.excluded)
    whole = {name for name in taken if name in parameters and name not in slices}
    if not whole and not kept:
        raise UsageError(f"{_quoted(selection.patterns)} with the excludes selects nothing; leave some of those out")
    return Selected(
        [parameter for name, parameter in parameters.items() if name in whole or name in kept],
        found.passed & parameters.keys(),
        found.excluded & parameters.keys(),
        found.by_pattern,
        {name: numbers for name, numbers in kept.items() if len(numbers) < len(slices[name])},
    )


def _choose(parameters: Mapping[str, Parameter], selection: Selection) -> Selected:
    chosen: set[str] = set()
    passed: set[str] = set()
    excluded: set[str] = set()
    names = _Names(parameters)
    exact = [names.exact(pattern) for pattern in selection.patterns]
    for pattern, name in zip(selection.patterns, exact, strict=True):
        if name is not None:
            chosen.add(_named(parameters[name]))
        else:
            taken, left = _take(names, pattern, selection.min_dim)
            chosen |= taken
            passed |= left
    for pattern in selection.excludes:
        excluded.update(_matching(names, pattern))
    if not chosen - excluded:
        raise UsageError(f"{_quoted(selection.patterns)} with the excludes selects nothing; leave some of those out")
    return Selected(
        [parameter for name, parameter in parameters.items() if name in chosen and name not in excluded],
        frozenset(passed - excluded - chosen),
        frozenset(excluded),
        None in exact,
    )


class _Names:
    """The names of a checkpoint, indexed by their other forms, since lists of 90,000 names are looked up here."""

    def __init__(self, parameters: Mapping[str, Parameter]) -> None:
        self.parameters = parameters

    @functools.cached_property
    def _by_key(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name, each in self.parameters.items():
            found.setdefault(each.key, []).append(name)
        return found

    @functools.cached_property
    def _by_stored_name(self) -> dict[str, str]:
        """Masked parameters by the names that their tensors have in the file."""
        masked = (each for each in self.parameters.values() if each.mask is not None)
        return {each.weight.name: each.name for each in masked}

    @functools.cached_property
    def _by_look(self) -> dict[str, list[str]]:
        """The names that `prunecli params` prints in another form, by that form."""
        found: dict[str, list[str]] = {}
        for name in self.parameters:
            look = show(name, LONGEST) or "''"
            if look != name:
                found.setdefault(look, []).append(name)
        return found

    def exact(self, pattern: str) -> str | None:
        """Return the name that equals a pattern: as is, as shown, as stored (`_orig`), or with other wrapper prefixes.

        Raises:
            UsageError: several names are shown in this form.
        """
        alike = self._by_look.get(pattern, []) if "\\" in pattern or "…" in pattern or pattern == "''" else []
        if pattern in self.parameters:
            alike = [pattern, *alike]
        if len(alike) > 1:
            raise UsageError(f"{show(pattern, 80)} is how {len(alike)} names look here; select them by a pattern")
        if alike:
            return alike[0]
        if pattern in self._by_stored_name:
            return self._by_stored_name[pattern]
        base = pattern.removesuffix("_orig")
        if base in self.parameters and self.parameters[base].mask is not None:
            return base
        masked = [name for name in self._by_key.get(canonical(base), ()) if self.parameters[name].mask is not None]
        keyed = dict.fromkeys((*self._by_key.get(canonical(pattern), ()), *masked))
        return next(iter(keyed)) if len(keyed) == 1 else None


def _named(parameter: Parameter) -> str:
    """Return the name of a parameter that was named exactly.

    Raises:
        UsageError: it cannot be pruned.
    """
    unprunable_reason = parameter.unprunable_reason()
    if unprunable_reason is not None:
        raise UsageError(f"{show(parameter.name)} cannot be pruned: {unprunable_reason}")
    return parameter.name


def _take(names: _Names, pattern: str, min_dim: int) -> tuple[set[str], set[str]]:
    """Return the parameters that a pattern takes, and those that it matches but does not take, with any dimensions.

    Raises:
        UsageError: it takes none.
    """
    taken, passed, flat = set(), set(), 0
    matching = _matching(names, pattern)
    if not matching:
        if not names.parameters:
            raise UsageError(f"{PARAM} {show(pattern)} matches nothing; {SUBJECT}'s state dict holds no tensors")
        raise UsageError(no_match(PARAM, pattern, list(names.parameters)))
    for name in matching:
        parameter = names.parameters[name]
        if not _is_meant(parameter, pattern) or parameter.unprunable_reason() is not None:
            passed.add(name)
        elif len(parameter.weight.shape) < min_dim:
            flat += 1
        else:
            taken.add(name)
    if not taken:
        why = _why_none([names.parameters[name] for name in matching if name in passed], flat, min_dim)
        tensors = "1 tensor" if len(matching) == 1 else f"{len(matching):,} tensors"
        raise UsageError(f"{PARAM} {show(pattern)} matches {tensors}, {why}")
    return taken, passed


def _why_none(passed: Sequence[Parameter], flat: int, min_dim: int) -> str:
    """Return the reason why a pattern takes none of the tensors that it matches: their roles or dimensions."""
    if not passed:
        return f"none of {min_dim} dimensions or more; ask for fewer dimensions, or name a tensor exactly"
    roles = Counter(each.role for each in passed if each.role is not Role.PARAMETER)
    counts = [in_words(count, role) for role, count in roles.most_common()]
    woven = len(passed) - roles.total()
    counts += [f"{woven:,} whose elements share memory"] if woven else []
    counts += [f"{flat:,} of fewer than {min_dim} dimensions"] if flat else []
    by_name = flat or any(each.unprunable_reason() is None for each in passed)
    remedy = "an exact name takes anything that has a zero" if by_name else "none has elements to zero one by one"
    return f"and takes none of them: {', '.join(counts)}; {remedy}"


def _is_meant(parameter: Parameter, pattern: str) -> bool:
    """Whether a pattern takes a parameter that it matches: an average only if the pattern asks for averages."""
    return parameter.matches_globs or (parameter.role is Role.AVERAGE and is_among_averages(pattern))


def unmatched_excludes(parameters: Mapping[str, Parameter], selection: Selection) -> list[str]:
    """Return a sentence on each exclude that matches nothing; a recipe may have some that are for other models."""
    names = _Names(with_slices(parameters, slices_of(parameters)) if selection.names_slices else parameters)
    wrong = [pattern for pattern in selection.excludes if not _matching(names, pattern)]
    return [no_match(EXCLUDE, pattern, list(parameters)) for pattern in wrong]


def match_each(parameters: Mapping[str, Parameter], patterns: Iterable[str]) -> Iterator[tuple[str, list[str], bool]]:
    """Yield each pattern with the names that it matches, and whether it is one exact name.

    Raises:
        UsageError: a pattern is not a regular expression.
    """
    names = _Names(parameters)
    for pattern in patterns:
        exact = names.exact(pattern)
        yield pattern, _matching(names, pattern) if exact is None else [exact], exact is not None


def _matching(names: _Names, pattern: str) -> list[str]:
    parameters = names.parameters
    exact = names.exact(pattern)
    if exact is not None:
        return [exact]
    matches = matcher(pattern)
    return [name for name, parameter in parameters.items() if matches(name) or matches(parameter.key)]


def matcher(pattern: str) -> Callable[[str], object]:
    """Compile a glob or `re:REGEX` into a predicate that matches whole names.

    Raises:
        UsageError: it is not a regular expression.
    """
    if not pattern.startswith(_REGEX):
        return re.compile(fnmatch.translate(pattern)).match
    try:
        return re.compile(pattern.removeprefix(_REGEX)).fullmatch
    except re.error as error:
        raise UsageError(f"{show(pattern)} is not a regular expression: {error}") from None


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(show(name, 80) for name in names)

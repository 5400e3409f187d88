"""A method as it is requested: its name and its settings, as plain data."""

import math
import re
from collections.abc import Sequence
from typing import Any

from prunecli.errors import UsageError, show
from prunecli.lean import dataclass
from prunecli.terms import ABS_SCORES, BLOCK, DIM, METHOD, N_OF_M, NORM, SCORES

__all__ = ["RANDOM", "MethodRequest", "given_method", "method_request", "spelled"]

RANDOM = "random_unstructured"
"""The method of requests that name none; users may call it `random`."""

_OPTIONS = {"norm": NORM, "dim": DIM, "n_of_m": N_OF_M, "block": BLOCK, "scores": SCORES, "abs_scores": ABS_SCORES}
"""The settings, and the options that give them."""

_USES = {
    "norm": f"{NORM} is for {METHOD} ln; add that",
    "dim": f"{DIM} is for {N_OF_M}, {METHOD} random-structured and {METHOD} ln; add one of them",
    "abs_scores": f"{ABS_SCORES} is about {SCORES}; add that",
}
"""What settings are for that a request without the name of a method does not take."""

_NORMS = {"1": 1.0, "2": 2.0, "inf": math.inf}
_DIMS = 64
"""The limit of dimensions, as in torch."""
_LARGEST = 1 << 31
"""The limit of M, and of the rows and columns of a block."""


@dataclass(frozen=True, slots=True)
class MethodRequest:
    """The name of a method, and its settings; None and False are those that were not given.

    `dim` is a dimension, negative from the end, `norm` is 1, 2 or infinity, `n_of_m` are the numbers N and M, `block`
    the rows and columns of a block. `scores` is the place of a checkpoint with scores, which `abs_scores` takes by
    magnitude.
    """

    name: str = RANDOM
    dim: int | None = None
    norm: float | None = None
    n_of_m: tuple[int, int] | None = None
    block: tuple[int, int] | None = None
    scores: str | None = None
    abs_scores: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that were given, by name, as JSON has them and users may write them."""
        found = {
            "dim": self.dim,
            "norm": None if self.norm is None else f"{self.norm:g}",
            "n_of_m": self.n_of_m and "{}:{}".format(*self.n_of_m),
            "block": self.block and "{}x{}".format(*self.block),
            "scores": self.scores,
            "abs_scores": self.abs_scores or None,
        }
        return {name: value for name, value in found.items() if value is not None}

    @property
    def options(self) -> list[str]:
        """The options that give it, as terms."""
        implied = RANDOM if self.scores is None else "scores"
        return [METHOD] * (self.name != implied) + [_OPTIONS[name] for name in self.settings]

    def check_takes(self, *taken: str) -> None:
        """Refuse settings that were given and are not among those that the method takes.

        Raises:
            UsageError: one was given that the method does not take.
        """
        given = self.settings
        other = next((name for name in _OPTIONS if name in given and name not in taken), None)
        if other is None:
            return
        option, of_scores = _OPTIONS[other], other in ("scores", "abs_scores")
        pattern = next((_OPTIONS[name] for name in ("n_of_m", "block") if name in given and name in taken), None)
        if other in _USES and self.name == RANDOM and (pattern is None or of_scores):
            raise UsageError(f"{_USES[other]}, or leave {option} out")
        named = SCORES if self.name == "scores" else f"{METHOD} {spelled(self.name)}"
        what = named if pattern is None or of_scores else pattern
        raise UsageError(f"{what} does not take {option}; leave one of them out")


def spelled(name: str) -> str:
    """Return the name of a method as users write it: `random-structured`."""
    return "random" if name == RANDOM else name.replace("_", "-")


def method_request(
    name: str | None = None,
    *,
    dim: object = None,
    norm: object = None,
    n_of_m: object = None,
    block: object = None,
    scores: str | None = None,
    abs_scores: bool = False,
) -> MethodRequest:
    """Return a request from what users write, as text or as values: `"2:4"` or `(2, 4)`, `"inf"` or infinity.

    A place of `scores` without the name of a method means the method `scores`.

    Raises:
        UsageError: a setting is not valid, whatever the method.
    """
    default = RANDOM if scores is None else "scores"
    name = default if name is None else RANDOM if name == "random" else str(name).replace("-", "_")
    return MethodRequest(
        name,
        None if dim is None else _dim(dim),
        None if norm is None else _norm(norm),
        None if n_of_m is None else _n_of_m(n_of_m),
        None if block is None else _block(block),
        scores,
        abs_scores,
    )


def given_method(name: str | None = None, **settings: Any) -> MethodRequest | None:
    """Return what `method_request` returns, or None if nothing is given; raises as it does."""
    given = {key: value for key, value in settings.items() if value is not None and value is not False}
    return method_request(name, **given) if given or name is not None else None


def _dim(given: object) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or not -_DIMS <= given < _DIMS:
        raise UsageError(f"{DIM} {_shown(given)} is not a dimension; write 0 for the first, -1 for the last")
    return given


def _norm(given: object) -> float:
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    found = next((norm for text, norm in _NORMS.items() if given == (norm if is_number else text)), None)
    if found is None:
        raise UsageError(f"{NORM} {_shown(given)} is not a norm that is computed here; known are {', '.join(_NORMS)}")
    return found


def _n_of_m(given: object) -> tuple[int, int]:
    kept, group = _pair(given, ":", N_OF_M, "2:4")
    if not 0 < kept < group:
        raise UsageError(f"{N_OF_M} {kept}:{group} keeps {kept} of every {group} elements; N is from 1 to M - 1")
    return kept, group


def _block(given: object) -> tuple[int, int]:
    rows, columns = _pair(given, "x", BLOCK, "16x16")
    if not rows or not columns:
        raise UsageError(f"{BLOCK} {rows}x{columns} has no elements; a block has at least one row and one column")
    return rows, columns


def _pair(given: object, between: str, option: str, example: str) -> tuple[int, int]:
    """Return two numbers from a text or a sequence."""
    parts: Sequence[object] = given.split(between) if isinstance(given, str) else ()
    if isinstance(given, list | tuple):
        parts = given
    numbers = [number for number in map(_whole, parts) if number is not None]
    if not len(parts) == len(numbers) == 2:
        raise UsageError(f"{option} {_shown(given)} is not two numbers; write {example}")
    first, second = numbers
    if max(first, second) >= _LARGEST:
        raise UsageError(f"{option} {_shown(given)} is larger than any tensor; write {example}")
    return first, second


def _whole(given: object) -> int | None:
    """Return a whole number from 0 on, from an int or from digits; None if it is something else."""
    if isinstance(given, str):
        return int(given) if re.fullmatch(r"\d{1,10}", given, re.ASCII) else None
    return given if type(given) is int and given >= 0 else None


def _shown(given: object) -> str:
    try:
        text = given if isinstance(given, str) else repr(given)
    except ValueError:  # Python prints 4,300 digits at most
        text = "with very many digits"
    return show(text, 40) or "''"

"""Units of a tensor that are pruned as a whole: slices along a dimension, or the blocks of a matrix.

A run is the elements of a tensor from one place to another, in row-major order.
"""

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from prunecli.core.raw_elements import Flags
from prunecli.errors import UsageError, show
from prunecli.lean import dataclass
from prunecli.terms import BLOCK, DIM

__all__ = ["BlocksOf", "Combine", "Geometry", "SlicesAlong", "UnitSums", "fold", "joined", "positive_dim"]

Array = NDArray[Any]

Combine = np.ufunc
"""`np.add` or `np.maximum`: it combines two arrays element by element."""


@dataclass(frozen=True, slots=True, eq=False)
class UnitSums:
    """What consecutive units have in a run, from unit `first` on; behind the last unit of a tensor comes its first."""

    first: int
    values: Array


class Geometry(Protocol):
    """The units of a tensor, numbered from 0."""

    @property
    def count(self) -> int:
        """The number of units."""

    @property
    def what(self) -> str:
        """What the units are, for messages: `slices along dimension 1`."""

    @property
    def band(self) -> int:
        """The size of the runs of elements, counted from the first one, that contain whole units."""

    def elements(self, units: Flags, first: int = 0) -> int:
        """Return the number of elements of consecutive units, from `first` on, whose flags are set."""

    def sums(self, start: int, values: Array, combine: Combine) -> UnitSums:
        """Combine the values of a run in each unit that it touches. The array of values is overwritten."""

    def spread(self, units: Callable[[int, int], Flags], start: int, out: Flags) -> None:
        """Write into the flags of a run those of its units; `units` returns the flags of units from one to another."""


def fold(values: Array, combine: Combine) -> Array:
    """Combine `values[0]`, `values[1]`, ... in the order of a fixed binary tree, and return an array of the one result.

    Only operations of single elements are used, so the results are the same to the bit with every processor. The values
    are lost.
    """
    count = len(values)
    while count > 1:
        half = count // 2
        combine(values[:half], values[half : 2 * half], out=values[:half])
        if count % 2:
            combine(values[:1], values[count - 1 : count], out=values[:1])
        count = half
    return values[:1]


def _segments(values: Array, offset: int, length: int, combine: Combine) -> Array:
    """Combine along the first axis what lies between multiples of `length`; `values[0]` has the place `offset`."""
    head = min(-offset % length, len(values))
    whole = (len(values) - head) // length
    rest = head + whole * length
    parts = [fold(values[:head], combine)]
    if whole:
        body = values[head:rest].reshape(whole, length, *values.shape[1:])
        parts.append(fold(np.moveaxis(body, 1, 0), combine)[0])
    return np.concatenate([*parts, fold(values[rest:], combine)])


@np.errstate(over="ignore", invalid="ignore")  # infinite sums are ordered as others, and inf - inf is NaN
def joined(one: UnitSums, other: UnitSums, count: int, combine: Combine) -> UnitSums:
    """Return what units have in two runs together, of which `other` follows `one`; there are `count` units."""
    first = min(one.first, other.first)
    last = max(one.first + len(one.values), other.first + len(other.values))
    found = np.zeros(min(last - first, count), one.values.dtype)
    for each in (one, other):
        low = (each.first - first) % count
        for part, place in ((each.values[: len(found) - low], low), (each.values[len(found) - low :], 0)):
            room = found[place : place + len(part)]
            combine(room, part, out=room)
    return UnitSums(first, found)


def positive_dim(dim: int, shape: tuple[int, ...], name: str) -> int:
    """Return a dimension counted from the first.

    Raises:
        UsageError: the tensor does not have it.
    """
    if not -len(shape) <= dim < len(shape):
        raise UsageError(f"{DIM} {dim}: {show(name)} has the shape {list(shape)}")
    return dim % len(shape)


@dataclass(frozen=True, slots=True)
class SlicesAlong:
    """The slices of a tensor along a dimension; `inner` elements that follow each other are in the same slice."""

    count: int
    inner: int
    outer: int
    dim: int

    @classmethod
    def of(cls, shape: tuple[int, ...], dim: int, name: str) -> "SlicesAlong":
        """Return the slices of a tensor.

        Raises:
            UsageError: it has no such dimension, or only one.
        """
        place = positive_dim(dim, shape, name)
        if len(shape) < 2:
            raise UsageError(f"{show(name)} has one dimension, and slices need at least two; exclude it")
        return cls(shape[place], math.prod(shape[place + 1 :]), math.prod(shape[:place]), place)

    @property
    def what(self) -> str:
        """What the units are."""
        return f"slices along dimension {self.dim}"

    @property
    def band(self) -> int:
        """The size of a slice if it is a run of elements, else that of the tensor."""
        return self.inner if self.outer == 1 else self.count * self.inner * self.outer

    def elements(self, units: Flags, first: int = 0) -> int:
        """Return the number of elements of the slices whose flags are set."""
        return int(np.count_nonzero(units)) * self.outer * self.inner

    def sums(self, start: int, values: Array, combine: Combine) -> UnitSums:
        """Combine the values of a run in each slice."""
        first = start // self.inner
        found = values if self.inner == 1 else _segments(values, start % self.inner, self.inner, combine)
        if len(found) <= self.count:
            return UnitSums(first, found)
        before = first % self.count
        padded = np.zeros((-(-(before + len(found)) // self.count), self.count), found.dtype)
        padded.reshape(-1)[before : before + len(found)] = found
        return UnitSums(first - before, fold(padded, combine)[0])

    def spread(self, units: Callable[[int, int], Flags], start: int, out: Flags) -> None:
        """Write into the flags of a run those of its slices."""
        period, done = self.count * self.inner, 0
        while done < out.size:
            place, left = (start + done) % period, out.size - done
            if place or left < period:
                count = min(period - place, left)
                self._line(units, place, out[done : done + count])
            else:
                count = left // period * period
                rows = out[done : done + count].reshape(-1, period)
                self._line(units, 0, rows[0])
                rows[1:] = rows[0]
            done += count

    def _line(self, units: Callable[[int, int], Flags], place: int, out: Flags) -> None:
        """Write the flags of a run that ends before slice 0 begins again."""
        first, stop = place // self.inner, -(-(place + out.size) // self.inner)
        flags, begun = units(first, stop), place % self.inner
        if self.inner <= out.size:
            out[:] = np.repeat(flags, self.inner)[begun : begun + out.size]
        else:  # two slices at most
            end = min(self.inner - begun, out.size)
            out[:end] = flags[0]
            out[end:] = flags[-1]


@dataclass(frozen=True, slots=True)
class BlocksOf:
    """The blocks of a matrix, row by row; those at its lower and right edges may be smaller."""

    rows: int
    columns: int
    height: int
    width: int

    @classmethod
    def of(cls, shape: tuple[int, ...], block: tuple[int, int], name: str) -> "BlocksOf":
        """Return the blocks of a tensor.

        Raises:
            UsageError: it is not a matrix.
        """
        if len(shape) != 2:
            size = f"{block[0]}x{block[1]}"
            raise UsageError(
                f"{BLOCK} {size}: {show(name)} is {list(shape)}, and only matrices have blocks; exclude it"
            )
        return cls(*shape, min(block[0], max(shape[0], 1)), min(block[1], max(shape[1], 1)))

    @property
    def _across(self) -> int:
        return -(-self.columns // self.width)

    @property
    def count(self) -> int:
        """The number of blocks."""
        return -(-self.rows // self.height) * self._across

    @property
    def what(self) -> str:
        """What the units are."""
        return f"blocks of {self.height}x{self.width}"

    @property
    def band(self) -> int:
        """The elements of the rows that a row of blocks covers."""
        return self.height * self.columns

    def elements(self, units: Flags, first: int = 0) -> int:
        """Return the number of elements of consecutive blocks, from `first` on, whose flags are set."""
        whole = int(np.count_nonzero(units)) * self.height * self.width
        right = int(np.count_nonzero(units[-(first + 1) % self._across :: self._across]))
        lower = int(np.count_nonzero(units[max(self.count - self._across - first, 0) :]))
        corner = int(np.count_nonzero(units[max(self.count - 1 - first, 0) :]))
        beyond = -self.columns % self.width, -self.rows % self.height
        missing = right * beyond[0] * self.height + lower * beyond[1] * self.width
        return whole - missing + corner * beyond[0] * beyond[1]

    def sums(self, start: int, values: Array, combine: Combine) -> UnitSums:
        """Combine the values of a run in each block."""
        row, column = divmod(start, self.columns)
        head = min(-column % self.columns, len(values)) if column else 0
        whole = (len(values) - head) // self.columns
        tail = len(values) - head - whole * self.columns
        if not whole and (not head or not tail):  # within one row
            found = _segments(values, column % self.width, self.width, combine)
            return UnitSums(row // self.height * self._across + column // self.width, found)
        lines = np.zeros((bool(head) + whole + bool(tail), self._across), values.dtype)
        if head:
            lines[0, column // self.width :] = _segments(values[:head], column % self.width, self.width, combine)
        if whole:
            body = values[head : head + whole * self.columns].reshape(whole, self.columns)
            lines[bool(head) : bool(head) + whole] = _segments(body.T, 0, self.width, combine).T
        if tail:
            found = _segments(values[len(values) - tail :], 0, self.width, combine)
            lines[-1, : len(found)] = found
        found = _segments(lines, row % self.height, self.height, combine)
        return UnitSums(row // self.height * self._across, found.reshape(-1))

    def spread(self, units: Callable[[int, int], Flags], start: int, out: Flags) -> None:
        """Write into the flags of a run those of its blocks."""
        done = 0
        while done < out.size:
            row, column = divmod(start + done, self.columns)
            left = out.size - done
            rows = 1 if column or left < self.columns else min(left // self.columns, self.height - row % self.height)
            count = min(self.columns - column, left) if rows == 1 else self.columns
            above = row // self.height * self._across
            first, last = column // self.width, (column + count - 1) // self.width
            line = np.repeat(units(above + first, above + last + 1), self.width)
            begun = column - first * self.width
            out[done : done + rows * count].reshape(rows, count)[:] = line[begun : begun + count]
            done += rows * count

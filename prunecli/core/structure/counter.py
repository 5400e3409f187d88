"""The structure of a parameter's zeros, computed from flags that arrive in runs, in any order.

Until all flags have arrived, a flag is kept for each row, column and block of the matrix, and a count for each cell of
the picture.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunecli.core.raw_elements import Flags
from prunecli.core.structure.array_text import packed, unpacked
from prunecli.core.structure.flags import bands_all_zero, blocks_all_zero, halved_groups, halved_packed_groups
from prunecli.core.structure.model import BLOCK_SIDE, Density, Structure, group_dimension
from prunecli.lean import dataclass

__all__ = ["StructureCounter", "Window"]

Flags = Flags
Counts = NDArray[np.int64]

Window = tuple[int, int, int]
"""Part of a matrix: its first row, its first column, and its number of columns."""

_ROWS = 255
"""The number of flags whose sum fits into one byte."""


@dataclass(slots=True)
class _Seen:
    """The state of a matrix while its elements arrive: where a nonzero element is, and the counts of zeros.

    Row flags are not kept for one-column matrices, nor column flags for one-row ones: the zero count determines them.
    `straddling` has a bit per element, set where it is zero, for groups whose elements arrive in several runs.
    """

    rows: Flags
    columns: Flags
    blocks: Flags
    cells: Counts
    elements: int = 0
    zeros: int = 0
    groups_of_4: int = 0
    eights: int = 0
    straddling: NDArray[np.uint8] | None = None


@dataclass(slots=True)
class _FoundZeros:
    """The contribution of a run of elements to flags and counts: places and values.

    `kept` contains, for some rows, some columns and the blocks at their intersections, the places and the flags.
    """

    elements: int
    zeros: int
    kept: list[tuple[tuple[Any, Any], ...]] = field(default_factory=list)
    cells: list[tuple[Any, Counts]] = field(default_factory=list)
    groups_of_4: int = 0
    eights: int = 0
    straddling: list[NDArray[np.int64]] = field(default_factory=list)


class StructureCounter:
    """A counter of the structure of one parameter's zeros, which takes each element once, in any order.

    `cells` is the largest number of cells on a side of the picture; with 0 there is no picture. After the last element,
    the counter keeps only the result.

    >>> counter = StructureCounter((2, 4), cells=2)
    >>> counter.add(counter.look(0, np.array([True, True, False, False, True, True, True, False])))
    >>> counter.result().empty_columns, counter.result().groups_of_4_with_2_zeros, list(counter.result().density.shares)
    (2, 2, [255, 0, 255, 128])
    """

    def __init__(self, shape: Sequence[int], cells: int = 0) -> None:
        self._height = shape[0] if len(shape) > 1 else 1
        self._width = math.prod(shape[1:] if len(shape) > 1 else shape)
        self._elements = self._height * self._width
        self._grouped_by = group_dimension(shape)
        at = len(shape) if self._grouped_by is None else self._grouped_by
        self._extent, self._stride = math.prod(shape[at : at + 1]), max(math.prod(shape[at + 1 :]), 1)
        self._grid = (min(self._height, cells), min(self._width, cells)) if cells else None
        self._seen: _Seen | None = None
        self._result: Structure | None = None if self._elements else self._concluded(self._nothing())

    def look(self, first: int, zero: Flags, window: Window | None = None) -> _FoundZeros:
        """Return the findings in a run of elements in row-major order from `first` on, without changing the counter.

        The flags, shape `(n,)`, are True where elements are zero. With a `window`, the run lies in that part of the
        matrix, and `first` counts within it.
        """
        top, left, wide = window or (0, 0, self._width)
        found = _FoundZeros(zero.size, int(np.count_nonzero(zero)))
        for row, column, flags in _rectangles(first, zero, wide):
            if not found.zeros:
                down, across = _spans(top + row, left + column, *flags.shape)
                found.kept.append(((down, True), (across, True), ((_blocks_of(down), _blocks_of(across)), True)))
                continue
            self._look_at_rectangle(found, top + row, left + column, flags)
            if window is not None and self._has_groups:
                self._look_at_groups_of_rectangle(found, top + row, left + column, flags)
        if found.zeros and window is None and self._has_groups:
            self._look_at_groups(found, first, zero)
        return found

    def look_at(self, logical: NDArray[np.int64], zero: Flags) -> _FoundZeros:
        """Return the findings in elements, given by their row-major indices; shapes `(n,)`."""
        found = _FoundZeros(zero.size, int(np.count_nonzero(zero)))
        row, column = np.divmod(logical, max(self._width, 1))
        down, across = row[~zero], column[~zero]
        found.kept.append(((down, True), (across, True), ((down // BLOCK_SIDE, across // BLOCK_SIDE), True)))
        if self._has_groups:
            found.straddling.append(logical[zero])
        if self._grid is not None:
            at = self._cell(row[zero], 0) * self._grid[1] + self._cell(column[zero], 1)
            found.cells.append((..., np.bincount(at, minlength=math.prod(self._grid)).reshape(self._grid)))
        return found

    def add(self, found: _FoundZeros) -> None:
        """Add the findings in some elements."""
        if not found.elements:
            return
        seen = self._begun()
        for of_rows, of_columns, of_blocks in found.kept:
            for flags, (where, kept) in ((seen.rows, of_rows), (seen.columns, of_columns), (seen.blocks, of_blocks)):
                if flags.size:
                    flags[where] |= kept
        for where, counts in found.cells:
            seen.cells[where] += counts
        seen.groups_of_4 += found.groups_of_4
        seen.eights += found.eights
        for zeros in found.straddling:
            self._add_straddling(seen, zeros)
        self._note(found.elements, found.zeros)

    def drain(self) -> dict[str, Any] | None:
        """Return the sum as JSON data, and reset the counter; None if nothing was added."""
        if not self._elements:
            return None
        seen, result = self._seen, self._result
        self._seen = self._result = None
        if seen is None:
            return None if result is None else {"result": _drained_result(result)}
        return {
            "elements": seen.elements,
            "zeros": seen.zeros,
            "groups_of_4": seen.groups_of_4,
            "eights": seen.eights,
            "rows": packed(np.packbits(seen.rows)),
            "columns": packed(np.packbits(seen.columns)),
            "blocks": packed(np.packbits(seen.blocks)),
            "cells": packed(seen.cells.astype("<i8")),
            "straddling": None if seen.straddling is None else packed(seen.straddling),
        }

    def merge(self, drained: Mapping[str, Any]) -> None:
        """Add the result of `drain` of a counter with the same shape and cells."""
        if "result" in drained:
            self._result = _merged_result(drained["result"])
            return
        seen = self._begun()
        for flags, name in ((seen.rows, "rows"), (seen.columns, "columns"), (seen.blocks, "blocks")):
            flags |= np.unpackbits(unpacked(drained[name]), count=flags.size).view(np.bool_).reshape(flags.shape)
        seen.cells += unpacked(drained["cells"]).view("<i8").reshape(seen.cells.shape)
        seen.groups_of_4 += drained["groups_of_4"]
        seen.eights += drained["eights"]
        if drained["straddling"] is not None:
            straddling = unpacked(drained["straddling"])
            seen.straddling = straddling.copy() if seen.straddling is None else seen.straddling | straddling
        self._note(drained["elements"], drained["zeros"])

    def result(self) -> Structure | None:
        """Return the structure, None until every element has arrived."""
        return self._result

    @property
    def _has_groups(self) -> bool:
        return self._extent % 4 == 0

    def _begun(self) -> _Seen:
        if self._seen is None:
            self._seen = self._nothing()
        return self._seen

    def _nothing(self) -> _Seen:
        high, wide = self._height, self._width
        rows, columns = (np.zeros(size, dtype=np.bool_) for size in (high * (wide > 1), wide * (high > 1)))
        blocks = np.zeros((-(-high // BLOCK_SIDE), -(-wide // BLOCK_SIDE)), dtype=np.bool_)
        return _Seen(rows, columns, blocks, np.zeros(self._grid or (0, 0), dtype=np.int64))

    def _look_at_rectangle(self, found: _FoundZeros, row: int, column: int, zero: Flags) -> None:
        down, across = _spans(row, column, *zero.shape)
        bands = bands_all_zero(zero, row)
        kept_blocks = ~blocks_all_zero(bands, column)
        blocks = (_blocks_of(down), _blocks_of(across))
        found.kept.append(((down, ~zero.all(axis=1)), (across, ~bands.all(axis=0)), (blocks, kept_blocks)))
        if self._grid is not None:
            self._look_at_picture(found, self._grid, row, column, zero)

    def _look_at_groups(self, found: _FoundZeros, first: int, zero: Flags) -> None:
        """Count the groups that lie in a run, and note the zeros at its ends whose groups extend beyond the run."""
        last, unit = first + zero.size == self._elements, 8 * self._stride
        begin = min(-first % unit, zero.size)
        end = zero.size if last else max(begin, zero.size - (first + zero.size) % unit)
        found.groups_of_4, found.eights = halved_groups(zero[begin:end], self._stride)
        ends = np.concatenate([np.flatnonzero(zero[:begin]), np.flatnonzero(zero[end:]) + end])
        if ends.size:
            found.straddling.append(ends + first)

    def _look_at_groups_of_rectangle(self, found: _FoundZeros, row: int, column: int, zero: Flags) -> None:
        """Count the groups in a part of some rows, if no group extends beyond it; else note its zeros."""
        wide, unit = zero.shape[1], 8 * self._stride
        if self._width % unit == 0 and column % unit == 0 and wide % unit == 0:
            groups_of_4, eights = halved_groups(zero.reshape(-1), self._stride)
            found.groups_of_4 += groups_of_4
            found.eights += eights
        else:
            down, across = np.divmod(np.flatnonzero(zero), wide)
            found.straddling.append((row + down) * self._width + column + across)

    def _look_at_picture(self, found: _FoundZeros, grid: tuple[int, int], row: int, column: int, zero: Flags) -> None:
        """Count zeros by cell: sum over the rows of each cell first, then cut at the columns."""
        high, wide = zero.shape
        left, right = (int(self._cell(at, 1)) for at in (column, column + wide - 1))
        cuts = np.arange(left, right + 1) * self._width // grid[1] - column
        cuts[0] = at = 0
        while at < high:
            line = int(self._cell(row + at, 0))
            stop = min((line + 1) * self._height // grid[0] - row, high)
            counts = np.zeros(right + 1 - left, dtype=np.int64)
            for first in range(at, stop, _ROWS):
                rows = zero[first : min(first + _ROWS, stop)].view(np.uint8)
                summed = np.add.reduce(rows, axis=0, dtype=np.uint8)
                counts += np.add.reduceat(summed, cuts, dtype=np.int64)
            found.cells.append(((line, slice(left, right + 1)), counts))
            at = stop

    def _cell(self, at: Any, axis: int) -> Any:
        """Return the line of cells to which rows (axis 0) or columns (axis 1) belong."""
        size, cells = ((self._height, self._width)[axis], (self._grid or (0, 0))[axis])
        return ((at + 1) * cells - 1) // size

    def _add_straddling(self, seen: _Seen, zeros: NDArray[np.int64]) -> None:
        if seen.straddling is None:
            seen.straddling = np.zeros(-(-self._elements // 8), dtype=np.uint8)
        np.bitwise_or.at(seen.straddling, zeros >> 3, np.uint8(0x80) >> (zeros & 7).astype(np.uint8))

    def _note(self, elements: int, zeros: int) -> None:
        """Count the elements that arrived, and compute the result after the last of them."""
        seen = self._begun()
        seen.elements += elements
        seen.zeros += zeros
        if seen.elements == self._elements:
            self._result, self._seen = self._concluded(seen), None

    def _concluded(self, seen: _Seen) -> Structure:
        empty_rows, empty_columns, empty_blocks = (
            int(flags.size - np.count_nonzero(flags)) if flags.size and self._elements else 0
            for flags in (seen.rows, seen.columns, seen.blocks)
        )
        straddling = (
            (0, 0) if seen.straddling is None else halved_packed_groups(seen.straddling, self._stride, self._elements)
        )
        groups_of_4, eights = (self._elements // size if self._extent % size == 0 else None for size in (4, 8))
        return Structure(
            rows=self._height,
            columns=self._width,
            empty_rows=seen.zeros if self._width == 1 else empty_rows,
            empty_columns=seen.zeros if self._height == 1 else empty_columns,
            blocks_16x16=seen.blocks.size,
            empty_blocks_16x16=empty_blocks,
            groups_of_4=groups_of_4,
            groups_of_4_with_2_zeros=None if groups_of_4 is None else seen.groups_of_4 + straddling[0],
            groups_of_8=eights,
            groups_of_8_with_4_zeros=None if eights is None else seen.eights + straddling[1],
            density=None if self._grid is None else self._density(seen.cells, self._grid),
            group_dimension=None if groups_of_4 is None else self._grouped_by,
        )

    def _density(self, zeros: Counts, grid: tuple[int, int]) -> Density:
        sides = zip(grid, (self._height, self._width), strict=True)
        area = np.outer(*(np.diff(np.arange(cells + 1) * size // max(cells, 1)) for cells, size in sides))
        shares = np.clip(np.rint(zeros / np.maximum(area, 1) * 255), 1, 254).astype(np.uint8)
        shares[zeros == 0], shares[zeros == area] = 0, 255
        return Density(*grid, shares.tobytes())


def _rectangles(first: int, zero: Flags, width: int) -> Iterator[tuple[int, int, Flags]]:
    """Yield a run as rectangles: the end of a row, whole rows, the beginning of another row."""
    at = 0
    while at < zero.size:
        row, column = divmod(first + at, width)
        left = zero.size - at
        high = 1 if column or left < width else left // width
        count = min(width - column, left) if high == 1 else high * width
        yield row, column, zero[at : at + count].reshape(high, -1)
        at += count


def _spans(row: int, column: int, high: int, wide: int) -> tuple[slice, slice]:
    return slice(row, row + high), slice(column, column + wide)


def _blocks_of(span: slice) -> slice:
    return slice(span.start // BLOCK_SIDE, (span.stop - 1) // BLOCK_SIDE + 1)


def _drained_result(result: Structure) -> dict[str, Any]:
    drained, density = {each.name: getattr(result, each.name) for each in fields(result)}, result.density
    if density is not None:
        drained["density"] = [density.rows, density.columns, packed(np.frombuffer(density.shares, dtype=np.uint8))]
    return drained


def _merged_result(drained: Mapping[str, Any]) -> Structure:
    rows, columns, shares = drained["density"] or (0, 0, None)
    return Structure(**{**drained, "density": shares and Density(rows, columns, unpacked(shares).tobytes())})

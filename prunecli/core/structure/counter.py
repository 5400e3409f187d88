"""Gather where the zeros of a parameter lie, from flags that come run by run, in any order and from any thread.

What is held until all have come is a bit a row, a column and a block of the matrix, and the counts of the picture.
"""

import base64
import math
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunecli.core.raw_elements import Flags
from prunecli.core.structure.flags import bands_all_zero, blocks_all_zero, halved_groups, halved_packed_groups
from prunecli.core.structure.model import BLOCK_SIDE, Density, Structure, group_dimension

__all__ = ["StructureCounter", "Window"]

Flags = Flags
Counts = NDArray[np.int64]

Window = tuple[int, int, int]
"""Part of a matrix: its first row, its first column, and how many columns it has."""

_ROWS = 255
"""Flags that one byte can add up."""


@dataclass(slots=True)
class _Seen:
    """What is known of a matrix while its elements come: where something is kept, and the counts of zeros.

    A single row says nothing of its columns that the number of zeros does not say, nor a single column of its rows:
    of these nothing is held. `straddling` has a bit an element, set where it is zero, for groups that came in pieces.
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


class StructureCounter:
    """Gathers the structure of one parameter from its elements' zeros, each element once, in any order.

    `cells` is how many cells a side of the picture has at most; with 0 there is none. Once the last element has come,
    only the result is held.

    >>> tally = StructureTally((2, 4), cells=2)
    >>> tally.add(0, np.array([True, True, False, False, True, True, True, False]))
    >>> tally.result().empty_columns, tally.result().groups_of_4_with_2_zeros, list(tally.result().density.shares)
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
        self._lock = threading.Lock()

    def add(self, first: int, zero: Flags, window: Window | None = None) -> None:
        """Take in a run of elements in row-major order from `first` on; shape `(n,)`, True where they are zero.

        With a `window`, they are those of that part of the matrix, and `first` counts within it.
        """
        if not zero.size:
            return
        top, left, wide = window or (0, 0, self._width)
        zeros = int(np.count_nonzero(zero))
        for row, column, flags in _rectangles(first, zero, wide):
            if not zeros:
                self._add_kept(top + row, left + column, *flags.shape)
                continue
            self._add_rectangle(top + row, left + column, flags)
            if window is not None and self._has_groups:
                self._add_groups_of_rectangle(top + row, left + column, flags)
        if zeros and window is None and self._has_groups:
            self._add_groups(first, zero)
        self._note(zero.size, zeros)

    def add_at(self, logical: NDArray[np.int64], zero: Flags) -> None:
        """Take in elements by their places in row-major order; shapes `(n,)`."""
        if not zero.size:
            return
        row, column = np.divmod(logical, max(self._width, 1))
        kept = ~zero
        with self._lock:
            seen = self._begun()
            if seen.rows.size:
                seen.rows[row[kept]] = True
            if seen.columns.size:
                seen.columns[column[kept]] = True
            seen.blocks[row[kept] // BLOCK_SIDE, column[kept] // BLOCK_SIDE] = True
            if self._has_groups:
                self._add_late(seen, logical[zero])
            if self._grid is not None:
                at = self._cell(row[zero], 0) * self._grid[1] + self._cell(column[zero], 1)
                seen.cells += np.bincount(at, minlength=seen.cells.size).reshape(seen.cells.shape)
        self._note(zero.size, int(np.count_nonzero(zero)))

    def take(self) -> dict[str, Any] | None:
        """Hand over what was seen, made of what JSON knows, and begin anew: what one process tells another."""
        with self._lock:
            seen, self._seen = self._seen, None
            result = self._result
            if not self._elements:
                return None
            self._result = None
        if seen is None:
            return None if result is None else {"result": _told_result(result)}
        return {
            "elements": seen.elements,
            "zeros": seen.zeros,
            "fours": seen.groups_of_4,
            "eights": seen.eights,
            "rows": _packed(np.packbits(seen.rows)),
            "columns": _packed(np.packbits(seen.columns)),
            "blocks": _packed(np.packbits(seen.blocks)),
            "cells": _packed(seen.cells.astype("<i8")),
            "late": None if seen.straddling is None else _packed(seen.straddling),
        }

    def give(self, told: Mapping[str, Any]) -> None:
        """Take in what was handed over by a tally of the same shape and cells."""
        if "result" in told:
            self._result = _result_told(told["result"])
            return
        with self._lock:
            seen = self._begun()
            for flags, name in ((seen.rows, "rows"), (seen.columns, "columns"), (seen.blocks, "blocks")):
                flags |= np.unpackbits(_unpacked(told[name]), count=flags.size).view(np.bool_).reshape(flags.shape)
            seen.cells += _unpacked(told["cells"]).view("<i8").reshape(seen.cells.shape)
            seen.groups_of_4 += told["fours"]
            seen.eights += told["eights"]
            if told["late"] is not None:
                straddling = _unpacked(told["late"])
                seen.straddling = straddling.copy() if seen.straddling is None else seen.straddling | straddling
        self._note(told["elements"], told["zeros"])

    def result(self) -> Structure | None:
        """Return what was found, None before every element has come."""
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

    def _add_kept(self, row: int, column: int, high: int, wide: int) -> None:
        """Take in a rectangle without zeros."""
        down, across = slice(row, row + high), slice(column, column + wide)
        with self._lock:
            seen = self._begun()
            seen.rows[down] = seen.columns[across] = seen.blocks[_blocks_of(down), _blocks_of(across)] = True

    def _add_rectangle(self, row: int, column: int, zero: Flags) -> None:
        high, wide = zero.shape
        down, across = slice(row, row + high), slice(column, column + wide)
        bands = bands_all_zero(zero, row)
        kept_blocks = ~blocks_all_zero(bands, column)
        with self._lock:
            seen = self._begun()
            if seen.rows.size:
                seen.rows[down] |= ~zero.all(axis=1)
            if seen.columns.size:
                seen.columns[across] |= ~bands.all(axis=0)
            seen.blocks[_blocks_of(down), _blocks_of(across)] |= kept_blocks
            if self._grid is not None:
                self._add_to_picture(seen.cells, self._grid, row, column, zero)

    def _add_groups(self, first: int, zero: Flags) -> None:
        """Count the groups that lie in a run, and note the elements at its ends that others have their groups with."""
        last, unit = first + zero.size == self._elements, 8 * self._stride
        begin = min(-first % unit, zero.size)
        end = zero.size if last else max(begin, zero.size - (first + zero.size) % unit)
        groups_of_4, eights = halved_groups(zero[begin:end], self._stride)
        ends = np.concatenate([np.flatnonzero(zero[:begin]), np.flatnonzero(zero[end:]) + end])
        with self._lock:
            seen = self._begun()
            seen.groups_of_4 += groups_of_4
            seen.eights += eights
            if ends.size:
                self._add_late(seen, ends + first)

    def _add_groups_of_rectangle(self, row: int, column: int, zero: Flags) -> None:
        """Count the groups in a part of some rows, if no group reaches out of it; else note its zeros."""
        wide, unit = zero.shape[1], 8 * self._stride
        whole = self._width % unit == 0 and column % unit == 0 and wide % unit == 0
        groups_of_4, eights = halved_groups(zero.reshape(-1), self._stride) if whole else (0, 0)
        with self._lock:
            seen = self._begun()
            seen.groups_of_4 += groups_of_4
            seen.eights += eights
            if not whole:
                down, across = np.divmod(np.flatnonzero(zero), wide)
                self._add_late(seen, (row + down) * self._width + column + across)

    def _add_to_picture(self, cells: Counts, grid: tuple[int, int], row: int, column: int, zero: Flags) -> None:
        """Count zeros by cells: added up over the rows of a cell first, then cut at the columns."""
        high, wide = zero.shape
        left, right = (int(self._cell(at, 1)) for at in (column, column + wide - 1))
        cuts = np.arange(left, right + 1) * self._width // grid[1] - column
        cuts[0] = at = 0
        while at < high:
            line = int(self._cell(row + at, 0))
            stop = min((line + 1) * self._height // grid[0] - row, high)
            for first in range(at, stop, _ROWS):
                rows = zero[first : min(first + _ROWS, stop)].view(np.uint8)
                summed = np.add.reduce(rows, axis=0, dtype=np.uint8)
                cells[line, left : right + 1] += np.add.reduceat(summed, cuts, dtype=np.int64)
            at = stop

    def _cell(self, at: Any, axis: int) -> Any:
        """Return the line of cells that rows (axis 0), or columns, belong to."""
        size, cells = ((self._height, self._width)[axis], (self._grid or (0, 0))[axis])
        return ((at + 1) * cells - 1) // size

    def _add_late(self, seen: _Seen, zeros: NDArray[np.int64]) -> None:
        if seen.straddling is None:
            seen.straddling = np.zeros(-(-self._elements // 8), dtype=np.uint8)
        np.bitwise_or.at(seen.straddling, zeros >> 3, np.uint8(0x80) >> (zeros & 7).astype(np.uint8))

    def _note(self, elements: int, zeros: int) -> None:
        """Note how many elements came, and conclude if those were the last."""
        with self._lock:
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
            blocks=seen.blocks.size,
            empty_blocks=empty_blocks,
            groups_of_4=groups_of_4,
            groups_of_4_with_2_zeros=None if groups_of_4 is None else seen.groups_of_4 + straddling[0],
            eights=eights,
            halved_eights=None if eights is None else seen.eights + straddling[1],
            density=None if self._grid is None else self._density(seen.cells, self._grid),
            grouped_by=None if groups_of_4 is None else self._grouped_by,
        )

    def _density(self, zeros: Counts, grid: tuple[int, int]) -> Density:
        sides = zip(grid, (self._height, self._width), strict=True)
        area = np.outer(*(np.diff(np.arange(cells + 1) * size // max(cells, 1)) for cells, size in sides))
        shares = np.clip(np.rint(zeros / np.maximum(area, 1) * 255), 1, 254).astype(np.uint8)
        shares[zeros == 0], shares[zeros == area] = 0, 255
        return Density(*grid, shares.tobytes())


def _rectangles(first: int, zero: Flags, width: int) -> Iterator[tuple[int, int, Flags]]:
    """Cut a run into rectangles: the end of a row, whole rows, the begin of another one."""
    at = 0
    while at < zero.size:
        row, column = divmod(first + at, width)
        left = zero.size - at
        high = 1 if column or left < width else left // width
        count = min(width - column, left) if high == 1 else high * width
        yield row, column, zero[at : at + count].reshape(high, -1)
        at += count


def _blocks_of(span: slice) -> slice:
    return slice(span.start // BLOCK_SIDE, (span.stop - 1) // BLOCK_SIDE + 1)


def _packed(array: NDArray[Any]) -> str:
    return base64.b64encode(zlib.compress(array.tobytes(), 1)).decode("ascii")


def _unpacked(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=np.uint8)


def _told_result(result: Structure) -> dict[str, Any]:
    told, density = {field.name: getattr(result, field.name) for field in fields(result)}, result.density
    if density is not None:
        told["density"] = [density.rows, density.columns, _packed(np.frombuffer(density.shares, dtype=np.uint8))]
    return told


def _result_told(told: Mapping[str, Any]) -> Structure:
    rows, columns, shares = told["density"] or (0, 0, None)
    return Structure(**{**told, "density": shares and Density(rows, columns, _unpacked(shares).tobytes())})

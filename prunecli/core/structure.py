"""Where the zeros of a parameter lie: whether rows, columns, blocks or groups of neighbours are empty, and a picture.

A parameter is seen as a matrix: its first dimension makes the rows, the others together the columns. One of a single
dimension is one row, and a scalar one element.
"""

from dataclasses import dataclass

__all__ = ["BLOCK_SIDE", "Density", "Structure"]

BLOCK_SIDE = 16
"""Rows and columns of the blocks that are looked at; those at the edges may be smaller."""


@dataclass(frozen=True, slots=True)
class Density:
    """A picture of a matrix in `rows` x `columns` cells, at most as many as it has rows and columns.

    Cell i of n covers the rows i * R // n up to (i + 1) * R // n of R, and so for the columns. `shares` has a byte a
    cell, row by row: the share of zeros in 255ths, 0 only where there are none, and 255 only where there is nothing
    else.
    """

    rows: int
    columns: int
    shares: bytes


@dataclass(frozen=True, slots=True)
class Structure:
    """What of a matrix is all zero, and how many groups of 4 (8) neighbours in a row have 2 (4) zeros or more.

    `blocks` are squares of `BLOCK_SIDE`. Groups begin at multiples of their size, and are None unless the number of
    columns is such a multiple. Of a tensor without elements nothing is empty.
    """

    rows: int
    columns: int
    empty_rows: int
    empty_columns: int
    blocks: int
    empty_blocks: int
    fours: int | None = None
    halved_fours: int | None = None
    eights: int | None = None
    halved_eights: int | None = None
    density: Density | None = None

"""Where the zeros of a parameter lie: which rows, columns, blocks and groups of neighbours are empty, and a picture.

A parameter is treated as a matrix: its first dimension makes the rows, all others together make the columns. A
parameter with one dimension is one row, and a scalar is one element.
"""

from collections.abc import Sequence
from typing import Annotated

from prunecli.core.records import ALWAYS, HIDDEN, Count, ValueRule
from prunecli.lean import dataclass

__all__ = ["BLOCK_SIDE", "Density", "Pattern", "Structure", "group_dimension"]

BLOCK_SIDE = 16
"""The number of rows and columns of a block; blocks at the edges may be smaller."""


_LARGEST_KERNEL = 32
"""The largest last dimension that is taken for a convolution over sequences, not for a stack of matrices."""


def group_dimension(shape: Sequence[int]) -> int | None:
    """Return the dimension along which groups of neighbours are counted: the inputs, over which a product is summed.

    The inputs of a linear layer are the columns of its weight, those of a convolution its input channels. A tensor with
    three dimensions and a long last one is treated as a stack of matrices, each counted along its rows.

    >>> group_dimension((64, 512)), group_dimension((64, 32, 3, 3)), group_dimension((64, 32, 5))
    (1, 1, 1)
    >>> group_dimension((8, 256, 128)), group_dimension((64,)), group_dimension(())
    (2, 0, None)
    """
    if len(shape) == 3 and shape[2] > _LARGEST_KERNEL:
        return 2
    return min(1, len(shape) - 1) if shape else None


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
class Pattern:
    """An N:M pattern of zeros: of every M neighbours along a dimension, at most N are not zero."""

    n_of_m: Annotated[str, ValueRule(schema={"pattern": "^[0-9]+:[0-9]+$"})]
    dim: Count
    """The dimension of the shape, from 0."""

    def __str__(self) -> str:
        return f"{self.n_of_m} along dimension {self.dim}"


@dataclass(frozen=True, slots=True)
class Structure:
    """Where the zeros of a matrix are. Its rows are the parameter's first dimension, its columns the others together.

    Groups begin at multiples of their size. A tensor without elements has no empty rows, columns or blocks.
    """

    rows: Count
    empty_rows: Count
    columns: Count
    empty_columns: Count
    blocks_16x16: Count
    empty_blocks_16x16: Count
    groups_of_4: Count | None
    """Groups of neighbours along group_dimension; null unless that dimension is a multiple of 4."""
    groups_of_4_with_2_zeros: Count | None
    """Those with two zeros or more."""
    groups_of_8: Count | None
    """Null unless that dimension is a multiple of 8."""
    groups_of_8_with_4_zeros: Count | None
    """Those with four zeros or more."""
    group_dimension: Annotated[Count | None, ALWAYS] = None
    """The dimension of the shape that groups lie along, from 0; null where there are none."""
    density: Annotated[Density | None, HIDDEN] = None

"""What the tests on structure share: its definitions, element by element."""

import math

import numpy as np

from prunecli.core.raw_elements import Flags
from prunecli.core.structure.model import BLOCK_SIDE, Density, Pattern, Structure


def structure_of(zero: Flags, cells: int) -> Structure:
    """Follow the definitions, element by element."""
    matrix = zero.reshape(1, -1) if zero.ndim < 2 else zero.reshape(zero.shape[0], math.prod(zero.shape[1:]))
    rows, columns = matrix.shape
    if not matrix.size:
        (groups_of_4, _), (eights, _) = (groups_of(zero, size) for size in (4, 8))
        count = -(-rows // BLOCK_SIDE) * -(-columns // BLOCK_SIDE)
        density, along = density_of(matrix, cells), None if groups_of_4 is None else dimension_of(zero)
        return Structure(rows, 0, columns, 0, count, 0, groups_of_4, groups_of_4, eights, eights, along, density)
    blocks = [
        bool(matrix[row : row + BLOCK_SIDE, column : column + BLOCK_SIDE].all())
        for row in range(0, rows, BLOCK_SIDE)
        for column in range(0, columns, BLOCK_SIDE)
    ]
    (groups_of_4, groups_of_4_with_2_zeros), (eights, halved_eights) = (groups_of(zero, size) for size in (4, 8))
    return Structure(
        rows=rows,
        columns=columns,
        empty_rows=int(matrix.all(axis=1).sum()),
        empty_columns=int(matrix.all(axis=0).sum()),
        blocks_16x16=len(blocks),
        empty_blocks_16x16=sum(blocks),
        groups_of_4=groups_of_4,
        groups_of_4_with_2_zeros=groups_of_4_with_2_zeros,
        groups_of_8=eights,
        groups_of_8_with_4_zeros=halved_eights,
        density=density_of(matrix, cells),
        group_dimension=None if groups_of_4 is None else dimension_of(zero),
    )


def dimension_of(zero: Flags) -> int:
    """The inputs of a linear layer or a convolution; the rows of each matrix in a stack of them."""
    return 2 if zero.ndim == 3 and zero.shape[2] > 32 else min(1, zero.ndim - 1)


def groups_of(zero: Flags, size: int) -> tuple[int | None, int | None]:
    if not zero.ndim or zero.shape[dimension_of(zero)] % size:
        return None, None
    halved = np.moveaxis(zero, dimension_of(zero), -1).reshape(-1, size).sum(axis=1) >= size // 2
    return halved.size, int(halved.sum())


def density_of(matrix: Flags, cells: int) -> Density | None:
    if not cells:
        return None
    lines, across = (min(size, cells) for size in matrix.shape)
    shares = bytearray()
    for line in range(lines):
        for column in range(across):
            low, high = (at * matrix.shape[0] // lines for at in (line, line + 1))
            left, right = (at * matrix.shape[1] // across for at in (column, column + 1))
            cell = matrix[low:high, left:right]
            assert cell.size
            share = round(255 * int(cell.sum()) / cell.size)
            shares.append(255 if cell.all() else 0 if not cell.any() else min(max(share, 1), 254))
    return Density(lines, across, bytes(shares))


def density_of_rest(zero: Flags) -> float:
    """The share of nonzero elements between the empty rows and columns."""
    matrix = zero.reshape(len(zero), -1)
    rest = matrix[~matrix.all(axis=1)][:, ~matrix.all(axis=0)]
    return float((~rest).mean()) if rest.size else 0.0


def patterns_of(zero: Flags, part: int = 1 << 16) -> tuple[Pattern, ...]:
    """The tightest N:M pattern along each dimension, by the definition, with all groups in memory."""
    if zero.ndim < 2 or zero.size < 80:
        return ()
    found = []
    for dim in range(zero.ndim if zero.ndim < 4 else 2):
        sizes = [size for size in (2, 4, 8, 16) if zero.shape[dim] % size == 0]
        holding = [(most / size, size, most) for size in sizes if (most := most_of(zero, dim, size, sizes[-1], part))]
        if holding:
            found.append(Pattern("{2}:{1}".format(*min(holding)), dim))
    return tuple(found)


def most_of(zero: Flags, dim: int, size: int, largest: int, least: int) -> int | None:
    """N of the pattern of groups of a size; None if there is none, or if chance makes it in a part."""
    groups = np.moveaxis(~zero, dim, -1).reshape(-1, size).sum(axis=1)
    most = int(groups.max())
    if most > size // 2 or density_of_rest(zero) > (1 + most / size) / 2:
        return None
    band = largest * math.prod(zero.shape[dim + 1 :])
    part = band * max(1, least // band)
    first = np.moveaxis(np.arange(zero.size).reshape(zero.shape), dim, -1).reshape(-1, size)[:, 0]
    parts = np.minimum(first // part, max(zero.size // part, 1) - 1)
    for own in (groups[parts == at] for at in range(parts.max() + 1)):
        p, here = -(-256 * int(own.sum()) // (own.size * size)) / 256, int(own.max())
        more = sum(math.comb(size, count) * p**count * (1 - p) ** (size - count) for count in range(here + 1, size + 1))
        if here and more < max(20 / own.size, 1 / 32):
            return None
    return most

"""The block: the run of elements that is chosen, masked and counted at once."""

__all__ = ["BLOCK", "block_bounds"]

BLOCK = 1 << 20
"""Elements in a block. Part of the definition of the random stream, of mask digests, and of reports."""


def block_bounds(index: int, granule: int, elements: int) -> tuple[int, int]:
    """Return where block `index` of a tensor begins and ends if no group of `granule` elements is split."""
    low, high = index * BLOCK, (index + 1) * BLOCK
    if granule != 1:
        low, high = -(-low // granule) * granule, -(-high // granule) * granule
    return min(low, elements), min(high, elements)

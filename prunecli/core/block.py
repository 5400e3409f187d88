"""The block: the run of elements that is chosen, masked and counted at once."""

__all__ = ["BLOCK"]

BLOCK = 1 << 20
"""Elements in a block. Part of the definition of the random stream, of mask digests, and of reports."""

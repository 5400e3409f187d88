"""Sparse tensors in the format of compressed-tensors up to 0.8, written from its description with numpy alone."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["members_of", "sparse"]


def members_of(dense: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Return what describes a tensor: its shape, the values that are not zero, and where they are."""
    counts = np.count_nonzero(dense, axis=-1)
    return {
        "shape": np.array(dense.shape, dtype=np.int64),
        "compressed": dense[dense != 0],
        "bitmask": np.packbits(dense != 0, axis=-1, bitorder="little"),
        "row_offsets": np.array(np.cumsum(counts, axis=0).reshape(np.shape(counts)) - counts, dtype=np.int64),
    }


def sparse(tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the tensors of a file in which all of these are sparse."""
    return {f"{name}.{key}": value for name, dense in tensors.items() for key, value in members_of(dense).items()}

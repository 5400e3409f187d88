"""Slices of a tensor that are dropped as a whole, at random or by their norms; and blocks of matrices."""

import math
from typing import Self

import numpy as np

from prunecli.core.methods.base import Target
from prunecli.core.methods.geometry import BlocksOf, Geometry, SlicesAlong
from prunecli.core.methods.ranked import Ranked, score_settings
from prunecli.core.methods.request import RANDOM, MethodRequest, spelled
from prunecli.core.methods.units import Measure, UnitMethod
from prunecli.errors import UsageError
from prunecli.lean import dataclass
from prunecli.terms import DIM, METHOD, NORM

__all__ = ["Blocks", "Ln", "RandomSlices"]

_NORMS = {
    1.0: Measure(Ranked()),
    2.0: Measure(Ranked(), each=np.square),
    math.inf: Measure(Ranked(), combine=np.maximum),
}
"""What is compared of slices for each norm; the square of the norm 2, which has the same order."""


class _Slices(UnitMethod):
    """Slices along a dimension, counted from the last one if it is negative."""

    units = "slices"
    dim: int

    def geometry(self, target: Target) -> Geometry:
        """Return the slices of a target."""
        return SlicesAlong.of(target.shape, self.dim, target.name)


def _dim(request: MethodRequest) -> int:
    if request.dim is None:
        raise UsageError(
            f"{METHOD} {spelled(request.name)} needs {DIM}: 0 for the outputs of a layer, 1 for its inputs, -1 for the "
            "last dimension"
        )
    return request.dim


@dataclass(frozen=True)
class RandomSlices(_Slices):
    """Random slices: all sets of the requested number of slices are equally likely."""

    name = "random_structured"
    dim: int
    measure = None

    @classmethod
    def of(cls, request: MethodRequest) -> Self:
        """Return the method with the settings of a request."""
        request.check_takes("dim")
        return cls(_dim(request))


@dataclass(frozen=True)
class Ln(_Slices):
    """The slices with the smallest norms."""

    name = "ln"
    dim: int
    measure: Measure

    @classmethod
    def of(cls, request: MethodRequest) -> Self:
        """Return the method with the settings of a request."""
        request.check_takes("dim", "norm")
        if request.norm is None:
            raise UsageError(f"{METHOD} ln needs {NORM}: 1, 2 or inf")
        return cls(_dim(request), _NORMS[request.norm])


@dataclass(frozen=True)
class Blocks(UnitMethod):
    """Blocks of matrices with `size` rows and columns: at random, or those with the smallest sums."""

    name = "blocks"
    units = "blocks"
    size: tuple[int, int]
    measure: Measure | None

    @classmethod
    def of(cls, request: MethodRequest) -> Self:
        """Return the method for a request of random blocks, or of blocks by what the method of the request ranks."""
        request.check_takes("block", *score_settings(request))
        if request.block is None:
            raise ValueError("no size of blocks is requested")
        return cls(request.block, None if request.name == RANDOM else Measure(Ranked.of(request)))

    def geometry(self, target: Target) -> Geometry:
        """Return the blocks of a target."""
        return BlocksOf.of(target.shape, self.size, target.name)

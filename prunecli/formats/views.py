"""The places of a strided tensor's elements in its storage, and which tensors share elements."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["View", "overlap"]

_STEP = 1 << 20


@dataclass(frozen=True, slots=True)
class View:
    """A tensor's place in a storage: `start`, `shape` and `stride`, all counted in elements.

    Dimensions of size 1 and the strides of empty tensors have no effect; `normal` drops them.
    """

    start: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @classmethod
    def of(cls, shape: Sequence[int], start: int = 0) -> "View":
        """Return the row-major view of a shape."""
        stride, step = [], 1
        for size in reversed(shape):
            stride.append(step)
            step *= max(size, 1)
        return cls(start, tuple(shape), tuple(reversed(stride)))

    @property
    def elements(self) -> int:
        """The number of logical elements: the product of the shape."""
        return math.prod(self.shape)

    @property
    def stop(self) -> int:
        """One past the last storage element that the view touches."""
        if not self.elements:
            return self.start
        return self.start + 1 + sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))

    def normal(self) -> tuple[tuple[int, int], ...]:
        """Return (size, stride) of each dimension that matters, in row-major order; for an empty tensor, ((0, 1),)."""
        if not self.elements:
            return ((0, 1),)
        return tuple((n, step) for n, step in zip(self.shape, self.stride, strict=True) if n != 1)

    @property
    def row_major(self) -> bool:
        """Whether the elements are contiguous in logical order."""
        expected = 1
        for size, step in reversed(self.normal()):
            if step != expected:
                return False
            expected *= size
        return True

    @property
    def repeats(self) -> int:
        """The number of logical elements that share each stored one, by strides of zero (`expand`)."""
        return math.prod(size for size, step in self.normal() if step == 0)

    @property
    def nested(self) -> bool:
        """Whether the position of a stored element determines its indices: each stride spans the smaller dimensions."""
        reach = 1
        for size, step in sorted(self.normal(), key=lambda dim: dim[1]):
            if step == 0:
                continue
            if step < reach:
                return False
            reach = step * (size - 1) + reach
        return True

    def place(self, first: int, count: int) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Map the storage elements `first .. first + count - 1` to the view's logical, row-major order.

        Returns two arrays of shape `(count,)`: whether the element belongs to the view, and its logical index (0 if it
        does not belong). Only for views that are `nested`.
        """
        rest = np.arange(first - self.start, first - self.start + count, dtype=np.int64)
        inside = (rest >= 0) & (rest < self.stop - self.start)
        logical = np.zeros(count, dtype=np.int64)
        weight, dims = 1, []
        for size, step in reversed(self.normal()):
            dims.append((step, size, weight))
            weight *= size
        for step, size, weight in sorted(dims, reverse=True):
            if step == 0:
                continue
            index = rest // step
            inside &= index < size
            logical += index * weight
            rest -= index * step
        inside &= rest == 0
        logical[~inside] = 0
        return inside, logical


def overlap(one: View, other: View) -> bool:
    """Whether two views of one storage share an element. The memory used does not depend on the size of the views.

    If a view is not `nested`, overlapping ranges count as sharing.
    """
    if not one.elements or not other.elements:
        return False
    low, high = max(one.start, other.start), min(one.stop, other.stop)
    if low >= high:
        return False
    if (one.row_major and other.row_major) or not (one.nested and other.nested):
        return True
    if _apart(one, other):
        return False
    return any(bool(np.any(a & b)) for a, b in _memberships(one, other, low, high))


def _apart(one: View, other: View) -> bool:
    """Whether strides alone prove that two views share nothing: interleaved views, or columns of one table."""
    rows = [max(view.normal(), key=lambda dim: dim[1], default=(1, 0)) for view in (one, other)]
    divisor = math.gcd(*(step for view in (one, other) for _, step in view.normal()))
    between = other.start - one.start
    if divisor and between % divisor:
        return True
    step = rows[0][1]
    if step == 0 or step != rows[1][1]:
        return False
    first, second = (view.stop - view.start - (row[0] - 1) * step for view, row in zip((one, other), rows, strict=True))
    return first <= between % step <= step - second


def _memberships(one: View, other: View, low: int, high: int) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    for first in range(low, high, _STEP):
        count = min(_STEP, high - first)
        yield one.place(first, count)[0], other.place(first, count)[0]

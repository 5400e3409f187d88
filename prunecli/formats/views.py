"""The places of a strided tensor's elements in its storage, and which tensors share elements."""

import functools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # at run time, numpy is imported by what computes with elements: listing parameters needs none
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["View", "overlap"]

_STEP = 1 << 20


class _Form(NamedTuple):
    """What follows from a shape and strides alone. Views of the same form share it: large models have few forms."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    elements: int
    extent: int
    normal: tuple[tuple[int, int], ...]
    row_major: bool
    repeats: int
    nested: bool


@functools.lru_cache(maxsize=1024)
def _form(shape: tuple[int, ...], stride: tuple[int, ...]) -> _Form:
    elements = math.prod(shape)
    pairs = list(zip(shape, stride, strict=False))  # readers compare the lengths afterwards
    extent = 1 + sum((size - 1) * step for size, step in pairs) if elements else 0
    normal = tuple((size, step) for size, step in pairs if size != 1) if elements else ((0, 1),)
    repeats = math.prod(size for size, step in normal if step == 0)
    return _Form(shape, stride, elements, extent, normal, _is_row_major(normal), repeats, _is_nested(normal))


def _is_row_major(normal: Sequence[tuple[int, int]]) -> bool:
    expected = 1
    for size, step in reversed(normal):
        if step != expected:
            return False
        expected *= size
    return True


def _is_nested(normal: Sequence[tuple[int, int]]) -> bool:
    reach = 1
    for size, step in sorted(normal, key=lambda dim: dim[1]):
        if step == 0:
            continue
        if step < reach:
            return False
        reach = step * (size - 1) + reach
    return True


@functools.lru_cache(maxsize=1024)
def _row_major_stride(shape: tuple[int, ...]) -> tuple[int, ...]:
    stride, step = [], 1
    for size in reversed(shape):
        stride.append(step)
        step *= max(size, 1)
    return tuple(reversed(stride))


@functools.lru_cache(maxsize=1024)
def _whole(shape: tuple[int, ...]) -> "View":
    """Return the row-major view from the first element on, which all tensors of a shape share."""
    return View(0, shape, _row_major_stride(shape))


class View:
    """A tensor's place in a storage: `start`, `shape` and `stride`, all counted in elements. It never changes.

    `elements` is the product of the shape; `row_major` means that they are contiguous in logical order. Dimensions of
    size 1 and the strides of empty tensors have no effect; `normal` drops them.
    """

    __slots__ = ("_form", "elements", "row_major", "shape", "start")

    def __init__(self, start: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> None:
        self.start = start
        self._form = form = _form(shape, stride)
        self.shape = form.shape
        self.elements = form.elements
        self.row_major = form.row_major

    @classmethod
    def of(cls, shape: Sequence[int], start: int = 0) -> "View":
        """Return the row-major view of a shape."""
        sizes = tuple(shape)
        return cls(start, sizes, _row_major_stride(sizes)) if start else _whole(sizes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, View) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"View(start={self.start}, shape={self.shape}, stride={self.stride})"

    def _key(self) -> tuple[object, ...]:
        return self.start, self._form.shape, self._form.stride

    @property
    def stride(self) -> tuple[int, ...]:
        """The distance of neighbours along each dimension."""
        return self._form.stride

    @property
    def stop(self) -> int:
        """One past the last storage element that the view touches."""
        return self.start + self._form.extent

    def normal(self) -> tuple[tuple[int, int], ...]:
        """Return (size, stride) of each dimension that matters, in row-major order; for an empty tensor, ((0, 1),)."""
        return self._form.normal

    @property
    def repeats(self) -> int:
        """The number of logical elements that share each stored one, by strides of zero (`expand`)."""
        return self._form.repeats

    @property
    def nested(self) -> bool:
        """Whether the position of a stored element determines its indices: each stride spans the smaller dimensions."""
        return self._form.nested

    def place(self, first: int, count: int) -> "tuple[NDArray[np.bool_], NDArray[np.int64]]":
        """Map the storage elements `first .. first + count - 1` to the view's logical, row-major order.

        Returns two arrays of shape `(count,)`: whether the element belongs to the view, and its logical index (0 if it
        does not belong). Only for views that are `nested`.
        """
        import numpy as np

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
    return any(bool((a & b).any()) for a, b in _memberships(one, other, low, high))


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


def _memberships(
    one: View, other: View, low: int, high: int
) -> "Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]":
    for first in range(low, high, _STEP):
        count = min(_STEP, high - first)
        yield one.place(first, count)[0], other.place(first, count)[0]

"""What an allocation knows about a layer."""

import math

from prunecli.lean import dataclass

__all__ = ["Layer"]


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer among which a total is divided: a parameter, a group of tied parameters, or a slice of a parameter.

    `key` is its canonical name, which settles ties; `name` is its name in messages. `shape` is the full shape in
    torch's order of dimensions (out, in, then those of the kernel). `left` is the number of unpruned elements, which
    is less than `size` after an earlier round.
    """

    key: str
    name: str
    shape: tuple[int, ...]
    left: int

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def is_convolution(self) -> bool:
        """Whether the shape is that of a convolution in one, two or three dimensions."""
        return 3 <= len(self.shape) <= 5

    @property
    def is_linear(self) -> bool:
        """Whether the shape is that of a matrix."""
        return len(self.shape) == 2

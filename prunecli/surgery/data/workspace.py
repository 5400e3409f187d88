"""The memory in which one thread works on blocks of parameters."""

from prunecli.core.scratch import Buffer

__all__ = ["Workspace"]


class Workspace:
    """A separate buffer for each array that a block needs, so that none overwrites another.

    An array that a function returns in one of them is valid until the next call with the same workspace.
    """

    def __init__(self) -> None:
        self.weight = Buffer()
        self.mask = Buffer()
        self.before = Buffer()
        """Which elements the mask in the file keeps."""
        self.given = Buffer()
        """The stored elements of a mask from another file."""
        self.allowed = Buffer()
        """Which elements that mask keeps."""
        self.scores = Buffer()
        """The stored elements of scores from another file."""
        self.candidates = Buffer()
        self.keep = Buffer()
        """Which elements the final mask keeps."""
        self.block = Buffer()
        """Which elements of a method's block the final mask keeps, where that block is not one of the mask's blocks."""
        self.zero = Buffer()
        """Which elements of the weight are zero."""
        self.room = Buffer()
        """Intermediate results within one function."""

"""The memory in which one thread works on blocks of parameters."""

from prunecli.core.scratch import Buffer

__all__ = ["Workspace"]


class Workspace:
    """A buffer for each thing that is needed of a block, so that none takes the place of another.

    What a function returns in one of them is valid until the next call that is given the same workspace.
    """

    def __init__(self) -> None:
        self.weight = Buffer()
        self.mask = Buffer()
        self.before = Buffer()
        """What the mask in the file keeps."""
        self.candidates = Buffer()
        self.keep = Buffer()
        """What the final mask keeps."""
        self.block = Buffer()
        """What the final mask keeps of a block of the method, where that is not one of the mask."""
        self.zero = Buffer()
        """Which elements of the weight are zero."""
        self.room = Buffer()
        """For a step of a calculation, within one function."""

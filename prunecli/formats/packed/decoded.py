"""Sources whose bytes are decoded from those of other files while they are read."""

from prunecli.formats.io.locations import Location
from prunecli.formats.io.source import Source

__all__ = ["DecodedSource"]


class DecodedSource(Source):
    """The bytes of an original, `size` in all: it has the place, permissions and state of the files it is decoded from.

    `base` is the file that the user named, `others` are further ones.
    """

    is_packed = True

    def __init__(self, base: Source, size: int, *others: Source) -> None:
        self.base, self.size, self._others = base, size, others
        self.label, self.name = base.label, base.name

    @property
    def location(self) -> Location | None:
        """The location of the base."""
        return self.base.location

    @property
    def mode(self) -> int | None:
        """The permissions of the base."""
        return self.base.mode

    @property
    def state(self) -> str:
        """The state of all files that it is decoded from."""
        return " ".join(each.state for each in (self.base, *self._others))

    def check_unchanged(self) -> None:
        """Check that no file has changed."""
        for each in (self.base, *self._others):
            each.check_unchanged()

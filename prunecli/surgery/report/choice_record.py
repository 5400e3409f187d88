"""What a report records of a choice, made from the choice whenever it is read."""

from collections.abc import ItemsView, Iterator, Mapping
from typing import Any

from prunecli.core.methods.base import Choice

__all__ = ["ChoiceRecord"]


class ChoiceRecord(Mapping[str, Any]):
    """The record of a choice, equal to its `as_dict`.

    As text, the flags of units take twice the memory. So the text of all parameters is never there at once.
    """

    __slots__ = ("_choice",)

    def __init__(self, choice: Choice) -> None:
        self._choice = choice

    def __getitem__(self, key: str) -> Any:
        return self._choice.as_dict()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._choice.as_dict())

    def __len__(self) -> int:
        return len(self._choice.as_dict())

    def items(self) -> ItemsView[str, Any]:
        """Return all of it, made once; otherwise each value would be looked up in a record of its own."""
        return self._choice.as_dict().items()

    def __repr__(self) -> str:
        return repr(self._choice.as_dict())

"""The masks of the same parameters in two sources."""

from collections.abc import Collection

from prunecli.errors import UsageError, show
from prunecli.surgery.data.kept import KeptFlags
from prunecli.surgery.masks.source import MaskSource
from prunecli.surgery.names.pair import pair_names

__all__ = ["listed", "pair_masks"]

_LISTED = 3
"""The most names in a message."""


def pair_masks(left: MaskSource, right: MaskSource) -> list[tuple[KeptFlags, KeptFlags]]:
    """Return the masks of two sources in pairs, in the order of the left one.

    Names pair as in all comparisons: the same name, else the same canonical name. If one of the sources is the zeros of
    a checkpoint, its parameters without a partner are left out.

    Raises:
        UsageError: a mask is in one source only, or the shapes of two differ.
    """
    pairs = pair_names(left.keys, right.keys)
    paired = set(pairs.values())
    for source, other, alone in (
        (left, right, [name for name in left.masks if name not in pairs]),
        (right, left, [name for name in right.masks if name not in paired]),
    ):
        if alone and (source.kind != "zeros" or other.kind == "zeros" or not pairs):
            raise UsageError(f"only {_label(source)} has masks of {listed(alone)}")
    found = [(left.masks[name], right.masks[other]) for name, other in pairs.items()]
    for one, two in found:
        if one.shape != two.shape:
            raise UsageError(
                f"the masks of {show(one.name, 80)} have shapes {list(one.shape)} in {_label(left)} and "
                f"{list(two.shape)} in {_label(right)}; both must be of one model"
            )
    return found


def listed(names: Collection[str]) -> str:
    """Return the first names for a message, and the number of the others.

    >>> listed(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    first = ", ".join(show(name, 80) for name in list(names)[:_LISTED])
    return first if len(names) <= _LISTED else f"{first} and {len(names) - _LISTED:,} more"


def _label(source: MaskSource) -> str:
    return show(source.checkpoint.source.label, 80)

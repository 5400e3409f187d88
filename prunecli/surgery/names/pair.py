"""The same parameter under two names: in another checkpoint, or in a report."""

from collections import Counter
from collections.abc import Mapping

__all__ = ["pair_names"]


def pair_names(left: Mapping[str, str], right: Mapping[str, str]) -> dict[str, str]:
    """Return for each left name its counterpart: the same name on the right, else the one with the same canonical name.

    Both sides map names to canonical names (without the prefixes that wrappers add). No right name is paired twice, and
    a canonical name that several right names share is not used.

    >>> pair_names({"fc.weight": "fc.weight"}, {"_orig_mod.fc.weight": "fc.weight", "head.bias": "head.bias"})
    {'fc.weight': '_orig_mod.fc.weight'}
    """
    rest = {name: canonical for name, canonical in right.items() if name not in left}
    count = Counter(rest.values())
    by_canonical = {canonical: name for name, canonical in rest.items() if count[canonical] == 1}
    pairs = {name: name if name in right else by_canonical.pop(canonical, None) for name, canonical in left.items()}
    return {name: other for name, other in pairs.items() if other is not None}

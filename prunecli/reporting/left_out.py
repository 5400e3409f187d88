"""The tensors that a report or a prune left out, as one sentence: by role, the largest first."""

from collections.abc import Sequence
from dataclasses import replace

from prunecli.errors import show
from prunecli.reporting.numbers import percent
from prunecli.surgery.names.left_out import SHARDS, WEIGHTS, LeftOut
from prunecli.surgery.roles.table import Role
from prunecli.surgery.roles.words import in_words

__all__ = ["left_out_text"]

_SHOWN = 4
"""Roles that are named; the others together are "and N more"."""
_MUCH = 0.1
"""The smallest share of bytes that is stated."""
_ANYWHERE = frozenset({Role.OPTIMIZER, Role.STATISTIC, Role.INTEGER, Role.SETTING, Role.MASK})
"""Roles whose place in the file is not stated: nobody selects them with --key."""
_KEY = 40
"""The most characters of a key."""


def left_out_text(groups: Sequence[LeftOut], whole: int) -> str:
    """Return a sentence on the groups, with their share of the `whole` bytes where it is large; "" without groups.

    >>> left_out_text([LeftOut(Role.PACKED, 80, 9, 94), LeftOut(Role.OTHER, 2, 1, 4, key="generator")], 100)
    "80 packed weights (94% of the bytes), 2 in generator (--key '' takes the whole file)"
    """
    parts = []
    hinted = False
    groups = _merged(groups)
    shown = sorted(groups, key=lambda each: each.role not in WEIGHTS)[:_SHOWN]
    for group in (each for each in groups if each in shown):
        part, hint = _part(group), "" if hinted else _hint(group)
        hinted = hinted or bool(hint)
        share = f"{percent(group.bytes, whole, 0)} of the bytes" if group.bytes >= _MUCH * whole > 0 else ""
        remarks = "; ".join(each for each in (share, hint) if each)
        parts.append(f"{part} ({remarks})" if remarks else part)
    rest = sum(group.tensors for group in groups if group not in shown)
    return ", ".join(parts) + (f" and {rest:,} more" if rest else "")


def _merged(groups: Sequence[LeftOut]) -> list[LeftOut]:
    """Return the groups, the largest first; those that differ only in a place that is not stated are one."""
    sums: dict[object, LeftOut] = {}
    for group in groups:
        identity = group.role if group.role in _ANYWHERE else (group.role, group.key)
        before = sums.get(identity)
        sums[identity] = (
            group
            if before is None
            else replace(
                before,
                tensors=before.tensors + group.tensors,
                elements=before.elements + group.elements,
                bytes=before.bytes + group.bytes,
            )
        )
    return sorted(sums.values(), key=lambda each: (-each.bytes, -each.tensors))


def _part(group: LeftOut) -> str:
    if group.role is Role.OTHER and group.key is not None:
        return f"{group.tensors:,} in {show(group.key, _KEY)}"
    words = in_words(group.tensors, group.role)
    if group.role is Role.PARAMETER:  # a parameter of the reported model
        return words.replace("parameter", "other parameter")
    return words if group.key is None or group.role in _ANYWHERE else f"{words} in {show(group.key, _KEY)}"


def _hint(group: LeftOut) -> str:
    """Return the option that includes the group, if there is one."""
    if group.key is not None and group.key.endswith(SHARDS):
        return ""
    if group.role is Role.OTHER and group.key is not None:
        return "--key '' takes the whole file"
    if group.role is Role.AVERAGE and group.key is not None:
        return f"--key {show(group.key, _KEY)}"
    return ""

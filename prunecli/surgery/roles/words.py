"""The number of tensors with a role, as text."""

from prunecli.surgery.roles.table import Role

__all__ = ["in_words"]

_COLLECTIVE = frozenset({Role.OPTIMIZER, Role.QUANTISER})
"""Roles that are named after what their tensors are part of."""
_PLURALS = {
    Role.DERIVED: "derived copies",
    Role.OTHER: "tensors of another network",
    Role.OPAQUE: "tensors without plain elements",
}


def in_words(count: int, role: Role) -> str:
    """Return a number of tensors with the name of their role.

    >>> in_words(1, Role.STATISTIC), in_words(2000, Role.PACKED), in_words(2, Role.QUANTISER)
    ('1 statistic', '2,000 packed weights', '2 tensors of quantiser state')
    """
    if role in _COLLECTIVE:
        return f"{count:,} tensor{'s' if count != 1 else ''} of {role.value}"
    if count == 1:
        return "1 tensor of another network" if role is Role.OTHER else f"1 {role.value}"
    return f"{count:,} {_PLURALS.get(role, f'{role.value}s')}"

"""A request as the text of a recipe."""

from collections.abc import Mapping, Sequence

from prunecli.core.methods.request import RANDOM, spelled
from prunecli.surgery.plan.request import SEVERAL, PruneRequest

__all__ = ["render_recipe"]


def render_recipe(prune: PruneRequest) -> str:
    """Return a request as a recipe's text, for which `parse_recipe` returns the same request."""
    head: dict[str, object] = {} if prune.seed is None else {"seed": prune.seed}
    head |= {"remove": prune.remove}
    if not prune.remove:
        head |= {"mask_dtype": prune.mask_dtype, "untie": prune.untie}
    head |= {"zeros_are_pruned": prune.zeros_are_pruned}
    if prune.key_prefix:
        head["key_prefix"] = prune.key_prefix
    if prune.with_state:
        head["with_state"] = True
    if prune.rescale:
        head["rescale"] = True
    if prune.method_name not in (SEVERAL, RANDOM):
        head["method"] = spelled(prune.method_name)
    parts = [_lines(head)]
    for group in prune.groups:
        selection = group.selection
        body: dict[str, object] = {"params": selection.patterns}
        if selection.excludes:
            body["exclude"] = selection.excludes
        amount = {} if group.amount is None else {"amount": group.amount}
        body |= {**amount, "min_dim": selection.min_dim, "global": group.everywhere}
        more: dict[str, object] = {"allocation": group.allocation, "like": group.like_shown, "order": group.order}
        more |= {"per_slice": selection.per_slice, "per_row": group.per_row}
        body |= {key: value for key, value in more.items() if value}
        if prune.method_name == SEVERAL:
            body["method"] = spelled(group.method.name)
        body |= group.settings
        table = (
            f"[group.amounts]\n{_lines({_value(key): each for key, each in group.amounts})}" if group.amounts else ""
        )
        parts.append(f"[[group]]\n{_lines(body)}{table}")
    return "\n".join(parts)


def _lines(values: Mapping[str, object]) -> str:
    return "".join(f"{key} = {_value(value)}\n" for key, value in values.items())


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{"".join(map(_char, value))}"'
    if isinstance(value, Sequence):
        return f"[{', '.join(map(_value, value))}]"
    return repr(value)


def _char(char: str) -> str:
    if char in '"\\':
        return f"\\{char}"
    return char if char.isprintable() else f"\\U{ord(char):08x}"

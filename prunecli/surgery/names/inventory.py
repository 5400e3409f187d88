"""Every tensor of a checkpoint with its role: those of the state dict (including masks), and those outside it."""

from collections.abc import Iterator, Sequence

from prunecli.errors import UsageError, show
from prunecli.formats.base import Layout, TensorInfo
from prunecli.lean import dataclass
from prunecli.surgery.names.left_out import roles_beside
from prunecli.surgery.names.parameters import Parameter, canonical, parameters_of
from prunecli.surgery.names.select import LONGEST, Selection, matcher
from prunecli.surgery.names.suggest import no_match
from prunecli.surgery.roles.table import Role
from prunecli.terms import MIN_DIM, PARAM

__all__ = ["InventoryEntry", "inventory", "matching", "state_of"]


@dataclass(frozen=True, slots=True)
class InventoryEntry:
    """A tensor under its name in the file, and the name of the parameter that it is a part of, if any.

    A name in the state dict excludes the path to the state dict; a name outside it is the whole path.
    """

    name: str
    tensor: TensorInfo
    role: Role
    state: str
    parameter: str
    stored: str = ""
    """How a packed file stores it: "dense", "drawn mask" or "stored mask"; "" if it is not packed."""

    @property
    def names(self) -> Iterator[str]:
        """All names that select it."""
        yield from {self.name: None, canonical(self.name): None, self.parameter: None}


def state_of(parameter: Parameter) -> str:
    """Return "dense", "masked" or "not prunable" for a parameter, and the role of any other tensor."""
    if parameter.role is not Role.PARAMETER:
        return parameter.role.value
    if parameter.unprunable_reason() is not None:
        return "not prunable"
    return "masked" if parameter.mask is not None else "dense"


def inventory(checkpoint: Layout) -> list[InventoryEntry]:
    """Return all tensors of a checkpoint in the order of the file, those outside the state dict last."""
    found: dict[str, InventoryEntry] = {}
    for parameter in parameters_of(checkpoint).values():
        weight = parameter.weight
        found[weight.name] = InventoryEntry(weight.name, weight, parameter.role, state_of(parameter), parameter.name)
        for name in parameter.leftovers if parameter.mask is None else (parameter.mask.name, *parameter.leftovers):
            mask = checkpoint.tensors[name]
            found[name] = InventoryEntry(name, mask, Role.MASK, Role.MASK.value, parameter.name)
    entries = [found[name] for name in checkpoint.tensors if name in found]
    roles = roles_beside(checkpoint)
    for tensor in checkpoint.carried:
        role = roles[tensor.name]
        entries.append(InventoryEntry(tensor.name, tensor, role, role.value, tensor.name))
    return entries


def matching(entries: Sequence[InventoryEntry], selection: Selection) -> list[InventoryEntry]:
    """Return the tensors whose names a selection matches, with any role.

    Text that equals a tensor's name is that name; other text is a pattern for tensors of at least `min_dim` dimensions.

    Raises:
        UsageError: a pattern matches nothing, or nothing is left.
    """
    by_name: dict[str, list[int]] = {}
    for at, entry in enumerate(entries):
        for name in entry.names:
            by_name.setdefault(name, []).append(at)
        if (look := show(entry.name, LONGEST) or "''") != entry.name:
            by_name.setdefault(look, []).append(at)

    def found(pattern: str) -> list[int]:
        if pattern in by_name:
            return by_name[pattern]
        matches = matcher(pattern)
        return [at for at, entry in enumerate(entries) if any(matches(name) for name in entry.names)]

    chosen: set[int] = set()
    for pattern in selection.patterns:
        hits = found(pattern)
        if not hits:
            raise UsageError(no_match(PARAM, pattern, list(by_name)))
        exact = pattern in by_name
        chosen.update(at for at in hits if exact or len(entries[at].tensor.shape) >= selection.min_dim)
    for pattern in selection.excludes:
        chosen.difference_update(found(pattern))
    if not chosen:
        raise UsageError(f"{PARAM} with the excludes and {MIN_DIM} selects nothing; leave some of those out")
    return [entries[at] for at in sorted(chosen)]

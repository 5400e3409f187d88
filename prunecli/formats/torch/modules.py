"""Pickled modules with torch's pruning hooks: what has to go when a parameter takes its name back.

`torch.nn.utils.prune` leaves three things in a module beside `NAME_orig` and `NAME_mask`: a hook among
`_forward_pre_hooks` whose `_tensor_name` is the parameter's name, the last product as a plain attribute, and, in
recurrent layers, that product among the `_flat_weights` (`BasePruningMethod.apply`, `RNNBase.__setattr__`).
"""

from prunecli.formats.pickles.nodes import Call, DictNode, Entry, ListNode, Node
from prunecli.formats.torch.object_tree import mapping_entries

__all__ = ["restore_parameter"]

_HOOKS = ("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs")


def restore_parameter(module: Call, name: str, parameter: Node) -> None:
    """Take the pruning hook of the parameter `name` out of a module, and the product that stood in for it.

    `module` is changed in place; its registries are left to the caller. `parameter` is what lists that held the
    product hold from now on.
    """
    for state in module.states:
        if isinstance(state, DictNode):
            _drop_hook(state, name)
            products = [entry.value for entry in state.entries if entry.key == name]
            state.entries[:] = [entry for entry in state.entries if entry.key != name]
            for held in (entry.value for entry in state.entries if isinstance(entry.value, ListNode)):
                held.items[:] = [parameter if any(each is old for old in products) else each for each in held.items]


def _drop_hook(state: DictNode, name: str) -> None:
    pruning = [
        entry.key for entries in _registries(state) for entry in entries if _is_pruning_of(entry.value, name)
    ]  # the hook's number, under which another registry may know it, too
    for entries in _registries(state):
        entries[:] = [entry for entry in entries if entry.key not in pruning]


def _registries(state: DictNode) -> list[list[Entry]]:
    found = [mapping_entries(entry.value) for entry in state.entries if entry.key in _HOOKS]
    return [entries for entries in found if entries is not None]


def _is_pruning_of(hook: Node, name: str) -> bool:
    """Whether a hook is a pruning method (or a container of such) for the parameter `name`, as `prune.remove` asks."""
    states = hook.states if isinstance(hook, Call) else []
    attributes = [entry for state in states if isinstance(state, DictNode) for entry in state.entries]
    return any(entry.key == "_tensor_name" and entry.value == name for entry in attributes)

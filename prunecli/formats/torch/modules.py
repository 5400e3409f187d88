"""Pickled modules with torch's pruning hooks: what to remove when a parameter gets its own name back.

`torch.nn.utils.prune` leaves three things in a module besides `NAME_orig` and `NAME_mask`: a hook among
`_forward_pre_hooks` whose `_tensor_name` is the parameter's name; the last product (weight times mask) as a plain
attribute; and, in recurrent layers, that product among the `_flat_weights` (`BasePruningMethod.apply`,
`RNNBase.__setattr__`). prunecli's own `prune_module` adds another hook to modules that read the product of another
module without calling that module.
"""

from prunecli.formats.pickles.nodes import Call, DictNode, Entry, Global, ListNode, Node
from prunecli.formats.torch.object_tree import Tree, mapping_entries

__all__ = ["drop_refreshers", "restore_parameter"]

_HOOKS = ("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs")
_REFRESH = {("prunecli.modules.hooks", "ProductRefresh"), ("prunecli.core.hooks", "ProductRefresh")}
"""The path of the class, and its earlier path, which older files name."""
_DEEPEST = 128
"""The most modules that are followed on the path from a hook to what it refreshes."""


def restore_parameter(module: Call, name: str, parameter: Node) -> None:
    """Remove the pruning hook of the parameter `name` from a module, and the product in the parameter's place.

    `module` is changed in place; its registries are left to the caller. Lists that held the product hold `parameter`
    instead.
    """
    for state in module.states:
        if isinstance(state, DictNode):
            _drop_hook(state, name)
            products = [entry.value for entry in state.entries if entry.key == name]
            state.entries[:] = [entry for entry in state.entries if entry.key != name]
            for held in (entry.value for entry in state.entries if isinstance(entry.value, ListNode)):
                held.items[:] = [parameter if any(each is old for old in products) else each for each in held.items]


def drop_refreshers(root: Node, tree: Tree) -> None:
    """Remove prunecli's hooks from all modules below `root`, if the products that they refresh no longer exist.

    Otherwise, loading the file would need prunecli.
    """
    seen: set[int] = set()
    nodes = [root]
    while nodes:
        node = nodes.pop()
        branches = [] if id(node) in seen else tree.branches(node)
        seen.add(id(node))
        nodes += [branch.value for branch in branches]
        if isinstance(node, Call) and branches and tree.is_module(node):
            for state in node.states:
                if isinstance(state, DictNode):
                    idle = [key for key, path in _refreshers(state) if not _is_pruned(_below(node, path, tree))]
                    _drop(state, idle)


def _refreshers(state: DictNode) -> list[tuple[Node, str]]:
    """Return the number of each hook that refreshes products, and the path that it follows."""
    return [
        (entry.key, attribute.value)
        for entries in _registries(state)
        for entry in entries
        if _is_refresher(entry.value)
        for attribute in _attributes(entry.value)
        if attribute.key == "path" and isinstance(attribute.value, str)
    ]


def _is_refresher(hook: Node) -> bool:
    function = hook.function if isinstance(hook, Call) else None
    return isinstance(function, Global) and (function.module, function.name) in _REFRESH


def _below(module: Node, path: str, tree: Tree) -> Node:
    """Return the module at a dotted path; None if the path leads nowhere."""
    for name in path.split(".", _DEEPEST):
        children = (branch for branch in tree.branches(module) if branch.owner is None and branch.key == name)
        module = next((child.value for child in children), None)
    return module


def _is_pruned(module: Node) -> bool:
    states = module.states if isinstance(module, Call) else []
    registries = [entries for state in states if isinstance(state, DictNode) for entries in _registries(state)]
    hooks = [entry.value for entries in registries for entry in entries]
    return any(attribute.key == "_tensor_name" for hook in hooks for attribute in _attributes(hook))


def _drop_hook(state: DictNode, name: str) -> None:
    _drop(
        state, [entry.key for entries in _registries(state) for entry in entries if _is_pruning_of(entry.value, name)]
    )


def _drop(state: DictNode, numbers: list[Node]) -> None:
    """Remove hooks by their numbers; several registries may hold a hook under the same number."""
    for entries in _registries(state) if numbers else []:
        entries[:] = [entry for entry in entries if entry.key not in numbers]


def _registries(state: DictNode) -> list[list[Entry]]:
    found = [mapping_entries(entry.value) for entry in state.entries if entry.key in _HOOKS]
    return [entries for entries in found if entries]


def _is_pruning_of(hook: Node, name: str) -> bool:
    """Whether a hook is a pruning method, or a container of them, for the parameter `name`; as in `prune.remove`."""
    return any(entry.key == "_tensor_name" and entry.value == name for entry in _attributes(hook))


def _attributes(hook: Node) -> list[Entry]:
    states = hook.states if isinstance(hook, Call) else []
    return [entry for state in states if isinstance(state, DictNode) for entry in state.entries]

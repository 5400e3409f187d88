"""Pickled modules with torch's pruning hooks: what has to go when a parameter takes its name back.

`torch.nn.utils.prune` leaves three things in a module beside `NAME_orig` and `NAME_mask`: a hook among
`_forward_pre_hooks` whose `_tensor_name` is the parameter's name, the last product as a plain attribute, and, in
recurrent layers, that product among the `_flat_weights` (`BasePruningMethod.apply`, `RNNBase.__setattr__`). prunecli's
own `prune_module` puts one more hook into modules that read such a product in another module without calling it.
"""

from prunecli.formats.pickles.nodes import Call, DictNode, Entry, Global, ListNode, Node
from prunecli.formats.torch.object_tree import Tree, mapping_entries

__all__ = ["drop_refreshers", "restore_parameter"]

_HOOKS = ("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs")
_REFRESH = {("prunecli.modules.hooks", "ProductRefresh"), ("prunecli.core.hooks", "ProductRefresh")}
"""Where the class is, and where files that were written before it moved say that it is."""
_DEEPEST = 128
"""Modules on the way from a hook to what it refreshes."""


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


def drop_refreshers(root: Node, tree: Tree) -> None:
    """Take prunecli's hooks out of all modules below `root` that would refresh products of which none is left.

    The file would need prunecli to load otherwise.
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
    """Return the numbers of the hooks that refresh products, and the paths that they follow."""
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
    """Return the module at a path of names; None if there is none there."""
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
    """Drop hooks by their numbers, under which more than one registry may know them."""
    for entries in _registries(state) if numbers else []:
        entries[:] = [entry for entry in entries if entry.key not in numbers]


def _registries(state: DictNode) -> list[list[Entry]]:
    found = [mapping_entries(entry.value) for entry in state.entries if entry.key in _HOOKS]
    return [entries for entries in found if entries is not None]


def _is_pruning_of(hook: Node, name: str) -> bool:
    """Whether a hook is a pruning method (or a container of such) for the parameter `name`, as `prune.remove` asks."""
    return any(entry.key == "_tensor_name" and entry.value == name for entry in _attributes(hook))


def _attributes(hook: Node) -> list[Entry]:
    states = hook.states if isinstance(hook, Call) else []
    return [entry for state in states if isinstance(state, DictNode) for entry in state.entries]

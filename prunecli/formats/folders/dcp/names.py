"""The state dict in a torch.distributed.checkpoint folder, found and named as in a file of torch.save.

The metadata records the path of each tensor in the saved objects. From these paths the objects are rebuilt as nodes,
with stand-ins for the stored tensors, so that the same rules apply to both formats.
"""

from collections.abc import Sequence
from itertools import pairwise

from prunecli.errors import DamagedError, show
from prunecli.formats.dtypes import DTYPES
from prunecli.formats.folders.dcp.metadata import KeyPath, StoredBytes, StoredTensor
from prunecli.formats.pickles.nodes import DictNode, Entry, ListNode, Node
from prunecli.formats.torch.key_words import OPTIMIZER, kind_of_key
from prunecli.formats.torch.object_tree import Tree
from prunecli.formats.torch.state_dict import StateDict, find_state_dict
from prunecli.formats.torch.tensors import StorageRef, mask_node
from prunecli.terms import HERE

__all__ = ["find_stored"]


def find_stored(entries: Sequence[StoredTensor | StoredBytes], key: str | None) -> StateDict:
    """Return the state dict in the entries; the storage key of each named tensor is its index in `entries`.

    Raises:
        UsageError: `key` leads nowhere.
        DamagedError: two paths contradict each other.
        UnsupportedError: as for a file.
    """
    top = _Level("")
    levels = [top]
    for place, entry in enumerate(entries):
        level, path = top, _split(entry.path)
        for part, following in pairwise(path):
            below = level.below.get(part)
            if below is None:
                below = _Level(following)
                level.put(part, below.node, below, entry.name)
                levels.append(below)
            level = below
        level.put(path[-1], _node(entry, place), None, entry.name)
    for level in levels:
        level.finish()
    return find_state_dict(top.node, key, Tree())


class _Level:
    """A dict or a list under construction: a dict if its `first` key is a string, a list if it is an index."""

    def __init__(self, first: str | int) -> None:
        self.node: DictNode | ListNode = DictNode() if isinstance(first, str) else ListNode()
        self.below: dict[str | int, _Level] = {}
        self._held: dict[str | int, Node] = {}

    def put(self, part: str | int, node: Node, level: "_Level | None", name: str) -> None:
        if part in self._held or isinstance(part, str) != isinstance(self.node, DictNode):
            raise DamagedError(f"{HERE} is damaged: {show(name)} stands where something else does")
        self._held[part] = node
        if level is not None:
            self.below[part] = level

    def finish(self) -> None:
        if isinstance(self.node, DictNode):
            self.node.entries = [Entry(key, node) for key, node in self._held.items()]
        elif set(self._held) == set(range(len(self._held))):
            self.node.items = [self._held[place] for place in range(len(self._held))]
        else:
            raise DamagedError(f"{HERE} is damaged: a list in it lacks items")


def _split(path: KeyPath) -> KeyPath:
    """Return the path with optimizer state as its first part, if its name was flattened before it was saved.

    Megatron-Core (0.16) numbers chained optimizers: `chained_0.optimizer.state.exp_avg.decoder.weight`.
    """
    first, dot, rest = str(path[0]).partition(".")
    if len(path) > 1 or not dot:
        return path
    if first.startswith("chained_") and rest.startswith("optimizer."):
        return f"{first}.optimizer", rest.removeprefix("optimizer.")
    return (first, rest) if kind_of_key(first) == OPTIMIZER else path


def _node(entry: StoredTensor | StoredBytes, place: int) -> Node:
    if isinstance(entry, StoredBytes):
        return None
    return mask_node(str(place), StorageRef(str(place), DTYPES["uint8"], 0, "cpu"), entry.dtype, entry.shape)

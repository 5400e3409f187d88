"""Names for the tensors of a graph: those of its state dict, and all others by the path to each."""

from collections.abc import Collection, Iterator, Sequence

from prunecli.errors import UnsupportedError, show
from prunecli.formats.base import Moment
from prunecli.formats.pickles.nodes import GraphNode, Node, children
from prunecli.formats.torch.key_words import PART
from prunecli.formats.torch.object_tree import Branch
from prunecli.formats.torch.optimizers import TOP, Places, StatePlace
from prunecli.formats.torch.survey import Survey
from prunecli.formats.torch.tensors import OpaqueTensor, TensorRef
from prunecli.lean import dataclass
from prunecli.terms import HERE

__all__ = ["NamedNode", "name_others", "name_state_dict"]

_LARGEST_KEY = 1 << 53  # from here on, JSON readers that use doubles cannot distinguish neighbouring numbers


_Step = tuple[str, Branch, StatePlace, StatePlace]
"""A step of a walk: the name of what a branch leads to, the branch, the place of its holder, and its own."""


@dataclass(frozen=True, slots=True, eq=False)
class NamedNode:
    """A tensor's dotted name, its node, what the node describes, and the branch that leads to it.

    `within` and `moment` are those of `TensorInfo`.
    """

    name: str
    node: Node
    ref: TensorRef | OpaqueTensor
    branch: Branch
    within: str = ""
    moment: Moment | None = None


def name_state_dict(
    survey: Survey, places: Places, root: Node, *, aside: Collection[object], forced: bool
) -> Iterator[NamedNode]:
    """Yield every tensor below `root` with its name, in the order of the file; shared objects once for each path.

    Optimizers, and what the edges in `aside` lead to, are left out. If the user named the state dict (`forced`), they
    are included, and marked as what they are.

    Raises:
        UnsupportedError: a key cannot be part of a name, or the names exceed a limit.
    """
    top = ("", Branch(None, root, "root"), TOP, places.start(root))
    stack: list[tuple[int, Iterator[_Step]]] = [(0, iter([top]))]  # the objects around the current one, what they hold
    around: set[int] = set()
    visits = 0

    def steps(node: Node, name: str, place: StatePlace) -> Iterator[_Step]:
        for own, each in _below(survey, node, name, frozenset() if forced else aside):
            inner = places.below(place, each, own, by_key=each.edge in aside)
            if forced or not inner.within:
                yield own, each, place, inner

    while stack:
        task = next(stack[-1][1], None)
        if task is None:
            around.discard(stack.pop()[0])
            continue
        name, branch, holder, place = task
        node = branch.value
        visits += 1
        if visits > survey.limits.revisits * (len(survey.holders) + 1):
            raise survey.entangled()
        ref = survey.tensors.get(id(node))
        if ref is not None:
            yield NamedNode(name, node, ref, branch, place.within, places.moment(holder, branch))
        elif id(node) not in around:
            around.add(id(node))
            stack.append((id(node), steps(node, name, place)))


def _below(survey: Survey, node: Node, name: str, aside: Collection[object]) -> Iterator[tuple[str, Branch]]:
    """Return the branches of a node that lead to tensors, each with its name."""
    below = [branch for branch in survey.held(survey.branches(node)) if branch.edge not in aside]
    if not all(_is_name(branch.key) for branch in below):
        raise UnsupportedError(
            f"{HERE}: a tensor below {show(name) or 'the top'} has a key that is neither text nor a whole number"
        )
    names = survey.spell(name, below)
    if any(len(each) > survey.limits.longest_name for each in names):
        raise UnsupportedError(f"{HERE}: a tensor below {show(name)} has too long a name")
    return zip(names, below, strict=True)


def name_others(
    survey: Survey, places: Places, named: Sequence[NamedNode], path: Collection[int]
) -> Iterator[NamedNode]:
    """Yield the tensors that branches outside the state dict lead to, named by their paths.

    `path` holds the ids of the objects that lead to the state dict. Modules and optimizers also keep their parameters
    in lists of their own: those references are not copies, and are left out.
    """
    passed = {each.branch.edge for each in named if isinstance(each.ref, TensorRef)}
    own = {id(each.node) for each in named}
    start = places.start(survey.root)
    stack = [("", Branch(None, survey.root, "root"), False, TOP, start)]
    visited: set[int] = set()
    while stack:
        name, branch, refers, holder, place = stack.pop()
        node = branch.value
        ref = survey.tensors.get(id(node))
        if isinstance(ref, TensorRef):
            if branch.edge not in passed and not (refers and id(node) in own):
                passed.add(branch.edge)
                yield NamedNode(name, node, ref, branch, place.within, places.moment(holder, branch))
            continue
        survey.unspell(name)  # it may be long
        if id(node) not in visited:
            visited.add(id(node))
            if ref is not None and not place.within:
                place = StatePlace(PART)
            refers = refers or survey.tree.refers(node)
            held = _held_by(survey, node)[::-1]
            below = [each for each in held if each.edge not in passed]
            beside = id(node) in path  # here a tensor's own key indicates its kind, too
            for each, name_of in zip(below, survey.spell(name[: survey.limits.longest_name], below), strict=True):
                by_key = id(each.value) not in path and (survey.is_level(each) or (beside and _is_bare(each.key)))
                stack.append((name_of, each, refers, place, places.below(place, each, name_of, by_key=by_key)))


def _held_by(survey: Survey, node: Node) -> list[Branch]:
    """Return all branches of a node that lead to tensors: first what has a name, then the rest by number."""
    named = survey.tree.branches(node) + survey.tree.rest(node)
    known = {id(branch.value) for branch in named}
    bare = children(node) if isinstance(node, GraphNode) else []
    rest = {index: each for index, each in enumerate(bare) if id(each) in survey.holders and id(each) not in known}
    return survey.held(named + [Branch(index, each, (id(node), "child", index)) for index, each in rest.items()])


def _is_bare(key: Node) -> bool:
    """Whether a key is text without a dot."""
    return isinstance(key, str) and "." not in key


def _is_name(key: Node) -> bool:
    """Whether a key can be part of a name."""
    return isinstance(key, str) or (isinstance(key, int) and abs(key) < _LARGEST_KEY)

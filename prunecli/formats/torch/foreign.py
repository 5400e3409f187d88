"""Objects in a pickle that weights-only loading refuses: they are named, and plain data among them may be read.

Nothing here is imported or called. To *read* a checkpoint, objects are admitted that hold no tensors and that loading
would make without calling a function of the file's choice: plain data of the standard library and numpy by name, and
instances of other classes that are made without arguments. Everything else is refused unless the user allows it, so
that exit code 5 keeps its meaning. To *write* one, all objects need the user's permission.
"""

import re
import sys
from collections.abc import Iterable, Sequence

from prunecli.errors import UnsafeError, show
from prunecli.formats.pickles.nodes import Call, DictNode, Global, Node, Persistent, PickleGraph, TupleNode, walk
from prunecli.formats.torch.globals import admitted, makes_memory
from prunecli.formats.torch.object_tree import Tree
from prunecli.terms import ALLOW_FOREIGN, HERE

__all__ = ["ARRAYS", "check_foreign", "is_class_id", "note_plain_data"]

_SHOWN = 3
_FLAG = f"{ALLOW_FOREIGN} leaves"

ARRAYS = ("_reconstruct", "_frombuffer")
"""The functions of numpy that make an array when a pickle is loaded, by name."""

_PLAIN = {
    "argparse": "Namespace",
    "types": "SimpleNamespace",
    "pathlib": "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
    "pathlib._local": "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
    "datetime": "date datetime time timedelta timezone",
    "decimal": "Decimal",
    "fractions": "Fraction",
    "uuid": "UUID",
    "builtins": "bool dict float frozenset int list str tuple",
    "__builtin__": "bool dict float frozenset int list long str tuple unicode",
    "numpy": "dtype",
    "numpy.core.multiarray": "scalar",
    "numpy._core.multiarray": "scalar",
}
"""Classes, and a function of numpy, that make plain data of any arguments, by module."""

_NUMPY = re.compile(r"(u?int|float|complex)\d+|bool_?|str_|bytes_|(Bool|U?Int\d+|Float\d+|Complex\d+)DType")
"""Numpy's types of numbers."""

_OWNERS = sys.stdlib_module_names | {"torch", "numpy", "functorch", "__builtin__"}
"""Packages of which only the names above make plain data: their other classes and functions may do anything."""

Name = tuple[str, str]


def check_foreign(graph: PickleGraph, tree: Tree) -> None:
    """Check that loading a pickle would run nothing that weights-only loading refuses.

    Raises:
        UnsafeError: it would; the message names the objects.
    """
    foreign = _foreign(graph, tree)
    if foreign:
        slices = ("torch.distributed.tensor", "DTensor") in foreign
        merge = "; DTensors are slices of one rank, so merge the files of all ranks first" if slices else ""
        raise UnsafeError(
            f"{HERE} holds {_kind(foreign)} that weights-only loading refuses ({_named(foreign)}); {_FLAG} them "
            f"as they are, unread{merge}"
        )
    _check_operations(graph)


def note_plain_data(graph: PickleGraph, tree: Tree) -> str:
    """Return a note that names the objects of a pickle that weights-only loading refuses, if they are plain data.

    The note is empty if there are none.

    Raises:
        UnsafeError: some are not plain data, or hold tensors; or as `check_foreign`.
    """
    foreign = _foreign(graph, tree)
    if foreign and not _is_plain_data(graph, set(foreign)):
        check_foreign(graph, tree)
    _check_operations(graph)
    if not foreign:
        return ""
    return (
        f"left unread: objects without tensors that weights-only loading refuses ({_named(foreign)}); to write this "
        f"checkpoint, add {ALLOW_FOREIGN}"
    )


def is_class_id(node: Persistent) -> bool:
    """Whether a persistent id is that of a module's class, which legacy files name together with its source code."""
    return isinstance(node.id, TupleNode) and len(node.id.items) == 4 and node.id.items[0] == "module"


def _foreign(graph: PickleGraph, tree: Tree) -> list[Name]:
    named = dict.fromkeys((each.module, each.name) for each in graph.globals)
    return [each for each in named if not admitted(*each) and not tree.admits(*each)]


def _named(foreign: Sequence[Name]) -> str:
    shown = ", ".join(show(".".join(each), 60) for each in foreign[:_SHOWN])
    return shown + (", ..." if len(foreign) > _SHOWN else "")


def _kind(foreign: Iterable[Name]) -> str:
    """Return the words for objects of these classes; numpy arrays are common enough to be named."""
    if not any(module.startswith("numpy") and name in ARRAYS for module, name in foreign):
        return "objects"
    return "numpy arrays" if all(module.startswith("numpy") for module, _ in foreign) else "numpy arrays and objects"


def _check_operations(graph: PickleGraph) -> None:
    """Check what weights-only loading refuses whatever the names are."""
    memory = next((each for each in graph.called if makes_memory(each.module, each.name)), None)
    if memory is not None:
        raise UnsafeError(
            f"{HERE} has torch make a weight of memory as it lies ({show(f'{memory.module}.{memory.name}', 60)} is "
            f"called); {_FLAG} it as it is, unread"
        )
    strict = graph.strict
    if strict is None and any(map(is_class_id, graph.persistents)):
        strict = f"{HERE} names a class by a persistent id"
    if strict is not None:
        raise UnsafeError(f"{strict}, which weights-only loading refuses; {_FLAG} it as it is, unread")


def _is_plain_data(graph: PickleGraph, foreign: set[Name]) -> bool:
    unknown = {each for each in foreign if not _is_plain(*each)}
    if any(module.partition(".")[0] in _OWNERS for module, _ in unknown):
        return False
    made = [node for node in walk(graph.root) if isinstance(node, Call) and _name_of(node) in foreign]
    if not unknown <= {_name_of(call) for call in made}:  # one that is named alone is imported, for a reason unknown
        return False
    if any(_name_of(call) in unknown and not _is_bare_instance(call) for call in made):
        return False
    return not any(map(_is_of_a_tensor, walk(TupleNode([*made]))))


def _is_plain(module: str, name: str) -> bool:
    if module in ("numpy", "numpy.dtypes") and _NUMPY.fullmatch(name):
        return True
    return name in _PLAIN.get(module, "").split()


def _name_of(call: Call) -> Name | None:
    return (call.function.module, call.function.name) if isinstance(call.function, Global) else None


def _is_bare_instance(call: Call) -> bool:
    """Whether an object is made without arguments, and gets nothing but attributes."""
    bare = call.kind == "newobj" and isinstance(call.args, TupleNode) and not call.args.items
    return bare and not call.items and not call.entries and all(map(_is_attributes, call.states))


def _is_attributes(state: Node) -> bool:
    """Whether a state is a dict of attributes, or a pair of dicts as of a class with slots."""
    parts = state.items if isinstance(state, TupleNode) and len(state.items) == 2 else [state]
    return all(part is None or isinstance(part, DictNode) for part in parts)


def _is_of_a_tensor(node: Node) -> bool:
    return isinstance(node, Persistent) or (isinstance(node, Global) and node.module.startswith("torch._"))

"""TorchScript programs: the names of their tensors, from the attribute tables in their code.

`torch.jit.save` writes a zip like that of `torch.save`. `data.pkl` holds the module as nested objects whose classes
are defined under `code/`, one file for each Python module (named `__torch__.a.b`). There, each class lists
`__parameters__` and `__buffers__` (torch/csrc/jit/serialization/python_print.cpp). Other tensors are plain attributes,
which a state dict does not name. The code is read as text and never run.
"""

import ast
import functools
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace

from prunecli.errors import DamagedError, UnsafeError, UnsupportedError, show
from prunecli.formats.crc import crc32
from prunecli.formats.io.source import Source
from prunecli.formats.pickles.nodes import Call, Global, Node
from prunecli.formats.torch.object_tree import Branch, Tree
from prunecli.formats.torch.zip_directory import Directory, Record
from prunecli.formats.torch.zip_inflating import unpacking_limit
from prunecli.lean import dataclass

__all__ = ["Program", "read_program"]

_LARGEST_CODE = 1 << 28
"""The most bytes of unpacked code; that of a large model is a few MiB."""

_STRING = r"\"(?:[^\"\\\n\r\0]|\\[abfnrtv\\'\"]|\\[0-3][0-7]{2})*+\""
_LITERAL = re.compile(_STRING)
_STRINGS = rf"\[((?:{_STRING}, ?)*+)\]"
_CLASS = re.compile(
    rf"^class ([^\s(:]+)\([^)\n]*\):\n  __parameters__ = {_STRINGS}\n(?:  __buffers__ = {_STRINGS}\n)?", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class _Table:
    """The attributes of a class. `buffers` is None if the program is too old to list them: then all others count."""

    parameters: frozenset[str]
    buffers: frozenset[str] | None


class Program(Tree):
    """The rules by which the modules of a TorchScript program hold each other and their tensors."""

    no_masks_because = "the code of a TorchScript program names the tensors that it uses"

    def __init__(self, tables: Mapping[tuple[str, str], _Table]) -> None:
        self._tables = tables

    def admits(self, module: str, name: str) -> bool:
        """Whether a class is the program's own, or one that TorchScript uses to store lists and tensors."""
        return module == "__torch__" or module.startswith("__torch__.") or module == "torch.jit._pickle"

    def is_module(self, node: Node) -> bool:
        """Whether a node is a module of the program."""
        return self._table(node) is not None

    def branches(self, node: Node) -> list[Branch]:
        """Return a module's parameters, buffers and submodules; its other tensors are not in its state dict."""
        table, found = self._table(node), super().branches(node)
        if table is None:
            return found
        return [
            Branch(each.key, each.value, each.edge, each.entry, each.home, None, self._is_buffer(table, each))
            for each in found
            if self.is_module(each.value) or self._is_listed(table, each)
        ]

    def rest(self, node: Node) -> list[Branch]:
        """Return a module's plain attributes. Tensors among them count as buffers: optimizers do not train them."""
        table = self._table(node)
        if table is None:
            return super().rest(node)
        found = [each for each in super().branches(node) if not self._is_listed(table, each)]
        return [replace(each, buffer=not self.is_module(each.value)) for each in found]

    def _table(self, node: Node) -> _Table | None:
        if isinstance(node, Call) and isinstance(node.function, Global):
            return self._tables.get((node.function.module, node.function.name))
        return None

    def _is_listed(self, table: _Table, branch: Branch) -> bool:
        return branch.key in table.parameters or table.buffers is None or branch.key in table.buffers

    def _is_buffer(self, table: _Table, branch: Branch) -> bool:
        return branch.key not in table.parameters and not self.is_module(branch.value)


def read_program(source: Source, directory: Directory, root: str) -> Program | None:
    """Return the attribute tables of a TorchScript program, None if the archive is not one.

    Raises:
        UnsupportedError: it is frozen, so that its weights are constants without names.
        DamagedError: its code cannot be unpacked.
        UnsafeError: its unpacked code would be larger than that of any program.
    """
    folder = f"{root}code/"
    names = [record.name for record in directory.records]
    if not any(name.startswith(folder) for name in names) and f"{root}constants.pkl" not in names:
        return None
    files = [each for each in directory.records if each.name.startswith(folder) and each.name.endswith(".py")]
    limit = min(_LARGEST_CODE, unpacking_limit(source))
    if sum(record.size for record in files) > limit:
        raise UnsafeError(f"{source.label}: its code unpacks to more than {limit >> 20} MiB")
    tables: dict[tuple[str, str], _Table] = {}
    for record in files:
        module = record.name.removeprefix(folder).removesuffix(".py").replace("/", ".")
        tables.update(((module, name), table) for name, table in _tables(_unpack(source, record)))
    is_frozen = any(name.startswith(f"{root}constants/") for name in names)
    if is_frozen and not any(name.startswith(f"{root}data/") for name in names):
        raise UnsupportedError(
            f"{source.label} is a frozen TorchScript program: its weights are constants without names; prune it "
            "before torch.jit.freeze"
        )
    return Program(tables)


def _unpack(source: Source, record: Record) -> str:
    stored = source.read(record.offset, record.stored_size)
    try:
        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(stored, record.size + 1) if record.deflated else stored
    except zlib.error:
        data = b""
    if len(data) != record.size or (record.crc and crc32(data) != record.crc):
        raise DamagedError(f"{source.label}: record {show(record.name)} is damaged; fetch the checkpoint again")
    return data.decode("utf-8", "replace")


def _tables(code: str) -> Iterator[tuple[str, _Table]]:
    for found in _CLASS.finditer(code):
        name, parameters, buffers = found.groups()
        yield name, _Table(_strings(parameters), None if buffers is None else _strings(buffers))


def _strings(text: str) -> frozenset[str]:
    """Return the strings in a list of literals; TorchScript's printer writes bytes that are not ASCII in octal."""
    # One by one, and each only once: packed code may repeat a name so often that a list of all would not fit in memory.
    return frozenset(_text(found[0]) for found in _LITERAL.finditer(text))


@functools.lru_cache(maxsize=1024)
def _text(literal: str) -> str:
    value = str(ast.literal_eval(literal))
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value

"""Count properties of the package's code, today and at a revision of git, and compare them with the goals.

    python benchmarks/house.py                     # compared with the commit before the restructuring
    python benchmarks/house.py --base HEAD~20 --rounds 0

Statements are those of the syntax tree without docstrings. A module names a method if it imports it, or contains its
name in an identifier or a string. Start times are medians of `prunecli --help` and of `import torch`, run in turns.
"""

import argparse
import ast
import functools
import io
import statistics
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
BASE = "af1496a"
"""The commit before the restructuring."""

_CONTEXT = {"words", "terms", "big_endian"}
_PATHS = {"path", "where", "label"}
_SHARED = {"Lock", "RLock", "Condition", "Event", "Semaphore", "Barrier", "local", "ThreadPoolExecutor"}
_FREE = ("formats/io/", "surgery/run/")
_METHOD = ("random_unstructured", "RandomUnstructured")
_METHOD_MODULES = ("prunecli.core.methods.random", "prunecli.core.random_stream", "prunecli.core.sampling")
_HOME = ("core/methods/", "core/random_stream.py", "core/drawn_mask.py", "core/sampling.py")

Sources = Mapping[str, str]
"""The source text of each module, by its path below the package."""


@dataclass(frozen=True)
class Row:
    """A figure: what it measures, its value at the base and today, and its goal."""

    what: str
    base: str
    today: str
    goal: str
    where: Sequence[str] = ()


def main() -> None:
    """Print the table, and with --where the counted places."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default=BASE, metavar="REVISION", help=f"what to compare with (default: {BASE})")
    parser.add_argument("--rounds", type=int, default=11, metavar="N", help="starts of each program; 0: none")
    parser.add_argument("--where", action="store_true", help="list the places")
    options = parser.parse_args()
    found = list(rows(today(), at(options.base)))
    if options.rounds:
        found.append(_start(options.rounds))
    print("| what | base | today | goal |\n|---|---|---|---|")
    for row in found:
        print(f"| {row.what} | {row.base} | {row.today} | {row.goal} |")
    if options.where:
        for row in found:
            print(f"\n{row.what}:", *row.where, sep="\n  ")


def today() -> Sources:
    """Return the package in the working tree."""
    package = ROOT / "prunecli"
    return {path.relative_to(package).as_posix(): path.read_text() for path in sorted(package.rglob("*.py"))}


def at(revision: str) -> Sources:
    """Return the package at a revision; an empty mapping if the revision is unknown, as in a shallow clone."""
    done = subprocess.run(["git", "archive", revision, "prunecli"], cwd=ROOT, capture_output=True)
    if done.returncode:
        return {}
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        members = [member for member in archive if member.name.endswith(".py")]
        files = {member.name.removeprefix("prunecli/"): archive.extractfile(member) for member in members}
        return {name: file.read().decode() for name, file in files.items() if file is not None}


def rows(now: Sources, base: Sources) -> Iterator[Row]:
    """Yield the figures that are counted in the source texts."""
    sizes = [sum(1 for text in each.values() for _ in statements(text)) for each in (base, now)]
    share = f" ({sizes[1] / sizes[0]:.3f})" if base else ""
    yield Row("statements of the package", f"{sizes[0]:,}" if base else "", f"{sizes[1]:,}{share}", "0.86")
    for what, count, goal in (
        ("modules that name a method", naming_a_method, "3"),
        ("type names defined twice", twice, "0"),
        ("functions that carry `words`, or a path for messages", carrying, "0"),
        ("locks, pools, thread-locals outside formats/io and surgery/run", shared, "5"),
        ("`# fmt: skip`", skips, "0"),
    ):
        found = list(count(now))
        yield Row(what, str(len(list(count(base)))) if base else "", str(len(found)), goal, found)


@functools.cache
def _tree(text: str) -> ast.Module:
    return ast.parse(text)


@functools.cache
def _nodes(text: str) -> list[ast.AST]:
    return list(ast.walk(_tree(text)))


def statements(text: str) -> Iterator[ast.stmt]:
    """Yield the statements that are not docstrings."""
    for node in _nodes(text):
        if isinstance(node, ast.stmt) and not _is_docstring(node):
            yield node


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def naming_a_method(sources: Sources) -> Iterator[str]:
    """Yield the modules that name a method, except those of the methods themselves."""
    for name, text in sources.items():
        if not name.startswith(_HOME) and any(map(_is_of_a_method, _words(text))):
            yield name


def _is_of_a_method(word: str) -> bool:
    return word.startswith(_METHOD_MODULES) or any(each in word for each in _METHOD)


def _words(text: str) -> Iterator[str]:
    """Yield the identifiers, imported modules and strings of a module, without docstrings."""
    prose = {node.value for node in _nodes(text) if isinstance(node, ast.Expr) and _is_docstring(node)}
    for node in _nodes(text):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Name | ast.Attribute):
            yield node.id if isinstance(node, ast.Name) else node.attr
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in prose:
            yield node.value


def twice(sources: Sources) -> Iterator[str]:
    """Yield the names of classes that several modules define."""
    names = Counter(node.name for text in sources.values() for node in _nodes(text) if isinstance(node, ast.ClassDef))
    yield from (name for name, count in names.items() if count > 1)


def carrying(sources: Sources) -> Iterator[str]:
    """Yield the functions with a parameter that is used only in messages, or passed on for them; core has none."""
    for name, text in sources.items():
        for node in _nodes(text) if not name.startswith("core/") else ():
            if isinstance(node, ast.FunctionDef):
                found = [arg.arg for arg in _arguments(node) if arg.arg in _CONTEXT or _is_for_messages(node, arg.arg)]
                if found:
                    yield f"{name}:{node.lineno} {node.name}: {', '.join(found)}"


def _arguments(node: ast.FunctionDef) -> list[ast.arg]:
    return [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]


def _is_for_messages(function: ast.FunctionDef, name: str) -> bool:
    """Whether a path is used in a raised error, and otherwise only in errors and f-strings."""
    if name not in _PATHS:
        return False
    uses = {node for node in ast.walk(function) if isinstance(node, ast.Name) and node.id == name}
    raised, written = (
        {each for node in ast.walk(function) if isinstance(node, kind) for each in ast.walk(node)}
        for kind in (ast.Raise, ast.JoinedStr)
    )
    return bool(uses & raised) and uses <= raised | written


def shared(sources: Sources) -> Iterator[str]:
    """Yield the places that create objects shared by threads."""
    for name, text in sources.items():
        if not name.startswith(_FREE):
            types = {each for note in _annotations(_nodes(text)) for each in ast.walk(note)}
            yield from (f"{name}:{line} {made}" for line, made in _made(_nodes(text), types) if made in _SHARED)


def _made(nodes: list[ast.AST], types: set[ast.AST]) -> Iterator[tuple[int, str]]:
    """Yield the line and name of each use of `threading`, except in the annotations `types`, and of each plain call."""
    for node in nodes:
        if isinstance(node, ast.Attribute) and _is_threading(node.value) and node not in types:
            yield node.lineno, node.attr
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id != "local":
            yield node.lineno, node.func.id


def _is_threading(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "threading"


def _annotations(nodes: list[ast.AST]) -> Iterator[ast.expr]:
    for node in nodes:
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            yield node.annotation
        elif isinstance(node, ast.FunctionDef) and node.returns is not None:
            yield node.returns


def skips(sources: Sources) -> Iterator[str]:
    """Yield the lines that the formatter must not change."""
    for name, text in sources.items():
        yield from (f"{name}:{number}" for number, line in enumerate(text.split("\n"), 1) if "# fmt: skip" in line)


def _start(rounds: int) -> Row:
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for times, command in zip(seconds, (["-m", "prunecli", "--help"], ["-c", "import torch"]), strict=True):
            began = time.perf_counter()
            subprocess.run([sys.executable, *command], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
            times.append(time.perf_counter() - began)
    ours, theirs = map(statistics.median, seconds)
    today = f"{ours / theirs:.2f} ({ours:.2f} s by {theirs:.2f} s)"
    return Row("cold start of `prunecli --help` against `import torch`", "0.26", today, "0.12")


if __name__ == "__main__":
    main()

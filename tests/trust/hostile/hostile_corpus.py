"""The registry of the hostile corpus: one small function makes one file (or folder), a decorator says what must come.

`refused` gives the exit code and what the line must say (a regular expression), `accepted` that all commands do their
work. A function returns the bytes of its file; or it takes a folder, makes what it likes there, and may return what is
to be named on the command line. `body` makes a file of each of torch's containers around the opcodes of one value.
"""

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hostile_makers import CONTAINERS

__all__ = [
    "CASES",
    "COMMANDS",
    "FLAG",
    "FOLDER",
    "NO_FILE",
    "TENSORS",
    "Case",
    "Kind",
    "Roles",
    "accepted",
    "body",
    "corpus",
    "odd_body",
    "refused",
    "register",
]

FLAG = "--allow-foreign-objects"
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "params": ("params",),
    "report": ("report",),
    "apply": ("apply", "-p", "*", "-a", "0.5", "--seed", "1", "--remove", "-o", "out"),
}
MODULES = (
    "hostile_code",
    "hostile_components",
    "hostile_exports",
    "hostile_folders",
    "hostile_index",
    "hostile_kinds",
    "hostile_legacy",
    "hostile_lists",
    "hostile_masks",
    "hostile_metadata",
    "hostile_names",
    "hostile_odd",
    "hostile_packed",
    "hostile_pickles",
    "hostile_records",
    "hostile_tensors",
    "hostile_views",
    "hostile_zips",
    "hostile_others",
)
"""Where the functions are; the last one takes cases of those before it."""

Body = Callable[[], bytes]
Maker = Callable[..., object]


@dataclass(frozen=True)
class Kind:
    """The suffix of a file, and a wrong one under which it is tried, too; "" for what has no other name."""

    suffix: str = ".pt"
    wrong: str = ".safetensors"


TORCH, TENSORS, NO_FILE, FOLDER = Kind(), Kind(".safetensors", ".pt"), Kind(".pt", ""), Kind("", "")


@dataclass(frozen=True)
class Roles:
    """Command lines for files that are no checkpoints to prune, and the sound files beside them, in the folder `in`."""

    commands: Mapping[str, tuple[str, ...]]
    beside: Mapping[str, bytes]


@dataclass(frozen=True)
class Case:
    """One file or folder, and what must come of it.

    `codes` are the exit codes by command; `foreign` those with `--allow-foreign-objects`, None where that is not tried.
    `reference` is the library that reads an accepted one, "" where none does.
    """

    name: str
    family: str
    make: Maker
    codes: Mapping[str, int]
    says: str
    kind: Kind = TORCH
    foreign: Mapping[str, int] | None = None
    foreign_says: str = ""
    reference: str = ""
    needs: str = ""
    roles: "Roles | None" = None

    @property
    def commands(self) -> Mapping[str, tuple[str, ...]]:
        """The command lines that it is put through; `{}` in them is its path, which otherwise follows the command."""
        return COMMANDS if self.roles is None else self.roles.commands

    @property
    def is_refused(self) -> bool:
        """Whether any command has to refuse it."""
        return any(self.codes.values())

    def place(self, folder: Path, *, wrong: bool = False) -> Path:
        """Make it in a folder; return what to name on the command line."""
        for name, data in (self.roles.beside if self.roles else {}).items():
            (folder / name).write_bytes(data)
        path = folder / f"hostile{self.kind.wrong if wrong else self.kind.suffix}"
        if not inspect.signature(self.make).parameters:
            made = self.make()
            if isinstance(made, Path):
                return made
            assert isinstance(made, bytes)
            path.write_bytes(made)
            return path
        named = self.make(path)
        return named if isinstance(named, Path) else path


CASES: dict[str, Case] = {}


def refused(
    code: int,
    says: str,
    *,
    family: str,
    but: Mapping[str, int] | None = None,
    foreign: int | None = None,
    foreign_says: str = "",
    kind: Kind = TORCH,
    needs: str = "",
    roles: Roles | None = None,
) -> Callable[[Maker], Maker]:
    """Register a file that must be refused; `but` has the codes of commands that differ, `foreign` is with the flag."""
    codes = {command: (but or {}).get(command, code) for command in (COMMANDS if roles is None else roles.commands)}
    flagged = None if foreign is None else dict.fromkeys(COMMANDS, foreign)

    def add(make: Maker) -> Maker:
        register(
            Case(
                _words(make),
                family,
                make,
                codes,
                says,
                foreign=flagged,
                foreign_says=foreign_says,
                kind=kind,
                needs=needs,
                roles=roles,
            )
        )
        return make

    return add


def accepted(
    *, family: str, reference: str = "torch", kind: Kind = TORCH, roles: Roles | None = None
) -> Callable[[Maker], Maker]:
    """Register a file that looks odd and is good: every command does its work."""

    def add(make: Maker) -> Maker:
        codes = dict.fromkeys(COMMANDS if roles is None else roles.commands, 0)
        register(Case(_words(make), family, make, codes, "", reference=reference, kind=kind, roles=roles))
        return make

    return add


def body(
    code: int, says: str, *, family: str, foreign: int | None = None, foreign_says: str = "", within: str = "zip legacy"
) -> Callable[[Body], Body]:
    """Register a file for each container of `within`: the opcodes that the function returns stand beside a weight."""
    flagged = None if foreign is None else dict.fromkeys(COMMANDS, foreign)

    def add(make: Body) -> Body:
        for container in within.split():
            register(
                Case(
                    f"{_words(make)}, {container}",
                    family,
                    _contained(container, make),
                    dict.fromkeys(COMMANDS, code),
                    says,
                    foreign=flagged,
                    foreign_says=foreign_says,
                )
            )
        return make

    return add


def odd_body(*, family: str, reference: str = "torch", within: str = "zip legacy") -> Callable[[Body], Body]:
    """Register the same as good files."""

    def add(make: Body) -> Body:
        for container in within.split():
            name = f"{_words(make)}, {container}"
            codes = dict.fromkeys(COMMANDS, 0)
            register(Case(name, family, _contained(container, make), codes, "", reference=reference))
        return make

    return add


def corpus() -> dict[str, Case]:
    """All cases by name."""
    beside = str(Path(__file__).parents[2] / "support")
    if beside not in sys.path:  # pytest puts it there by itself
        sys.path.append(beside)
    for module in MODULES:
        importlib.import_module(module)
    return CASES


def _contained(container: str, make: Body) -> Maker:
    return lambda: CONTAINERS[container](make())


def register(case: Case) -> None:
    """Add a case."""
    key = f"{case.family}: {case.name}"
    assert key not in CASES, key
    CASES[key] = case


def _words(make: Maker) -> str:
    return make.__name__.strip("_").replace("_", " ")

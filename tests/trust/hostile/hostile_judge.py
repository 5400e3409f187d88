"""Puts the cases of the corpus through the commands, and finds out what went otherwise than it must."""

import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forked import Child
from hostile_corpus import FLAG, Case
from hostile_reference import differences

__all__ = ["LETTERS", "MEMORY", "SECONDS", "Outcome", "judge", "skipped"]

LETTERS, SECONDS, MEMORY = 300, 5.0, 300 << 20
"""What a refusal may have and cost: characters of its line, seconds, and bytes of memory beyond the file's size."""

_PREFIX = "prunecli: error: "
_NOTE = "prunecli: note: "
_CANARY = "canary"
_LIMIT = 30.0
"""Seconds after which a run is killed, and dies of that signal; what the corpus admits is less by far."""

_FORBIDDEN = (
    "pickle.find_class",
    "os.system",
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "subprocess.Popen",
    "socket.connect",
)
_PROGRAM = f"""
import os, resource, sys
from prunecli.cli.app import run
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
sys.addaudithook(lambda event, _: os.write(3, event.encode() + b"\\n") if event in {_FORBIDDEN} else None)
sys.exit(run(sys.argv[1:]))
"""
"""What runs a command line; it writes the forbidden events that came to the descriptor 3."""

Tree = dict[str, tuple[int, str]]


@dataclass(frozen=True)
class Outcome:
    """One command on one case: what it did, what it cost, and every law that it broke."""

    case: str
    command: str
    refusal: bool
    code: int
    letters: int
    seconds: float
    memory: int
    executed: bool
    signal: bool
    traceback: bool
    problems: tuple[str, ...]


def skipped(case: Case) -> str:
    """Say why a case cannot be tried here, "" if it can."""
    return "root reads everything" if case.needs == "no root" and os.geteuid() == 0 else ""


def judge(cases: Iterable[Case], jobs: int = 2) -> Iterator[Outcome]:
    """Yield the outcomes of all commands on all cases, of `apply` with the flag, of `params` under a wrong suffix."""
    with tempfile.TemporaryDirectory(prefix="hostile-") as root, ThreadPoolExecutor(jobs) as pool:
        waiting: list[Future[list[Outcome]]] = []
        for number, case in enumerate(each for each in cases if not skipped(each)):
            for wrong in (False, True) if case.kind.wrong else (False,):
                where = Path(root, f"{number}{'w' * wrong}")
                (where / "in").mkdir(parents=True)
                named = case.place(where / "in", wrong=wrong)
                waiting.append(pool.submit(_judge, case, where, named))
                while len(waiting) > 4 * jobs:
                    yield from waiting.pop(0).result()
        for each in waiting:
            yield from each.result()


def _judge(case: Case, where: Path, named: Path) -> list[Outcome]:
    is_wrong = named.suffix == case.kind.wrong != ""
    flagged = [] if case.foreign is None or is_wrong else [(case.foreign, case.foreign_says, (FLAG,))]
    outcomes = []
    for codes, says, flags in [(case.codes, case.says, ()), *flagged]:
        for command, arguments in case.commands.items():
            if (is_wrong and command != "params") or (flags and command != "apply"):
                continue
            before = tree(where)
            path = named.relative_to(where) if named.is_relative_to(where) else named
            words = arguments if "{}" in arguments else (arguments[0], "{}", *arguments[1:])
            done = _run(where, [os.fspath(path) if word == "{}" else word for word in words] + list(flags))
            label = " ".join((case.family + ": " + case.name, named.suffix, *flags))
            trial = _Trial(label, command, codes[command], says, before, where, named, case.reference)
            outcomes.append(trial.outcome(done))
    shutil.rmtree(where)
    return outcomes


def _run(where: Path, arguments: list[str]) -> dict[str, Any]:
    """Run a command line in a process of its own; return what it did and cost."""
    files = [os.memfd_create(name) for name in ("out", "err", "executed")]
    with Path(os.devnull).open("rb") as nothing:
        ended = Child(["-c", _PROGRAM, *arguments], where, [nothing.fileno(), *files]).wait(_LIMIT)
    out, err, executed = (os.pread(file, 1 << 24, 0).decode("utf-8", "surrogateescape") for file in files)
    for file in files:
        os.close(file)
    return {
        "code": ended.code,
        "signal": ended.code < 0,
        "out": out,
        "err": err,
        "executed": executed.split(),
        "seconds": ended.seconds,
        "peak": ended.peak,
    }


def tree(root: Path) -> Tree:
    """Everything below a folder, without following links or opening what is no regular file."""
    found: Tree = {}
    for folder, _, files in os.walk(root):
        for path in [Path(folder), *(Path(folder, name) for name in files)]:
            status = path.lstat()
            digest = ""
            if stat.S_ISREG(status.st_mode):
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
            found[os.fspath(path)] = (0 if stat.S_ISDIR(status.st_mode) else status.st_size, digest)
    return found


@dataclass(frozen=True)
class _Trial:
    """What is to come of one command on one case."""

    label: str
    command: str
    code: int
    says: str
    before: Tree
    where: Path
    named: Path
    reference: str

    def outcome(self, done: Mapping[str, Any]) -> Outcome:
        size = sum(length for length, _ in self.before.values())
        problems = [*self._common(done)]
        problems += self._refusal(done, size) if self.code else self._success(done)
        line = max(str(done["err"]).splitlines(), key=len, default="") if self.code else ""
        return Outcome(
            self.label,
            self.command,
            bool(self.code),
            done["code"],
            len(line),
            done["seconds"],
            max(0, done["peak"] - size),
            bool(done["executed"]) or self._canary(),
            bool(done["signal"]),
            "Traceback" in done["err"],
            tuple(problems),
        )

    def _canary(self) -> bool:
        return (self.where / _CANARY).exists()

    def _common(self, done: Mapping[str, Any]) -> Iterator[str]:
        if done["code"] != self.code:
            yield f"exit {done['code']} instead of {self.code}: {done['err'][-400:]!r}"
        if done["executed"] or self._canary():
            yield f"executed: {done['executed']}"
        if "Traceback" in done["err"]:
            yield f"a traceback: {done['err'][-400:]!r}"
        if not all(char.isprintable() or char in "\n\t" for char in done["out"] + done["err"]):
            yield f"what it says is not printable: {done['out'] + done['err']!r}"

    def _refusal(self, done: Mapping[str, Any], size: int) -> Iterator[str]:
        lines = done["err"].splitlines(keepends=True)
        # What a file holds beside its state dict is said before its data are read.
        error = "".join(line for line in lines if not (line.startswith(_NOTE) and line[:-1].isprintable()))
        if error.count("\n") != 1 or not error.startswith(_PREFIX) or not error[:-1].isprintable():
            yield f"not one printable line: {error[:400]!r}"
        if len(error) - 1 > LETTERS:
            yield f"{len(error) - 1} characters"
        if not re.search(self.says, error):
            yield f"does not say {self.says!r}: {error!r}"
        if done["out"]:
            yield "something on standard output"
        if tree(self.where) != self.before:
            yield "files were changed or made"
        if done["seconds"] > SECONDS:
            yield f"took {done['seconds']:.1f} s"
        if done["peak"] > size + MEMORY:
            yield f"took {done['peak'] >> 20} MiB for {size >> 20} MiB"

    def _success(self, done: Mapping[str, Any]) -> Iterator[str]:
        out, report = self.where / "out", self.where / "out.report.json"
        if self.command == "apply" and not done["code"]:
            if not out.exists():
                yield "no output"
            else:
                yield from differences(self.named, out, self.reference)
        for path in (out, report):
            if path.is_dir():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
        if tree(self.where) != self.before:
            yield "files were changed or made"

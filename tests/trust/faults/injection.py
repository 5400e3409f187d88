"""Runs under strace: which calls of a run change files, and the same run with one of them failing, or the last.

strace counts the calls of each thread by name, so a fault is put where it belongs: at the n-th `fsync` of a thread.
With one thread (`-j 1`) that is always the same moment of the run.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

__all__ = ["CALLS", "Call", "Fault", "Outcome", "Runner", "changes", "runner", "strace"]

CALLS = (
    "openat",
    "write",
    "pwrite64",
    "writev",
    "pwritev",
    "ftruncate",
    "fallocate",
    "fsync",
    "fdatasync",
    "syncfs",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "symlink",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "rmdir",
    "chmod",
    "fchmod",
    "fchmodat",
    "fchown",
    "fchownat",
    "copy_file_range",
    "sendfile",
    "ioctl",
    "utimensat",
    "flock",
)
"""The calls by which a file, its name or its state can change, as far as Python makes them."""

_LINE = re.compile(r"(\d+) +(\w+)\((.*)", re.DOTALL)
_OPENED_TO_CHANGE = re.compile(r"O_(?:WRONLY|RDWR|CREAT|TRUNC)")


@dataclass(frozen=True, slots=True)
class Call:
    """The `number`-th call of that name in its thread, from 1."""

    name: str
    number: int
    text: str
    """What strace says of it."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A call that fails with an error (`EIO`), or at which a signal (`KILL`) arrives."""

    call: Call
    what: str

    @property
    def is_signal(self) -> bool:
        """Whether it is a signal."""
        return not self.what.startswith("E")

    @property
    def option(self) -> str:
        """How strace is asked for it."""
        kind = "signal" if self.is_signal else "error"
        return f"inject={self.call.name}:{kind}={self.what}:when={self.call.number}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: `code` is its exit code, or less than 0, the signal it died of."""

    code: int
    out: str
    err: str
    trace: Sequence[str] = ()

    @property
    def complaint(self) -> list[str]:
        """The lines on standard error but for the notes, which may stand before an error."""
        return [line for line in self.err.splitlines() if not line.startswith("prunecli: note: ")]


class Runner:
    """Runs command lines in children of one process that has loaded prunecli already."""

    def __init__(self, zygote: subprocess.Popen[str], place: Path) -> None:
        self._zygote = zygote
        self._place = place

    def run(self, folder: Path, arguments: Sequence[str], *options: str, limit: int = 0) -> Outcome:
        """Run one command line, under strace if it is given options."""
        out, err, log = (self._place / name for name in ("out", "err", "log"))
        asked = {"arguments": list(arguments), "folder": str(folder), "out": str(out), "err": str(err)}
        print(json.dumps({**asked, "stop": bool(options), "limit": limit}), file=self._pipe("stdin"), flush=True)
        pid = int(self._pipe("stdout").readline())
        if options:
            command = ["strace", "-f", "-y", "-s", "0", "-o", str(log), *options, "-p", str(pid)]
            with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
                assert tracer.stderr is not None
                attached = tracer.stderr.readline()
                assert "attached" in attached, attached
                subprocess.run(["kill", "-CONT", str(pid)], check=True)
                tracer.communicate(timeout=60)
        status = int(self._pipe("stdout").readline())
        code = -(status & 0x7F) if status & 0x7F else status >> 8
        trace = log.read_text(errors="replace").splitlines() if options else ()
        return Outcome(code, out.read_text(errors="replace"), err.read_text(errors="replace"), trace)

    def _pipe(self, name: str) -> IO[str]:
        pipe: IO[str] | None = getattr(self._zygote, name)
        assert pipe is not None
        return pipe


def strace() -> str | None:
    """Say why runs cannot be traced here, None if they can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    done = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, text=True)
    return None if done.returncode == 0 else f"strace cannot trace here: {done.stderr.strip()[:100]}"


@contextmanager
def runner(place: Path, warm_up: Sequence[str]) -> Iterator[Runner]:
    """Start the process that forks runs; `warm_up` is a command line that loads all that the later ones need."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, str(Path(__file__).with_name("zygote.py")), *warm_up]
    with subprocess.Popen(
        command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    ) as zygote:
        yield Runner(zygote, place)
        assert zygote.stdin is not None
        zygote.stdin.close()


def changes(trace: Sequence[str], folder: Path) -> list[Call]:
    """Return the calls of a trace that change, or could change, something below a folder."""
    counts: dict[tuple[str, str], int] = {}
    found = []
    for line in trace:
        match = _LINE.match(line)
        if match is None:
            continue
        thread, name, rest = match.groups()
        rest = rest.replace(f'AT_FDCWD<{folder}>, "/', '"/')  # an absolute path need not lie where the run does
        number = counts[thread, name] = counts.get((thread, name), 0) + 1
        if name in CALLS and str(folder) in rest and (name != "openat" or _OPENED_TO_CHANGE.search(rest)):
            found.append(Call(name, number, f"{name}({rest}"))
    return found

"""Runs under strace: which calls of a run change files, and the same run with one of them failing, or the last.

strace counts the calls of each thread by name, so a fault is put where it belongs: at the n-th `fsync` of a thread.
With one thread (`-j 1`) that is always the same moment of the run.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from forked import Child

__all__ = ["CALLS", "Call", "Fault", "Outcome", "Runner", "changes", "strace"]

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


_PROGRAM = """
import os, resource, signal, sys
from prunecli.cli.app import run
stop, limit = map(int, sys.argv[1:3])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
if stop:
    os.kill(os.getpid(), signal.SIGSTOP)
sys.exit(run(sys.argv[3:]))
"""


class Runner:
    """Runs command lines in processes that have prunecli loaded already."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def run(self, folder: Path, arguments: Sequence[str], *options: str, limit: int = 0) -> Outcome:
        """Run one command line, under strace if it is given options."""
        out, err, log = (self._place / name for name in ("out", "err", "log"))
        line = [str(int(bool(options))), str(limit), *arguments]
        with Path(os.devnull).open("rb") as nothing, out.open("wb") as output, err.open("wb") as errors:
            child = Child(["-c", _PROGRAM, *line], folder, [each.fileno() for each in (nothing, output, errors)])
            if options:
                self._trace(child.pid, log, options)
            code = child.wait().code
        trace = log.read_text(errors="replace").splitlines() if options else ()
        return Outcome(code, out.read_text(errors="replace"), err.read_text(errors="replace"), trace)

    @staticmethod
    def _trace(pid: int, log: Path, options: Sequence[str]) -> None:
        while ") T " not in Path(f"/proc/{pid}/stat").read_text():
            time.sleep(0.001)
        command = ["strace", "-f", "-y", "-s", "0", "-o", str(log), *options, "-p", str(pid)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
            assert tracer.stderr is not None
            attached = tracer.stderr.readline()
            assert "attached" in attached, attached
            os.kill(pid, signal.SIGCONT)
            tracer.communicate(timeout=60)


def strace() -> str | None:
    """Say why runs cannot be traced here, None if they can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    done = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, text=True)
    return None if done.returncode == 0 else f"strace cannot trace here: {done.stderr.strip()[:100]}"


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

"""`python` for tests that look at what a process does, and not at how it starts: see fork_server.py."""

import fcntl
import functools
import marshal
import os
import shlex
import signal
import socket
import struct
import sys
import tempfile
import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Child", "Ended", "executable", "in_shell", "prunecli", "python"]

_HERE = Path(__file__).resolve().parent
BEFORE = {"as_macos"}
"""What has to be loaded before prunecli."""

_STARTING = threading.Lock()
_USAGE = struct.Struct("=iqq")


@functools.cache
def _server(*modules: str) -> str:
    """Return the socket of a server that has prunecli and these modules loaded; all workers of a run share it."""
    first = _server() if modules and not BEFORE.intersection(modules) else None
    folder = _shared() / f"{zlib.crc32(repr(modules).encode()):08x}"
    lock = os.open(_shared(), os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            os.open(folder / "held", os.O_WRONLY | os.O_NONBLOCK)  # open until this process ends
        else:
            folder.mkdir()
            os.mkfifo(folder / "held")
            os.open(folder / "held", os.O_RDWR)
            _start(folder, first, modules)
    finally:
        os.close(lock)
    return str(folder / "socket")


@functools.cache
def _shared() -> Path:
    """Return the folder of the servers; the last one removes it."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    if not run:
        return Path(tempfile.mkdtemp(prefix="fork-"))
    folder = Path(tempfile.gettempdir(), f"fork-{run}")
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _start(folder: Path, first: str | None, modules: Sequence[str]) -> None:
    """Start a server as a process, or as a child of the first, which has loaded most of what it needs."""
    options = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    reading, writing = os.pipe()
    with Path(os.devnull).open("r+b") as nothing, os.fdopen(reading, "rb") as ready:
        if first is None:
            options["PYTHONPATH"] = os.pathsep.join([str(_HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
            command = [sys.executable, str(_HERE / "fork_server.py"), str(folder), *modules]
            streams = [(os.POSIX_SPAWN_DUP2, nothing.fileno(), 0), (os.POSIX_SPAWN_DUP2, writing, 1)]
            os.posix_spawn(sys.executable, command, {**os.environ, **options}, file_actions=streams, setsid=True)
        else:
            words = ["serve", str(folder), *modules]
            Child(words, folder, [nothing.fileno(), writing, 2], first, **options).wait()
        os.close(writing)
        assert ready.read(6) == b"ready\n"


def python(*modules: str) -> tuple[str, ...]:
    """Return the start of a command line that stands for `python` with prunecli and these modules loaded.

    Options of Python's own, closed streams and limits on resources are not passed on: those tests start a process.
    """
    if sys.platform != "linux":
        return (sys.executable,)
    return (sys.executable, "-I", "-S", str(_HERE / "fork_client.py"), _server(*modules))


def executable(*modules: str) -> str:
    """Return a path that stands for that of `python`, as torchrun's PYTHON_EXEC does."""
    words = python(*modules)
    script = Path(_server(*modules)).with_name(f"python-{os.getpid()}")
    script.write_text(f'#!/bin/sh\nif [ "$1" = -u ]; then shift; fi\nexec {shlex.join(words)} "$@"\n')
    script.chmod(0o700)
    return str(script)


def prunecli(*modules: str) -> tuple[str, ...]:
    """Return the start of a command line of prunecli."""
    return (*python(*modules), "-m", "prunecli")


def in_shell(*modules: str) -> str:
    """Return the definition of a shell's function `prunecli`."""
    return f'prunecli() {{ {shlex.join(prunecli(*modules))} "$@"; }}'


@dataclass(frozen=True)
class Ended:
    """How a child ended: `code` is its exit code, or less than 0, the signal it died of."""

    code: int
    seconds: float
    peak: int


class Child:
    """A process that this one forks from a server without a client in between; Linux only."""

    def __init__(
        self, words: Sequence[str], folder: Path, streams: Sequence[int], place: str = "", **environment: str
    ) -> None:
        with _STARTING:
            place = place or _server()
        self._server = socket.socket(socket.AF_UNIX)
        self._server.connect(place)
        surroundings = dict(os.environb) | {os.fsencode(name): value.encode() for name, value in environment.items()}
        request = marshal.dumps((os.fsencode(folder), 0o022, surroundings, list(map(os.fsencode, words))))
        data = len(request).to_bytes(4, "little") + request
        sent = socket.send_fds(self._server, [data], streams)
        if sent < len(data):  # sending nothing fails, too, if the child has ended by then
            self._server.sendall(data[sent:])
        self.pid = int.from_bytes(self._receive(4), "little")

    def wait(self, seconds: float = 60) -> Ended:
        """Return how it ended; after so long it is killed."""
        self._server.settimeout(seconds)
        try:
            answer = self._receive(_USAGE.size)
        except TimeoutError:
            self._server.settimeout(None)
            self._server.sendall(bytes([signal.SIGKILL]))
            answer = self._receive(_USAGE.size)
        self._server.close()
        status, used, peak = _USAGE.unpack(answer)
        return Ended(os.waitstatus_to_exitcode(status), used / 1e6, peak << 10)

    def _receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self._server.recv(size - len(data))
            assert part, "the server is gone"
            data += part
        return data

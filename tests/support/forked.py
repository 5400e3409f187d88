"""`python` for tests that look at what a process does, and not at how it starts: see fork_server.py."""

import atexit
import functools
import marshal
import os
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Child", "Ended", "executable", "in_shell", "prunecli", "python"]

_HERE = Path(__file__).resolve().parent
_STARTING = threading.Lock()


_USAGE = struct.Struct("=iqq")


@functools.cache
def _server(*modules: str) -> str:
    """Start a server that has prunecli and these modules loaded; return the path of its socket."""
    folder = tempfile.mkdtemp(prefix="fork-")
    place = f"{folder}/socket"
    command = [sys.executable, str(_HERE / "fork_server.py"), place, *modules]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(_HERE.parents[1]), environment.get("PYTHONPATH", "")])
    server = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True
    )
    atexit.register(_end, server, folder)
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    return place


def _end(server: "subprocess.Popen[bytes]", folder: str) -> None:
    server.communicate(b"")
    shutil.rmtree(folder)


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
    script = Path(_server(*modules)).with_name("python")
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

    def __init__(self, program: str, arguments: Sequence[str], folder: Path, streams: Sequence[int]) -> None:
        self._server = socket.socket(socket.AF_UNIX)
        with _STARTING:
            place = _server()
        self._server.connect(place)
        words = [b"-c", program.encode(), *map(os.fsencode, arguments)]
        request = marshal.dumps((os.fsencode(folder), 0o022, dict(os.environb), words))
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

"""Runs command lines one after the other, each in a forked child of its own, and says what each did and cost.

A line of JSON on standard input is one job: the working directory and the arguments. The answer is a line of JSON.
The modules of the commands are imported once, before, so that what is measured is the file and not Python's start.
Seconds are of processor time; what hangs without using any is killed, and dies of that signal.
"""

import json
import os
import resource
import select
import signal
import sys
import tempfile
from pathlib import Path

import numpy as np
import safetensors.numpy

from prunecli.cli.app import run

_LIMIT = 30.0
"""Seconds after which a child is killed; what the corpus admits is less by far."""

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


def main() -> None:
    """Answer jobs until standard input ends."""
    _warm()
    for line in sys.stdin:
        job = json.loads(line)
        sys.stdout.write(json.dumps(_forked(job["cwd"], job["arguments"])) + "\n")
        sys.stdout.flush()


def _warm() -> None:
    """Do each command once, so that whatever is imported or built late is there for all children."""
    with tempfile.TemporaryDirectory() as folder, Path(os.devnull).open("w") as nowhere:
        kept = os.dup(1), os.dup(2)
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
        path = Path(folder, "m.safetensors")
        path.write_bytes(safetensors.numpy.save({"w": np.ones((2, 2), np.float32)}))
        for command in (["params"], ["report"], ["apply", "-p", "*", "-a", "1", "--remove"]):
            run([*command, str(path)])
            sys.stdout.flush()
        for number, descriptor in enumerate(kept, 1):
            os.dup2(descriptor, number)
            os.close(descriptor)


def _forked(cwd: str, arguments: list[str]) -> dict[str, object]:
    files = [os.memfd_create(name) for name in ("out", "err", "executed")]
    child = os.fork()
    if not child:
        _child(cwd, arguments, files)
    handle = os.pidfd_open(child)
    if not select.select([handle], [], [], _LIMIT)[0]:
        os.kill(child, signal.SIGKILL)
    os.close(handle)
    _, status, usage = os.wait4(child, 0)
    out, err, executed = (os.pread(file, 1 << 24, 0).decode("utf-8", "surrogateescape") for file in files)
    for file in files:
        os.close(file)
    signum = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    return {
        "code": os.waitstatus_to_exitcode(status),
        "signal": signum,
        "out": out,
        "err": err,
        "executed": executed.split(),
        "seconds": usage.ru_utime + usage.ru_stime,
        "peak": usage.ru_maxrss * 1024,
    }


def _child(cwd: str, arguments: list[str], files: list[int]) -> None:
    code = 70
    try:
        os.chdir(cwd)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(files[0], 1)
        os.dup2(files[1], 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

        def audit(event: str, _: object) -> None:
            if event in _FORBIDDEN:
                os.write(files[2], event.encode() + b"\n")

        sys.addaudithook(audit)
        code = run(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()

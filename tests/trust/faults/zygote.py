"""A process that has loaded prunecli once, and forks a child for each command line: a run without its start-up.

Each line of standard input asks for a run, `{"arguments": [...], "folder": ..., "out": ..., "err": ...}`. The child
stops itself before it begins, so that a tracer can be attached; then its pid is printed, and later its wait status.
"""

import json
import os
import resource
import signal
import sys
from typing import Any

from prunecli.cli.app import run


def _child(asked: dict[str, Any]) -> None:
    os.chdir(asked["folder"])
    for number, place in ((0, os.devnull), (1, asked["out"]), (2, asked["err"])):
        opened = os.open(place, os.O_RDWR | os.O_CREAT | os.O_TRUNC if number else os.O_RDONLY, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    if asked.get("limit"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (asked["limit"], asked["limit"]))
    if asked["stop"]:
        os.kill(os.getpid(), signal.SIGSTOP)
    code = 1
    try:
        code = run(asked["arguments"])
        sys.stdout.flush()
    finally:
        os._exit(code)


def main() -> None:
    """Serve until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    run(sys.argv[1:])  # loads what commands load only when they begin
    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if not pid:
            answers.close()
            _child(asked)
        if asked["stop"]:
            os.waitpid(pid, os.WUNTRACED)
        print(pid, file=answers, flush=True)
        print(os.waitpid(pid, 0)[1], file=answers, flush=True)


if __name__ == "__main__":
    main()

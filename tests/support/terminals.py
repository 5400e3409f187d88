"""Shells on a terminal of their own: what a person types, and what the line is after a TAB."""

import codecs
import fcntl
import os
import pty
import re
import select
import shlex
import shutil
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from forked import prunecli


class Terminal:
    """A process on a terminal."""

    def __init__(self, end: int) -> None:
        self._end = end
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self.seen = ""

    def send(self, text: str) -> None:
        """Type."""
        os.write(self._end, text.encode())

    def wait_for(self, pattern: str, seconds: float = 30) -> re.Match[str]:
        """Read until something matches in what came since the last match."""
        until = time.monotonic() + seconds
        while True:
            found = re.search(pattern, self.seen, re.DOTALL)
            if found:
                self.seen = self.seen[found.end() :]
                return found
            left = until - time.monotonic()
            if left <= 0 or not select.select([self._end], [], [], left)[0]:
                raise AssertionError(f"{pattern} did not come; there is {self.seen!r}")
            self.seen += self._decode(os.read(self._end, 1 << 16))


@contextmanager
def terminal(
    line: Sequence[str], environment: Mapping[str, str], *, size: tuple[int, int] = (24, 80), folder: Path | None = None
) -> Iterator[Terminal]:
    """Start a process on a new terminal of so many lines and columns, and end it with the block."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", *size, 0, 0))

    def control() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    with subprocess.Popen(
        line, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=folder, start_new_session=True,
        preexec_fn=control,
    ) as process:  # fmt: skip
        os.close(theirs)
        try:
            yield Terminal(ours)
        finally:
            process.kill()
            os.close(ours)


def program(folder: Path) -> Path:
    """Put a console script of prunecli into a folder for the path."""
    folder.mkdir(exist_ok=True)
    script = folder / "prunecli"
    script.write_text(f'#!/bin/sh\nexec {shlex.join(prunecli())} "$@"\n')
    script.chmod(0o755)
    return folder


def has(shell: str) -> bool:
    """Whether a shell is installed."""
    return shutil.which(shell) is not None

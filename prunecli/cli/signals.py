"""Signals that end a command: clean up as after any exception, then die of the same signal."""

import os
import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

__all__ = ["Interrupted", "die_of", "interruptible"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal asked the command to end. No `Exception`, so that no handler for errors takes it for one."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class _Catcher:
    """Raises on the first signal only: a second Ctrl-C must not strike while the first one is cleaning up."""

    def __init__(self) -> None:
        self.first: int | None = None
        self.closing = False

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if self.first is None:
            self.first = signum
            if not self.closing:
                raise Interrupted(signum)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP raise `Interrupted` in the main thread while the block runs.

    A signal that was ignored (SIGHUP under nohup) stays ignored. In another thread than the main one the block runs
    as it would without. The old handlers are put back at the end.

    Raises:
        Interrupted: a signal came. At most once for a block, also when something in it swallowed the first.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    catcher = _Catcher()
    old = [(signum, signal.getsignal(signum)) for signum in _SIGNALS]
    caught = [(signum, handler) for signum, handler in old if handler not in (signal.SIG_IGN, None)]
    try:
        for signum, _ in caught:
            signal.signal(signum, catcher)
        yield
    except Interrupted as exc:
        # A signal between the lines of contextlib leaves a context manager suspended, held by the traceback alone.
        # Letting go of the frames closes it now, and so runs its clean-up.
        traceback.clear_frames(exc.__traceback__)
        raise
    finally:
        catcher.closing = True
        for signum, handler in caught:
            signal.signal(signum, handler)
    if catcher.first is not None:
        raise Interrupted(catcher.first)


def die_of(signum: int) -> NoReturn:
    """End this process by the signal itself, so that the shell sees 128+N and a script's loop stops, too.

    For the main thread, after all clean-up: nothing runs after it, and nothing is flushed.
    """
    signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signum})
    os.kill(os.getpid(), signum)
    os._exit(128 + signum)  # the first process of a container survives its own signals

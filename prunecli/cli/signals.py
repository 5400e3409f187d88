"""Signals that end a command: clean up as after any exception, then end the process by the same signal."""

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
    """A signal asked the command to end. This is not an `Exception`, so that error handlers do not catch it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class _Catcher:
    """Raises only on the first signal: a second Ctrl-C must not interrupt the clean-up after the first."""

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

    A signal that was ignored (SIGHUP under nohup) stays ignored. In threads other than the main one, this does nothing.
    The old handlers are restored at the end.

    Raises:
        Interrupted: a signal came. At most one leaves a block, even if something in the block swallowed the first.
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
        # A signal inside contextlib can leave a context manager suspended, referenced only by the traceback.
        # Clearing the frames closes it now, and so runs its clean-up.
        traceback.clear_frames(exc.__traceback__)
        raise
    finally:
        catcher.closing = True
        for signum, handler in caught:
            signal.signal(signum, handler)
    if catcher.first is not None:
        late = Interrupted(catcher.first)
        late.add_note("the command had come to its end")
        raise late


def die_of(signum: int) -> NoReturn:
    """End this process by the signal itself, so that the shell sees 128+N and a script's loop stops too.

    Call it in the main thread after all clean-up: nothing runs after it, and nothing is flushed.
    """
    signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signum})
    os.kill(os.getpid(), signum)
    os._exit(128 + signum)  # the first process of a container survives its own signals

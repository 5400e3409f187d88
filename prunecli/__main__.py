"""`python -m prunecli`, and the entry point of the `prunecli` script."""

import gc
import os
import signal
import sys

_YOUNG, _ROUNDS = 100_000, 1000
"""The new objects before the collector of cycles looks at them, and its looks before it goes through older ones, too.

A checkpoint with very many tensors is millions of objects that stay until the end, and hardly any cycles: with Python's
defaults, going through them again and again takes a quarter of the time.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType


def main() -> None:
    """Run the command line and exit with its code."""
    if sys.platform == "win32":  # before anything is imported that is not there
        sys.stderr.write("prunecli: error: Windows is not supported; run prunecli in WSL, or in a container\n")
        sys.exit(2)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # or numpy starts threads, which spin and are never used here
    gc.set_threshold(_YOUNG, _ROUNDS)
    catches = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if catches:
        signal.signal(signal.SIGINT, _end)
    from prunecli.cli.app import run

    if catches:  # a command catches SIGINT itself; before and after it, there is nothing to clean up
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    code = run(sys.argv[1:])
    gc.freeze()  # or Python, before it ends, looks for cycles once more
    sys.exit(code)


def _end(signum: int, frame: "FrameType | None") -> None:
    """End by SIGINT while modules are imported; an exception might be lost in the import system."""
    if os.environ.get("RANK", "0") == "0":
        os.write(2, b"prunecli: interrupted; nothing was written\n")
    signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)
    os._exit(128 + signum)  # the first process of a container survives its own signals


if __name__ == "__main__":
    main()

"""Memory that was freed, given back to the system."""

import contextlib
import ctypes

__all__ = ["return_freed"]


def return_freed() -> None:
    """Return to the system what numpy, `json` and large dicts have freed: Python's objects use other memory."""
    with contextlib.suppress(OSError, AttributeError):  # Python is linked statically; only glibc has it, and needs it
        ctypes.CDLL(None).malloc_trim(0)

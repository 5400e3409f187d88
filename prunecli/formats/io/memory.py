"""Memory that was freed, given back to the system."""

import ctypes

__all__ = ["return_freed"]


def return_freed() -> None:
    """Return to the system what numpy, `json` and large dicts have freed: Python's objects use other memory."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only glibc has it, and needs it
    if trim is not None:
        trim(0)

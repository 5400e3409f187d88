"""The number of threads that a run uses."""

import os

__all__ = ["default_jobs"]


def default_jobs() -> int:
    """Return the number of threads worth using: the processors of this process, at most 8 (enough for a disk)."""
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)

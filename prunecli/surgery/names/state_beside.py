"""Files of optimizer state next to a checkpoint, which a prune of the checkpoint does not change.

The Trainer of transformers 5.24 writes `optimizer.pt`; accelerate 1.15 writes `optimizer.bin` and `optimizer_1.bin`, or
folders `optimizer_0`; DeepSpeed 0.19 writes one `*_optim_states.pt` per rank.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from prunecli.formats.folders.files import entry_names
from prunecli.formats.opening import AnyCheckpoint

__all__ = ["state_beside"]

_STATE = re.compile(r"(.*_optim_states|optimizer)\.pt|optimizer(_\d+)?\.bin|optimizer_\d+")
_MOST = 10_000
"""The most entries of a folder to check."""


def state_beside(opened: AnyCheckpoint) -> list[str]:
    """Return the files next to a checkpoint that contain optimizer state, judged by their names, in order."""
    names: Iterable[str] = ()
    if opened.is_folder:
        names = [each.name.partition("/")[0] for each in opened.passthrough]
    elif opened.path is not None:
        path = Path(str(opened.path))  # beside a URL, nothing is listed
        names = (name for name in entry_names(path.parent, _MOST) if name != path.name)
    return sorted({name for name in names if _STATE.fullmatch(name)})

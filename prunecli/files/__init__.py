"""Functions on checkpoints, one for each command of the command line, with its words: they return and print nothing.

Paths are strings (also URLs) or `os.PathLike`. Arguments have the names of the options, with an underscore behind
`global`, `format` and `all`, which are taken in Python. `progress` is called with the bytes done and the bytes in all.
Everything runs in this process, also under `torchrun`.
"""

from prunecli.files.masks import mask_combine, mask_extract, mask_invert, mask_overlap
from prunecli.files.packing import pack, unpack
from prunecli.files.pruning import apply, apply_seeds, remove, restore
from prunecli.files.reading import compare, diff, params, report, reports, verify

__all__ = [
    "apply",
    "apply_seeds",
    "compare",
    "diff",
    "mask_combine",
    "mask_extract",
    "mask_invert",
    "mask_overlap",
    "pack",
    "params",
    "remove",
    "report",
    "reports",
    "restore",
    "unpack",
    "verify",
]

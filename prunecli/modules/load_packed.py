"""Load tensors from a packed file, without unpacking it to disk."""

import os
from collections.abc import Sequence

from torch import Tensor

from prunecli.errors import messages_for
from prunecli.formats.base import ReadOptions
from prunecli.modules.state_file import read_state
from prunecli.terms import Interface

__all__ = ["load_packed"]


@messages_for(Interface.MODULES)
def load_packed(
    path: str | os.PathLike[str],
    names: str | Sequence[str] | None = None,
    *,
    key: str | None = None,
    allow_foreign_objects: bool = False,
) -> dict[str, Tensor]:
    """Return the state dict in a packed file or folder of `prunecli pack`; a checkpoint that is not packed works, too.

    Only the blocks of tensors that are returned are read. Nothing in the file is executed.

    Args:
        path: the path or URL of a packed file or folder.
        names: the names of the tensors to load, or one name; all of them if not given.
        key: where the state dict lies in the checkpoint, as `--key`; found automatically if not given.
        allow_foreign_objects: as `--allow-foreign-objects`, for objects that weights-only loading refuses.

    Raises:
        UsageError: there is no tensor with one of the names.
        PrunecliError: the file cannot be read.
    """
    return read_state(path, ReadOptions(key, allow_foreign_objects), [names] if isinstance(names, str) else names)

"""Open whatever a user names: a file, standard input, or a folder of shards."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prunecli.formats.base import AS_FOUND, Checkpoint, Reading
from prunecli.formats.detect import open_checkpoint
from prunecli.formats.sharded import ShardedFolder, open_folder

__all__ = ["Opened", "open_any"]

Opened = Checkpoint | ShardedFolder


@contextmanager
def open_any(path: Path | None, reading: Reading = AS_FOUND) -> Iterator[Opened]:
    """Open a checkpoint and read its layout; None stands for standard input.

    Raises:
        PrunecliError: as `open_checkpoint` and `open_folder`.
    """
    if path is not None and path.is_dir():
        with open_folder(path, reading) as folder:
            yield folder
    else:
        with open_checkpoint(path, reading) as checkpoint:
            yield checkpoint

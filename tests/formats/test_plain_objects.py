"""For reading alone, foreign objects without tensors are left unread, with a note; others are refused as ever."""

import argparse
import datetime
import pathlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from prunecli.errors import UnsafeError
from prunecli.formats.base import Checkpoint, ReadOptions
from prunecli.formats.detect import open_checkpoint

READING = ReadOptions(read_only=True)


@dataclass
class Config:
    """An instance made without arguments, with attributes."""

    rate: Any = 0.1


class Asking:
    """A class that wants arguments when it is made."""

    def __new__(cls, *given: str) -> "Asking":
        return super().__new__(cls)

    def __getnewargs__(self) -> tuple[str, ...]:
        return ("now",)


class Calling:
    """An object that is rebuilt by a call."""

    def __init__(self, function: Callable[..., Any], *given: Any) -> None:
        self.call = function, given

    def __reduce__(self) -> Any:
        return self.call


class Growing(dict[str, int]):
    """A dict of a class of its own, whose entries are set by its methods."""


@contextmanager
def reading(path: Path, beside: Any, *, zipped: bool) -> Iterator[Checkpoint]:
    torch.save({"state_dict": {"w": torch.ones(2)}, "beside": beside}, path, _use_new_zipfile_serialization=zipped)
    with open_checkpoint(path, READING) as checkpoint:
        yield checkpoint


PLAIN: dict[str, Callable[[], Any]] = {
    "argparse.Namespace": lambda: argparse.Namespace(lr=0.1, deeper=argparse.Namespace()),
    "numpy._core.multiarray.scalar": lambda: np.float64(1.5),
    "numpy.float32": lambda: np.float32,
    "pathlib.PosixPath": lambda: pathlib.PosixPath("a/b"),
    "datetime.timedelta": lambda: [datetime.datetime(2026, 1, 2), datetime.timedelta(1)],
    "test_plain_objects.Config": Config,
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", PLAIN)
def test_plain_data_is_left_unread(tmp_path: Path, name: str, zipped: bool) -> None:
    with reading(tmp_path / "m.pt", PLAIN[name](), zipped=zipped) as checkpoint:
        assert list(checkpoint.tensors) == ["w"]
        (note,) = checkpoint.notes
    assert name.replace("_core", "") in note.replace("_core", "")
    with pytest.raises(UnsafeError, match="--allow-foreign-objects"), open_checkpoint(tmp_path / "m.pt"):
        pass


REFUSED: dict[str, Callable[[], Any]] = {
    "a function that is called": lambda: Calling(print, "x"),
    "one of another package": lambda: Calling(pytest.importorskip, "os"),
    "a class that gets arguments": Asking,
    "entries set by methods": lambda: Growing(a=1),
    "a tensor in it": lambda: argparse.Namespace(best=torch.ones(2)),
    "a tensor below it": lambda: Config([{"a": Config((torch.ones(2),))}]),
    "a class that is only named": lambda: Config,
    "a module": lambda: torch.nn.Linear(2, 2),
    "an array": lambda: np.ones(3),
    "a dict with defaults": lambda: defaultdict(int, a=1),
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", REFUSED)
def test_other_objects_are_refused(tmp_path: Path, name: str, zipped: bool) -> None:
    refused = pytest.raises(UnsafeError, match="--allow-foreign-objects")
    with refused, reading(tmp_path / "m.pt", REFUSED[name](), zipped=zipped):
        pass


def test_a_checkpoint_without_foreign_objects_has_no_note(tmp_path: Path) -> None:
    with reading(tmp_path / "m.pt", 1, zipped=True) as checkpoint:
        assert list(checkpoint.notes) == []

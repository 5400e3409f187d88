"""Folders that torch.distributed.checkpoint writes: from one process, cut into chunks as asked, or from two ranks."""

import subprocess
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import torch
from forked import python
from ranks import TORCHRUN
from surgery_zoo import ask, raw
from torch import Tensor
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, MetadataIndex
from torch.distributed.checkpoint.planner import SavePlan, TensorWriteData, WriteItem, WriteItemType
from torch.distributed.checkpoint.state_dict_saver import save as save_distributed

from prunecli.core.amount import Amount
from prunecli.formats.base import ReadOptions
from prunecli.formats.opening import open_any
from prunecli.surgery.plan.plan import plan_prune
from prunecli.surgery.report.model import Report
from prunecli.surgery.rewrite import rewrite
from prunecli.surgery.run.destination import Destination

Cuts = Sequence[Sequence[int]]
"""For each dimension, where a tensor is cut."""


class CuttingPlanner(DefaultSavePlanner):
    """Cuts tensors into chunks, as so many ranks would; `change` is done to each chunk before it is written."""

    def __init__(self, cuts: Mapping[str, Cuts], change: Callable[[Tensor], Tensor] = Tensor.contiguous) -> None:
        super().__init__()
        self._cuts = cuts
        self._change = change

    def create_local_plan(self) -> SavePlan:
        plan = super().create_local_plan()
        items = [piece for item in plan.items for piece in self._pieces(item)]
        self.plan = replace(plan, items=items)
        return self.plan

    def _pieces(self, item: WriteItem) -> list[WriteItem]:
        data = item.tensor_data
        if data is None or item.index.fqn not in self._cuts:
            return [item]
        cuts = self._cuts[item.index.fqn]
        ranges = [list(pairwise([0, *cut, size])) for cut, size in zip(cuts, data.size, strict=True)]
        pieces = []
        for box in product(*ranges):
            offsets = torch.Size([low for low, _ in box])
            chunk = ChunkStorageMetadata(offsets, torch.Size([high - low for low, high in box]))
            index = MetadataIndex(item.index.fqn, offsets)
            pieces.append(
                WriteItem(index, WriteItemType.SHARD, tensor_data=TensorWriteData(chunk, data.properties, data.size))
            )
        return pieces

    def resolve_data(self, write_item: WriteItem) -> Any:
        if write_item.type != WriteItemType.SHARD or write_item.tensor_data is None:
            return super().resolve_data(write_item)
        chunk = write_item.tensor_data.chunk
        whole = self.state_dict[write_item.index.fqn]
        box = tuple(slice(at, at + size) for at, size in zip(chunk.offsets, chunk.sizes, strict=True))
        return self._change(whole[box])


@contextmanager
def torch_may_warn() -> Any:
    """Torch warns of its own ways: of typed storages, of saving without ranks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def save(
    state: Mapping[str, Any], path: Path, cuts: Mapping[str, Cuts] | None = None, *, files: int = 1, **options: Any
) -> Path:
    """Write a folder from this process, with tensors cut as asked, in so many files."""
    planner = CuttingPlanner(cuts, **options) if cuts is not None else None
    with torch_may_warn():
        save_distributed(
            dict(state), storage_writer=FileSystemWriter(path, thread_count=files), planner=planner, no_dist=True
        )
    return path


def save_from_two_ranks(path: Path, script: str = "dcp_ranks.py") -> Path:
    """Run a script in two processes, which meet over a file."""
    meeting = path.with_name("meeting")
    command = [*python(*TORCHRUN), str(Path(__file__).with_name(script)), str(meeting), str(path)]
    ranks = [subprocess.Popen([*command, str(rank)]) for rank in range(2)]
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    return path


def load(path: Path) -> Any:
    """Read a folder the way torch offers to leave the format."""
    target = path.with_name(f"{path.name}.whole.pt")
    with torch_may_warn():
        dcp_to_torch_save(path, target)
    return torch.load(target, weights_only=True)


def prune(source: Path, target: Path, amount: Amount, *patterns: str, key: str | None = None, **options: Any) -> Report:
    """Run a whole `apply --remove` on a folder or a file."""
    with open_any(source, ReadOptions(key)) as checkpoint:
        plan = plan_prune(checkpoint, ask(amount, *patterns, remove=True, **options))
        return rewrite(checkpoint, plan, Destination(target))


def assert_equal(mine: Any, theirs: Any, where: str = "") -> None:
    """The same objects, tensors to the bit."""
    if isinstance(theirs, Tensor):
        assert mine.dtype == theirs.dtype, where
        assert mine.shape == theirs.shape, where
        assert raw(mine) == raw(theirs), where
    elif isinstance(theirs, Mapping):
        assert list(map(str, mine)) == list(map(str, theirs)), where
        for key, value in theirs.items():
            assert_equal(mine[key if key in mine else str(key)], value, f"{where}.{key}")
    elif isinstance(theirs, list):
        assert len(mine) == len(theirs), where
        for place, (one, other) in enumerate(zip(mine, theirs, strict=True)):
            assert_equal(one, other, f"{where}.{place}")
    else:
        assert mine == theirs, where

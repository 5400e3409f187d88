"""Folders for the fuzzer: what says which tensor lies where is bent, and the rest stays as the libraries wrote it."""

import functools
import json
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from fuzz_mutations import NUMBERS, WORDS, Rng, bent_pickle
from fuzz_oracle import BrokenLawError, ModuleMemory, refusal, watched
from fuzz_seeds import Ops, ops_of
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.state_dict_saver import save

from prunecli.errors import PrunecliError
from prunecli.formats.base import ReadOptions
from prunecli.formats.folders.base import Folder
from prunecli.formats.io.stream import run_pieces
from prunecli.formats.opening import open_any
from prunecli.surgery.names.select import Selection
from prunecli.surgery.plan.plan import plan_prune
from prunecli.surgery.plan.request import PruneGroup, PruneRequest
from prunecli.surgery.report.codec import render_json
from prunecli.surgery.report.measure import make_report, measure
from prunecli.surgery.run.edit import build_edit
from prunecli.surgery.run.options import Run

_METADATA, _INDEX = ".metadata", "model.safetensors.index.json"
_STATE: dict[str, Any] = {
    "model": {"a": torch.arange(12.0).reshape(3, 4), "b": torch.ones(5).half(), "none": torch.ones(0, 2)},
    "list": [torch.ones(()), 3],
}


@functools.cache
def _root() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="fuzz-")


@functools.cache
def distributed() -> Path:
    """A folder of torch.distributed.checkpoint."""
    path = Path(_root().name, "distributed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save(_STATE, storage_writer=FileSystemWriter(path, thread_count=2), no_dist=True)
    return path


@functools.cache
def sharded() -> Path:
    """A folder of shards with an index."""
    path = Path(_root().name, "sharded")
    path.mkdir()
    for number in (1, 2):
        shard = {f"{number}.w": torch.ones(2, 3), f"{number}.lm_head.weight": torch.ones(4, 2)}
        (path / f"{number}.safetensors").write_bytes(safetensors.torch.save(shard))
    weight_map = {f"{number}.{name}": f"{number}.safetensors" for number in (1, 2) for name in ("w", "lm_head.weight")}
    (path / _INDEX).write_text(json.dumps({"metadata": {"total_size": 112}, "weight_map": weight_map}))
    (path / "config.json").write_text("{}")
    return path


@functools.cache
def _seeds() -> tuple[Ops, str]:
    return ops_of((distributed() / _METADATA).read_bytes())[0], (sharded() / _INDEX).read_text()


def bent_metadata(rng: Rng) -> bytes:
    """A `.metadata` with a few changes."""
    return bent_pickle(rng, _seeds()[0])


def bent_index(rng: Rng) -> bytes:
    """An index with a few changes: to what it says, or to its bytes."""
    content = json.loads(_seeds()[1])
    for _ in range(rng.choice((1, 1, 2, 4))):
        rng.choice(_BENDS)(rng, content)
    data = bytearray(json.dumps(content).encode())
    if rng.random() < 0.2:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data) if rng.random() < 0.95 else bytes(data[: rng.randrange(len(data))])


def _value(rng: Rng) -> Any:
    files = ("1.safetensors", "2.safetensors", "1.SAFETENSORS", "config.json", _INDEX, "../1.safetensors", "C:\\x")
    named = [rng.choice(files)] * 6
    return rng.choice((*named, rng.choice(WORDS), rng.choice(NUMBERS), None, [], {}, 1e999, {"a": [1]}))


def _shard(rng: Rng, content: Any) -> None:
    content["weight_map"][rng.choice(list(content["weight_map"]) or ["x"])] = _value(rng)


def _name(rng: Rng, content: Any) -> None:
    content["weight_map"][rng.choice(WORDS)] = "1.safetensors"


def _lost(rng: Rng, content: Any) -> None:
    del content["weight_map"][rng.choice(list(content["weight_map"]) or ["x"])]


def _field(rng: Rng, content: Any) -> None:
    content[rng.choice(("metadata", "metadata", "more", "weight_map"))] = _value(rng)


def _size(rng: Rng, content: Any) -> None:
    content["metadata"] = {"total_size": _value(rng), rng.choice(WORDS): _value(rng)}


def _careful(bend: Callable[[Rng, Any], None]) -> Callable[[Rng, Any], None]:
    def bent(rng: Rng, content: Any) -> None:
        if isinstance(content["weight_map"], dict) and content["weight_map"]:
            bend(rng, content)

    return bent


_BENDS = tuple(map(_careful, (_shard, _shard, _name, _lost, _field, _size, _size)))


def judge_metadata(data: bytes) -> str:
    """Put a `.metadata` into its folder; read, plan, rewrite and report."""
    return _judge(distributed(), _METADATA, data)


def judge_index(data: bytes) -> str:
    """Put an index into its folder; read, plan, rewrite and report."""
    return _judge(sharded(), _INDEX, data)


def _judge(path: Path, name: str, data: bytes) -> str:
    (path / name).write_bytes(data)
    outcomes = []
    for remove in (True, False):
        with watched():
            try:
                with open_any(path, ReadOptions(foreign=not remove)) as folder:
                    _rewrite(folder, remove=remove)
                outcomes.append("accepted")
            except PrunecliError as error:
                outcomes.append(refusal(type(error).__name__, str(error)))
    return outcomes[0]


def _rewrite(folder: Any, *, remove: bool) -> None:
    if not isinstance(folder, Folder):
        raise BrokenLawError("a folder was read as a file")
    render_json(measure(folder, None, Run(1)))
    plan = plan_prune(folder, PruneRequest((PruneGroup(Selection(("*",)), 0.5),), 1, remove=remove))
    surgery = build_edit(folder, plan)
    counts = surgery.new_counts()
    for file, source in folder.sources.items():
        pieces = list(folder.file_pieces(file, surgery.edit))
        sink = ModuleMemory(sum(piece.length for piece in pieces))
        run_pieces(pieces, source, sink, jobs=1, found=counts.add)
        if sink.written != len(sink.data) or (remove and len(sink.data) != source.size):
            raise BrokenLawError(f"{sink.written} of {len(sink.data)} bytes were written, of {source.size}")
    folder.closing(surgery.edit)
    render_json(make_report(folder, plan, counts, None))

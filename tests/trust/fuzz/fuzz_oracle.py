"""What has to hold for any input whatever: our errors only, one line, nothing run, and in time; the rest is exact."""

import io
import os
import resource
import signal
import sys
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import safetensors.torch
import torch

from prunecli.errors import PrunecliError
from prunecli.formats.base import Checkpoint, ReadOptions, TensorInfo
from prunecli.formats.detect import read_checkpoint
from prunecli.formats.io.source import FileSource
from prunecli.formats.io.stream import run_pieces
from prunecli.formats.pickles.dump import dump
from prunecli.formats.pickles.graph import load
from prunecli.formats.pickles.nodes import Persistent, TupleNode, walk
from prunecli.surgery.names.select import Selection
from prunecli.surgery.plan.plan import plan_bake, plan_prune
from prunecli.surgery.plan.request import PruneGroup, PruneRequest
from prunecli.surgery.report.codec import render_json
from prunecli.surgery.report.measure import make_report, measure
from prunecli.surgery.run.edit import build_edit
from prunecli.surgery.run.options import Run

_KEYS = dict.fromkeys(range(64)) | dict(enumerate(("state_dict", "ema", "optimizer_states.0.state", "linear", "a", "")))
SECONDS = 20
"""Processor time for one input of some kilobytes; what takes milliseconds here does so on any machine."""

_ROOM = 1 << 30
_FORBIDDEN = {"pickle.find_class", "os.system", "os.exec", "os.fork", "os.posix_spawn", "subprocess.Popen", "os.remove"}


class BrokenLawError(AssertionError):
    """An input did what none may do."""


class _Watch:
    """Whether audit events are looked at now: hooks stay for the life of a process."""

    on = False
    hooked = False


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _Watch.on and event in _FORBIDDEN:
        raise BrokenLawError(f"{event}{arguments!r}")


def _too_slow(*_: object) -> None:
    raise BrokenLawError(f"took more than {SECONDS} s of processor time")


@contextmanager
def guarded() -> Iterator[None]:
    """Bound the memory of what follows, and look at what it does."""
    if not _Watch.hooked:
        sys.addaudithook(_audit)
        _Watch.hooked = True
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as statm:  # noqa: PTH123
        size = int(statm.read().split()[0]) * resource.getpagesize()
    before = signal.signal(signal.SIGPROF, _too_slow)
    resource.setrlimit(resource.RLIMIT_AS, (size + _ROOM, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextmanager
def watched() -> Iterator[None]:
    """Bound the time of what follows, and raise if it does what no reader may."""
    _Watch.on = True
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        _Watch.on = False


def judge_pickle(data: bytes) -> str:
    """Read a pickle, write it, read that: the outcome in a word."""
    with watched():
        try:
            graph = load(data)
            if graph.lost is not None:
                return refusal("lost", graph.lost)
            written = dump(graph.root, graph.protocol)
            again = load(written)
        except PrunecliError as error:
            return refusal(type(error).__name__, str(error))
    if _shape(graph.root) != _shape(again.root):
        raise BrokenLawError("what was written is another graph")
    if len(written) > 40 * len(data) + 1000:
        raise BrokenLawError(f"{len(data)} bytes were written as {len(written)}")
    return "accepted"


def _shape(root: Any) -> list[object]:
    """The types in a graph, but for what is written wherever it is used."""
    nodes = [node for node in walk(root) if not isinstance(node, Persistent)]
    return [type(node) for node in nodes if not isinstance(node, TupleNode) or node.items]


def judge_file(data: bytes) -> str:
    """Read a checkpoint, plan, rewrite and report; read what was written: the outcome in a word.

    "equal" is an accepted one that the reference library reads, too, and with the same bytes in every tensor.
    """
    options = zlib.crc32(data)  # what is done to an input hangs on the input alone, so that it can be done again
    foreign, everywhere, remove, zeros, same = (bool(options >> bit & 1) for bit in range(5))
    reading, mask_dtype = ReadOptions(_KEYS[options >> 8 & 63], foreign), "same" if same else "bool"
    prune = PruneRequest(
        (PruneGroup(Selection(("*",)), 0.5, everywhere),), 1, remove, zeros_are_pruned=zeros, mask_dtype=mask_dtype
    )
    with watched(), in_memory(data) as source:
        try:
            checkpoint = read_checkpoint(source, reading)
            render_json(measure(checkpoint, None, Run(1)))
            outputs = [_rewritten(checkpoint, prune)]
            if any(name.endswith("_orig") for name in checkpoint.tensors):
                outputs.append(_rewritten(checkpoint, None))
        except PrunecliError as error:
            return refusal(type(error).__name__, str(error))
    for output in outputs:
        _check_output(output, reading, checkpoint)
    return "equal" if not foreign and _is_the_library_s(data, checkpoint) else "accepted"


def _rewritten(checkpoint: Checkpoint, prune: PruneRequest | None) -> bytes:
    """Apply, or bake the masks that are there where `prune` is None."""
    plan = plan_bake(checkpoint, None) if prune is None else plan_prune(checkpoint, prune)
    surgery = build_edit(checkpoint, plan)
    counts = surgery.new_counts()
    pieces = list(checkpoint.pieces(surgery.edit))
    sink = ModuleMemory(sum(piece.length for piece in pieces))
    run_pieces(pieces, checkpoint.source, sink, jobs=1, found=counts.add)
    render_json(make_report(checkpoint, plan, counts, None))
    if sink.written != len(sink.data):
        raise BrokenLawError(f"{sink.written} of {len(sink.data)} bytes were written")
    return bytes(sink.data)


class ModuleMemory:
    """A sink in memory."""

    ordered = False

    def __init__(self, size: int) -> None:
        self.data = bytearray(size)
        self.written = 0

    def write(self, data: memoryview, offset: int) -> None:
        """Put a run in its place; late checksums are written over their places, and count no more."""
        over = self.written > offset
        self.data[offset : offset + len(data)] = data
        self.written += 0 if over else len(data)


@contextmanager
def in_memory(data: bytes) -> Iterator[FileSource]:
    """Open bytes as a file."""
    descriptor = os.memfd_create("fuzz")
    try:
        os.pwrite(descriptor, data, 0)
        yield FileSource(descriptor, len(data), "input", None, os.fstat(descriptor))
    finally:
        os.close(descriptor)


def refusal(name: str, message: str) -> str:
    """Return the name of a refusal whose message is fit to be shown."""
    if not message or not message.isprintable():
        raise BrokenLawError(f"a message that is not one printable line: {message!r}")
    return name


def _check_output(output: bytes, reading: ReadOptions, before: Checkpoint) -> None:
    """What was written can be read, and holds the same storages beside new ones."""
    with in_memory(output) as source:
        after = read_checkpoint(source, reading)
    if after.format != before.format or len(after.carried) != len(before.carried):
        raise BrokenLawError("what was written is another kind of checkpoint")


def _is_the_library_s(data: bytes, checkpoint: Checkpoint) -> bool:
    """Whether the library of its format loads the file, too; then it sees the same tensors."""
    if checkpoint.format not in ("torch zip", "torch legacy", "safetensors"):
        return False
    if any(tensor.storage.big_endian for tensor in checkpoint.tensors.values()):
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if checkpoint.format == "safetensors":
                loaded: Any = safetensors.torch.load(data)
            else:
                loaded = torch.load(io.BytesIO(data), weights_only=True)
        except Exception:  # whatever the library thinks of it
            return False
        theirs = dict(_tensors(loaded, ""))
    prefix = f"{checkpoint.wrapper}." if checkpoint.wrapper else ""
    with in_memory(data) as source:
        for name, info in checkpoint.tensors.items():
            tensor = theirs.get(prefix + name)
            if tensor is not None and info.dtype.kind != "opaque" and tensor.layout is torch.strided:
                _compare(name, info, tensor, source)
    if checkpoint.format == "safetensors" and set(checkpoint.tensors) != set(theirs):
        raise BrokenLawError(f"the library sees {sorted(theirs)}")
    return True


def _compare(name: str, info: TensorInfo, tensor: torch.Tensor, source: FileSource) -> None:
    where = (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), tensor.storage_offset())
    if where != (info.dtype.name, info.shape, info.view.start):
        raise BrokenLawError(f"{name} is {where} for torch, and {info} here")
    if tensor.numel():
        size = tensor.untyped_storage().nbytes()
        raw = bytes(torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage()).tolist())
        if (
            raw != source.read(info.storage.offset, info.storage.nbytes)[:size]
            or tuple(tensor.stride()) != info.view.stride
        ):
            raise BrokenLawError(f"{name} has other bytes for torch")


def _tensors(root: Any, name: str) -> Iterator[tuple[str, torch.Tensor]]:
    """All tensors in mappings and sequences, by dotted name; cycles are cut."""
    stack: list[tuple[str, Any, frozenset[int]]] = [(name, root, frozenset())]
    steps = 0
    while stack and (steps := steps + 1) < 10_000:
        name, value, above = stack.pop()
        if isinstance(value, torch.Tensor):
            yield name, value
        elif id(value) not in above and isinstance(value, Mapping | list | tuple):
            items = value.items() if isinstance(value, Mapping) else enumerate(value)
            dot = f"{name}." if name else ""
            stack += [(f"{dot}{key}", below, above | {id(value)}) for key, below in items if isinstance(key, str | int)]

"""An edit is a description: carried out again, or in spans that are put together, it finds and makes the same."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from surgery_zoo import BLOCK, apply, ask, noise, save

from prunecli.formats.io.sinks import NullSink
from prunecli.formats.io.stream import run_pieces
from prunecli.formats.opening import open_any
from prunecli.surgery.data.counts import Counts
from prunecli.surgery.plan.model import Plan
from prunecli.surgery.plan.plan import plan_bake, plan_prune
from prunecli.surgery.run.edit import build_edit


class Collected(NullSink):
    """A sink that keeps what it is given."""

    def __init__(self, size: int) -> None:
        self.data = bytearray(size)

    def write(self, data: memoryview, offset: int) -> None:
        self.data[offset : offset + len(data)] = data


@pytest.fixture
def masked(tmp_path: Path) -> Path:
    """Tensors of many blocks, strided, tied and overlapping ones, some of them with masks."""
    table = noise((1100, 1000), torch.bfloat16)
    state = {
        "a.weight": table,
        "b.weight": table,
        "turned.weight": noise((300, 200), seed=2).t(),
        "new.weight": noise((BLOCK + 5,), seed=3),
        "part.weight": noise((40, 40), seed=4)[3:9],
    }
    dense, masked = save(state, tmp_path / "dense.pt"), tmp_path / "masked.pt"
    apply(dense, masked, ask(0.3, "a.weight", "b.weight", "turned.weight"))
    return masked


def found_of(counts: Counts) -> dict[str, Any]:
    return {
        name: (
            each.zeros_before,
            each.zeros,
            each.crc32,
            each.mask_sha256,
            each.structure and each.structure.result(),
        )
        for name, each in counts.by_name.items()
    }


@pytest.mark.parametrize("kind", ["masks", "baked", "bake"])
def test_an_edit_is_carried_out_any_number_of_times(masked: Path, kind: str) -> None:
    with open_any(masked) as checkpoint:
        plan: Plan = plan_bake(checkpoint, None)
        if kind != "bake":
            plan = plan_prune(checkpoint, ask(0.4, "*.weight", remove=kind == "baked"))
        prepared = build_edit(checkpoint, plan, dict.fromkeys(plan.parameters, 8))
        outcomes = []
        for jobs in (1, 3, 2):
            pieces = list(checkpoint.file_pieces(next(iter(checkpoint.sources)), prepared.edit))
            sink, counts = Collected(sum(piece.length for piece in pieces)), prepared.new_counts()
            run_pieces(pieces, checkpoint.source, sink, jobs=jobs, found=counts.add)
            outcomes.append((bytes(sink.data), found_of(counts)))
    assert outcomes[0] == outcomes[1] == outcomes[2]
    assert len(outcomes[0][1]) == 5


def test_counts_of_spans_that_are_drained_and_merged_are_those_of_one_pass(masked: Path) -> None:
    with open_any(masked) as checkpoint:
        plan = plan_prune(checkpoint, ask(0.4, "*.weight", remove=True))
        prepared = build_edit(checkpoint, plan, dict.fromkeys(plan.parameters, 8))
        file = next(iter(checkpoint.sources))
        pieces = list(checkpoint.file_pieces(file, prepared.edit))
        whole, merged = prepared.new_counts(), prepared.new_counts()
        run_pieces(pieces, checkpoint.source, NullSink(), jobs=2, found=whole.add)
        size, step = sum(piece.length for piece in pieces), 3 << 20
        for start in reversed(range(0, size, step)):
            counts, pieces = prepared.new_counts(), list(checkpoint.file_pieces(file, prepared.edit))
            run_pieces(pieces, checkpoint.source, NullSink(), jobs=2, span=(start, start + step), found=counts.add)
            merged.merge(json.loads(json.dumps(counts.drain() or {})))
            assert counts.drain() is None
    assert found_of(merged) == found_of(whole)

"""Checkpoints that people published come back from packed files, dense and pruned, and their masks are not stored."""

from pathlib import Path

import pytest
from packed_tools import check_law
from real_files import FILES, MASKABLE, SEED, Real, unpacked

from prunecli.cli.app import run

pytestmark = pytest.mark.real


@pytest.mark.parametrize("real", FILES, ids=lambda real: real.at)
def test_published_files_come_back(real: Real, tmp_path: Path) -> None:
    path = unpacked(real.spec, real.member, tmp_path)
    dense = check_law(path)
    assert dense.drawn == 0
    assert dense.bytes < dense.original_bytes + 2048
    if real in MASKABLE:
        half = tmp_path / f"half{path.suffix}"
        patterns = [word for pattern in real.patterns for word in ("-p", pattern)]
        prune = ("apply", str(path), *patterns, "-a", "0.5", "--seed", str(SEED), "--bake", "-q", *real.flags)
        assert run([*prune, "--min-dim", "2", "-o", str(half)]) == 0
        found = check_law(half)
        if real.format != "torch legacy":  # these have transposed weights, whose masks are in another order
            assert found.drawn > 0
        assert found.bytes < dense.bytes

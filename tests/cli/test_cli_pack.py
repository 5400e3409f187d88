"""`prunecli pack` and `unpack`: what is printed where, pipes, dry runs, and refusals."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from prunecli.reporting.numbers import size_of

Cli = Callable[..., Any]
Refusal = Callable[..., str]
PACKED = "half.pt.packed.safetensors"


@pytest.fixture
def half(folder: Path, cli: Cli) -> Path:
    """The example with zeros in two of its layers, and its report."""
    assert cli("apply", "model.pt", "-p", "fc*.weight", "-a", "0.5", "--bake", "-o", "half.pt", "-q").code == 0
    return folder


@pytest.mark.usefixtures("half")
def test_the_path_is_data_and_what_was_written_is_a_sentence(cli: Cli) -> None:
    outcome = cli("pack", "half.pt")
    assert (outcome.code, outcome.out) == (0, f"{PACKED}\n")
    assert outcome.err.startswith(f"wrote {PACKED} (")
    assert outcome.err.endswith("; 2 masks drawn again, 0 stored\n")
    before = Path("half.pt").read_bytes()
    Path("half.pt").unlink()
    quiet = cli("unpack", PACKED, "-q")
    assert (quiet.code, quiet.out, quiet.err) == (0, "half.pt\n", "")
    assert Path("half.pt").read_bytes() == before


@pytest.mark.usefixtures("half")
def test_packed_files_go_through_pipes(cli: Cli) -> None:
    piped = cli("pack", "-", "--from-report", "half.pt.report.json", "-o", "-", stdin=Path("half.pt"))
    assert piped.code == 0
    assert piped.err.startswith("wrote standard output (")
    assert cli("pack", "half.pt", "-q").code == 0
    assert Path(PACKED).read_bytes() == piped.raw
    assert cli("unpack", "-", "-o", "-", stdin=Path(PACKED)).raw == Path("half.pt").read_bytes()
    assert cli("verify", "-", "half.pt.report.json", "-q", stdin=Path(PACKED)).code == 0
    assert cli("verify", PACKED, "-q").code == 0


def test_a_dry_run_prints_the_size_and_writes_nothing(half: Path, cli: Cli) -> None:
    before = sorted(each.name for each in half.iterdir())
    outcome = cli("pack", "half.pt", "--dry-run")
    assert (outcome.code, outcome.out) == (0, "")
    assert sorted(each.name for each in half.iterdir()) == before
    done = cli("pack", "half.pt")
    assert outcome.err == done.err.replace("wrote", "would write")
    assert cli("unpack", PACKED, "-o", "x", "--dry-run").err.startswith("would write x (")
    assert not Path("x").exists()


@pytest.mark.usefixtures("half")
def test_a_dry_run_states_the_temporary_file_of_a_stream(cli: Cli) -> None:
    size = cli("pack", "half.pt", "-o", "-", "-q").raw
    said = cli("pack", "half.pt", "-o", "-", "--dry-run").err
    assert said.endswith(f"; a temporary file of {size_of(len(size))} is needed\n")
    for options in (("-o", "-", "--codec", "raw"), ("-o", "x.safetensors")):
        assert "temporary" not in cli("pack", "half.pt", *options, "--dry-run").err


@pytest.mark.usefixtures("half")
def test_refusals_are_one_line(refused: Refusal, cli: Cli) -> None:
    assert cli("pack", "half.pt", "-q").code == 0
    assert "exists" in refused(6, "pack", "half.pt")
    assert "exists" in refused(6, "unpack", PACKED)
    assert "a packed file is a safetensors file; name the output x.safetensors with -o" in refused(
        2, "pack", "half.pt", "-o", "x.pt"
    )
    assert "need" in refused(2, "pack", "-")
    assert "needs a name" in refused(2, "unpack", "-")
    assert "only packed folders are resumed" in refused(2, "pack", "half.pt", "--resume")
    assert "only packed folders are resumed" in refused(2, "unpack", PACKED, "-o", "x", "--resume")
    assert "packed already" in refused(2, "pack", PACKED)
    assert "is not a packed file" in refused(2, "unpack", "half.pt", "-o", "x")
    assert "name the output" in refused(2, "unpack", "half.pt")
    assert "unpack it first" in refused(2, "apply", PACKED, "-p", "fc1.weight", "-a", "1", "-o", "x")
    assert refused(3, "pack", "none.pt")
    Path("cut").write_bytes(Path(PACKED).read_bytes()[:-100])
    assert refused(4, "unpack", "cut", "-o", "x")
    flipped = bytearray(Path(PACKED).read_bytes())
    flipped[600] ^= 4
    Path("flipped").write_bytes(flipped)
    assert "damaged" in refused(4, "unpack", "flipped", "-o", "x")
    torch.save({"w": torch.ones(999)}, "other.pt")
    assert "no mask that a report records" in refused(2, "pack", "other.pt", "--from-report", "half.pt.report.json")
    assert "is not JSON" in refused(4, "pack", "other.pt", "--from-report", "other.pt")

"""What an interruption says: the share that is kept, or that the output has its name already."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from prunecli import files
from prunecli.formats.outputs import resumable
from prunecli.surgery import rewrite
from prunecli.surgery.run import units


class Stop(BaseException):
    """An exception that is not an `Exception`, as of a signal."""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    save_file({name: torch.randn(64, 64) for name in "abcd"}, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def stopped(model: Path, *, resume: bool = False) -> list[str]:
    """Return the notes of a run that is interrupted."""
    with pytest.raises(Stop) as caught:
        files.apply(model, params="*", amount=0.5, seed=1, bake=True, output=model.with_name("out"), resume=resume)
    return getattr(caught.value, "__notes__", [])


def test_finished_units_are_kept_with_resume(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    monkeypatch.setattr(units, "_SMALLEST", 1 << 14)
    record = resumable.Partial.record_unit

    def struck(partial: resumable.Partial, number: int, entry: dict[str, object]) -> None:
        record(partial, number, entry)
        if number == 1:
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(resumable.Partial, "record_unit", struck)
        size = model.stat().st_size
        kept = f"{100 * (2 << 14) // size} % of the output is kept, and the same command goes on"
        assert stopped(model, resume=True) == [kept]
        assert not model.with_name("out").exists()
    files.apply(model, params="*", amount=0.5, seed=1, bake=True, output=model.with_name("out"), resume=True)


def test_an_output_without_its_report(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    def struck(*arguments: object) -> None:
        raise Stop

    monkeypatch.setattr(rewrite, "write_report", struck)
    out = model.with_name("out")
    assert stopped(model) == [f"{out} is complete, but its report may be missing"]
    assert out.exists()

"""The permissions of what is written: those of the input, less the umask; a report is closed like its checkpoint."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from prunecli import files
from prunecli.formats.outputs import resumable
from prunecli.formats.outputs.permissions import closed_like

Cli = Callable[..., Any]
FC1 = ("-p", "fc1.weight", "-a", "0.5", "--seed", "1", "-q")
pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture(autouse=True)
def umask() -> Iterator[Callable[[int], int]]:
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def mode(path: str | Path) -> int:
    return Path(path).stat().st_mode & 0o7777


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize(
    ("given", "output", "report"),
    [
        (0o600, 0o600, 0o600),
        (0o640, 0o640, 0o640),
        (0o664, 0o644, 0o644),
        (0o444, 0o444, 0o644),
        (0o4755, 0o755, 0o644),
    ],
)
def test_a_file_has_the_mode_of_its_input(
    cli: Cli, suffix: str, given: int, output: int, report: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def as_user(path: Any, flags: int, *more: Any, **options: Any) -> int:
        """Refuse what the system refuses to all but root."""
        if flags & os.O_RDWR and os.path.lexists(path) and not mode(path) & 0o200:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return opened(path, flags, *more, **options)

    monkeypatch.setattr(os, "open", as_user)
    Path(f"model.{suffix}").chmod(given)
    for more in ([], ["--resume", "-o", f"model.pruned.{suffix}", "--force"]):
        assert cli("apply", f"model.{suffix}", *FC1, *more).code == 0
        assert mode(f"model.pruned.{suffix}") == output
        assert mode(f"model.pruned.{suffix}.report.json") == report
        Path(f"model.pruned.{suffix}").unlink()
        Path(f"model.pruned.{suffix}.report.json").unlink()


def test_what_is_replaced_keeps_its_mode_as_far_as_the_input_is_readable(cli: Cli) -> None:
    for given, old, new in ((0o600, 0o644, 0o600), (0o644, 0o600, 0o600), (0o640, 0o666, 0o660)):
        Path("model.pt").chmod(given)
        for path in ("out.pt", "out.pt.report.json"):
            Path(path).write_text("old")
            Path(path).chmod(old)
        assert cli("apply", "model.pt", *FC1, "-o", "out.pt", "--force").code == 0
        assert (mode("out.pt"), mode("out.pt.report.json")) == (new, new)
    Path("model.pt").chmod(0o620)
    assert cli("apply", "model.pt", *FC1, "-o", "model.pt", "--force", "--no-report").code == 0
    assert mode("model.pt") == 0o620


def test_standard_input_has_no_mode(cli: Cli) -> None:
    Path("model.pt").chmod(0o600)
    assert cli("apply", "-", *FC1, "-o", "out.pt", stdin=Path("model.pt")).code == 0
    assert (mode("out.pt"), mode("out.pt.report.json")) == (0o644, 0o644)


def test_a_folder_and_its_members_have_the_modes_of_the_input(cli: Cli, umask: Callable[[int], int]) -> None:
    m = Path("m")
    (m / "tokenizer").mkdir(parents=True)
    save_file({"fc.weight": torch.ones(8, 8)}, m / "model.safetensors")
    (m / "config.json").write_text("{}")
    (m / "tokenizer" / "vocab.txt").write_text("a")
    modes = {"tokenizer/vocab.txt": 0o666, "tokenizer": 0o555, "config.json": 0o640, "model.safetensors": 0o600}
    for name, given in {**modes, ".": 0o750}.items():
        (m / name).chmod(given)
    umask(0o027)
    for more in ([], ["--resume"]):
        assert cli("apply", "m", "-p", "*", "-a", "0.5", "-o", "out", "--force", *more).code == 0
        wanted = {"tokenizer/vocab.txt": 0o640, "tokenizer": 0o750, "config.json": 0o640, "model.safetensors": 0o600}
        assert {name: mode(Path("out", name)) for name in wanted} == wanted
        assert (mode("out"), mode("out.report.json")) == (0o750, 0o600)
        m.chmod(0o700)
        (m / "model.safetensors").chmod(0o644)
        assert cli("apply", "m", "-p", "*", "-a", "0.5", "-o", "out", "--force", *more).code == 0
        assert (mode("out"), mode("out.report.json")) == (0o700, 0o600)
        Path("out.report.json").unlink()
        Path("out").chmod(0o750)
        m.chmod(0o750)
        (m / "model.safetensors").chmod(0o600)


def test_reports_of_a_private_checkpoint_are_private(cli: Cli) -> None:
    for given, found in ((0o600, 0o600), (0o644, 0o644)):
        Path("model.pt").chmod(given)
        assert cli("report", "model.pt", "-o", "r.md", "--force").code == 0
        assert cli("report", "model.pt", "--baseline", "model.safetensors", "-o", "d.md", "--force").code == 0
        files.report("model.pt", output="p.json", force=True)
        assert [mode(name) for name in ("r.md", "d.md", "p.json")] == [found] * 3
        for name in ("r.md", "d.md", "p.json"):
            Path(name).unlink()


def test_what_masks_are_applied_to_is_as_private_as_they_are(cli: Cli) -> None:
    """Files, folders and their reports; and mask files are as private as what their masks come from."""
    assert cli("apply", "model.pt", *FC1, "-o", "masked.pt").code == 0
    assert cli("mask", "extract", "masked.pt", "-o", "open.safetensors").code == 0
    assert mode("open.safetensors") == 0o644
    Path("masked.pt").chmod(0o640)
    assert cli("mask", "combine", "--or", "open.safetensors", "masked.pt", "-o", "m.safetensors").code == 0
    assert cli("mask", "overlap", "open.safetensors", "masked.pt", "-o", "o.json").code == 0
    assert (mode("m.safetensors"), mode("o.json")) == (0o640, 0o640)
    Path("m").mkdir()
    Path("m", "model.safetensors").write_bytes(Path("model.safetensors").read_bytes())
    Path("m.safetensors").chmod(0o600)
    for source, out in (("model.pt", "out.pt"), ("m", "out")):
        for more in ([], ["--resume", "--force"]):
            assert cli("apply", source, "--masks", "m.safetensors", "--bake", "-o", out, *more).code == 0
            assert (mode(out) & 0o077, mode(f"{out}.report.json")) == (0, 0o600)


def test_nobody_else_can_read_what_is_being_written(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything beside the output, and the output under its name, at each step of a run and of an interrupted one."""
    Path("model.pt").chmod(0o600)
    seen: set[int] = set()
    known = {path.name for path in Path().iterdir()}
    real = os.fsync

    def look(descriptor: int) -> None:
        seen.update(mode(path) for path in Path().iterdir() if path.name not in known)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    assert cli("apply", "model.pt", *FC1, "-o", "a.pt").code == 0
    assert cli("apply", "model.pt", *FC1, "-o", "b.pt", "--resume").code == 0
    assert seen <= {0o600, 0o700}
    assert seen


def test_an_interrupted_commit_of_read_only_files_can_be_resumed(tmp_path: Path) -> None:
    partial = resumable.Partial(tmp_path / "p", tmp_path / "out")
    partial.output.mkdir(parents=True)
    (partial.output / "shard").write_text("x")
    (partial.output / "shard").chmod(0o444)
    partial.break_links(["shard", "missing"])
    assert mode(partial.output / "shard") == 0o600


def test_closed_like() -> None:
    assert closed_like(0o777, 0o604) == 0o707
    assert closed_like(0o644, 0o400) == 0o600

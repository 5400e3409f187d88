"""What may go wrong while several ranks, or runs, fill one folder: neither input nor output is ever harmed."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import spread_fixtures
import torch
from rank_threads import by_ranks
from small_blocks import small_blocks
from spread_zoo import KINDS, contents, make, pruned
from surgery_zoo import ask, noise, save

from prunecli.errors import OutputError, UsageError
from prunecli.formats.base import Edit, PassthroughFile
from prunecli.formats.folders.base import Folder
from prunecli.formats.opening import open_any
from prunecli.formats.outputs import resumable
from prunecli.formats.outputs.base import OutputContents, OutputFile, Transfer
from prunecli.formats.outputs.file import output_errors
from prunecli.formats.outputs.folder import LocalFolder, check_folder
from prunecli.formats.outputs.resumable import partial_of
from prunecli.formats.outputs.unit_files import UnitWriter
from prunecli.surgery.plan.plan import plan_prune
from prunecli.surgery.report.model import Report
from prunecli.surgery.rewrite import rewrite
from prunecli.surgery.run.destination import Destination
from prunecli.surgery.run.edit import build_edit
from prunecli.surgery.run.options import Run
from prunecli.surgery.run.units import UnitCounts, split_into_units
from prunecli.surgery.run.worker import Share, do_share

pytestmark = pytest.mark.usefixtures("small_blocks")
small_blocks = pytest.fixture(scope="module")(small_blocks)
failing = pytest.fixture(spread_fixtures.failing)
unfinished = pytest.fixture(spread_fixtures.unfinished)


@pytest.fixture(params=KINDS)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return make(request.param, tmp_path)


class Killed(BaseException):
    """What SIGKILL is to a run: nothing is done after it."""


def test_a_run_killed_once_it_has_published_leaves_nothing_that_is_written_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was replaced lies in the hidden folder then, and shares files with the input."""
    source, out = make("folder of safetensors", tmp_path), tmp_path / "out"
    pruned(source, out, Run(1, link=True), ask(0.5, "a.weight"))
    (out / "old.txt").write_text("of the old output")
    assert (out / "shard-2.safetensors").samefile(source / "shard-2.safetensors")
    before = contents(source)

    def again(*, killed: bool) -> None:
        with monkeypatch.context() as patch, open_any(source) as checkpoint:
            if killed:
                patch.setattr(LocalFolder, "publish", publish_and_die)
                patch.setattr(resumable, "remove_path", lambda path: None)
            plan = plan_prune(checkpoint, ask(0.5, "*.weight"))
            rewrite(checkpoint, plan, Destination(out, force=True), Run(1, resume=True, keep=True))

    publish = LocalFolder.publish

    def publish_and_die(*arguments: Any) -> None:
        publish(*arguments)
        raise Killed

    with pytest.raises(Killed):
        again(killed=True)
    assert (partial_of(out).output / "old.txt").exists()
    again(killed=False)
    assert contents(source) == before
    pruned(source, tmp_path / "expected", Run(1))
    assert contents(out) == contents(tmp_path / "expected")


def test_a_finished_file_with_another_name_is_not_written_into(unfinished: Path) -> None:
    out = unfinished.with_name("out")
    shard, other = partial_of(out).output / "shard-0.safetensors", unfinished.with_name("other")
    other.write_bytes(b"precious")
    shard.unlink()
    os.link(other, shard)
    pruned(unfinished, out, Run(1, resume=True, keep=True))
    assert other.read_bytes() == b"precious"
    pruned(unfinished, unfinished.with_name("expected"), Run(1))
    assert contents(out) == contents(unfinished.with_name("expected"))


def test_a_run_that_another_disturbs_publishes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make("folder of safetensors", tmp_path)
    note = resumable.Partial.record_unit

    def disturbed(folder: resumable.Partial, number: int, entry: Any) -> None:
        note(folder, number, entry)
        folder.announce_failure()

    monkeypatch.setattr(resumable.Partial, "record_unit", disturbed)
    with pytest.raises(OutputError, match="disturbed"):
        pruned(source, tmp_path / "out", Run(1, keep=True))
    assert not (tmp_path / "out").exists()


def test_masks_of_another_type_are_another_request(tmp_path: Path, failing: Callable[[int], None]) -> None:
    """Also where they take the same space: an unfinished file cannot tell in its header what comes later."""
    name = "abcdefg.weight"
    state = {name: noise((750, 250), torch.float32, seed=3).to(torch.float8_e4m3fn)}
    source, out = save(state, tmp_path / "m.safetensors"), tmp_path / "out"
    failing(1)
    with pytest.raises(OutputError):
        pruned(source, out, Run(1, keep=True))
    failing(-1)
    with pytest.raises(UsageError, match="other options"):
        pruned(source, out, Run(1, resume=True, keep=True), ask(0.5, "*.weight", mask_dtype="same"))


def test_no_space_is_reserved_in_a_file_that_others_have_begun_to_write(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the file system cannot, the C library writes zeros where it has just found some."""
    sizes: list[int] = []
    reserve = os.posix_fallocate

    def reserved(descriptor: int, offset: int, length: int) -> None:
        sizes.append(os.fstat(descriptor).st_size)
        time.sleep(0.05)
        reserve(descriptor, offset, length)

    monkeypatch.setattr(os, "posix_fallocate", reserved)
    found = by_ranks(3, lambda ranks: pruned(source, source.with_name("out"), Run(1, None, ranks)))
    assert all(isinstance(each, Report) for each in found)
    assert sizes
    assert set(sizes) == {0}


def test_a_rank_does_not_make_the_folder_that_its_leader_removed(tmp_path: Path) -> None:
    source, out = make("folder of safetensors", tmp_path), tmp_path / "out"
    with open_any(source) as checkpoint:
        assert isinstance(checkpoint, Folder)
        file = OutputFile("a", list(checkpoint.file_pieces("shard-0.safetensors", Edit({}))), checkpoint.source)
        target = check_folder(out, force=False, source=source, replaceable=False)
        writer = UnitWriter(partial_of(out), target, OutputContents([file]), Transfer())
        counts = UnitCounts(build_edit(checkpoint, plan_prune(checkpoint, ask(0.5, "*.weight"))).new_counts(), [file])
        for passthrough in ([], [PassthroughFile("config.json", source / "config.json", 2)]):
            share = Share(split_into_units([file]), passthrough, {})
            with pytest.raises(OutputError), output_errors(out, writer.partial.root):
                do_share(share, writer, Transfer(), counts)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["m"]


def test_what_a_killed_run_left_is_gone_once_the_output_is_there(tmp_path: Path) -> None:
    source, out = make("model.pt", tmp_path), tmp_path / "out"
    partial_of(out).root.mkdir(0o700)
    partial_of(out).begin({"seed": 1})  # by a run that was to be resumed
    pruned(source, out, Run(1))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["model.pt", "out"]
    out.unlink()
    (tmp_path / f".out.prunecli-1-00000000-{'0' * 16}.tmp").touch()  # by one that was not
    pruned(source, out, Run(1, keep=True))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["model.pt", "out"]


def test_what_a_run_is_at_work_in_is_not_discarded(tmp_path: Path) -> None:
    source, out = make("model.pt", tmp_path), tmp_path / "out"
    with resumable.partial_output(out, out, keep=True) as used:
        used.begin({"seed": 1})
        pruned(source, out, Run(1))
        assert used.job() == {"seed": 1}


def test_the_input_is_not_replaced_by_a_run_that_may_be_repeated(source: Path) -> None:
    """Killed once it has, it would prune the result."""
    before = contents(source)
    with open_any(source) as checkpoint:
        plan = plan_prune(checkpoint, ask(0.5, "*.weight"))
        with pytest.raises(UsageError, match="cannot replace its input"):
            rewrite(checkpoint, plan, Destination(source, force=True), Run(1, keep=True))
        assert contents(source) == before
        assert not partial_of(source).root.exists()
        rewrite(checkpoint, plan, Destination(source, force=True), Run(1))
    assert contents(source) != before

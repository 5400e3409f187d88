"""Work cut into units: the same bytes and the same report, whoever does which of them, and in how many runs."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import spread_fixtures
from rank_threads import by_ranks
from small_blocks import SCALE, small_blocks
from spread_zoo import KINDS, contents, make, pruned, reported
from surgery_zoo import ask

from prunecli.errors import DamagedError, OutputError, PeerError, PrunecliError, UsageError
from prunecli.formats.io.sinks import FileSink
from prunecli.formats.opening import open_any
from prunecli.formats.outputs.base import OutputFile
from prunecli.formats.outputs.resumable import partial_of, partial_output
from prunecli.surgery.plan.plan import plan_prune
from prunecli.surgery.plan.request import PruneRequest
from prunecli.surgery.report.codec import as_dict
from prunecli.surgery.report.measure import measure
from prunecli.surgery.report.model import Report
from prunecli.surgery.rewrite import rewrite
from prunecli.surgery.run import units
from prunecli.surgery.run.destination import Destination
from prunecli.surgery.run.options import Run
from prunecli.surgery.run.ranks import SINGLE_PROCESS, Ranks

pytestmark = pytest.mark.usefixtures("small_blocks")
small_blocks = pytest.fixture(scope="module")(small_blocks)
failing = pytest.fixture(spread_fixtures.failing)
unfinished = pytest.fixture(spread_fixtures.unfinished)


@pytest.fixture(params=KINDS)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return make(request.param, tmp_path)


@pytest.mark.parametrize("remove", [True, False])
def test_any_number_of_ranks_writes_the_same_bytes_and_the_same_report(source: Path, remove: bool) -> None:
    prune = ask(0.5, "*.weight", remove=remove)
    expected = reported(pruned(source, source.with_name("expected"), Run(1), prune))
    written = contents(source.with_name("expected"))

    def work(ranks: Ranks) -> Report:
        return pruned(source, source.with_name(f"spread-{ranks.size}"), Run(1, None, ranks), prune)

    for number in (1, 2, 3, 4):
        target, reports = source.with_name(f"spread-{number}"), by_ranks(number, work)
        assert contents(target) == written
        assert all(isinstance(each, Report) and reported(each) == expected for each in reports)
        assert not partial_of(target).root.exists()


@pytest.mark.parametrize("ranks", [2, 3])
def test_several_ranks_count_what_one_counts(source: Path, ranks: int) -> None:
    def measured(ranks: Ranks) -> dict[str, Any]:
        with open_any(source) as checkpoint:
            return as_dict(measure(checkpoint, None, Run(1, None, ranks)))

    assert by_ranks(ranks, measured)[0] == measured(SINGLE_PROCESS)


@pytest.mark.parametrize("first", [1, 2, 3])
def test_what_a_failed_run_finished_is_kept_and_the_result_is_the_same(
    source: Path, failing: Callable[[int], None], first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = pruned(source, source.with_name("expected"), Run(1))
    target = source.with_name("resumed")
    failing(first)
    with pytest.raises(OutputError, match=r"No space left.*; what is finished is kept, go on with --resume$"):
        pruned(source, target, Run(1, keep=True))
    assert not target.exists()
    kept = partial_of(target).entries()
    failing(-1)
    written: list[int] = []
    write = FileSink.write

    def counted(sink: FileSink, data: memoryview, offset: int) -> None:
        written.append(len(data))
        write(sink, data, offset)

    monkeypatch.setattr(FileSink, "write", counted)
    report = pruned(source, target, Run(2, resume=True, keep=True))
    assert contents(target) == contents(source.with_name("expected"))
    assert reported(report) == reported(expected)
    assert kept or first == 1
    if kept:  # the first unit at least, and with it the first chunk
        assert sum(written) < sum(map(len, contents(target).values())) - (1 << 20) // SCALE
    assert not partial_of(target).root.exists()


def test_a_run_with_more_ranks_can_go_on_with_what_one_left(source: Path, failing: Callable[[int], None]) -> None:
    expected = pruned(source, source.with_name("expected"), Run(1))
    target = source.with_name("resumed")
    failing(3)
    with pytest.raises(OutputError):
        pruned(source, target, Run(1, keep=True))
    failing(-1)
    reports = by_ranks(3, lambda ranks: pruned(source, target, Run(1, None, ranks, resume=True, keep=True)))
    assert contents(target) == contents(source.with_name("expected"))
    assert all(isinstance(each, Report) and reported(each) == reported(expected) for each in reports)


def test_a_finished_unit_that_was_damaged_is_done_again(unfinished: Path) -> None:
    out = unfinished.with_name("out")
    shard = partial_of(out).output / "shard-0.safetensors"
    data = bytearray(shard.read_bytes())
    data[5000] ^= 1
    shard.write_bytes(data)
    pruned(unfinished, out, Run(1, resume=True, keep=True))
    pruned(unfinished, unfinished.with_name("expected"), Run(1))
    assert contents(out) == contents(unfinished.with_name("expected"))


def test_without_resume_a_run_begins_anew(unfinished: Path) -> None:
    out = unfinished.with_name("out")
    pruned(unfinished, out, Run(1), ask(0.25, "*.weight"))
    pruned(unfinished, unfinished.with_name("expected"), Run(1), ask(0.25, "*.weight"))
    assert contents(out) == contents(unfinished.with_name("expected"))
    assert not partial_of(out).root.exists()


def _other_index(source: Path) -> None:
    index = source / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"] = dict(reversed(content["weight_map"].items()))
    index.write_text(json.dumps(content))


def _touched_shard(source: Path) -> None:
    os.utime(source / "shard-1.safetensors", ns=(1, 1))


def _other_config(source: Path) -> None:
    (source / "config.json").write_text('{"changed": true}\n')


def _file_taken_out(source: Path) -> None:
    (source / "config.json").unlink()


@pytest.mark.parametrize("change", [_other_index, _touched_shard, _other_config, _file_taken_out])
def test_another_state_of_the_input_is_not_resumed(unfinished: Path, change: Callable[[Path], None]) -> None:
    change(unfinished)
    before = contents(partial_of(unfinished.with_name("out")).output)
    with pytest.raises(UsageError, match=r"another state of the input.*leave --resume out"):
        pruned(unfinished, unfinished.with_name("out"), Run(1, resume=True, keep=True))
    assert not unfinished.with_name("out").exists()
    assert contents(partial_of(unfinished.with_name("out")).output) == before


@pytest.mark.parametrize(
    ("prune", "reason"),
    [
        (ask(0.5, "*.weight", seed=8), "another seed"),
        (ask(0.25, "*.weight"), "other options"),
        (ask(0.5, "a.weight"), "other options"),
        (ask(0.5, "*.weight", remove=True), "other options"),
    ],
)
def test_another_request_is_not_resumed(unfinished: Path, prune: PruneRequest, reason: str) -> None:
    with pytest.raises(UsageError, match=f"{reason}; leave --resume out"):
        pruned(unfinished, unfinished.with_name("out"), Run(1, resume=True, keep=True), prune)


def test_a_second_run_into_the_same_output_is_refused(unfinished: Path) -> None:
    out = unfinished.with_name("out")
    with partial_output(out, out, keep=True):
        with pytest.raises(OutputError, match="another run is writing"):
            pruned(unfinished, out, Run(1))
        assert partial_of(out).entries()


def test_damage_that_one_rank_finds_ends_them_all_and_leaves_nothing(tmp_path: Path) -> None:
    source = make("folder of bin", tmp_path)
    shard = source / "shard-2.bin"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    found = by_ranks(3, lambda ranks: pruned(source, tmp_path / "out", Run(1, None, ranks)))
    kinds = {type(each) for each in found}
    assert kinds == {DamagedError, PeerError}
    assert {each.exit_code for each in found if isinstance(each, PrunecliError)} == {4}
    assert sorted(each.name for each in tmp_path.iterdir()) == ["m"]


def test_ranks_that_see_another_file_system_are_distinguished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make("folder of safetensors", tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def work(ranks: Ranks) -> Report:
        run = Run(1, None, ranks)
        with open_any(source) as checkpoint:
            plan = plan_prune(checkpoint, ask(0.5, "*.weight"))
            return rewrite(checkpoint, plan, Destination(tmp_path / "out"), run)

    read_text = Path.read_text

    def blind(path: Path, *arguments: Any, **options: Any) -> str:
        if path.name == "token":
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return read_text(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", blind)
    found = by_ranks(2, work)
    assert all(isinstance(each, OutputError) and "shared file system" in str(each) for each in found)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["elsewhere", "m"]


def test_ranks_that_see_another_input_are_distinguished(tmp_path: Path) -> None:
    sources = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        sources.append(make("model.safetensors", tmp_path / name))
    os.utime(sources[1], ns=(1, 1))
    found = by_ranks(2, lambda ranks: pruned(sources[ranks.rank], tmp_path / "out", Run(1, None, ranks)))
    assert isinstance(found[0], PeerError)
    assert isinstance(found[1], OutputError)
    assert "sees another" in str(found[1])
    assert not (tmp_path / "out").exists()


def test_the_cut_depends_on_the_files_alone_and_every_byte_is_in_one_unit(tmp_path: Path) -> None:
    for kind in KINDS:
        (tmp_path / kind).mkdir()
        source = make(kind, tmp_path / kind)
        target = source.with_name("out")
        pruned(source, target, replace(Run(1), keep=True))
        assert target.exists()


@pytest.mark.parametrize("ranks", [1, 2, 3, 7, 20])
def test_shares_are_neighbours_and_even(ranks: int) -> None:
    files = [OutputFile(f"{n}", [], None) for n in range(3)]  # type: ignore[arg-type]
    cut = [units.Unit(n, files[n // 40], (n, n + 1), 100 + n % 7) for n in range(120)]
    shares = units.assign_units(cut, {}, ranks)
    assert [unit for share in shares for unit in share] == cut
    sizes = [sum(unit.size for unit in share) for share in shares]
    assert max(sizes) - min(sizes) <= 2 * 107

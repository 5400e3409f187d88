"""Where the result goes, and what is there when something goes wrong: all of it, or what was there before."""

import zipfile
from itertools import product
from pathlib import Path

import pytest
import torch
from surgery_zoo import BLOCK, apply, ask, expected_file, live_mask, load, noise, save

from prunecli.errors import DamagedError, OutputError, UsageError
from prunecli.formats.detect import open_checkpoint
from prunecli.surgery.plan.plan import plan_prune
from prunecli.surgery.report.model import Report
from prunecli.surgery.rewrite import rewrite
from prunecli.surgery.run.destination import Destination, default_output, default_report
from prunecli.surgery.run.options import Run


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def run(source: Path, destination: Destination, *, remove: bool = True, jobs: int = 2) -> Report:
    with open_checkpoint(source) as checkpoint:
        return rewrite(checkpoint, plan_prune(checkpoint, ask(0.5, "a", remove=remove)), destination, Run(jobs))


@pytest.fixture(params=[".pt", ".safetensors"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return save({"a": noise((30, 40)), "b": noise((50,), torch.float16)}, tmp_path / f"model{request.param}")


def flip(source: Path, name: str, at: int) -> None:
    """Flip one bit in the payload of a record."""
    with zipfile.ZipFile(source) as archive:
        payload = next(archive.read(each) for each in archive.infolist() if each.filename.endswith(name))
    data = bytearray(source.read_bytes())
    data[data.index(payload) + at] ^= 4
    source.write_bytes(data)


@pytest.mark.parametrize("record", ["data/0", "data/1"])
def test_a_flipped_bit_anywhere_leaves_no_output(record: str, tmp_path: Path) -> None:
    tensors = {"a": noise((2 * BLOCK,), torch.float16), "b": noise((2 * BLOCK,), torch.float16, 2)}
    source = save(tensors, tmp_path / "model.pt")
    flip(source, record, 3 * BLOCK)
    destination = Destination(tmp_path / "out.pt", tmp_path / "report.json")
    for remove, jobs in product([False, True], [1, 2, 4]):
        with pytest.raises(DamagedError, match=f"model/{record} is damaged: its CRC-32"):
            run(source, destination, remove=remove, jobs=jobs)
        assert names(tmp_path) == ["model.pt"]


@pytest.mark.parametrize("remove", [False, True])
def test_a_flipped_bit_of_a_weight_is_found_when_its_mask_is_pruned_again(remove: bool, tmp_path: Path) -> None:
    source = save({"a": noise((2 * BLOCK,), torch.float16)}, tmp_path / "model.pt")
    half = tmp_path / "half.pt"
    run(source, Destination(half), remove=False)
    flip(half, "data/0", 3 * BLOCK)
    for jobs in (1, 2):
        with pytest.raises(DamagedError, match="data/0 is damaged: its CRC-32"):
            run(half, Destination(tmp_path / "out.pt"), remove=remove, jobs=jobs)
    assert names(tmp_path) == ["half.pt", "model.pt"]


def test_a_flipped_bit_leaves_an_old_output_as_it_was(tmp_path: Path) -> None:
    source, target = save({"a": noise((30,))}, tmp_path / "model.pt"), tmp_path / "out.pt"
    target.write_bytes(b"old")
    flip(source, "data/0", 3)
    with pytest.raises(DamagedError):
        run(source, Destination(target, force=True))
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["model.pt", "out.pt"]


def test_what_exists_is_refused_before_any_work_and_replaced_with_force(source: Path) -> None:
    target, report = source.with_name("out"), source.with_name("report")
    for taken in (target, report):
        taken.write_bytes(b"old")
        with pytest.raises(OutputError, match="exists"):
            run(source, Destination(target, report))
        assert taken.read_bytes() == b"old"
        assert names(source.parent) == sorted([source.name, taken.name])
        taken.unlink()
    target.write_bytes(b"old")
    report.write_bytes(b"old")
    expected = expected_file(source, {"a": live_mask(noise((30, 40)), 0.5, "a")})
    run(source, Destination(target, report, force=True))
    assert target.read_bytes() == expected
    assert report.read_bytes().startswith(b"{")


def test_the_input_is_overwritten_only_with_force_and_then_rightly(source: Path) -> None:
    before = source.read_bytes()
    with pytest.raises(OutputError):
        run(source, Destination(source))
    assert source.read_bytes() == before
    expected = expected_file(source, {"a": live_mask(noise((30, 40)), 0.5, "a")})
    run(source, Destination(source, force=True))
    assert source.read_bytes() == expected
    assert names(source.parent) == [source.name]


def test_masks_put_into_the_input_itself_are_right(source: Path) -> None:
    run(source, Destination(source, force=True), remove=False)
    loaded = load(source)
    assert set(loaded) == {"a_orig", "a_mask", "b"}
    assert torch.equal(loaded["a_mask"], live_mask(noise((30, 40)), 0.5, "a"))


def test_the_input_is_never_touched(source: Path) -> None:
    before, status = source.read_bytes(), source.stat()
    run(source, Destination(source.with_name("out")))
    assert source.read_bytes() == before
    assert (source.stat().st_mtime_ns, source.stat().st_ino) == (status.st_mtime_ns, status.st_ino)


def test_checkpoint_and_report_must_be_two_files(source: Path) -> None:
    target = source.with_name("out")
    with pytest.raises(UsageError, match="one file; give --report another name"):
        run(source, Destination(target, target.parent / "." / "out"))
    assert names(source.parent) == [source.name]


@pytest.mark.parametrize("which", ["report", "report through a link"])
def test_a_report_never_replaces_the_input_unforced(which: str, source: Path) -> None:
    report = source
    if "link" in which:
        report = source.with_name("link")
        report.symlink_to(source.name)
    before = source.read_bytes()
    with pytest.raises(OutputError):
        run(source, Destination(source.with_name("out"), report))
    assert source.read_bytes() == before
    assert not source.with_name("out").exists()


def test_progress_counts_every_byte_once_and_ends_at_the_size(source: Path) -> None:
    reported: list[tuple[int, int]] = []
    target = source.with_name("out")
    with open_checkpoint(source) as checkpoint:
        plan = plan_prune(checkpoint, ask(0.5))
        rewrite(checkpoint, plan, Destination(target), Run(progress=lambda done, total: reported.append((done, total))))
    size = target.stat().st_size
    assert reported[-1] == (size, size)
    assert [done for done, _ in reported] == sorted(done for done, _ in reported)


def test_an_identity_prune_gives_the_same_bytes(source: Path) -> None:
    target = source.with_name("out")
    report = apply(source, target, ask(0, remove=True))
    assert target.read_bytes() == source.read_bytes()
    assert report.totals.pruned_now == 0


@pytest.mark.parametrize(
    ("source_name", "command", "expected"),
    [
        ("m.pt", "apply", "m.pruned.pt"),
        ("m.v2.safetensors", "apply", "m.v2.pruned.safetensors"),
        ("m.pth.tar", "apply", "m.pruned.pth.tar"),
        ("m", "apply", "m.pruned"),
        (".hidden", "apply", ".hidden.pruned"),
        ("m.pt", "remove", "m.baked.pt"),
        ("m.pruned.pt", "remove", "m.baked.pt"),
    ],
)
def test_default_names(source_name: str, command: str, expected: str) -> None:
    output = default_output(Path("folder") / source_name, command)
    assert output == Path("folder") / expected
    assert isinstance(output, Path)
    assert default_report(output) == output.with_name(f"{output.name}.report.json")


@pytest.mark.parametrize("remove", [False, True])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_the_number_of_threads_leaves_no_trace(suffix: str, remove: bool, tmp_path: Path) -> None:
    tensors = {
        "a": noise((3 * BLOCK + 5,), torch.bfloat16),
        "b": noise((2000,), seed=2),
        "c": noise((BLOCK, 2), seed=3),
    }
    if suffix == ".pt":
        tensors["d"] = noise((1500, 1000), torch.bfloat16, 4).t()
    source = save(tensors, tmp_path / f"model{suffix}")
    outputs = [tmp_path / f"out{jobs}{suffix}" for jobs in (1, 2, 4)]
    reports = [apply(source, path, ask(0.5, remove=remove), jobs=n) for n, path in zip((1, 2, 4), outputs, strict=True)]
    assert outputs[0].read_bytes() == outputs[1].read_bytes() == outputs[2].read_bytes()
    assert reports[0].parameters == reports[1].parameters == reports[2].parameters

"""Packed folders by several ranks, in several runs, and behind URLs: always the same files with the same bytes."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from folder_zoo import make_folder
from fsspec.implementations.memory import MemoryFileSystem
from rank_threads import by_ranks

from prunecli import files
from prunecli.errors import DamagedError, OutputError, PrunecliError, UnsafeError, UsageError
from prunecli.formats.base import ReadOptions
from prunecli.formats.io.locations import location_of
from prunecli.formats.io.sinks import FileSink
from prunecli.formats.outputs.resumable import Partial, partial_of
from prunecli.formats.packed import write
from prunecli.formats.packed.names import MANIFEST, SUFFIX
from prunecli.surgery import packing
from prunecli.surgery.listing import Listener
from prunecli.surgery.pack import PackOptions
from prunecli.surgery.pack_folder import pack_checkpoint
from prunecli.surgery.run import by_file
from prunecli.surgery.run.options import Run
from prunecli.surgery.unpack_folder import unpack_checkpoint

READING = ReadOptions(foreign=True, read_only=True)
ONE, RESUMED = Run(1), Run(1, resume=True, keep=True)


def contents(root: Path) -> dict[str, bytes]:
    return {str(each.relative_to(root)): each.read_bytes() for each in root.rglob("*") if each.is_file()}


class Notes(Listener):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def note(self, text: str) -> None:
        self.found.append(text)


def pack(source: Path | str, output: Path | str, run: Run = ONE, **options: Any) -> Any:
    chosen = PackOptions(READING, **options)
    return pack_checkpoint(location_of(str(source)), chosen, location_of(str(output)), run, Listener())


def unpack(source: Path | str, output: Path | str, run: Run = ONE, **options: Any) -> Any:
    return unpack_checkpoint(location_of(str(source)), location_of(str(output)), run, Listener(), **options)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    weights = {f"layer{each}.weight": torch.randn(64, 50 + each).bfloat16() for each in range(3)}
    make_folder(tmp_path / "dense", [{name: each} for name, each in weights.items()])
    files.apply(tmp_path / "dense", params="*", amount=0.5, seed=7, bake=True, output=tmp_path / "m")
    return tmp_path / "m"


@pytest.fixture
def packed(model: Path) -> Path:
    files.pack(model)
    return Path(f"{model}.packed")


@pytest.mark.parametrize("ranks", [2, 3, 9])
def test_ranks_make_the_same_files(model: Path, packed: Path, ranks: int) -> None:
    out, again = model.with_name("out"), model.with_name("again")
    expected = files.pack(model, output=model.with_name("one"))
    found = by_ranks(ranks, lambda own: pack(model, out, Run(2, None, own)))
    assert {(each.bytes, each.drawn, each.stored) for each in found} == {(expected.bytes, 3, 0)}  # type: ignore[union-attr]
    assert contents(out) == contents(packed)
    by_ranks(ranks, lambda own: unpack(out, again, Run(1, None, own)))
    assert contents(again) == contents(model)
    assert not partial_of(out).root.exists()
    assert not partial_of(again).root.exists()


def test_ranks_say_how_large_it_would_be(model: Path, packed: Path) -> None:
    found = by_ranks(2, lambda own: pack(model, model.with_name("out"), Run(1, None, own), dry_run=True))
    size = sum(len(data) for name, data in contents(packed).items() if name != MANIFEST)
    assert {each.bytes for each in found} == {size}  # type: ignore[union-attr]
    assert not model.with_name("out").exists()


def test_an_error_of_one_rank_ends_all(model: Path, packed: Path) -> None:
    last = max(packed.glob("model-*"))
    last.write_bytes(last.read_bytes()[:600] + b"!" + last.read_bytes()[601:])
    found = by_ranks(3, lambda own: unpack(packed, model.with_name("out"), Run(1, None, own)))
    assert all(isinstance(each, PrunecliError) for each in found)
    assert any(isinstance(each, DamagedError) for each in found)
    assert not model.with_name("out").exists()
    assert not partial_of(model.with_name("out")).root.exists()


class Killed(BaseException):
    """What a signal is to a run."""


@pytest.fixture
def dying(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let a run end when it has recorded so many files; a negative number lets it live."""
    record = Partial.record_unit

    def after(files_: int) -> None:
        left = iter(range(files_)) if files_ >= 0 else None

        def limited(partial: Partial, number: int, entry: Any) -> None:
            if left is not None and next(left, None) is None:
                raise Killed
            record(partial, number, entry)

        monkeypatch.setattr(Partial, "record_unit", limited)

    return after


def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which the names of files are added as they are made."""
    names: list[str] = []
    make = by_file._LocalOutputs._make

    def noted(self: Any, task: Any, *rest: Any) -> Any:
        names.append(task.name)
        return make(self, task, *rest)

    monkeypatch.setattr(by_file._LocalOutputs, "_make", noted)
    return names


RESUMED = Run(1, resume=True, keep=True)


def by_two(work: Callable[..., Any], source: Path, out: Path) -> None:
    by_ranks(2, lambda own: work(source, out, Run(2, None, own, resume=True, keep=True)))


def by_one(work: Callable[..., Any], source: Path, out: Path) -> None:
    work(source, out, RESUMED)


@pytest.mark.parametrize("resume", [by_one, by_two])
def test_a_run_interrupted_at_any_file_goes_on(
    model: Path,
    packed: Path,
    dying: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    resume: Callable[..., None],
) -> None:
    names, total = made(monkeypatch), len(contents(model))
    for work, source, expected in ((pack, model, packed), (unpack, packed, model)):
        for done in range(total):
            out = model.with_name(f"{work.__name__}{done}")
            dying(done)
            with pytest.raises(Killed):
                work(source, out, RESUMED)
            assert not out.exists()
            dying(-1)
            names.clear()
            resume(work, source, out)
            assert len(names) == total - done
            assert contents(out) == contents(expected)
            assert not partial_of(out).root.exists()


def test_a_finished_file_that_is_damaged_is_made_again(
    model: Path, packed: Path, dying: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, other = model.with_name("out"), model.with_name("other")
    dying(4)
    with pytest.raises(Killed):
        pack(model, out, RESUMED)
    dying(-1)
    first, second, third, fourth = sorted(contents(partial_of(out).output))[:4]
    root = partial_of(out).output
    (root / first).write_bytes((root / first).read_bytes()[:-1] + b"!")
    (root / second).unlink()
    (root / third).write_bytes((root / third).read_bytes() + b"!")
    other.write_bytes((root / fourth).read_bytes())
    (root / fourth).unlink()
    os.link(other, root / fourth)
    kept = other.read_bytes()
    names = made(monkeypatch)
    pack(model, out, RESUMED)
    assert {first, second, third} <= set(names)
    assert contents(out) == contents(packed)
    assert other.read_bytes() == kept


def test_another_job_is_not_resumed(model: Path, packed: Path, dying: Callable[[int], None]) -> None:
    out = model.with_name("out")
    dying(1)
    with pytest.raises(Killed):
        pack(model, out, RESUMED)
    dying(-1)
    with pytest.raises(UsageError, match="other options"):
        pack(model, out, RESUMED, codec="raw")
    with pytest.raises(UsageError, match="another command"):
        unpack(packed, out, RESUMED)
    (model / "config.json").write_text("{}")
    with pytest.raises(UsageError, match="another state of the input"):
        pack(model, out, RESUMED)
    pack(model, out)
    assert not partial_of(out).root.exists()


def test_only_folders_are_resumed_and_spread(model: Path) -> None:
    shard = next(model.glob("*.safetensors"))
    with pytest.raises(UsageError, match="only packed folders are resumed"):
        files.pack(shard, output=model.with_name("x.safetensors"), resume=True)
    for each in by_ranks(2, lambda own: pack(shard, model.with_name("x.safetensors"), Run(1, None, own))):
        assert isinstance(each, UsageError)
        assert "only packed folders are shared" in str(each)
    files.pack(model, output=model.with_name("same"), resume=True)
    with pytest.raises(UsageError, match="cannot replace its input"):
        files.unpack(model.with_name("same"), output=model.with_name("same"), force=True, resume=True)


@pytest.fixture
def memory() -> Iterator[dict[str, Any]]:
    """What lies in memory, by path: nothing at first."""
    MemoryFileSystem.store.clear()
    yield MemoryFileSystem.store
    MemoryFileSystem.store.clear()


def stored(memory: dict[str, Any], root: str) -> dict[str, bytes]:
    return {name.removeprefix(f"/{root}/"): memory[name].getvalue() for name in memory if name.startswith(f"/{root}/")}


@pytest.mark.parametrize("codec", ["zstd", "raw"])
def test_folders_behind_urls(model: Path, memory: dict[str, Any], codec: str) -> None:
    files.pack(model, output="memory://p", codec=codec)  # type: ignore[arg-type]
    files.pack(model, output=model.with_name("local"), codec=codec)  # type: ignore[arg-type]
    assert stored(memory, "p") == contents(model.with_name("local"))
    assert files.params("memory://p", all_=True)[0].stored == "drawn mask"
    files.unpack("memory://p", output="memory://m")
    assert stored(memory, "m") == contents(model)
    assert files.pack("memory://m").path == "memory://m.packed"
    files.unpack("memory://m.packed", output=model.with_name("again"))
    assert contents(model.with_name("again")) == contents(model)
    with pytest.raises(OutputError, match="exists"):
        files.unpack("memory://p", output="memory://m")
    memory["/p/old" + SUFFIX] = memory["/p/" + MANIFEST]
    files.pack(model, output="memory://p", codec=codec, force=True)  # type: ignore[arg-type]
    assert stored(memory, "p") == contents(model.with_name("local"))
    memory["/p/README.md"] = memory["/p/" + MANIFEST]
    with pytest.raises(OutputError, match="is not replaced"):
        files.pack(model, output="memory://p", force=True)
    with pytest.raises(UsageError, match="behind a URL"):
        files.pack(model, output="memory://q", resume=True)
    assert not stored(memory, "q")


def test_the_list_comes_last_in_a_bucket(model: Path, memory: dict[str, Any]) -> None:
    """Readers see a folder that is packed in part as such."""
    files.pack(model, output="memory://p")
    assert list(stored(memory, "p"))[-1] == MANIFEST
    del memory[f"/p/{MANIFEST}"]
    with pytest.raises(DamagedError, match="packed or copied in part"):
        files.unpack("memory://p", output=model.with_name("again"))


def test_raw_needs_no_temporary_file(model: Path, memory: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: Any) -> Any:
        raise OSError(28, os.strerror(28))

    shard = next(model.glob("*.safetensors"))
    files.pack(shard, output=model.with_name("x.safetensors"), codec="raw")
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    found = files.pack(shard, output="memory://x.safetensors", codec="raw", verify=True)
    assert found.spool == 0
    assert memory["/x.safetensors"].getvalue() == model.with_name("x.safetensors").read_bytes()
    files.pack(model, output="memory://p", codec="raw")
    with pytest.raises(OSError, match="No space"):
        files.pack(shard, output="memory://y.safetensors")


def test_an_input_that_changes_between_its_two_reads_is_noticed(
    model: Path, memory: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = next(model.glob("*.safetensors"))
    once = write.pack_into

    def changing(*given: Any, **options: Any) -> Any:
        found = once(*given, **options)
        shard.write_bytes(shard.read_bytes()[:-4000] + bytes(range(250)) * 16)
        return found

    monkeypatch.setattr(packing, "pack_into", changing)
    with pytest.raises(PrunecliError, match="was changed while it was read"):
        files.pack(shard, output="memory://x.safetensors", codec="raw")
    assert "/x.safetensors" not in memory


def test_links_are_packed_as_files(model: Path) -> None:
    out, again = model.with_name("out"), model.with_name("again")
    (model / "link.json").symlink_to("config.json")
    (model / "more").symlink_to("tokenizer")
    notes = Notes()
    pack_checkpoint(model, PackOptions(READING), out, ONE, notes)
    assert notes.found == ["packed as the files that links lead to: 3 of 10 files"]
    unpack(out, again)
    behind = {f"more/{name}": data for name, data in contents(model / "tokenizer").items()}
    assert contents(again) == contents(model) | behind
    assert not any(each.is_symlink() for each in again.rglob("*"))
    outside = model.with_name("secret")
    outside.write_text("secret")
    (model / "leads.out").symlink_to(outside)
    with pytest.raises(UnsafeError, match="leads out of its folder"):
        files.pack(model, output=model.with_name("x"))
    packed = model.with_name("x")
    files.pack(model, output=packed, follow_links=True)
    (packed / f"leads.out{SUFFIX}").rename(model.with_name("aside"))
    (packed / f"leads.out{SUFFIX}").symlink_to(model.with_name("aside"))
    with pytest.raises(UnsafeError, match="leads out of its folder"):
        files.unpack(packed, output=model.with_name("back"))
    files.unpack(packed, output=model.with_name("back"), follow_links=True)
    assert (model.with_name("back") / "leads.out").read_text() == "secret"


def test_a_full_disk_leaves_nothing(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = FileSink.write

    def full(sink: FileSink, data: memoryview, offset: int) -> None:
        if len(data) > 1000:
            raise OSError(28, os.strerror(28))
        write(sink, data, offset)

    monkeypatch.setattr(FileSink, "write", full)
    before = sorted(model.parent.iterdir())
    with pytest.raises(OutputError, match="No space"):
        files.pack(model)
    assert sorted(model.parent.iterdir()) == before

"""Files behind URLs, on fsspec's file system in memory and on some that hold files back in other ways."""

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import register_implementation
from fsspec.spec import AbstractBufferedFile
from safetensors.torch import save

from prunecli.errors import DamagedError, OutputError, UnreadableError, UnsafeError, UnsupportedError, UsageError
from prunecli.formats.base import PassthroughFile
from prunecli.formats.detect import open_checkpoint
from prunecli.formats.folders.concatenated import Concatenated
from prunecli.formats.folders.reader import files_in
from prunecli.formats.io.locations import Url, lies_in, location_of
from prunecli.formats.io.pieces import Literal
from prunecli.formats.io.remote import RemoteSource, open_remote
from prunecli.formats.io.stores import connect
from prunecli.formats.opening import open_any
from prunecli.formats.outputs.base import OutputContents, OutputFile, OutputWriter, Transfer
from prunecli.formats.outputs.output import check_output, write_output
from prunecli.formats.outputs.remote import check_remote_file, check_remote_folder


class PlainFileSystem(MemoryFileSystem):  # type: ignore[misc]
    """Names a file when it is opened, as most file systems do."""

    protocol = "plain"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(MemoryFileSystem._strip_protocol(path.removeprefix("plain://")))


class LateFile(AbstractBufferedFile):  # type: ignore[misc]
    """Is sent when it is closed."""

    def _initiate_upload(self) -> None:
        self.sent = b""

    def _upload_chunk(self, final: bool = False) -> bool:
        self.buffer.seek(0)
        self.sent += self.buffer.read()
        if final:
            self.fs.pipe_file(self.path, self.sent)
        return True


class LateFileSystem(MemoryFileSystem):  # type: ignore[misc]
    """Stands for Hugging Face's: it has no transactions."""

    protocol = "oci"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(MemoryFileSystem._strip_protocol(path.removeprefix("oci://")))

    def start_transaction(self) -> None:
        raise NotImplementedError

    def open(self, path: str, mode: str = "rb", block_size: int | None = None, **options: Any) -> Any:
        if mode == "wb" and "data" not in options:
            return LateFile(self, self._strip_protocol(path), mode, block_size)
        return super().open(path, mode, block_size, **options)


@pytest.fixture(autouse=True)
def store() -> Iterator[dict[str, Any]]:
    """What lies in memory, by path: nothing at first."""
    register_implementation("plain", PlainFileSystem, clobber=True)
    register_implementation("oci", LateFileSystem, clobber=True)
    memory = MemoryFileSystem.store
    memory.clear()
    yield memory
    memory.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


def put(path: str, data: bytes) -> Url:
    fsspec.filesystem("memory").pipe_file(path, data)
    return Url(f"memory://{path}")


def names(store: dict[str, Any]) -> dict[str, bytes]:
    return {path: file.getvalue() for path, file in store.items()}


# Names


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://bucket/a/b.pt", "s3://bucket/a/b.pt"),
        ("s3://bucket/a@b?c.pt", "s3://bucket/a@b?c.pt"),
        ("hf://user/model@main/b.pt", "hf://user/model@main/b.pt"),
        ("hf://model@main/b.pt", "hf://model@main/b.pt"),
        ("memory://a@b.pt", "memory://a@b.pt"),
        ("ftp://me:word@host/b.pt", "ftp://***@host/b.pt"),
        ("ftp://me:w@rd@host/b.pt", "ftp://***@host/b.pt"),
        ("https://token@host/b@c.pt", "https://***@host/b@c.pt"),
        ("https://host/b.pt?X-Amz-Signature=word", "https://host/b.pt?***"),
        ("https://me:word@host/b.pt?sig=word", "https://***@host/b.pt?***"),
        ("s3://key:word@bucket/b.pt", "s3://***@bucket/b.pt"),
    ],
)
def test_secrets_are_not_shown(text: str, shown: str) -> None:
    url = Url(text)
    assert str(url) == shown
    assert "word" not in repr(url)
    assert url.address == text
    assert url.name == text.partition("?X")[0].partition("?sig")[0].rpartition("/")[2]
    assert "word" not in str(url.with_name("x"))
    assert str(url.with_name("x.pt")) == shown.removesuffix("?***").removesuffix(url.name) + "x.pt"


def test_names_of_urls() -> None:
    assert Url("s3://bucket").name == Url("s3://bucket/").name == ""
    assert Url("s3://bucket/m/").name == "m"
    assert Url("s3://bucket/m/").is_dir()
    assert Url("s3://bucket/m/") / "x" == Url("s3://bucket/m") / "x" == Url("s3://bucket/m/x")
    assert Url("memory://m.pt").with_name("n.pt") == Url("memory://n.pt")
    with pytest.raises(ValueError, match="no neighbours"):
        Url("s3://bucket").with_name("x")
    with pytest.raises(ValueError, match="no URL"):
        Url("bucket")


def test_urls_and_paths_are_distinguished() -> None:
    assert location_of("a/b.pt") == Path("a/b.pt")
    assert location_of("a:/b.pt") == Path("a:/b.pt")
    assert location_of("file:///a/b.pt") == Path("/a/b.pt")
    assert location_of("s3://a/b.pt") == Url("s3://a/b.pt")


def test_what_lies_in_a_folder(tmp_path: Path) -> None:
    assert lies_in(Url("s3://b/m/x"), Url("s3://b/m"))
    assert lies_in(Url("s3://b/m/"), Url("s3://b/m"))
    assert not lies_in(Url("s3://b/mx"), Url("s3://b/m"))
    assert lies_in(tmp_path / "x", tmp_path)
    assert not lies_in(tmp_path, Url("s3://b/m"))


# Reading


def test_any_reads_give_the_bytes_of_the_file() -> None:
    data = np.random.default_rng(1).bytes(300_000)
    draw = random.Random(2)  # noqa: S311
    with open_remote(put("a", data)) as source:
        assert source.size == len(data)
        for _ in range(300):
            start = draw.choice([0, 70_000, draw.randrange(300_000), 299_000])
            length = draw.choice([0, 1, 30, draw.randrange(300_000)])
            length = min(length, len(data) - start)
            assert source.read(start, length) == data[start : start + length]
            buffer = bytearray(length)
            source.read_into(start, memoryview(buffer))
            assert buffer == data[start : start + length]


def test_looks_are_kept() -> None:
    class CountZeros(RemoteSource):
        fetched: list[tuple[int, int]] = []  # noqa: RUF012

        def _fetch(self, start: int, stop: int) -> bytes:
            self.fetched.append((start, stop))
            return super()._fetch(start, stop)

    store = connect(put("a", bytes(500_000)))
    source = CountZeros(store, store.look() or {})
    for _ in range(2):
        for start, length in [(0, 8), (8, 60_000), (300_000, 9), (300_100, 9), (499_990, 10), (450_000, 9)]:
            source.read(start, length)
    assert source.fetched == [(0, 1 << 16), (300_000, 304_096), (434_464, 500_000)]
    source.read(60_000, 20_000)
    assert source.fetched[-1] == (1 << 16, 80_000)


def test_reading_past_the_end() -> None:
    with open_remote(put("a", b"12345")) as source:
        for read in (lambda: source.read(3, 4), lambda: source.read_into(3, memoryview(bytearray(4)))):
            with pytest.raises(DamagedError, match="memory://a ends at byte 5, in the middle"):
                read()


def test_a_file_that_becomes_shorter_or_another(store: dict[str, Any]) -> None:
    url = put("a", bytes(200_000))
    with open_remote(url) as source:
        source.check_unchanged()
        put("a", bytes(100_000))
        with pytest.raises(DamagedError, match="ends at byte 100000"):
            source.read_into(50_000, memoryview(bytearray(100_000)))
        with pytest.raises(UnreadableError, match="was changed while it was read"):
            source.check_unchanged()
        store.clear()
        with pytest.raises(UnreadableError, match="no such object"):
            source.read(100_000, 1)
        with pytest.raises(UnreadableError, match="was changed"):
            source.check_unchanged()


def test_what_is_no_file() -> None:
    put("folder/a", b"x")
    with pytest.raises(UnreadableError, match="memory://folder is a folder"), open_remote(Url("memory://folder")):
        pass
    with pytest.raises(UnreadableError, match="memory://b: no such object"), open_remote(Url("memory://b")):
        pass
    with pytest.raises(UsageError, match="no file system is called"), open_remote(Url("nowhere://b")):
        pass


def test_a_file_without_a_size_is_not_read() -> None:
    store = connect(put("a", b"x"))
    with pytest.raises(UnreadableError, match="does not report its size"):
        RemoteSource(store, {"size": None})


def test_checkpoints_and_folders_are_opened() -> None:
    weights = save({"w": torch.ones(3)})
    with open_checkpoint(put("a.safetensors", weights)) as checkpoint:
        assert list(checkpoint.tensors) == ["w"]
    put("m/model.safetensors", weights)
    put("m/.cache/model.safetensors", weights)
    put("m/sub/b.txt", b"b")
    with open_any(Url("memory://m")) as folder:
        assert list(folder.tensors) == ["w"]
        assert [(each.name, str(each.path)) for each in folder.passthrough] == [("sub/b.txt", "memory://m/sub/b.txt")]


def test_a_distributed_folder_elsewhere_is_named_as_one() -> None:
    put("m/.metadata", b"x")
    with (
        pytest.raises(UnsupportedError, match=r"torch\.distributed\.checkpoint.*; fetch it"),
        open_any(Url("memory://m")),
    ):
        pass


@pytest.mark.parametrize("name", ["..", "a\\b", "."])
def test_names_that_lead_out_of_a_folder(name: str) -> None:
    put("m/model.safetensors", save({"w": torch.ones(3)}))
    put(f"m/{name}/passwd", b"")
    with pytest.raises(UnsafeError, match="whose name leads elsewhere"), open_any(Url("memory://m")):
        pass


def test_what_stands_behind_colons_is_part_of_a_name() -> None:
    put("a.safetensors", save({"w": torch.ones(3)}))
    with (
        pytest.raises(UnreadableError, match="::file:///etc/passwd: no such object"),
        open_any(Url("memory://a.safetensors::file:///etc/passwd")),
    ):
        pass


@pytest.mark.parametrize(
    "url",
    [
        "simplecache::memory://a",
        "filecache::zip://b::memory://a",
        "zip://b::memory://a",
        "reference:///r.json",
        "asynclocal:///etc/passwd",
        "git:///repo",
        "async_wrapper://a",
    ],
)
def test_what_may_lead_back_to_this_machine_is_refused(url: str) -> None:
    put("a", b"x")
    location = location_of(url)
    assert isinstance(location, Url)
    with pytest.raises(UsageError, match=":// stands on another file system"):
        connect(location)


def test_a_protocol_that_needs_settings_is_refused() -> None:
    class Demanding(PlainFileSystem):
        protocol = "demanding"

        def __init__(self, token: str, **options: Any) -> None:
            super().__init__(**options)

    register_implementation("demanding", Demanding, clobber=True)
    with pytest.raises(UsageError, match="demanding:// needs settings that no URL has"):
        connect(Url("demanding://a"))


@pytest.mark.parametrize("url", ["https://host/a.pt?token=word", "http://me:word@host/m/", "github://a:b@/c"])
def test_what_can_only_be_read_is_no_output(url: str) -> None:
    for look in (
        lambda: check_output(Url(url), force=False),
        lambda: check_remote_folder(Url(url), force=False, source=None, replaceable=False),
    ):
        with pytest.raises(OutputError, match=r"can only be read; write elsewhere with -o$") as caught:
            look()
        assert "word" not in str(caught.value)


def test_files_here_need_no_fsspec(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(save({"w": torch.ones(3)}))
    program = "import sys; from prunecli.cli.app import run; run(sys.argv[1:]); assert 'fsspec' not in sys.modules"
    line = [sys.executable, "-c", program, "apply", str(tmp_path / "a.safetensors"), "-p", "w", "-a", "1", "-q"]
    subprocess.run(line, check=True, capture_output=True)


# Writing


@pytest.mark.parametrize("protocol", ["memory", "plain", "oci"])
def test_nothing_stands_under_the_name_before_the_end(protocol: str, store: dict[str, Any]) -> None:
    target = check_output(Url(f"{protocol}://d/a"), force=False)
    data = np.random.default_rng(1).bytes(40 << 20)
    with target.new(len(data)) as sink:
        assert sink.ordered
        for start in range(0, len(data), 3 << 20):
            sink.write(memoryview(data)[start : start + (3 << 20)], start)
            assert "/d/a" not in store
    assert names(store) == {"/d/a": data}


@pytest.mark.parametrize("protocol", ["memory", "plain", "oci"])
@pytest.mark.parametrize("error", [OutputError("x"), KeyboardInterrupt()], ids=repr)
def test_a_failure_leaves_what_was_there(protocol: str, error: BaseException, store: dict[str, Any]) -> None:
    put("d/a", b"old")
    target = check_output(Url(f"{protocol}://d/a"), force=True)

    def fail() -> None:
        with target.new(20 << 20) as sink:
            sink.write(memoryview(bytes(17 << 20)), 0)
            raise error

    with pytest.raises(type(error)):
        fail()
    assert names(store) == {"/d/a": b"old"}


@pytest.mark.parametrize("protocol", ["memory", "plain", "oci"])
def test_what_appears_meanwhile_is_not_replaced(protocol: str, store: dict[str, Any]) -> None:
    target = check_output(Url(f"{protocol}://d/a"), force=False)

    def appear() -> None:
        with target.new(3) as sink:
            sink.write(memoryview(b"new"), 0)
            put("d/a", b"theirs")

    with pytest.raises(OutputError, match=f"{protocol}://d/a appeared meanwhile"):
        appear()
    assert names(store) == {"/d/a": b"theirs"}


def test_what_an_output_may_be() -> None:
    url = put("d/a", b"old")
    with pytest.raises(OutputError, match="exists; name another output with --report"):
        check_output(url, force=False, option="--report")
    with pytest.raises(OutputError, match="is the input itself"):
        check_remote_file(url, force=False, source=url)
    with pytest.raises(OutputError, match="is a folder"):
        check_output(Url("memory://d"), force=True)
    write_output(check_output(url, force=True), b"new")
    with open_remote(url) as source:
        assert source.read(0, source.size) == b"new"


def test_an_empty_file_is_written(store: dict[str, Any]) -> None:
    write_output(check_output(Url("memory://a"), force=False), b"")
    assert names(store) == {"/a": b""}


NOTHING = OutputContents([])
NO_SOURCE = Concatenated([], "nothing", None)


def five(name: str, *, closing: bool = False) -> OutputFile:
    """A file of five bytes."""
    return OutputFile(name, [Literal(b"     ")], NO_SOURCE, closing=closing)


def write_index(made: OutputWriter) -> None:
    with made.sink(five("index", closing=True)) as sink:
        sink.write(memoryview(b"index"), 0)


class Named(dict[str, Any]):
    """A store that remembers the order of the names."""

    def __init__(self) -> None:
        super().__init__()
        self.order: list[str] = []

    def __setitem__(self, name: str, file: Any) -> None:
        self.order.append(name)
        super().__setitem__(name, file)


def test_the_index_gets_its_name_last(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(b"c")
    put("b", b"b")
    seen = Named()
    seen.update(MemoryFileSystem.store)
    monkeypatch.setattr(MemoryFileSystem, "store", seen)
    with check_remote_folder(Url("memory://m"), force=False, source=None, replaceable=False).begin(
        NOTHING, Transfer()
    ) as made:
        with made.sink(five("shard")) as sink:
            sink.write(memoryview(b"shard"), 0)
        write_index(made)
        made.keep(PassthroughFile("b", Url("memory://b"), 1))
        made.keep(PassthroughFile("sub/c", tmp_path / "c", 1))
        assert list(seen) == ["/b"]
    assert seen.order == ["/m/b", "/m/shard", "/m/sub/c", "/m/index"]
    expected = {"/b": b"b", "/m/b": b"b", "/m/sub/c": b"c", "/m/shard": b"shard", "/m/index": b"index"}
    assert names(seen) == expected


@pytest.mark.parametrize("protocol", ["memory", "plain", "oci"])
def test_a_folder_is_written_on_any_file_system(protocol: str, store: dict[str, Any]) -> None:
    target = check_remote_folder(Url(f"{protocol}://m"), force=False, source=None, replaceable=False)
    with target.begin(NOTHING, Transfer()) as made:
        for name in ("shard", "sub/vocab"):
            with made.sink(five(name)) as sink:
                sink.write(memoryview(b"shard"), 0)
        write_index(made)
    assert names(store) == {"/m/shard": b"shard", "/m/sub/vocab": b"shard", "/m/index": b"index"}


def test_links_are_carried_along_whole(monkeypatch: pytest.MonkeyPatch, store: dict[str, Any]) -> None:
    def lists_links(self: Any, path: str, detail: bool = True, **options: Any) -> Any:
        return [{**each, "size": 1} for each in listed(self, path, detail=True, **options)]

    put("m/note", b"four")
    listed = MemoryFileSystem.ls
    monkeypatch.setattr(MemoryFileSystem, "ls", lists_links)
    (kept,) = files_in(Url("memory://m")).listed()
    assert kept.size == 1
    with check_remote_folder(Url("plain://n"), force=False, source=None, replaceable=False).begin(
        NOTHING, Transfer()
    ) as made:
        made.keep(kept)
    assert names(store)["/n/note"] == b"four"


@pytest.mark.parametrize("failing", ["/m/b", "/m/shard", "/m/index"])
def test_a_folder_that_cannot_be_named_whole_is_removed(
    failing: str, monkeypatch: pytest.MonkeyPatch, store: dict[str, Any]
) -> None:
    class Failing(Named):
        def __setitem__(self, name: str, file: Any) -> None:
            if name == failing:
                raise OSError("the store is full")
            super().__setitem__(name, file)

    seen = Failing()
    put("b", b"b")
    seen.update(store)
    monkeypatch.setattr(MemoryFileSystem, "store", seen)
    target = check_remote_folder(Url("memory://m"), force=False, source=None, replaceable=False)

    def fill() -> None:
        with target.begin(NOTHING, Transfer()) as made:
            write_index(made)
            made.keep(PassthroughFile("b", Url("memory://b"), 1))
            with made.sink(five("shard")) as sink:
                sink.write(memoryview(b"shard"), 0)

    with pytest.raises(OutputError, match=r"cannot write memory://m.*: the store is full"):
        fill()
    assert list(seen) == ["/b"]


def test_a_folder_that_appears_meanwhile_is_not_touched(store: dict[str, Any]) -> None:
    target = check_remote_folder(Url("memory://m"), force=False, source=None, replaceable=False)

    def fill() -> None:
        with target.begin(NOTHING, Transfer()) as made:
            write_index(made)
            put("m/index", b"theirs")

    with pytest.raises(OutputError, match="appeared meanwhile"):
        fill()
    assert names(store) == {"/m/index": b"theirs"}


def test_which_folders_are_written() -> None:
    put("m/a", b"a")
    url = Url("memory://m")
    with pytest.raises(OutputError, match="exists"):
        check_remote_folder(url, force=False, source=None, replaceable=True)
    with pytest.raises(OutputError, match="holds no checkpoint"):
        check_remote_folder(url, force=True, source=None, replaceable=False)
    with pytest.raises(OutputError, match="not a folder"):
        check_remote_folder(url / "a", force=True, source=None, replaceable=True)
    for inside in (url / "b", Url("memory:///m/b")):
        with pytest.raises(OutputError, match="lie in each other"):
            check_remote_folder(inside, force=True, source=url, replaceable=True)
    with pytest.raises(OutputError, match="is the input itself"):
        check_remote_folder(Url("memory:///m/"), force=False, source=url, replaceable=True)
    assert check_remote_folder(url, force=True, source=None, replaceable=True).old == ("a",)

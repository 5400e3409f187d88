"""The rules of an output file: whole under its name or not at all, and nothing left beside it."""

import errno
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from prunecli.errors import OutputError
from prunecli.formats.outputs import temp_files
from prunecli.formats.outputs.file import LocalFile, check_file, new_file
from prunecli.formats.outputs.output import write_output

OLD, NEW = b"old" * 1000, b"new" * 5000
NOBODY = 65534


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "model.pt"


@pytest.fixture
def umask() -> Iterator[Callable[[int], int]]:
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def leftover(out: Path, pid: int, boot: str | None = None) -> Path:
    name = f"{temp_files.hidden_prefix(out)}{pid}-{boot or temp_files._boot_id()}-{'ab' * 8}.tmp"
    path = out.with_name(name)
    path.write_bytes(b"half")
    return path


def dead_pid() -> int:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


def fill(target: LocalFile, then: Callable[[], object]) -> None:
    """Write, and let something happen before the file gets its name."""
    with new_file(target, None) as fd:
        os.write(fd, NEW)
        then()


def throw(error: BaseException) -> None:
    raise error


def refused(path: Path, words: str, *, force: bool = False, source: os.stat_result | None = None) -> None:
    with pytest.raises(OutputError, match=words) as caught:
        check_file(path, force=force, source=source)
    assert caught.value.exit_code == 6
    assert "\n" not in str(caught.value)


# What check_file refuses


def test_existing_output_is_refused_unless_forced(out: Path) -> None:
    out.write_bytes(OLD)
    refused(out, "exists; .*--force")
    assert check_file(out, force=True).mode == out.stat().st_mode & 0o777


def test_the_input_as_output_has_a_message_of_its_own(out: Path) -> None:
    out.write_bytes(OLD)
    (out.parent / "other").hardlink_to(out)
    refused(out.parent / "other", "is the input itself; .*--force", source=out.stat())
    assert check_file(out, force=True, source=out.stat()).replaces_input


def test_another_file_than_the_input_just_exists(out: Path) -> None:
    out.write_bytes(OLD)
    refused(out, "exists", source=Path(__file__).stat())


@pytest.mark.parametrize("force", [False, True])
def test_only_regular_files_are_replaced(tmp_path: Path, force: bool) -> None:
    fifo, sock = tmp_path / "fifo", tmp_path / "sock"
    os.mkfifo(fifo)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(sock))
    for path in (fifo, sock, Path("/dev/null"), Path("/dev/zero")):
        refused(path, "device, FIFO or socket; stream with -o -", force=force)
    refused(tmp_path, "is a folder; name a file in it", force=force)
    refused(Path(), "is a folder", force=force)


def test_stdout_by_path_is_refused_even_where_it_is_a_regular_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev/stdout")
    program = (
        "import sys; from pathlib import Path; from prunecli.errors import OutputError\n"
        "from prunecli.formats.outputs.file import check_file\n"
        "for name in sys.argv[1:]:\n"
        "    try: check_file(Path(name), force=True)\n"
        "    except OutputError as exc: print(exc)\n"
    )
    paths = ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", str(tmp_path / "link")]
    with (tmp_path / "redirected").open("wb") as stdout:
        subprocess.run([sys.executable, "-c", program, *paths], stdout=stdout, check=True)
    lines = (tmp_path / "redirected").read_text().splitlines()
    assert len(lines) == 4
    assert all("open descriptor; stream with -o -" in line for line in lines)


def test_the_folder_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    refused(tmp_path / "none" / "model.pt", "No such file or directory; create its folder first")
    refused(tmp_path / "file" / "model.pt", "Not a directory")
    refused(tmp_path / ("x" * 256), "name too long")


def test_the_folder_must_be_writable() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model.pt").write_bytes(OLD)
        folder.chmod(0o555)
        user = os.geteuid()
        try:
            if user == 0:
                os.seteuid(NOBODY)
            refused(folder / "new.pt", "not writable; write elsewhere with -o")
            refused(folder / "model.pt", "not writable", force=True)
        finally:
            os.seteuid(user)
            folder.chmod(0o755)


def test_paths_are_shown_escaped(tmp_path: Path) -> None:
    path = tmp_path / "a\n\x1b[2J.pt"
    path.write_bytes(OLD)
    refused(path, r"a\\n\\x1b\[2J\.pt exists")


# Links


def test_a_link_is_followed_and_stays(tmp_path: Path) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    (folder / "model.pt").write_bytes(OLD)
    (tmp_path / "second").symlink_to("there/model.pt")
    (tmp_path / "first").symlink_to(tmp_path / "second")
    refused(tmp_path / "first", "first exists")
    target = check_file(tmp_path / "first", force=True)
    assert (target.path, target.final) == (tmp_path / "first", folder / "model.pt")
    write_output(target, NEW)
    assert (folder / "model.pt").read_bytes() == NEW
    assert names(tmp_path) == ["first", "second", "there"]
    assert (tmp_path / "first").is_symlink()
    assert (tmp_path / "second").is_symlink()


def test_a_dangling_link_creates_its_target_if_there_is_a_folder_for_it(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("new.pt")
    write_output(check_file(tmp_path / "link", force=False), NEW)
    assert (tmp_path / "new.pt").read_bytes() == NEW
    assert (tmp_path / "link").is_symlink()
    (tmp_path / "lost").symlink_to("none/new.pt")
    refused(tmp_path / "lost", "create its folder first")
    (tmp_path / "loop").symlink_to("loop")
    refused(tmp_path / "loop", "[Ss]ymbolic links")


# Writing


@pytest.mark.parametrize("size", [None, len(NEW)])
@pytest.mark.parametrize("force", [False, True])
def test_a_new_file(out: Path, size: int | None, force: bool) -> None:
    target = check_file(out, force=force)
    with new_file(target, size) as fd:
        [temp] = names(out.parent)
        assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o600
        assert temp.startswith(f".model.pt.prunecli-{os.getpid()}-{temp_files._boot_id()}-")
        assert temp.endswith(".tmp")
        assert os.fstat(fd).st_size == (size or 0)
        assert not os.get_inheritable(fd)
        os.pwrite(fd, NEW, 0)
        assert os.pread(fd, len(NEW), 0) == NEW
    assert out.read_bytes() == NEW
    assert names(out.parent) == ["model.pt"]
    assert out.stat().st_nlink == 1


@pytest.mark.parametrize("data", [b"", b"{}", NEW])
def test_a_report(out: Path, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: write(fd, data[:1000], at))  # a short write is no error
    write_output(check_file(out, force=False), data)
    assert out.read_bytes() == data


def test_the_disk_is_reserved_where_the_file_system_can(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []

    def unsupported(fd: int, offset: int, size: int) -> None:
        calls.append((offset, size))
        raise OSError(errno.EOPNOTSUPP, "no")

    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    with new_file(check_file(out, force=False), 12345):
        pass
    assert calls == [(0, 12345)]
    assert out.stat().st_size == 12345


def test_long_names(tmp_path: Path) -> None:
    out = tmp_path / ("é" * 127)
    old = leftover(out, dead_pid())
    with new_file(check_file(out, force=False), 1):
        assert not old.exists()
        [temp] = names(tmp_path)
        assert len(os.fsencode(temp)) < 143
    assert names(tmp_path) == [out.name]


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    out = tmp_path / os.fsdecode(b"a\xff.pt")
    write_output(check_file(out, force=False), NEW)
    assert names(tmp_path) == [out.name]


# Mode and owner


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
@pytest.mark.parametrize("proc", [True, False])
def test_a_new_file_obeys_the_umask(
    out: Path, umask: Callable[[int], int], mask: int, proc: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    umask(mask)
    if not proc:
        monkeypatch.setattr(Path, "read_text", lambda self: "")
    write_output(check_file(out, force=False), NEW)
    assert stat.S_IMODE(out.stat().st_mode) == 0o666 & ~mask
    assert umask(mask) == mask


def test_proc_shows_the_umask_without_setting_it(umask: Callable[[int], int], monkeypatch: pytest.MonkeyPatch) -> None:
    umask(0o027)
    with monkeypatch.context() as patch:
        patch.setattr(os, "umask", lambda mask: pytest.fail("the umask was set"))
        assert temp_files.umask() == 0o027


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o777])
def test_a_replaced_file_keeps_its_mode(out: Path, umask: Callable[[int], int], mode: int) -> None:
    out.write_bytes(OLD)
    out.chmod(mode | stat.S_ISUID | stat.S_ISVTX)
    write_output(check_file(out, force=True), NEW)
    assert out.read_bytes() == NEW
    assert stat.S_IMODE(out.stat().st_mode) == mode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_replaced_file_keeps_its_owner(out: Path) -> None:
    out.write_bytes(OLD)
    os.chown(out, 1234, 4321)
    write_output(check_file(out, force=True), NEW)
    assert (out.stat().st_uid, out.stat().st_gid) == (1234, 4321)


@pytest.mark.parametrize("number", [errno.EPERM, errno.EINVAL])
def test_an_owner_that_cannot_be_kept_opens_the_file_to_nobody_else(
    out: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    out.write_bytes(OLD)
    target = LocalFile(out, out, 0o664, owner=(1234, 4321), force=True)

    def no_chown(fd: int, user: int, group: int) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(os, "fchown", no_chown)
    write_output(target, NEW)
    assert stat.S_IMODE(out.stat().st_mode) == 0o644


def test_a_file_system_without_modes_is_good_enough(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_chmod(fd: int, mode: int) -> None:
        raise PermissionError(errno.EPERM, "no")

    monkeypatch.setattr(os, "fchmod", no_chmod)
    write_output(check_file(out, force=False), NEW)
    assert out.read_bytes() == NEW


# Failures: the old output is byte-identical, nothing is left, one line tells why

CALLS = ["open", "statvfs", "posix_fallocate", "ftruncate", "pwrite", "fchown", "fchmod", "fsync", "close"]
NUMBERS = [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EACCES, errno.EROFS]


def fail_once(patch: pytest.MonkeyPatch, owner: object, call: str, number: int) -> list[int]:
    """Let the first use of a call fail; closing still closes."""
    real = getattr(owner, call)
    failed: list[int] = []

    def failing(*args: object, **kwargs: object) -> object:
        result = real(*args, **kwargs) if failed or call == "close" else None
        if failed:
            return result
        failed.append(number)
        raise OSError(number, os.strerror(number))

    patch.setattr(owner, call, failing)
    return failed


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("call", [*CALLS, "publish"])
@pytest.mark.parametrize("number", NUMBERS)
def test_a_failing_call(out: Path, monkeypatch: pytest.MonkeyPatch, force: bool, call: str, number: int) -> None:
    if force:
        out.write_bytes(OLD)
    target = check_file(out, force=force)
    with monkeypatch.context() as patch:
        if call == "publish":
            owner, call = (Path, "replace") if force else (os, "link")
        else:
            owner = os
        failed = fail_once(patch, owner, call, number)
        with pytest.raises(OutputError) as caught:
            write_output(target, NEW)
    assert failed == [number]
    assert caught.value.exit_code == 6
    message = str(caught.value)
    assert str(out) in message
    assert os.strerror(number) in message
    assert "-o" in message
    assert names(out.parent) == (["model.pt"] if force else [])
    assert not force or out.read_bytes() == OLD


@pytest.mark.parametrize("error", [ValueError("bug"), OutputError("mine"), KeyboardInterrupt(), BrokenPipeError()])
@pytest.mark.parametrize("force", [False, True])
def test_other_exceptions_clean_up_and_go_on(out: Path, error: BaseException, force: bool) -> None:
    if force:
        out.write_bytes(OLD)
    target = check_file(out, force=force)
    with pytest.raises(type(error)) as caught:
        fill(target, lambda: throw(error))
    assert caught.value is error
    assert names(out.parent) == (["model.pt"] if force else [])
    assert not force or out.read_bytes() == OLD


def test_an_error_of_another_file_is_not_reported_as_ours(out: Path) -> None:
    with pytest.raises(FileNotFoundError), new_file(check_file(out, force=False), None):
        (out.parent / "shard").read_bytes()
    assert names(out.parent) == []


@pytest.mark.parametrize("strike", [1, 2])
def test_an_interrupt_of_the_clean_up_leaves_nothing(out: Path, monkeypatch: pytest.MonkeyPatch, strike: int) -> None:
    unlink, calls = Path.unlink, [0]

    def struck(self: Path) -> None:
        calls[0] += 1
        if calls[0] == strike:
            raise KeyboardInterrupt
        unlink(self)

    monkeypatch.setattr(Path, "unlink", struck)
    with pytest.raises(KeyboardInterrupt):
        write_output(check_file(out, force=False), NEW)
    assert names(out.parent) == ["model.pt"]
    assert out.read_bytes() == NEW


def test_more_than_the_disk_has_is_refused_at_once(out: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"needs 1152921504606846976 bytes, its disk has \d+; free some"),
        new_file(check_file(out, force=False), 1 << 60),
    ):
        pytest.fail("the block ran")
    assert names(out.parent) == []


@pytest.mark.parametrize(("user", "fits"), [(0, True), (1000, False)])
def test_only_root_counts_on_the_reserve(out: Path, monkeypatch: pytest.MonkeyPatch, user: int, fits: bool) -> None:
    disk = SimpleNamespace(f_frsize=1, f_blocks=1 << 40, f_bfree=len(NEW), f_bavail=len(NEW) - 1)
    monkeypatch.setattr(os, "statvfs", lambda fd: disk)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    target = check_file(out, force=False)
    if fits:
        write_output(target, NEW)
        assert out.read_bytes() == NEW
    else:
        with pytest.raises(OutputError, match="free some"):
            write_output(target, NEW)


def test_a_file_system_that_reports_no_sizes(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = SimpleNamespace(f_frsize=4096, f_blocks=0, f_bfree=0, f_bavail=0)
    monkeypatch.setattr(os, "statvfs", lambda fd: disk)
    write_output(check_file(out, force=False), NEW)
    assert out.read_bytes() == NEW


@pytest.mark.parametrize("size", [None, 1 << 20])
def test_a_limit_on_file_sizes(out: Path, size: int | None) -> None:
    out.write_bytes(OLD)
    program = (
        "import os, resource, sys; from pathlib import Path\n"
        "from prunecli.errors import OutputError\n"
        "from prunecli.formats.outputs.file import check_file, new_file\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))\n"
        "try:\n"
        f"    with new_file(check_file(Path(sys.argv[1]), force=True), {size}) as fd:\n"
        "        while True: os.write(fd, bytes(1 << 15))\n"
        "except OutputError as exc:\n"
        "    sys.stdout.write(str(exc)); sys.exit(exc.exit_code)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(out)], capture_output=True, text=True, check=False)
    assert done.returncode == 6, done.stderr
    assert "File too large; see ulimit -f" in done.stdout
    assert out.read_bytes() == OLD
    assert names(out.parent) == ["model.pt"]


# The folder's sync comes after the name: the file is there, and the message says so


@pytest.mark.parametrize(("number", "fails"), [(errno.EIO, True), (errno.EINVAL, False), (errno.ENOSYS, False)])
def test_the_folder_is_synced(out: Path, monkeypatch: pytest.MonkeyPatch, number: int, fails: bool) -> None:
    real, folders = os.fsync, [0]

    def fsync(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            folders[0] += 1
            assert names(out.parent) == ["model.pt"]
            raise OSError(number, os.strerror(number))
        assert not out.exists()
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    if fails:
        with pytest.raises(OutputError, match="is written, but its folder not synced"):
            write_output(check_file(out, force=False), NEW)
    else:
        write_output(check_file(out, force=False), NEW)
    assert folders == [1]
    assert out.read_bytes() == NEW


# Two writers


def test_a_file_that_appeared_meanwhile_is_left_alone(out: Path) -> None:
    target = check_file(out, force=False)
    with pytest.raises(OutputError, match=r"appeared meanwhile; .*--force"):
        fill(target, lambda: out.write_bytes(OLD))
    assert out.read_bytes() == OLD
    assert names(out.parent) == ["model.pt"]


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK])
@pytest.mark.parametrize("appears", [False, True])
def test_a_file_system_without_hard_links(
    out: Path, monkeypatch: pytest.MonkeyPatch, number: int, appears: bool
) -> None:
    def no_link(source: Path, destination: Path) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(os, "link", no_link)
    target = check_file(out, force=False)
    if not appears:
        write_output(target, NEW)
    else:
        with pytest.raises(OutputError, match="appeared meanwhile"), new_file(target, None):
            out.write_bytes(OLD)
    assert out.read_bytes() == (OLD if appears else NEW)
    assert names(out.parent) == ["model.pt"]


@pytest.mark.parametrize("force", [False, True])
def test_two_writers(out: Path, force: bool) -> None:
    targets = [check_file(out, force=force) for _ in range(2)]
    barrier = threading.Barrier(2, timeout=30)
    reported: list[OutputError] = []

    def write(target: LocalFile, data: bytes) -> None:
        try:
            with new_file(target, len(data)) as fd:
                barrier.wait()
                os.write(fd, data)
                barrier.wait()
        except OutputError as exc:
            reported.append(exc)

    threads = [threading.Thread(target=write, args=pair) for pair in zip(targets, (OLD, NEW), strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reported) == (0 if force else 1)
    assert out.read_bytes() in (OLD, NEW)
    assert names(out.parent) == ["model.pt"]


# What killed runs leave


def test_leftovers_of_dead_runs_are_removed(out: Path) -> None:
    gone = [leftover(out, dead_pid()), leftover(out, os.getpid()), leftover(out, os.getppid(), "0badb007")]
    write_output(check_file(out, force=False), NEW)
    assert not any(path.exists() for path in gone)
    assert names(out.parent) == ["model.pt"]


def test_what_is_not_ours_or_alive_is_kept(out: Path) -> None:
    strangers = [".model.pt.prunecli-1.tmp", "model.pt.tmp", f".model.pt.prunecli-0-00000000-{'ab' * 8}.tmp"]
    kept = [
        leftover(out, os.getppid()),
        leftover(out, 1),
        leftover(out.with_name("other.pt"), dead_pid()),
        leftover(out.with_name("xmodel.pt"), dead_pid()),
        *(out.with_name(name) for name in strangers),
    ]
    for path in kept:
        path.touch()
    write_output(check_file(out, force=False), NEW)
    assert all(path.exists() for path in kept)


def test_a_pid_of_another_user_is_alive(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(pid: int, signum: int) -> None:
        raise PermissionError(errno.EPERM, "no")

    kept = leftover(out, dead_pid())
    monkeypatch.setattr(os, "kill", forbidden)
    write_output(check_file(out, force=False), NEW)
    assert kept.exists()


def test_own_files_in_flight_are_kept(out: Path) -> None:
    target = check_file(out, force=False)

    def second() -> None:
        [temp] = names(out.parent)
        with pytest.raises(ValueError, match="stop"):
            fill(target, lambda: throw(ValueError("stop" if temp in names(out.parent) else "gone")))

    fill(target, second)
    assert out.read_bytes() == NEW
    assert not temp_files._in_flight


def test_a_run_that_was_killed_is_tidied_up_by_the_next(out: Path) -> None:
    out.write_bytes(OLD)
    program = (
        "import os, sys; from pathlib import Path\n"
        "from prunecli.formats.outputs.file import check_file, new_file\n"
        "with new_file(check_file(Path(sys.argv[1]), force=True), 1 << 20) as fd:\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(out)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(names(out.parent)) == 2
    assert out.read_bytes() == OLD
    write_output(check_file(out, force=True), NEW)
    assert names(out.parent) == ["model.pt"]
    assert out.read_bytes() == NEW

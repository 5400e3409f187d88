"""prunecli where Python has no more than on macOS, and the line that it says on Windows.

This shows that every call that Linux alone has is left out or replaced. It does not show what macOS itself does.
"""

import signal
from pathlib import Path

import pytest
import torch
from folder_zoo import files_of, make_folder
from other_system import on_macos, on_windows
from safetensors.torch import save_file

from prunecli.cli.app import run

BAKE = ("-p", "*.weight", "-a", "0.5", "--seed", "7", "--remove", "-q")
MASK = ("-p", "*.weight", "-a", "0.5", "--seed", "7", "-q")


def there(folder: Path, *arguments: object, setup: str = "", stdin: bytes = b"") -> bytes:
    """Run a command line that succeeds; return what it says on standard output."""
    done = on_macos(folder, arguments, setup=setup, stdin=stdin)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def tensors() -> dict[str, torch.Tensor]:
    values = torch.arange(1, 300_001, dtype=torch.float32)
    return {"a.weight": values.view(-1, 8), "b.weight": values[:600].clone().view(20, 30), "n": torch.arange(3)}


def hidden(folder: Path) -> list[str]:
    """What a run leaves behind only to go on from."""
    return [each.name for each in folder.iterdir() if each.name.startswith(".")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of each container, and a folder of three shards, in the working directory."""
    monkeypatch.chdir(tmp_path)
    save_file(tensors(), "m.safetensors")
    torch.save(tensors(), "m.pt")
    make_folder(tmp_path / "m", [{name: tensor} for name, tensor in tensors().items()])
    return tmp_path


@pytest.mark.parametrize("name", ["m.safetensors", "m.pt"])
def test_a_file_comes_out_as_on_linux(folder: Path, name: str) -> None:
    assert run(["apply", name, *MASK, "-o", "linux.out"]) == 0
    there(folder, "apply", name, *MASK, "-o", "macos.out")
    assert Path("macos.out").read_bytes() == Path("linux.out").read_bytes()
    assert there(folder, "verify", "macos.out") == b"".join(
        (b"macos.out matches its report: ", there(folder, "verify", "linux.out").partition(b": ")[2])
    )
    there(folder, "remove", "macos.out", "-o", "baked.out", "-q")
    assert run(["remove", "linux.out", "-o", "linux-baked.out", "-q"]) == 0
    assert Path("baked.out").read_bytes() == Path("linux-baked.out").read_bytes()


def test_a_file_is_replaced_and_a_pipe_is_read_and_written(folder: Path) -> None:
    assert run(["apply", "m.pt", *BAKE, "-o", "linux.pt"]) == 0
    Path("out.pt").write_bytes(b"old")
    there(folder, "apply", "m.pt", *BAKE, "-o", "out.pt", "--force")
    assert Path("out.pt").read_bytes() == Path("linux.pt").read_bytes()
    piped = there(folder, "apply", "-", *BAKE, "-o", "-", stdin=Path("m.pt").read_bytes())
    assert piped == Path("linux.pt").read_bytes()
    assert there(folder, "params", "m.pt").startswith(b"a.weight\tfloat32\t37500x8\t")


@pytest.mark.parametrize("options", [(), ("--link",)])
def test_a_folder_comes_out_as_on_linux(folder: Path, options: tuple[str, ...]) -> None:
    assert run(["apply", "m", *BAKE, "-o", "linux"]) == 0
    there(folder, "apply", "m", *BAKE, "-o", "macos", *options)
    assert files_of(folder / "macos") == files_of(folder / "linux")
    same = {name for name in files_of(folder / "m") if Path("macos", name).samefile(Path("m", name))}
    assert ("config.json" in same) is bool(options)
    assert hidden(folder) == []


def test_a_folder_is_replaced_by_renaming_aside_and_in(folder: Path) -> None:
    assert run(["apply", "m", *BAKE, "-o", "linux"]) == 0
    make_folder(folder / "out", [{"old": torch.ones(3)}])
    (folder / "out" / "old.txt").touch()
    there(folder, "apply", "m", *BAKE, "-o", "out", "--force")
    assert files_of(folder / "out") == files_of(folder / "linux")
    assert hidden(folder) == []
    there(folder, "apply", "m", *BAKE, "-o", "m", "--force")  # in place
    assert files_of(folder / "m") == files_of(folder / "linux")


FAILING = """
from prunecli.formats.io import sinks
from prunecli.surgery.run import units
units._SMALLEST = 1 << 18
write = sinks.FileSink.write
left = [4]
def failing(sink, data, offset):
    left[0] -= 1
    if left[0] < 0:
        raise OSError(errno.EIO, "Input/output error")
    write(sink, data, offset)
sinks.FileSink.write = failing
"""


def test_an_interrupted_run_is_resumed(folder: Path) -> None:
    assert run(["apply", "m", *BAKE, "-o", "linux"]) == 0
    done = on_macos(folder, ["apply", "m", *BAKE, "-o", "out", "--resume", "-j", "1"], setup=FAILING)
    assert (done.returncode, done.stderr.count(b"\n")) == (6, 1)
    assert done.stderr.endswith(b"; what is finished is kept, go on with --resume\n")
    assert len(hidden(folder)) == 1
    there(folder, "apply", "m", *BAKE, "-o", "out", "--resume", setup=FAILING.replace("[4]", "[10**9]"))
    assert files_of(folder / "out") == files_of(folder / "linux")
    assert hidden(folder) == []


STRUCK = """
from pathlib import Path
rename, left = Path.rename, [NUMBER]
def struck(path, target):
    rename(path, target)
    if str(target).endswith("/out") or str(path).endswith("/out"):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGTERM)
Path.rename = struck
"""


@pytest.mark.parametrize("number", [1, 2])
def test_a_signal_between_the_two_renames_leaves_a_whole_folder(folder: Path, number: int) -> None:
    make_folder(folder / "out", [{"old": torch.ones(3)}])
    old = files_of(folder / "out")
    assert run(["apply", "m", *BAKE, "-o", "linux"]) == 0
    line = ["apply", "m", *BAKE, "-o", "out", "--force"]
    done = on_macos(folder, line, setup=STRUCK.replace("NUMBER", str(number)))
    assert done.returncode == -signal.SIGTERM
    assert done.stderr.decode() == (
        "prunecli: interrupted; nothing was written\n"
        if number == 1
        else f"prunecli: interrupted; {folder / 'out'} is complete, but its report may be missing\n"
    )
    assert files_of(folder / "out") == (old if number == 1 else files_of(folder / "linux"))
    assert hidden(folder) == []


def test_a_full_sync_that_a_file_system_does_not_know_becomes_an_fsync(folder: Path) -> None:
    unknown = """
def unknown(descriptor, command, *rest):
    if command == 51:
        raise OSError(errno.ENOTSUP, "Operation not supported")
    return fcntl_of_linux(descriptor, command, *rest)
fcntl.fcntl, plain = unknown, []
def counted(descriptor):
    plain.append(descriptor)
    fsync(descriptor)
os.fsync = counted
import atexit
atexit.register(lambda: os.write(2, b"synced" if len(plain) > 1 else b"not synced"))
"""
    done = on_macos(folder, ["apply", "m.pt", *BAKE, "-o", "out.pt"], setup=unknown)
    assert (done.returncode, done.stderr) == (0, b"synced")


def test_a_full_sync_that_fails_is_an_error(folder: Path) -> None:
    broken = """
def broken(descriptor, command, *rest):
    raise OSError(errno.EIO, "Input/output error")
fcntl.fcntl = broken
"""
    done = on_macos(folder, ["apply", "m.pt", *BAKE, "-o", "out.pt"], setup=broken)
    assert (done.returncode, done.stderr.count(b"\n")) == (6, 1)
    assert b"cannot write out.pt: Input/output error" in done.stderr
    assert not Path("out.pt").exists()


def test_as_many_files_are_opened_as_macos_grants(folder: Path) -> None:
    shown = "import atexit\natexit.register(lambda: os.write(1, str(limits).encode()))\nlimits = []\n"
    shown += "resource.setrlimit = lambda kind, wanted: (limited(kind, wanted), limits.append(wanted[0]))\n"
    assert there(folder, "params", "m.pt", setup=shown).endswith(b"[10240]")


def test_windows_gets_one_line(folder: Path) -> None:
    for line in (["apply", "m.pt", *BAKE], ["--help"], []):
        done = on_windows(folder, *line)
        assert (done.returncode, done.stdout) == (2, b"")
        assert done.stderr == b"prunecli: error: Windows is not supported; run prunecli in WSL, or in a container\n"
    assert sorted(each.name for each in folder.iterdir()) == ["m", "m.pt", "m.safetensors"]


def test_a_live_module_on_windows_is_refused_in_one_line(folder: Path) -> None:
    program = "\nimport prunecli\ntry:\n    prunecli.prune_module\n"
    program += "except ImportError as error:\n    print(error)\n"
    done = on_windows(folder, program=program)
    assert done.stdout == b"prune_module is not supported on Windows; run it in WSL, or in a container\n", done.stderr

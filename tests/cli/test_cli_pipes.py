"""The program as a process among others: pipes, a reader that leaves, signals, a terminal, closed streams."""

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from forked import in_shell, prunecli, python

REAL = f"{sys.executable} -m prunecli"
APPLY = "-p fc1.weight -a 0.5 --seed 1"
pytestmark = pytest.mark.usefixtures("folder")


def shell(
    line: str, environment: Mapping[str, str] | None = None, *, real: bool = False
) -> subprocess.CompletedProcess[bytes]:
    """Run a line in which `prunecli` is this checkout's; its code is that of the first failing part of a pipe."""
    function = f'prunecli() {{ {REAL} "$@"; }}' if real else in_shell()
    script = f"set -o pipefail; {function}; {line}"
    return subprocess.run(
        ["bash", "-c", script], capture_output=True, timeout=60, env={**os.environ, **(environment or {})}
    )


def checked(line: str, *, real: bool = False) -> bytes:
    done = shell(line, real=real)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("source", ["model.pt", "model.safetensors"])
@pytest.mark.parametrize("form", ["--remove", ""])
def test_a_pipeline(source: str, form: str) -> None:
    line = f"cat {source} | prunecli apply - {APPLY} {form} -o - | prunecli report - -p fc1.weight --format json"
    assert json.loads(checked(line))["totals"]["sparsity"] == 0.5


def test_a_pipeline_from_a_redirection() -> None:
    line = f"prunecli apply - {APPLY} --remove -o - < model.safetensors | prunecli report - --format json"
    assert json.loads(checked(line))["totals"]["zeros"] == 16384


def test_a_true_pipe_gives_the_bytes_of_a_file() -> None:
    checked(f"prunecli apply model.pt {APPLY} --remove -o file -q")
    assert (
        checked(f"cat model.pt | prunecli apply - {APPLY} --remove -o - -q | cat", real=True)
        == Path("file").read_bytes()
    )


def test_three_rounds_and_a_bake_in_one_line() -> None:
    rounds = f"prunecli apply - {APPLY} -o - |" * 3
    line = f"cat model.pt | {rounds} prunecli remove - -o - | prunecli report - -p fc1.weight --format json"
    assert json.loads(checked(line))["totals"]["zeros"] == 32768 * 7 // 8


@pytest.mark.parametrize("form", ["--remove", ""])
def test_an_archive_zipped_anew_by_python(form: str) -> None:
    """Its checksums stand before the payloads, so that a stream cannot be written straight on."""
    with zipfile.ZipFile("model.pt") as old, zipfile.ZipFile("again.pt", "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    checked(f"prunecli apply again.pt {APPLY} {form} -o file -q")
    piped = checked(f"cat again.pt | prunecli apply - {APPLY} {form} -o - -q | cat")
    assert piped == Path("file").read_bytes()
    with zipfile.ZipFile("file") as written:
        assert written.testzip() is None
    report = json.loads(checked("prunecli report - -p fc1.weight --format json < file"))
    assert report["totals"]["zeros"] == 16384


@pytest.mark.parametrize(
    "command",
    [
        f"apply model.pt {APPLY} --remove -o -",
        f"apply - {APPLY} -o - < model.safetensors",
        "report model.pt",
        "report model.pt --format json",
        "params model.pt",
        "--help",
        "apply --help",
        "--version",
    ],
)
def test_a_reader_that_leaves_ends_it_quietly(folder: Path, command: str) -> None:
    before = sorted(folder.iterdir())
    start = REAL if command == "report model.pt" else shlex.join(prunecli())
    done = shell(
        f"mkfifo go; (read _ < go; exec {start} {command}) | {{ exec 0<&-; echo > go; }}; echo ${{PIPESTATUS[0]}}"
    )
    Path("go").unlink()
    assert (done.stdout, ours(done.stderr)) == (b"%d\n" % (128 + signal.SIGPIPE), [])
    assert sorted(folder.iterdir()) == before


def ours(stderr: bytes) -> list[str]:
    """Return the lines that are no table: messages and tracebacks."""
    return [line for line in stderr.decode().splitlines() if "rror" in line or "Traceback" in line]


def test_a_reader_of_the_table_that_leaves() -> None:
    line = f"mkfifo go; (read _ < go; exec {shlex.join(prunecli())} apply model.pt {APPLY}) 2>&1 >/dev/null"
    done = shell(line + " | { exec 0<&-; echo > go; }; echo ${PIPESTATUS[0]}")
    assert done.stdout == b"%d\n" % (128 + signal.SIGPIPE)
    assert Path("model.pruned.pt").stat().st_size > 400_000


def test_head_takes_ten_bytes_of_a_large_stream() -> None:
    torch.save({"w": torch.ones(1 << 20)}, "large.pt")
    done = shell("prunecli apply large.pt -p w -a 0.5 --remove -o - -q | head -c 10; echo ${PIPESTATUS[0]}")
    assert (done.stdout[10:], done.stderr) == (b"%d\n" % (128 + signal.SIGPIPE), b"")


def test_a_signal_ends_a_run_whose_reader_takes_nothing() -> None:
    torch.save({"w": torch.ones(1 << 22)}, "large.pt")
    command = [*prunecli(), "apply", "large.pt", "-p", "w", "-a", "0.5", "-o", "-", "-q"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.read(1)  # it is writing, and will be stuck as soon as the pipe is full
        process.terminate()
        assert process.wait(timeout=30) == -signal.SIGTERM


INTERRUPTED = """
import os, sys, time
from prunecli.formats.io import sinks
write = sinks.{sink}.write
def slow(self, data, offset):
    write(self, data, offset)
    os.write(2, b"writing\\n")
    time.sleep(0.4)
sinks.{sink}.write = slow
from prunecli.cli.app import run
sys.exit(run(sys.argv[1:]))
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_signal_in_the_middle_leaves_nothing(folder: Path, signum: signal.Signals, jobs: str) -> None:
    Path("out.pt").write_bytes(b"old")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    line = ["apply", "model.pt", *APPLY.split(), "-o", "out.pt", "--force", "-j", jobs, "-q"]
    code, stderr = interrupted("FileSink", line, signum)
    assert (code, stderr) == (-signum, b"prunecli: interrupted; nothing was written\n")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_signal_while_streaming(folder: Path) -> None:
    before = sorted(folder.iterdir())
    code, stderr = interrupted("PipeSink", ["apply", "model.pt", *APPLY.split(), "-o", "-", "-q"], signal.SIGTERM)
    assert code == -signal.SIGTERM
    assert stderr == b"prunecli: interrupted; what was written to standard output is not complete\n"
    assert sorted(folder.iterdir()) == before


def interrupted(sink: str, arguments: Sequence[str], signum: signal.Signals) -> tuple[int, bytes]:
    program = [*python(), "-c", INTERRUPTED.format(sink=sink), *arguments]
    with subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"writing\n"
        process.send_signal(signum)
        rest = process.stderr.read()
        return process.wait(timeout=20), rest.replace(b"writing\n", b"")


def test_a_signal_while_waiting_for_standard_input(folder: Path) -> None:
    before = sorted(folder.iterdir())
    program = """
import os, sys
from prunecli.formats.io import source
read = os.read
def reading(*args):
    os.write(2, b"reading\\n")
    return read(*args)
source.os.read = reading
from prunecli.cli.app import run
sys.exit(run(sys.argv[1:]))
"""
    line = [*python(), "-c", program, "apply", "-", *APPLY.split(), "-o", "out.pt"]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"reading\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == b"prunecli: interrupted; nothing was written\n"
        assert process.wait(timeout=20) == -signal.SIGINT
    assert sorted(folder.iterdir()) == before


def on_terminal(*arguments: str, streams: Sequence[str]) -> tuple[int, str, bytes]:
    """Run with the named streams on a terminal; return the code, what it got but colours, and what a pipe got."""
    ours_end, theirs = pty.openpty()
    stdin, stdout, stderr = (theirs if name in streams else subprocess.PIPE for name in ("stdin", "stdout", "stderr"))
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    line = [*prunecli(), *arguments]
    with subprocess.Popen(line, env=environment, stdin=stdin, stdout=stdout, stderr=stderr) as process:
        os.close(theirs)
        seen = bytearray()
        try:
            while block := os.read(ours_end, 1 << 16):
                seen += block
        except OSError:  # how Linux tells the end of a terminal
            pass
        piped = process.stdout.read() if process.stdout else b""
        code = process.wait(timeout=20)
    os.close(ours_end)
    return code, re.sub(r"\x1b\[[\d;]*m", "", seen.decode()), piped


def test_a_checkpoint_is_not_written_to_a_terminal(folder: Path) -> None:
    before = sorted(folder.iterdir())
    code, seen, _ = on_terminal("apply", "model.pt", *APPLY.split(), "-o", "-", streams=["stdout", "stderr"])
    assert code == 2
    assert seen.startswith("prunecli: error: -o - would write a checkpoint to the terminal")
    assert len(seen.splitlines()) == 1
    assert sorted(folder.iterdir()) == before


def test_a_checkpoint_is_not_read_from_a_terminal() -> None:
    code, seen, _ = on_terminal("params", "-", streams=["stdin", "stderr"])
    assert code == 3
    assert seen.startswith("prunecli: error: standard input is a terminal")


def test_progress_appears_on_a_terminal_only() -> None:
    code, seen, piped = on_terminal("apply", "model.pt", *APPLY.split(), "-o", "a.pt", streams=["stderr"])
    assert (code, piped) == (0, b"a.pt\n")
    assert "\x1b[" in seen
    assert "bytes" in seen or "kB" in seen
    quiet = on_terminal("apply", "model.pt", *APPLY.split(), "-o", "b.pt", "-q", streams=["stderr"])
    assert quiet == (0, "", b"b.pt\n")
    done = shell(f"prunecli apply model.pt {APPLY} -o c.pt")
    assert done.stdout == b"c.pt\n"
    assert b"\x1b" not in done.stderr
    assert b"kB/s" not in done.stderr


def test_params_as_a_table_on_a_terminal() -> None:
    code, seen, _ = on_terminal("params", "model.pt", streams=["stdout", "stderr"])
    assert code == 0
    lines = [line.split() for line in seen.splitlines()]
    assert ["parameter", "type", "shape", "state"] in lines
    assert ["fc1.weight", "float32", "64x512", "dense"] in lines
    assert "prunecli: note: the key of the state dict is state_dict" in seen
    assert "\t" not in seen


def test_a_dry_run_prints_its_recipe_on_a_terminal_only_if_asked_for() -> None:
    words = ["apply", "model.pt", *APPLY.split(), "--dry-run"]
    code, seen, _ = on_terminal(*words, streams=["stdout", "stderr"])
    assert code == 0
    assert "nothing is written" in seen
    assert "[[group]]" not in seen
    assert "[[group]]" in on_terminal(*words, "--print-recipe", streams=["stdout", "stderr"])[1]
    assert b"[[group]]" in on_terminal(*words, streams=["stderr"])[2]


def test_closed_streams() -> None:
    """A file of ours that got the number of a closed stream would take in what is meant for the stream."""
    assert shell(f"prunecli apply model.pt {APPLY} -o a.pt >&- 2>&- <&-", real=True).returncode == 0
    checked(f"prunecli apply model.pt {APPLY} -o b.pt")
    assert Path("a.pt").read_bytes() == Path("b.pt").read_bytes()
    done = shell("prunecli params - <&-", real=True)
    assert (done.returncode, done.stderr) == (4, b"prunecli: error: standard input is empty\n")


FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is of Linux")


@FULL
@pytest.mark.parametrize(
    "command",
    [
        "--help",
        "--version",
        "report model.pt",
        "report model.pt --format json",
        "params model.pt",
        f"apply model.pt {APPLY} -q",
        f"apply model.pt {APPLY} --dry-run",
        f"apply model.pt {APPLY} --report -",
        f"apply model.pt {APPLY} -o -",
    ],
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_standard_output_on_a_full_disk_is_one_line(command: str, unbuffered: str) -> None:
    done = shell(
        f"prunecli {command} > /dev/full",
        {"PYTHONUNBUFFERED": unbuffered},
        real=command == "report model.pt" and not unbuffered,
    )
    *_, line = done.stderr.decode().splitlines()
    assert (done.returncode, line) == (6, "prunecli: error: cannot write to standard output: No space left on device")


@FULL
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_standard_error_on_a_full_disk_ends_nothing(folder: Path, unbuffered: str) -> None:
    environment = {"PYTHONUNBUFFERED": unbuffered}
    done = shell(f"prunecli apply model.pt {APPLY} 2> /dev/full", environment)
    assert (done.returncode, done.stdout) == (0, b"model.pruned.pt\n")
    assert (folder / "model.pruned.pt").exists()
    assert shell("prunecli apply model.pt -p nothing -a 0.5 2> /dev/full", environment).returncode == 2


def test_names_beyond_the_encoding_of_the_terminal() -> None:
    torch.save({"größe": torch.ones(2)}, "m.pt")
    done = shell("prunecli params m.pt && prunecli report m.pt", {"PYTHONIOENCODING": "ascii:strict"})
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"gr\\xf6\\xdfe\tfloat32" in done.stdout


def test_without_utf8_a_path_comes_out_as_its_bytes() -> None:
    done = shell(
        f"cp model.pt $'caf\\xe9.pt'; prunecli apply $'caf\\xe9.pt' {APPLY} -q", {"PYTHONIOENCODING": "utf-8:strict"}
    )
    assert (done.returncode, done.stdout) == (0, b"caf\xe9.pruned.pt\n")

"""Signals: the temp file is gone, the old output is whole, and the process died of that very signal."""

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from forked import python

from prunecli.cli.signals import Interrupted, die_of, interruptible

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]

WRITER = """
import os, signal, sys, time
from pathlib import Path
from prunecli.cli.signals import Interrupted, die_of, interruptible
from prunecli.formats.outputs.file import check_file, new_file

def write(path):
    with new_file(check_file(path, force=True), 1 << 20) as fd:
        os.pwrite(fd, b"x" * 1000, 0)
        print("writing", flush=True)
        time.sleep(30)

def run(work):
    signum = 0
    try:
        with interruptible():
            work()
    except Interrupted as exc:
        signum = exc.signum
    if signum:
        die_of(signum)
"""


def start(program: str, *args: object, setup: str = "") -> subprocess.Popen[str]:
    line = [*python(), "-c", setup + WRITER + program, *map(str, args)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_line(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_while_writing(tmp_path: Path, signum: signal.Signals) -> None:
    out = tmp_path / "model.pt"
    out.write_bytes(b"old")
    with start("run(lambda: write(Path(sys.argv[1])))", out) as process:
        wait_for_line(process)
        assert len(list(tmp_path.iterdir())) == 2
        process.send_signal(signum)
        _, stderr = process.communicate(timeout=20)
    assert process.returncode == -signum
    assert stderr == ""
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]
    assert out.read_bytes() == b"old"


def test_a_second_signal_during_clean_up(tmp_path: Path) -> None:
    program = """
unlink = Path.unlink
def struck(self):
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGHUP)
    unlink(self)
Path.unlink = struck
run(lambda: write(Path(sys.argv[1])))
"""
    with start(program, tmp_path / "model.pt") as process:
        wait_for_line(process)
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGTERM, stderr
    assert list(tmp_path.iterdir()) == []


def test_a_signal_at_any_moment(tmp_path: Path) -> None:
    """Forked writers are hit after a random delay: no temp file stays, and what is there is whole."""
    program = """
import random
from prunecli.formats.outputs.output import write_output
folder, data = Path(sys.argv[1]), b"y" * 5000

def forever():
    path = folder / "model.pt"
    while True:
        path.unlink(missing_ok=True)
        write_output(check_file(path, force=False), data)

for turn in range(150):
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(3))
        run(lambda: (os.write(tell, b"."), forever()))
    os.read(ready, 1)
    time.sleep(random.random() * 0.004)
    os.kill(child, signal.SIGTERM)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGTERM, (turn, status)
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert found in ({}, {"model.pt": data}), (turn, list(found))
    os.close(ready), os.close(tell)
"""
    with start(program, tmp_path) as process:
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr


def test_a_context_manager_left_suspended_is_closed(tmp_path: Path) -> None:
    """The signal comes inside contextlib, before the block of new_file is entered: only the traceback holds it."""
    program = """
import contextlib
enter = contextlib._GeneratorContextManager.__enter__
def struck(self):
    fd = enter(self)
    if self.gen.__name__ == "new_file":
        os.kill(os.getpid(), signal.SIGTERM)
    return fd
contextlib._GeneratorContextManager.__enter__ = struck
try:
    with interruptible():
        write(Path(sys.argv[1]))
except Interrupted as exc:
    die_of(exc.signum)
"""
    with start(program, tmp_path / "model.pt") as process:
        stdout, stderr = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGTERM, stderr
    assert stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_ignored_signals_stay_ignored(tmp_path: Path) -> None:
    setup = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    with start("run(lambda: write(Path(sys.argv[1])))", tmp_path / "model.pt", setup=setup) as process:
        wait_for_line(process)
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert process.returncode == -signal.SIGTERM


@pytest.mark.parametrize("signum", SIGNALS)
def test_the_exception_and_the_old_handler(signum: signal.Signals) -> None:
    before = signal.getsignal(signum)
    with pytest.raises(Interrupted, match=signum.name) as caught, interruptible():
        signal.raise_signal(signum)
    assert caught.value.signum == signum
    assert not isinstance(caught.value, Exception)
    assert signal.getsignal(signum) == before


def test_a_quiet_block_changes_nothing() -> None:
    before = [signal.getsignal(signum) for signum in SIGNALS]
    with interruptible():
        pass
    assert [signal.getsignal(signum) for signum in SIGNALS] == before


def test_another_exception_goes_on_and_handlers_are_restored() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ValueError, match="mine"), interruptible():
        raise ValueError("mine")
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_swallowed_interrupt_is_raised_at_the_end() -> None:
    reached = []

    def swallow() -> None:
        with suppress(Interrupted):
            signal.raise_signal(signal.SIGTERM)
        reached.append(True)

    with pytest.raises(Interrupted) as caught, interruptible():
        swallow()
    assert reached
    assert caught.value.signum == signal.SIGTERM


def test_another_thread_gets_no_handlers() -> None:
    seen: list[object] = []

    def run() -> None:
        with interruptible():
            seen.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before]


@pytest.mark.parametrize("blocked", [False, True])
def test_die_of(blocked: bool) -> None:
    mask = "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})\n" if blocked else ""
    with start(mask + "die_of(signal.SIGHUP)") as process:
        process.communicate(timeout=20)
    assert process.returncode == -signal.SIGHUP


def test_the_first_process_of_a_container_exits_with_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel drops a signal that it would die of."""
    before = signal.getsignal(signal.SIGTERM)

    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(os, "kill", lambda pid, signum: None)
    monkeypatch.setattr(os, "_exit", leave)
    try:
        with pytest.raises(SystemExit) as caught:
            die_of(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert caught.value.code == 143


STARTING = """
import os, runpy, signal, sys
class Struck:
    def find_spec(self, name, *_):
        if name == "prunecli.cli.app":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Struck())
runpy.run_module("prunecli", run_name="__main__")
"""


def test_a_signal_during_the_imports() -> None:
    done = subprocess.run([sys.executable, "-c", STARTING], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "prunecli: interrupted; nothing was written\n")

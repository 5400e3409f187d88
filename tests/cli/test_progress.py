"""What progress shows of a run that takes its time: a line now and then, none of a short one."""

import io
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from prunecli.cli import progress
from prunecli.cli.progress import Lines

Cli = Callable[..., Any]
LINE = re.compile(r"model\.pt: \d+ % \([\d.]+ of [\d.]+ \w+\), \d+ \w+/s, (\d+ (s|min|h) ?)+ left")


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_run_of_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = Lines("model.pt", clock)
    for second in range(60):
        clock.now += 1
        lines((second + 1) * 50_000_000, 3_000_000_000)
    reported = capsys.readouterr().err.splitlines()
    assert reported[0] == "model.pt: 6 % (0.2 of 3.0 GB), 50 MB/s, 56 s left"
    assert reported[1] == "model.pt: 15 % (0.5 of 3.0 GB), 50 MB/s, 51 s left"
    assert len(reported) == 12
    assert all(LINE.fullmatch(line) for line in reported)


def test_a_short_run_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = Lines("model.pt", clock)
    for step in range(39):
        clock.now += 0.1
        lines(step, 39)
    clock.now += 10
    lines(39, 39)  # done: there is nothing left to tell
    assert capsys.readouterr() == ("", "")


def test_a_hostile_name_stays_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = Lines("a\x1b[2J\nb", clock)
    clock.now += 60
    lines(1, 2)
    assert capsys.readouterr().err == "a\\x1b[2J\\nb: 50 % (1 of 2 bytes), 0 bytes/s, 1 min 0 s left\n"


class Slow:
    """Time that goes by fast."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 3.0
        return self.now


@pytest.mark.parametrize("line", [["apply", "-p", "w", "-a", "0.5", "-o", "out.pt"], ["report"]], ids=str)
@pytest.mark.usefixtures("folder")
def test_commands_show_it_unless_they_are_to_be_quiet(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, line: list[str]
) -> None:
    monkeypatch.setattr(progress, "Lines", lambda label: Lines(label, Slow().monotonic))
    torch.save({"w": torch.ones(1 << 23)}, "model.pt")
    command, *more = line
    reported = [each for each in cli(command, "model.pt", *more).err.splitlines() if LINE.fullmatch(each)]
    assert reported
    quiet = cli(command, "model.pt", *more, "-q", *(["--force"] if more else []))
    assert (quiet.code, quiet.err) == (0, "")


class Tty(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def test_the_bar_is_one_line_with_room_for_ctrl_c_the_name_and_a_whole_rate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stderr", stream := Tty())
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    label = "/data/runs/2026-11-29/model-00001-of-00030.safetensors"
    with progress.progress(label, quiet=False) as show:
        assert show is not None
        show(12_345_678_901, 29_000_000_000)
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue()))
    assert max(map(len, lines)) == 77
    assert re.search(r"^model-00001\S*\.safetensors ━.* 12\.3/29\.0 GB \d+ [TGMk]B/s ", "\n".join(lines), re.MULTILINE)


def test_a_terminal_that_cannot_redraw_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", stream := Tty())
    monkeypatch.setenv("TERM", "dumb")
    with progress.progress("model.pt", quiet=False) as show:
        assert show is not None
        show(1, 2)
    assert stream.getvalue() == ""

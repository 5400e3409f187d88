"""Notes and errors: one line each in a log, wrapped and coloured on a terminal."""

import io

import pytest

from prunecli.cli import messages
from prunecli.cli.messages import print_error, print_note
from prunecli.reporting.terminal import Screen, screen_of

LONG = f"no parameter matches {'w' * 30}; list the names with `prunecli params model.pt`, and give one of them"


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(messages, "screen_of", lambda stream: Screen(60, 24, live=True))
    return monkeypatch


def test_in_a_log_each_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_note(LONG)
    print_error(LONG)
    assert capsys.readouterr().err == f"prunecli: note: {LONG}\nprunecli: error: {LONG}\n"


def test_on_a_terminal_they_are_wrapped(on: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    print_error(LONG)
    assert capsys.readouterr().err.splitlines() == [
        "prunecli: error: no parameter matches",
        f"  {'w' * 30}; list the names with",
        "  `prunecli params model.pt`, and give one of them",
    ]


def test_the_kind_has_a_colour(on: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    on.setattr(messages, "screen_of", lambda stream: Screen(80, 24, live=True, colour=True))
    print_note("a")
    print_error("b")
    assert capsys.readouterr().err == "prunecli: \x1b[2mnote:\x1b[0m a\nprunecli: \x1b[1;31merror:\x1b[0m b\n"


class Tty(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environ", "on_terminal", "in_log"),
    [
        ({}, True, False),
        ({"TERM": "dumb"}, False, False),
        ({"NO_COLOR": "1"}, False, False),
        ({"FORCE_COLOR": "1"}, True, True),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, True, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, False),
        ({"FORCE_COLOR": "", "NO_COLOR": ""}, True, False),
    ],
)
def test_variables_for_colours(environ: dict[str, str], on_terminal: bool, in_log: bool) -> None:
    assert screen_of(Tty(), environ).colour is on_terminal
    assert screen_of(io.StringIO(), environ).colour is in_log

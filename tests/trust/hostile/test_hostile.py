"""The hostile corpus through the commands: each file is refused as it must be, each odd one is worked on."""

import contextlib
import io
import pickle
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile_corpus import COMMANDS, Case, accepted, corpus
from hostile_judge import Outcome, judge
from hostile_table import ACCEPTED, HEAVY, REFUSED, figures, main
from hostile_table import rows as table_rows

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the judge uses Linux's in-memory files and process handles"
)
FAMILIES = sorted({case.family for case in corpus().values()} - {HEAVY})


@pytest.mark.parametrize("family", FAMILIES)
def test_a_case_of_each_family_ends_as_it_must(family: str) -> None:
    """The first that is refused and the first that is accepted; `python tests/trust` tries them all."""
    of_family = [case for case in corpus().values() if case.family == family]
    cases = list({case.is_refused: case for case in reversed(of_family)}.values())
    outcomes = list(judge(cases))
    assert [(each.case, each.command, each.problems) for each in outcomes if each.problems] == []
    assert len(outcomes) >= sum(len(case.commands) for case in cases if not case.needs)
    assert all(row.met for row in figures(cases, outcomes, whole=False))


def test_there_are_enough() -> None:
    sorts = Counter(case.is_refused for case in corpus().values())
    assert sorts[True] >= REFUSED
    assert sorts[False] >= ACCEPTED


RUNS = {name: case for name, case in corpus().items() if case.family == "code" and name.endswith(", zip")}
LOST = ("build before setitem", "setitem before append")


@pytest.mark.parametrize("name", [name for name in RUNS if not any(each in name for each in LOST)])
def test_these_would_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The corpus means what it says: a plain reader runs them."""
    monkeypatch.chdir(tmp_path)
    path = RUNS[name].place(tmp_path)

    class Reader(pickle.Unpickler):
        def persistent_load(self, pid: Any) -> Any:
            return pid

        def find_class(self, module: str, name: str) -> Any:
            return _nothing if module.startswith("torch") else super().find_class(module, name)

    with zipfile.ZipFile(path) as archive, contextlib.suppress(TypeError):  # once it ran, it may be of no use
        Reader(io.BytesIO(archive.read("m/data.pkl"))).load()
    assert (tmp_path / "canary").exists()


def _nothing(*_: object) -> dict[str, object]:
    return {}


def _case(make: Any, **changes: Any) -> Case:
    fields = {"codes": dict.fromkeys(COMMANDS, 4), "says": "."} | changes
    return Case("made", "test", make, **fields)


def _problems(case: Case) -> Iterator[str]:
    for outcome in judge([case], jobs=1):
        yield from outcome.problems


def test_the_judge_finds_what_is_wrong() -> None:
    """A file that is refused otherwise, one that is accepted, and one that is refused in other words."""
    assert all(
        "exit 4 instead of 5" in each for each in _problems(_case(lambda: b"x", codes=dict.fromkeys(COMMANDS, 5)))
    )
    good = next(case for case in corpus().values() if case.name == "records in another order")
    assert any("exit 0 instead of 4" in each for each in _problems(_case(good.make)))
    assert all("does not say" in each for each in _problems(_case(lambda: b"x", says="other words")))
    assert any(
        "exit 4 instead of 0" in each for each in _problems(_case(lambda: b"x", codes=dict.fromkeys(COMMANDS, 0)))
    )


def test_a_missed_figure_is_said_so(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = Outcome("x", "params", True, 1, 301, 0.0, 0, False, False, True, ("a traceback",))
    rows = figures([_case(lambda: b"x")], [outcome], whole=False)
    assert [row.met for row in rows] == [False, False, False]
    assert not figures([], [], whole=True)[0].met
    assert [row.met for row in table_rows([_case(lambda: b"x")], 1)] == [True, True, True]
    assert main(["file system", "--jobs", "2"]) == 0
    assert capsys.readouterr().out.startswith("| what | goal | result |")


def test_a_case_is_registered_once() -> None:
    def records_in_another_order() -> bytes:
        return b""

    with pytest.raises(AssertionError, match="zip: records in another order"):
        accepted(family="zip")(records_in_another_order)

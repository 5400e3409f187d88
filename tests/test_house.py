"""benchmarks/house.py: what it counts, in sources made for it; and that it runs."""

import re
from collections import Counter

import house
import pytest

SOURCES = {
    "core/methods/random.py": "class RandomUnstructured: pass",
    "a.py": '''"""A docstring."""
from threading import Lock
from prunecli.core.methods.random import Choice
def load(data, words): return data
def check(path):
    """Another."""
    if data:
        raise ValueError(f"{path} is wrong")
class Same: lock = Lock()
''',
    "b.py": """
import threading
class Same: pass
def open_it(path):
    return path.open()
state = threading.local()  # fmt: skip
lock: threading.Lock
""",
    "surgery/run/c.py": "import threading; lock = threading.Lock()",
}


def test_what_is_counted() -> None:
    assert list(house.naming_a_method(SOURCES)) == ["a.py"]
    assert list(house.twice(SOURCES)) == ["Same"]
    assert list(house.carrying(SOURCES)) == ["a.py:4 load: words", "a.py:5 check: path"]
    assert list(house.shared(SOURCES)) == ["a.py:9 Lock", "b.py:6 local"]
    assert list(house.skips(SOURCES)) == ["b.py:6"]
    assert sum(1 for _ in house.statements(SOURCES["a.py"])) == 9


def test_a_figure_stands_beside_that_of_the_base() -> None:
    found = {row.what: (row.base, row.today) for row in house.rows(SOURCES, {"a.py": SOURCES["a.py"]})}
    assert found["statements of the package"] == ("9", "20 (2.222)")
    assert found["modules that name a method"] == ("1", "1")
    assert found["type names defined twice"] == ("0", "1")
    assert house.at("no-such-revision") == {}


def test_it_prints_a_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(house, "today", lambda: SOURCES)
    monkeypatch.setattr("sys.argv", ["house.py", "--rounds", "0", "--base", "HEAD"])
    house.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| what | base | today | goal |"
    assert len(lines) == 8


def test_no_two_types_have_one_name() -> None:
    """As `house.twice`, which parses everything, in a hundredth of its time."""
    found = Counter(
        name for text in house.today().values() for name in re.findall(r"^ *class (\w+)[(:]", text, re.MULTILINE)
    )
    assert [name for name, count in found.items() if count > 1] == []
    assert len(found) > 300

"""docs/report.svg: what the command prints, as it prints it today."""

import importlib.util
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def drawn() -> str:
    spec = importlib.util.spec_from_file_location("draw_report", ROOT / "docs" / "draw_report.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text: str = module.draw(module.shown())
    return text


def test_the_picture_is_up_to_date(drawn: str) -> None:
    """If not: python docs/draw_report.py."""
    assert (ROOT / "docs" / "report.svg").read_text(encoding="utf-8") == drawn


def test_the_picture_shows_the_whole_report_and_fetches_nothing(drawn: str) -> None:
    text = "".join(ElementTree.fromstring(drawn).itertext()).replace("\xa0", " ")  # noqa: S314
    assert all(word in text for word in ("digits.pruned.pt", "fc2", "49.72%", "2:4"))
    assert "folded" not in text
    assert not re.findall(r"url\((?!#)|@import|href", drawn)

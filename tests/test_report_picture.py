"""docs/report.svg: what the command prints, as it prints it today."""

import importlib.util
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from forked import prunecli

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def drawn() -> str:
    spec = importlib.util.spec_from_file_location("draw_report", ROOT / "docs" / "draw_report.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    vars(module)["PROGRAM"] = prunecli()
    text: str = module.draw(module.shown())
    return text


def test_the_picture_is_up_to_date(drawn: str) -> None:
    """If not: python docs/draw_report.py."""
    assert (ROOT / "docs" / "report.svg").read_text(encoding="utf-8") == drawn


def test_the_picture_shows_readmes_first_command_and_fetches_nothing(drawn: str) -> None:
    text = "".join(ElementTree.fromstring(drawn).itertext()).replace("\xa0", " ")  # noqa: S314
    assert all(word in text for word in ("digits.pruned.pt", "fc1", "42.69%", "2:4"))
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    for command in re.findall(r"prunecli (?:apply|report) [^$]*?digits\.pruned\.pt", text):
        assert " ".join(command.replace("\\", " ").split()) in readme
    assert not re.findall(r"url\((?!#)|@import|href", drawn)


def test_the_picture_is_whole(drawn: str) -> None:
    """The terminal's frame lies within what is seen of the picture."""
    root = ElementTree.fromstring(drawn)  # noqa: S314
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    frame = next(each for each in root.iter("{http://www.w3.org/2000/svg}rect") if "rx" in each.attrib)
    assert float(frame.attrib["x"]) + float(frame.attrib["width"]) < width
    assert float(frame.attrib["y"]) + float(frame.attrib["height"]) < height

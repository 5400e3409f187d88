"""The figure: of the kind asked for, the same every time, and safe from names."""

import importlib.util
import re
import struct
import subprocess
import sys

import pytest
from report_zoo import NASTY, large, nasty, parameter, report, transformer

from prunecli.errors import UsageError
from prunecli.reporting import plot
from prunecli.reporting.plot import check_plot, draw

BEGINNINGS = {"png": b"\x89PNG\r\n\x1a\n", "svg": b"<?xml", "pdf": b"%PDF-"}
REPORTS = {
    "transformer": transformer(3),
    "nasty": nasty(),
    "empty": report([]),
    "large": large(1000),
    "uncounted": report([parameter("w", zeros=None)]),
    "without pictures": report([parameter("a.w", zeros=4)]),
}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("nasty", kind) for kind in BEGINNINGS),
        *zip((each for each in REPORTS if each != "nasty"), 2 * [*BEGINNINGS], strict=False),
    ],
)
def test_any_report_is_drawn_without_a_warning(name: str, kind: str) -> None:
    """Warnings are errors: a glyph that the font lacks would be one, and mathematics that does not parse another."""
    assert draw(REPORTS[name], kind).startswith(BEGINNINGS[kind])


@pytest.mark.parametrize("kind", BEGINNINGS)
def test_the_same_report_is_the_same_file(kind: str) -> None:
    drawn = draw(transformer(1), kind)
    assert draw(transformer(1), kind) == drawn
    assert draw(transformer(1, 0.25), kind) != drawn


def test_names_are_text_not_mathematics() -> None:
    """In SVG, each text is a comment before its glyphs."""
    (name,) = [each for each in NASTY if each.startswith("$x^2$")]
    texts = re.findall(r"<!-- (.*?) -->", draw(report([parameter(name)]), "svg").decode(), re.DOTALL)
    assert any(text.startswith("$x^2$ $") for text in texts)


def test_a_png_is_as_wide_as_a_page_at_200_dots_an_inch() -> None:
    data = draw(transformer(2), "png")
    assert struct.unpack(">II", data[16:24])[0] == 1400


@pytest.mark.parametrize("name", ["out.png", "out.SVG", "a.b.pdf"])
def test_the_suffix_says_the_kind(name: str) -> None:
    assert check_plot(name) == name[-3:].lower()


@pytest.mark.parametrize("name", ["out", "out.jpg", "png", ".png", "out.png.gz"])
def test_other_suffixes_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"--plot draws \.png, \.svg and \.pdf"):
        check_plot(name)


def test_without_matplotlib_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plot, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=re.escape("pip install 'prunecli[plot]'")):
        check_plot("out.png")


def test_only_drawing_imports_matplotlib() -> None:
    code = "import sys, prunecli.cli.app, prunecli.reporting.plot; sys.exit('matplotlib' in sys.modules)"
    assert importlib.util.find_spec("matplotlib")
    subprocess.run([sys.executable, "-c", code], check=True)

"""The figure: of the kind asked for, the same every time, and safe from names."""

import functools
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


@functools.cache
def drawn(name: str, kind: str) -> bytes:
    """Return the figure of a report, which several tests look at."""
    return draw(REPORTS[name], kind)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("nasty", kind) for kind in BEGINNINGS),
        ("transformer", "png"),
        ("empty", "svg"),
        ("large", "svg"),
        ("uncounted", "pdf"),
        ("without pictures", "png"),
    ],
)
def test_any_report_is_drawn_without_a_warning(name: str, kind: str) -> None:
    """Warnings are errors: a glyph that the font lacks would be one, and mathematics that does not parse another."""
    assert drawn(name, kind).startswith(BEGINNINGS[kind])


@pytest.mark.parametrize(("name", "kind"), [("transformer", "png"), ("empty", "svg"), ("uncounted", "pdf")])
def test_the_same_report_is_the_same_file(name: str, kind: str) -> None:
    assert draw(REPORTS[name], kind) == drawn(name, kind)


def test_other_zeros_are_another_figure() -> None:
    assert draw(transformer(3, 0.25), "png") != drawn("transformer", "png")


def test_names_are_text_not_mathematics() -> None:
    """In SVG, each text is a comment before its glyphs."""
    (name,) = [each for each in NASTY if each.startswith("$x^2$")]
    texts = re.findall(r"<!-- (.*?) -->", draw(report([parameter(name)]), "svg").decode(), re.DOTALL)
    assert any(text.startswith("$x^2$ $") for text in texts)


def test_a_png_is_as_wide_as_a_page_at_200_dots_an_inch() -> None:
    data = drawn("transformer", "png")
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

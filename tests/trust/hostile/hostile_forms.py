"""Names that attack, in a file, through the whole program, to every place where a person meets them."""

import os
import pty
import subprocess
import tempfile
from html.parser import HTMLParser
from pathlib import Path

import torch
from forked import prunecli
from hostile_table import Row
from report_zoo import NASTY

__all__ = ["row"]

_FORMS = {"pipe": "table", "JSON": "json", "CSV": "csv", "Markdown": "markdown", "HTML": "html"}


class _Elements(HTMLParser):
    """Counts the elements of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count += 1


def row() -> Row:
    """Show nasty names and as many harmless ones in every form; return the row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        nasty, harmless = place / "nasty.pt", place / "plain.pt"
        torch.save({name: torch.zeros(4, 4) for name in NASTY}, nasty)
        torch.save({f"layer{number}.weight": torch.zeros(4, 4) for number in range(len(NASTY))}, harmless)
        shown = {form: _piped(nasty, style) for form, style in _FORMS.items()} | {"terminal": _on_terminal(nasty)}
        elements = _elements(shown["HTML"]) - _elements(_piped(harmless, "html"))
    raw = {form: sum(not (char.isprintable() or char == "\n") for char in text) for form, text in shown.items()}
    return Row(
        f"{len(NASTY)} hostile names x {', '.join(shown)}",
        "0 raw control, C1 or bidi characters, 0 elements made by names",
        f"{sum(raw.values())} characters, {elements} elements",
        not any(raw.values()) and not elements,
    )


def _command(path: Path, style: str) -> list[str]:
    return [*prunecli(), "report", str(path), "--format", style]


def _piped(path: Path, style: str) -> str:
    return subprocess.run(_command(path, style), capture_output=True, check=True).stdout.decode("utf-8")


def _on_terminal(path: Path) -> str:
    """Return what a terminal gets, less the line ends that the terminal itself makes, and without colours."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "NO_COLOR": "1", "COLUMNS": "100", "LINES": "500"}
    with subprocess.Popen(_command(path, "table"), stdout=follower, env=environment) as process:
        os.close(follower)
        received = b""
        while True:
            try:
                data = os.read(leader, 1 << 16)
            except OSError:  # the other end was closed
                break
            if not data:
                break
            received += data
        assert process.wait() == 0
    os.close(leader)
    return received.decode("utf-8").replace("\r\n", "\n")


def _elements(page: str) -> int:
    reader = _Elements()
    reader.feed(page)
    return reader.count

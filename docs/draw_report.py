"""Draw docs/report.svg: a terminal with README's first command and the report of its output."""

import os
import pty
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "report.svg"
PROGRAM: Sequence[str] = (sys.executable, "-m", "prunecli")
COLUMNS, LINES = 80, 24
COMMANDS = (
    "prunecli apply examples/digits.pt -p fc1.weight -a 0.5 --bake --seed 7 \\\n    -o digits.pruned.pt",
    "prunecli report digits.pruned.pt",
)

_THEME = TerminalTheme(
    (21, 23, 27), (221, 224, 229),
    [(60, 64, 72), (224, 108, 117), (152, 195, 121), (229, 192, 123), (97, 175, 239), (198, 120, 221), (92, 178, 214),
     (200, 204, 212)],
)  # fmt: skip
# As rich's own, but for the fonts that it would fetch from the network.
_FORMAT = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<title>A terminal with the output of prunecli apply and prunecli report</title>
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; \
font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
.{unique_id}-title {{ font-size: 18px; font-family: system-ui, sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def main() -> None:
    """Write the picture."""
    PICTURE.write_text(draw(shown()), encoding="utf-8")


def shown() -> str:
    """Return what a terminal shows of the commands, with its colours."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "examples").symlink_to(ROOT / "examples")
        return "".join(f"$ {command}\n{run(command, Path(folder))}\n" for command in COMMANDS).rstrip("\n")


def run(command: str, folder: Path) -> str:
    """Run a command of prunecli in a folder, on a terminal; return what stays on it, with its colours."""
    _, *arguments = shlex.split(command.replace("\\\n", ""))
    line = [*PROGRAM, *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    environment |= {"COLUMNS": str(COLUMNS), "LINES": str(LINES), "TERM": "xterm-256color", "PYTHONUTF8": "1"}
    reading, writing = pty.openpty()
    with subprocess.Popen(line, cwd=folder, env=environment, stdout=writing, stderr=writing) as running:
        os.close(writing)
        text = _all_of(reading)
    if running.returncode:
        raise RuntimeError(f"{command} ended with {running.returncode}: {text}")
    return re.sub(r"^.*\x1b\[2K", "", text.replace("\r\n", "\n"), flags=re.DOTALL)  # without the bar, which is gone


def _all_of(descriptor: int) -> str:
    parts = []
    try:
        while part := os.read(descriptor, 1 << 16):
            parts.append(part)
    except OSError:  # how Linux says that nobody writes to a terminal any more
        pass
    os.close(descriptor)
    return b"".join(parts).decode("utf-8")


def draw(text: str) -> str:
    """Draw text with SGR sequences as SVG."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True, color_system="standard",
                          legacy_windows=False)  # fmt: skip
        console.print(Text.from_ansi(text), end="")
    return console.export_svg(title="", theme=_THEME, code_format=_FORMAT, unique_id="report")


if __name__ == "__main__":
    main()

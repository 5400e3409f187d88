"""Draw docs/report.png: a browser with the HTML report of README's first output, and one parameter opened.

Needs Chromium. Browsers and fonts differ, so no test compares the picture: draw it again when the page changes, and
look at it.
"""

import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from draw_report import COMMANDS, ROOT, run
from PIL import Image

PICTURE = ROOT / "docs" / "report.png"
COLORS = 64
"""Enough for the page: the file is a third of what the browser writes."""


def main() -> None:
    """Write the picture."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        sys.exit("there is no Chromium on the path")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "examples").symlink_to(ROOT / "examples")
        run(COMMANDS[0], folder)
        run("prunecli report digits.pruned.pt -o digits.html", folder)
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=4000"]
        options += [f"--user-data-dir={folder}/profile", "--window-size=1160,720", f"--screenshot={folder}/shot.png"]
        page = f"file://{folder}/digits.html#parameter=fc1.weight"
        subprocess.run([browser, *options, page], check=True, capture_output=True)
        PICTURE.write_bytes(reduced((folder / "shot.png").read_bytes()))


def reduced(picture: bytes) -> bytes:
    """Return a PNG with a palette of few colours instead of all of them."""
    out = io.BytesIO()
    Image.open(io.BytesIO(picture)).convert("RGB").quantize(COLORS).save(out, "PNG", optimize=True)
    return out.getvalue()


if __name__ == "__main__":
    main()

"""What README says of the examples is so. test_docs.py runs the session of the live one."""

import re
import subprocess
import sys
from pathlib import Path

from prunecli.cli.app import run

ROOT = Path(__file__).parents[1]


def pruned(folder: Path, *selection: str) -> Path:
    output = folder / f"{len(list(folder.iterdir()))}.pt"
    line = ["apply", str(ROOT / "examples/digits.pt"), *selection, "-a", "0.5", "--remove", "--seed", "7"]
    assert run([*line, "-q", "--no-report", "-o", str(output)]) == 0
    return output


def test_accuracies_in_readme(tmp_path: Path) -> None:
    files = [ROOT / "examples/digits.pt", pruned(tmp_path, "-p", "fc1.weight")]
    files.append(pruned(tmp_path, "-p", "*.weight", "--min-dim", "2"))
    script = [sys.executable, str(ROOT / "examples/evaluate_digits.py"), *map(str, files)]
    shown = subprocess.run(script, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    before, one_layer, all_layers = re.findall(r"([\d.]+) %$", shown, re.MULTILINE)
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"classifies {before} % of the test images before and {one_layer} % after" in readme
    assert f"leaves it at {all_layers} %" in readme

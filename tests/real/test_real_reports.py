"""Reports of a real transformer, in every form: the figures are those of its own library."""

import base64
import csv
import io
import json
import re
from pathlib import Path

import jsonschema
import pytest
import torch
from real_files import FILES, unpacked
from safetensors.torch import load_file

from prunecli.cli.app import run
from prunecli.surgery.report.schema import report_schema

pytestmark = pytest.mark.real
MINILM = next(real for real in FILES if real.at == "minilm")
PRUNE = ["-p", "*.weight", "-a", "0.3", "--min-dim", "2", "--remove", "--seed", "7", "-q"]


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("minilm")
    path = folder / "pruned.safetensors"
    assert run(["apply", str(unpacked(MINILM.spec, MINILM.member, folder)), *PRUNE, "-o", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def zeros(pruned: Path) -> dict[str, int]:
    state = load_file(pruned)
    return {name: int((value == 0).sum()) for name, value in state.items() if value.is_floating_point()}


def written(pruned: Path, name: str) -> str:
    target = pruned.parent / name
    assert run(["report", str(pruned), "-o", str(target), "--force"]) == 0
    return target.read_text(encoding="utf-8")


def test_json(pruned: Path, zeros: dict[str, int]) -> None:
    report = json.loads(written(pruned, "r.json"))
    jsonschema.Draft202012Validator(json.loads(report_schema())).validate(report)
    assert {each["name"]: each["zeros"] for each in report["parameters"]} == zeros
    for name, value in load_file(pruned).items():
        found = next((each["structure"] for each in report["parameters"] if each["name"] == name), None)
        if found is not None and value.dim() == 2:
            assert found["empty_columns"] == int((value == 0).all(dim=0).sum())
            assert found["groups_of_4_with_2_zeros"] == int(((value.view(-1, 4) == 0).sum(dim=1) >= 2).sum())


def test_csv(pruned: Path, zeros: dict[str, int]) -> None:
    rows = csv.DictReader(io.StringIO(written(pruned, "r.csv")))
    assert {row["name"]: int(row["zeros"]) for row in rows} == zeros


def test_text_and_markdown(pruned: Path, zeros: dict[str, int]) -> None:
    text, markdown = written(pruned, "r.txt"), written(pruned, "r.md")
    for name, count in zeros.items():
        assert re.search(rf"^{re.escape(name)} .* {count:,} +[<>]?[0-9.]+%$", text, re.MULTILINE)
        assert re.search(rf"^\| `{re.escape(name)}` \|.*\| {count:,} \|", markdown, re.MULTILINE)
    assert "| `encoder.layer.{0..5}` ×6 |" in markdown


def test_html_and_figure(pruned: Path, zeros: dict[str, int]) -> None:
    page = written(pruned, "r.html")
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    assert data["zeros"] == list(zeros.values())
    assert len(data["pictures"]) == len(zeros)
    assert len(page) < 2_000_000
    figure = pruned.parent / "figure.png"
    assert run(["report", str(pruned), "--plot", str(figure)]) == 0
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_a_picture_is_what_torch_sees(pruned: Path) -> None:
    page = written(pruned, "r.html")
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    names = [name for name, value in load_file(pruned).items() if value.is_floating_point()]
    at = names.index("pooler.dense.weight")
    rows, columns, shares = data["pictures"][str(at)]
    cells = torch.tensor(list(base64.b64decode(shares))).view(rows, columns).float() / 255
    expected = (load_file(pruned)["pooler.dense.weight"] == 0).float().view(rows, 384 // rows, columns, 384 // columns)
    assert torch.allclose(cells, expected.mean(dim=(1, 3)), atol=1 / 255)

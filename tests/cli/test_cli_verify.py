"""`verify`: one line if a checkpoint is what its report says, exit 7 and the first difference if not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

Cli = Callable[..., Any]
Refusal = Callable[..., str]
pytestmark = pytest.mark.usefixtures("folder")
FILES = ("model.pruned.safetensors", "model.pruned.safetensors.report.json")


@pytest.fixture(params=["--remove", "--mask-dtype=bool"])
def pruned(request: pytest.FixtureRequest, cli: Cli, folder: Path) -> None:
    outcome = cli("apply", "model.safetensors", "-p", "*.weight", "-a", "0.5", "--seed", "1", "-q", request.param)
    assert outcome.code == 0, outcome.err


@pytest.mark.usefixtures("pruned")
def test_what_apply_wrote_is_what_it_reported(cli: Cli) -> None:
    outcome = cli("verify", *FILES)
    assert (outcome.code, outcome.err) == (0, "")
    assert cli("verify", "-q", *FILES).out == ""
    (line,) = outcome.out.splitlines()
    assert line.startswith("model.pruned.safetensors matches its report: ")
    assert cli("verify", "-", FILES[1], stdin=Path(FILES[0])).code == 0
    assert cli("verify", FILES[0], "-", stdin=Path(FILES[1])).code == 0


@pytest.mark.usefixtures("pruned")
def test_one_flipped_element_ends_with_7(cli: Cli) -> None:
    tensors = load_file(FILES[0])
    name = next(name for name in tensors if name.startswith("fc1.weight"))
    tensors[name].view(-1)[17] += 1
    save_file(tensors, FILES[0])
    outcome = cli("verify", *FILES)
    assert outcome.code == 7
    assert outcome.err == "prunecli: error: not what the report says: 1 parameter differs\n"
    assert outcome.out.startswith("fc1.weight has ")
    quiet = cli("verify", "-q", *FILES)
    assert (quiet.code, quiet.out, quiet.err) == (7, "", "")


@pytest.mark.usefixtures("pruned")
def test_all_differences_are_counted_and_the_first_are_shown(cli: Cli) -> None:
    save_file({f"w{number}": torch.ones(2) for number in range(20)}, "other.safetensors")
    reported = json.loads(Path(FILES[1]).read_text())
    outcome = cli("verify", "other.safetensors", FILES[1])
    count = len(reported["parameters"]) + 20
    assert outcome.err.endswith(f": {count} parameters differ\n")
    assert outcome.out.splitlines()[-1] == f"and {count - 10} more"


@pytest.mark.usefixtures("pruned")
def test_a_report_of_report_is_verified_too(cli: Cli) -> None:
    assert cli("report", FILES[0], "--format", "json", "-o", "r.json").code == 0
    assert cli("verify", FILES[0], "r.json").code == 0
    outcome = cli("verify", "model.safetensors", "r.json")
    assert outcome.code == 7


@pytest.mark.parametrize(
    ("code", "content"),
    [
        (4, b""),
        (4, b"{"),
        (4, b"[]"),
        (4, b"\xff\xfe"),
        (4, b"[" * 100_000),
        (4, b'{"schema": "other/1"}'),
        (4, b'{"schema": "prunecli.report/1", "schema": "prunecli.report/1"}'),
        (4, b'{"schema": "prunecli.report/1"}'),
        (4, b"\x80\x02}q\x00."),
        (4, b'{"schema": NaN}'),
    ],
)
def test_what_is_no_report_is_refused_in_one_line(refused: Refusal, code: int, content: bytes) -> None:
    Path("r.json").write_bytes(content)
    refused(code, "verify", "model.safetensors", "r.json")


def test_another_kind_of_file_is_named(refused: Refusal) -> None:
    Path("r.json").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert "r.json is a PNG image, not a report" in refused(4, "verify", "model.safetensors", "r.json")
    assert "is not JSON, so it is not a report" in refused(4, "verify", "model.safetensors", "model.pt")


def test_a_report_that_is_no_file_is_refused(refused: Refusal) -> None:
    Path("folder").mkdir()
    for report in ("folder", "absent.json", "/dev/null"):
        refused(3, "verify", "model.safetensors", report)
    refused(2, "verify", "-", "-", stdin=Path("model.pt"))
    refused(2, "verify", "model.pt", "")


def test_a_report_of_a_gigabyte_is_refused_unread(cli: Cli) -> None:
    with Path("r.json").open("wb") as file:
        file.truncate((1 << 30) + 1)
    outcome = cli("verify", "model.safetensors", "r.json")
    assert (outcome.code, outcome.out) == (4, "")
    assert "too large" in outcome.err


@pytest.mark.usefixtures("pruned")
def test_the_report_beside_the_checkpoint_need_not_be_named(cli: Cli, refused: Refusal) -> None:
    named = cli("verify", *FILES)
    beside = cli("verify", FILES[0])
    assert (beside.code, beside.out, beside.err) == (0, named.out, "")
    assert "model.safetensors has no model.safetensors.report.json beside it" in refused(
        2, "verify", "model.safetensors"
    )
    assert "no report next to it" in refused(2, "verify", "-", stdin=Path(FILES[0]))


@pytest.mark.usefixtures("pruned")
def test_a_report_with_the_older_name_counts_if_it_names_the_file(cli: Cli, refused: Refusal) -> None:
    older = Path("model.pruned.report.json")
    Path(FILES[1]).rename(older)
    assert cli("verify", FILES[0]).code == 0
    reported = json.loads(older.read_text())
    reported["output"]["path"] = "/elsewhere/model.pruned.pt"
    older.write_text(json.dumps(reported))
    assert "no model.pruned.safetensors.report.json beside it" in refused(2, "verify", FILES[0])
    reported["output"]["path"] = "/elsewhere/model.pruned.safetensors"  # where it lay then
    older.write_text(json.dumps(reported))
    assert cli("verify", FILES[0]).code == 0
    # The new name comes first.
    Path(FILES[1]).write_text("{}")
    assert "its schema is" in refused(4, "verify", FILES[0])


def test_the_report_beside_a_folder(cli: Cli, folder: Path) -> None:
    Path("m").mkdir()
    Path("model.safetensors").rename("m/model.safetensors")
    assert cli("apply", "m", "-p", "fc1.weight", "-a", "0.5", "--remove", "-q").out == "m.pruned\n"
    assert Path("m.pruned.report.json").exists()
    assert cli("verify", "m.pruned/").code == 0


def test_an_export_archive_is_verified_by_the_report_beside_it(cli: Cli, folder: Path) -> None:
    torch.export.save(torch.export.export(torch.nn.Linear(6, 4), (torch.ones(2, 6),)), folder / "m.pt2")
    assert cli("apply", "m.pt2", "-p", "weight", "-a", "0.5", "--remove", "-o", "out.pt2").code == 0
    assert cli("verify", "out.pt2").out == "out.pt2 matches its report: 2 parameters, 28 elements, 12 zeros\n"
    assert cli("verify", "m.pt2", "out.pt2.report.json").code == 7

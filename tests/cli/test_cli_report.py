"""`report`: every form, from options or from the name of the output, and what goes where."""

import csv
import io
import json
import os
import pty
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import python

from prunecli.core.kernel import is_compiled
from prunecli.reporting.format import form_of
from prunecli.reporting.options import ReportFormat
from prunecli.surgery.report.schema import report_schema

Cli = Callable[..., Any]
Refusal = Callable[..., str]
pytestmark = pytest.mark.usefixtures("folder")

BEGINNINGS = {
    "table": "model.pt  torch zip, ",
    "json": '{\n  "schema": "prunecli.report/1"',
    "csv": '"name","module",',
    "markdown": "### Sparsity of `model.pt`\n",
    "html": "<!doctype html>\n",
}
SUFFIXES = {".json": "json", ".csv": "csv", ".md": "markdown", ".html": "html", ".txt": "table", ".HTML": "html"}


@pytest.mark.parametrize("form", BEGINNINGS)
def test_each_form_is_the_same_on_a_stream_and_in_a_file(cli: Cli, form: str) -> None:
    streamed = cli("report", "model.pt", "--format", form)
    assert (streamed.code, streamed.err) == (0, "")
    assert streamed.out.startswith(BEGINNINGS[form])
    assert streamed.out.endswith("\n")
    assert cli("report", "model.pt", "--format", form, "-o", "out").raw == b"out\n"
    assert Path("out").read_bytes() == streamed.raw


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_output_s_suffix_says_the_form(cli: Cli, suffix: str) -> None:
    assert cli("report", "model.pt", "-o", f"out{suffix}").code == 0
    assert Path(f"out{suffix}").read_text().startswith(BEGINNINGS[SUFFIXES[suffix]])


@pytest.mark.parametrize("form", BEGINNINGS)
def test_a_form_that_is_named_wins(cli: Cli, form: str) -> None:
    assert cli("report", "model.pt", "--format", form, "-o", "out.md").code == 0
    assert Path("out.md").read_text().startswith(BEGINNINGS[form])


@pytest.mark.parametrize("name", ["out", "out.yaml", "out.json.gz", ".json"])
def test_an_unknown_suffix_is_refused_with_all_that_are_known(refused: Refusal, name: str) -> None:
    line = refused(2, "report", "model.pt", "-o", name)
    assert all(suffix in line for suffix in (".json", ".csv", ".md", ".html", ".txt"))
    assert all(form in line for form in ReportFormat)


def test_every_form_has_a_suffix() -> None:
    assert {form_of(f"x{suffix}") for suffix in SUFFIXES} == set(ReportFormat)


def test_the_schema_needs_no_checkpoint(cli: Cli) -> None:
    outcome = cli("report", "--schema")
    assert (outcome.code, outcome.out, outcome.err) == (0, report_schema(), "")


def test_a_page_has_pictures_and_json_has_structure(cli: Cli) -> None:
    page = cli("report", "model.pt", "--format", "html").out
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    assert len(data["pictures"]) == len(data["structure"]) == len(data["elements"]) == 12
    structures = [each["structure"] for each in cli("report", "model.pt", "--format", "json").json["parameters"]]
    assert all(structures)


def test_csv_has_the_figures_of_json(cli: Cli) -> None:
    rows = list(csv.DictReader(io.StringIO(cli("report", "model.pt", "--format", "csv").out)))
    parameters = cli("report", "model.pt", "--format", "json").json["parameters"]
    assert [(row["name"], int(row["zeros"]), row["crc32"]) for row in rows] == [
        (each["name"], each["zeros"], each["crc32"]) for each in parameters
    ]


def test_the_table_in_any_view(cli: Cli) -> None:
    by_size = cli("report", "model.pt", "--format", "table", "--sort", "size", "--top", "2").out.splitlines()
    assert [line.split()[0] for line in by_size[-3:-1]] == ["fc1.weight", "conv2.weight"]
    assert by_size[-1] == "10 more parameters"
    modules = cli("report", "model.pt", "--format", "table", "--depth", "1").out
    assert re.search(r"^fc1 ", modules, re.MULTILINE)
    assert "fc1.weight" not in modules


@pytest.mark.parametrize("option", [["--depth", "1"], ["--sort", "size"], ["--top", "3"]])
@pytest.mark.parametrize("form", ["json", "csv", "markdown", "html"])
def test_views_are_of_the_table(refused: Refusal, form: str, option: list[str]) -> None:
    assert "for tables" in refused(2, "report", "model.pt", "--format", form, *option)


@pytest.mark.parametrize("option", [["--depth", "-1"], ["--sort", "zeros"], ["--top", "0"], ["--format", "pdf"]])
def test_views_that_are_none(refused: Refusal, option: list[str]) -> None:
    assert option[0] in refused(2, "report", "model.pt", *option)


def test_a_comparison_has_no_figure(refused: Refusal) -> None:
    assert "--plot" in refused(2, "report", "model.pt", "--baseline", "model.safetensors", "--plot", "figure.png")


@pytest.mark.parametrize(("suffix", "beginning"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF-")])
def test_a_figure_is_drawn_beside_the_report(cli: Cli, suffix: str, beginning: bytes) -> None:
    outcome = cli("report", "model.pt", "--plot", f"figure.{suffix}")
    assert (outcome.code, outcome.err) == (0, f"wrote figure.{suffix}\n")
    assert outcome.out == cli("report", "model.pt").out
    assert Path(f"figure.{suffix}").read_bytes().startswith(beginning)


def test_a_figure_replaces_another_file_by_force_only(cli: Cli, refused: Refusal) -> None:
    Path("figure.svg").write_text("old")
    assert "exists" in refused(6, "report", "model.pt", "--plot", "figure.svg")
    assert cli("report", "model.pt", "--plot", "figure.svg", "--force").code == 0
    assert Path("figure.svg").read_bytes().startswith(b"<?xml")


def test_in_a_pipe_it_is_lines_that_begin_as_those_of_params(cli: Cli) -> None:
    lines = [line.split("\t") for line in cli("report", "model.pt").out.splitlines()]
    listed = [line.split("\t") for line in cli("params", "model.pt").out.splitlines()]
    assert [line[:4] for line in lines] == [line for line in listed if line[3] == "dense"]
    assert ["fc1.weight", "float32", "64x512", "dense", "32768", "0", "0"] in lines
    largest = cli("report", "model.pt", "--sort", "size", "--top", "2").out.splitlines()
    assert [line.split("\t")[0] for line in largest] == ["fc1.weight", "conv2.weight"]
    assert "fc1\t\t\t\t32832\t0\t0" in cli("report", "model.pt", "--depth", "1").out.splitlines()


@pytest.mark.parametrize("more", [[], ["--format", "json"], ["-o", "out.csv", "--plot", "out.svg"]], ids=str)
def test_quiet_is_silent_and_the_exit_code_is_the_result(cli: Cli, more: list[str]) -> None:
    outcome = cli("report", "model.pt", "-q", *more)
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")
    outcome = cli("report", "model.pt", "-q", "--force", "--fail-under", "0.5", *more)
    assert (outcome.code, outcome.out) == (7, "")
    assert outcome.err.startswith("prunecli: error: ")
    assert outcome.err.count("\n") == 1


def test_the_paths_of_files_are_printed(cli: Cli) -> None:
    assert cli("report", "model.pt", "-o", "r.html", "--plot", "p.svg").out == "p.svg\nr.html\n"
    assert cli("report", "model.pt", "--baseline", "model.safetensors", "-o", "c.json").out == "c.json\n"


def test_figures_of_other_kinds_are_refused(refused: Refusal) -> None:
    assert ".png, .svg and .pdf" in refused(2, "report", "model.pt", "--plot", "figure.jpg")
    assert "--plot is empty" in refused(2, "report", "model.pt", "--plot", "")


def test_nothing_is_read_before_the_outputs_are_known(refused: Refusal) -> None:
    refused(2, "report", "missing.pt", "-o", "out.yaml")
    refused(2, "report", "missing.pt", "--plot", "figure.jpg")
    refused(6, "report", "missing.pt", "-o", "model.pt", "--format", "json")


def shown(arguments: list[str], **environment: str) -> str:
    """Run the program in a terminal of 24 lines by 70 columns and return what that got."""
    reading, writing = pty.openpty()
    clean = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES", "TERM")}
    code = f"""
import fcntl, struct, sys, termios
fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 70, 0, 0))
from prunecli.cli.app import run
sys.exit(run({arguments!r}))
"""
    with subprocess.Popen([*python(), "-c", code], stdout=writing, env={**clean, **environment}) as running:
        os.close(writing)
        parts = []
        try:
            while part := os.read(reading, 65536):
                parts.append(part)
        except OSError:  # so Linux ends a terminal
            pass
        os.close(reading)
    assert running.returncode == 0
    return b"".join(parts).decode().replace("\r\n", "\n")


def test_a_terminal_gets_colours_in_its_size_unless_the_environment_says_otherwise() -> None:
    plain = shown(["report", "model.pt"], NO_COLOR="1")
    assert "\x1b" not in plain
    assert max(map(len, plain.splitlines())) <= 70
    assert plain.count("\n") < 24
    assert "\x1b[1m" in shown(["report", "model.pt"])
    assert shown(["report", "model.pt"], TERM="dumb") == plain
    wide = shown(["report", "model.pt"], NO_COLOR="1", COLUMNS="150", LINES="60")
    assert "├ weight" in wide
    assert "folded" in plain
    assert "folded" not in wide


def test_an_encoding_without_blocks_gets_none() -> None:
    assert shown(["report", "model.pt"], PYTHONIOENCODING="ascii", NO_COLOR="1", LINES="50").isascii()


def wheel(folder: Path, **environment: str) -> tuple[str, set[str]]:
    """Build a wheel; return its name and those of its files."""
    root = Path(__file__).parents[2]
    code = "from hatchling.build import build_wheel; import sys; print(build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        cwd=root,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    name = done.stdout.split()[-1]
    return name, set(zipfile.ZipFile(folder / name).namelist())


def test_the_wheel_has_the_page_and_the_kernel(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    compiler = tmp_path / "compiler.sh"  # copies the library that there is: to compile it takes seconds
    compiler.write_text(f'shift $(($# - 1)); cp {root}/prunecli/core/kernel/kernel.shared "$1"')
    name, names = wheel(tmp_path, CC=f"sh {compiler}")
    data = [
        path
        for path in (root / "prunecli" / "reporting").rglob("*")
        if path.suffix in (".json", ".js", ".css", ".html")
    ]
    assert len(data) >= 6
    assert {str(path.relative_to(root)) for path in data} <= names
    kernel = {path for path in names if path.startswith("prunecli/core/kernel/")}
    compiled = {"prunecli/core/kernel/kernel.shared"} if is_compiled() else set()
    modules = {str(path.relative_to(root)) for path in (root / "prunecli" / "core" / "kernel").glob("*.py")}
    assert kernel == modules - {"prunecli/core/kernel/build.py"} | compiled
    assert ("-py3-none-any" in name) is not is_compiled()


def test_a_wheel_built_without_a_compiler_is_pure(tmp_path: Path) -> None:
    name, names = wheel(tmp_path, CC="false")
    assert name.endswith("-py3-none-any.whl")
    assert not any(path.endswith(".shared") for path in names)


def test_a_convolution_pruned_along_its_channels_is_called_right_in_every_form(cli: Cli) -> None:
    """2:4 as a person makes it: of every four input channels, two are zero at each place of the kernel."""
    convolution = torch.nn.Conv2d(16, 8, 3)
    with torch.no_grad():
        convolution.weight.view(8, 4, 4, 3, 3)[:, :, 1:3] = 0
    torch.save(convolution.state_dict(), "conv.pt")
    wanted = "all groups of four along dimension 1 have two zeros, as 2:4 hardware needs"
    for jobs in (1, 4):
        assert wanted in cli("report", "conv.pt", "-j", jobs, "--format", "markdown").out
    found = cli("report", "conv.pt", "-p", "weight", "--format", "json").json["parameters"][0]["structure"]
    assert [found[field] for field in ("groups_of_4", "groups_of_4_with_2_zeros", "group_dimension")] == [288, 288, 1]
    (line,) = csv.DictReader(io.StringIO(cli("report", "conv.pt", "-p", "weight", "--format", "csv").out))
    assert (line["fours"], line["halved_fours"], line["grouped_by"]) == ("288", "288", "1")
    assert "along dimension " in cli("report", "conv.pt", "--format", "html").out

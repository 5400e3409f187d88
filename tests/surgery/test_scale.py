"""Models of very many tensors and shards: planned from headers alone, exactly, in memory that goes with the tensors."""

import json
import math
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from surgery_zoo import ask

from prunecli.cli.app import run
from prunecli.formats.folders.sharded import open_folder
from prunecli.formats.io.source import FileSource
from prunecli.formats.opening import open_any
from prunecli.surgery.names.parameters import parameters_of
from prunecli.surgery.plan.model import Plan
from prunecli.surgery.plan.plan import plan_prune

EXPERTS, SHARDS, LAYERS = 9, 40, 40
SHAPES = {"gate_proj": (2048, 7168), "up_proj": (2048, 7168), "down_proj": (7168, 2048)}
AMOUNT = 0.37


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mixture of experts of 1,160 tensors and 16 billion parameters, a shard to a layer; all weights are holes."""
    folder = tmp_path_factory.mktemp("scale") / "model"
    folder.mkdir()
    weight_map: dict[str, str] = {}
    for layer in range(LAYERS):
        name = f"model-{layer + 1:05}-of-{SHARDS:05}.safetensors"
        shapes: dict[str, tuple[int, ...]] = {
            f"model.layers.{layer}.mlp.experts.{expert}.{part}.weight": shape
            for expert in range(EXPERTS)
            for part, shape in SHAPES.items()
        }
        shapes |= {f"model.layers.{layer}.{part}.weight": (7168,) for part in ("input_layernorm", "output_layernorm")}
        write_shard(folder / name, shapes)
        weight_map |= dict.fromkeys(shapes, name)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def write_shard(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


def planned(model: Path, *, everywhere: bool) -> Plan:
    with open_folder(model) as folder:
        assert len(folder.tensors) == LAYERS * (3 * EXPERTS + 2)
        return plan_prune(folder, ask(AMOUNT, "*.weight", min_dim=2, remove=True, everywhere=everywhere))


def test_each_of_many_parameters_gets_its_exact_share(model: Path) -> None:
    plan = planned(model, everywhere=False)
    assert len(plan.planned) == LAYERS * EXPERTS * 3
    assert {each.pruned_now for each in plan.planned.values()} == {round(AMOUNT * 2048 * 7168)}


def test_a_global_amount_over_many_parameters_leaves_no_rest_and_favours_none(model: Path) -> None:
    elements = 2048 * 7168
    shares = [each.pruned_now for each in planned(model, everywhere=True).planned.values()]
    assert sum(shares) == round(AMOUNT * elements * len(shares))
    deviation = math.sqrt(elements * AMOUNT * (1 - AMOUNT))
    scaled = [(share - AMOUNT * elements) / deviation for share in shares]
    assert max(map(abs, scaled)) < 6
    assert sum(each * each for each in scaled) / len(scaled) == pytest.approx(1, abs=6 * math.sqrt(2 / len(scaled)))


def test_planning_reads_nothing_behind_the_headers(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: dict[str, int] = {}
    read_into = FileSource.read_into

    def counted(self: FileSource, offset: int, buffer: memoryview) -> None:
        reads[self.label] = max(reads.get(self.label, 0), offset + len(buffer))
        read_into(self, offset, buffer)

    monkeypatch.setattr(FileSource, "read_into", counted)
    planned(model, everywhere=True)
    assert len(reads) == SHARDS + 1
    for shard in model.glob("*.safetensors"):
        with shard.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
        assert reads[str(shard)] == 8 + length


def test_planning_takes_memory_in_proportion_to_the_tensors(model: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    index = json.loads((model / "model.safetensors.index.json").read_text())
    shards = sorted(set(index["weight_map"].values()))[: SHARDS // 4]
    index["weight_map"] = {name: shard for name, shard in index["weight_map"].items() if shard in shards}
    for shard in shards:
        (small / shard).hardlink_to(model / shard)
    (small / "model.safetensors.index.json").write_text(json.dumps(index))
    peaks = []
    for folder in (small, model):
        tracemalloc.start()
        with open_any(folder) as opened:
            plan_prune(opened, ask(AMOUNT, "*.weight", min_dim=2))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    more = LAYERS * 3 // 4 * (3 * EXPERTS + 2)
    assert (peaks[1] - peaks[0]) / more < 6000


def test_params_lists_them_all_in_order(model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["params", str(model)]) == 0
    names = [line.partition("\t")[0] for line in capfd.readouterr().out.splitlines()]
    with open_folder(model) as folder:
        assert names == list(parameters_of(folder))


def test_a_dry_run_of_many_parameters_prints_the_plan(model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["apply", str(model), "-p", "*.weight", "--min-dim", "2", "-a", str(AMOUNT), "--seed", "7", "--remove"]
    assert run([*words, "--global", "--dry-run"]) == 0
    head, *rows, last = capfd.readouterr().err.splitlines()
    expected = planned(model, everywhere=True).planned
    assert head.split() == ["parameter", "elements", "left", "to", "prune"]
    assert "nothing is written" in last
    assert [row.split()[0] for row in rows] == list(expected)
    assert [int(row.split()[3].replace(",", "")) for row in rows] == [each.pruned_now for each in expected.values()]


@pytest.mark.parametrize(("option", "code"), [("-Sn", 0), ("-n", 3)])
def test_more_shards_than_files_may_be_open_are_read_if_the_system_grants_them(
    model: Path, option: str, code: int
) -> None:
    line = f'ulimit {option} 30; exec "$@"'
    done = subprocess.run(
        ["sh", "-c", line, "sh", sys.executable, "-m", "prunecli", "params", str(model)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == code
    assert ("ulimit -n" in done.stderr) == bool(code)

"""Folders of shards on the command line: where they go, what comes along, and every folder that is refused."""

import collections
import json
import os
import re
import resource
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from folder_zoo import CARRIED, INDEX, files_of, make_folder, save_shard, shard, shards_of, tensors_of
from forked import python
from safetensors.torch import load_file

Cli = Callable[..., Any]
Refusal = Callable[..., str]
pytestmark = pytest.mark.usefixtures("folder")

HALF = ("-p", "*.weight", "-a", "0.5", "--seed", "7")
BAKE = (*HALF, "--remove")
FIRST, SECOND, THIRD = (shard(number, 3) for number in (1, 2, 3))
JSON = INDEX[".safetensors"]


@pytest.fixture
def m(folder: Path) -> Path:
    """The folder `m` in the working directory: three shards, and nothing of the last one is pruned."""
    generator = torch.Generator().manual_seed(1)
    weights = {name: torch.rand(40, 30, generator=generator) + 1 for name in ("a.weight", "b.weight", "c.bias")}
    make_folder(folder / "m", [{name: weight} for name, weight in weights.items()])
    return Path("m")


def put_index(m: Path, content: object) -> None:
    (m / JSON).write_text(content if isinstance(content, str) else json.dumps(content))


def listing(folder: Path = Path()) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- where it goes


@pytest.mark.parametrize(
    ("argument", "reported"),
    [
        ("m", "m.pruned"),
        ("m/", "m.pruned"),
        ("./m", "m.pruned"),
        ("m/.", "m.pruned"),
        ("{}/m/", "{}/m.pruned"),
    ],
)
def test_a_folder_goes_beside_itself_with_its_report(
    cli: Cli, folder: Path, m: Path, argument: str, reported: str
) -> None:
    before = listing()
    outcome = cli("apply", argument.format(folder), *BAKE)
    assert (outcome.code, outcome.out) == (0, reported.format(folder) + "\n")
    assert listing() == sorted([*before, "m.pruned", "m.pruned.report.json"])
    assert listing(Path("m.pruned")) == listing(m)


@pytest.mark.parametrize(("inside", "argument"), [("m", "."), ("m/tokenizer", "..")])
def test_a_folder_may_be_the_working_directory(
    cli: Cli, folder: Path, m: Path, monkeypatch: pytest.MonkeyPatch, inside: str, argument: str
) -> None:
    monkeypatch.chdir(folder / inside)
    outcome = cli("apply", argument, *BAKE)
    assert outcome.out == f"{folder}/m.pruned\n"
    assert {"m.pruned", "m.pruned.report.json"} < set(listing(folder))


def test_a_folder_s_masks_are_baked_beside_it(cli: Cli, m: Path) -> None:
    assert cli("apply", "m", *HALF).out == "m.pruned\n"
    assert cli("remove", "m.pruned/").out == "m.baked\n"
    assert cli("apply", "m", *BAKE, "-o", "direct/").out == "direct\n"
    assert files_of(Path("m.baked")) == files_of(Path("direct"))


def test_the_report_names_folder_and_format(cli: Cli, m: Path) -> None:
    found = cli("apply", "m", *BAKE, "--report", "-", "-o", "out").json
    size = sum((m / name).stat().st_size for name in (FIRST, SECOND, THIRD))
    assert found["source"] == {"path": "m", "format": "folder of safetensors", "bytes": size}
    assert found["output"] == {"path": "out", "format": "folder of safetensors", "bytes": size}
    assert found["totals"]["pruned_now"] == 1200
    assert not Path("out.report.json").exists()


def test_report_and_params_take_folders(cli: Cli, m: Path) -> None:
    assert cli("apply", "m", *BAKE).code == 0
    totals = cli("report", "m.pruned", "--format", "json").json["totals"]
    assert (totals["zeros"], totals["elements"]) == (1200, 3600)
    lines = cli("params", "m", "-p", "*.weight").out.splitlines()
    assert lines == ["a.weight\tfloat32\t40x30\tdense", "b.weight\tfloat32\t40x30\tdense"]


def test_a_dry_run_writes_nothing(cli: Cli, folder: Path, m: Path) -> None:
    before = sorted(folder.rglob("*"))
    outcome = cli("apply", "m", *BAKE, "--dry-run")
    assert outcome.code == 0
    assert "would write m.pruned, seed 7" in outcome.err
    assert sorted(folder.rglob("*")) == before


def test_a_note_names_other_weights_in_the_folder(cli: Cli, m: Path) -> None:
    save_shard({"a.weight": torch.ones(3)}, m / "pytorch_model.bin")
    outcome = cli("apply", "m", *BAKE)
    assert outcome.code == 0
    assert "note: copied unchanged, although they contain weights: pytorch_model.bin" in outcome.err
    assert (m / "pytorch_model.bin").read_bytes() == Path("m.pruned/pytorch_model.bin").read_bytes()


# --- what comes along


def test_everything_else_comes_along_byte_for_byte_with_its_mode(cli: Cli, m: Path) -> None:
    modes = {FIRST: 0o640, SECOND: 0o400, THIRD: 0o444, "config.json": 0o600, "tokenizer/vocab.txt": 0o755}
    for name, mode in modes.items():
        (m / name).chmod(mode)
    before = files_of(m)
    assert cli("apply", "m", *BAKE).code == 0
    after = files_of(Path("m.pruned"))
    assert list(after) == list(before)
    assert {name for name in before if after[name] != before[name]} == {FIRST, SECOND}
    assert {name: Path("m.pruned", name).stat().st_mode & 0o777 for name in modes} == modes
    assert files_of(m) == before


def test_the_input_is_not_even_touched(cli: Cli, m: Path) -> None:
    def look() -> dict[str, tuple[int, int, int]]:
        found = {path: path.stat() for path in m.rglob("*")}
        return {str(path): (each.st_ino, each.st_mtime_ns, each.st_mode) for path, each in found.items()}

    before = look()
    assert cli("apply", "m", *BAKE).code == 0
    assert look() == before


@pytest.mark.parametrize("name", [".git", ".cache"])
def test_books_of_git_and_of_the_hub_stay_behind(cli: Cli, m: Path, name: str) -> None:
    for place in (m / name, m / "tokenizer" / name):
        place.mkdir()
        (place / "x.safetensors").write_bytes(b"x")
    (m / ".gitattributes").write_bytes(b"y")
    assert cli("apply", "m", *BAKE).code == 0
    assert listing(Path("m.pruned")) == sorted({*listing(m)} - {name})
    assert listing(Path("m.pruned/tokenizer")) == ["more", "vocab.txt"]


def test_a_worktree_of_git_makes_no_second_one(cli: Cli, m: Path) -> None:
    (m / ".git").write_bytes(b"gitdir: /somewhere/.git/worktrees/m\n")
    (m / "tokenizer/.git").symlink_to("/somewhere")
    assert cli("apply", "m", *BAKE).code == 0
    assert not list(Path("m.pruned").rglob(".git"))


def as_cache(m: Path) -> Path:
    """Lay a folder out as the Hugging Face cache has it; return the snapshot."""
    snapshot, blobs = Path("hub/models--x--y/snapshots/0123abc"), Path("hub/models--x--y/blobs")
    blobs.mkdir(parents=True)
    for number, name in enumerate(files_of(m)):
        place = snapshot / name
        place.parent.mkdir(parents=True, exist_ok=True)
        (m / name).rename(blobs / f"{number:064x}")
        place.symlink_to(os.path.relpath(blobs / f"{number:064x}", place.parent))
    return snapshot


@pytest.mark.parametrize("through", ["", "a link to the folder"])
def test_a_hugging_face_cache_is_read_and_real_files_come_out(cli: Cli, m: Path, through: str) -> None:
    assert cli("apply", "m", *BAKE, "-o", "direct").code == 0
    snapshot = as_cache(m)
    if through:
        Path("link").symlink_to(snapshot)
        snapshot = Path("link")
    before = files_of(Path("hub"))
    outcome = cli("apply", snapshot, *BAKE, "-o", "out")
    assert outcome.code == 0, outcome.err
    assert not any(path.is_symlink() for path in Path("out").rglob("*"))
    assert files_of(Path("out")) == files_of(Path("direct"))
    assert files_of(Path("hub")) == before


def test_links_within_the_folder_become_files(cli: Cli, m: Path) -> None:
    (m / FIRST).rename(m / "real.safetensors")
    (m / FIRST).symlink_to("real.safetensors")
    (m / "again.json").symlink_to("config.json")
    (m / "twice").symlink_to("tokenizer")
    assert cli("apply", "m", *BAKE).code == 0
    out = Path("m.pruned")
    assert not any(path.is_symlink() for path in out.rglob("*"))
    assert (out / "again.json").read_bytes() == CARRIED["config.json"]
    assert (out / "real.safetensors").read_bytes() == (m / FIRST).read_bytes() != (out / FIRST).read_bytes()
    assert files_of(out / "twice") == files_of(m / "tokenizer")


# --- what is there already


def test_an_output_is_replaced_whole_with_force_only(cli: Cli, refused: Refusal, m: Path) -> None:
    assert cli("apply", "m", *BAKE, "-o", "expected").code == 0
    make_folder(Path("m.pruned"), [{"old": torch.ones(3)}])
    Path("m.pruned/old.txt").write_bytes(b"old")
    assert refused(6, "apply", "m", *BAKE) == "m.pruned exists; name another output with -o, or replace it with --force"
    assert cli("apply", "m", *BAKE, "--force").code == 0
    assert files_of(Path("m.pruned")) == files_of(Path("expected"))
    assert not [name for name in listing() if name.startswith(".")]


def test_what_holds_no_checkpoint_is_never_replaced(refused: Refusal, m: Path) -> None:
    Path("home/documents").mkdir(parents=True)
    line = refused(6, "apply", "m", *BAKE, "-o", "home", "--force")
    assert line == "home is a folder that holds no checkpoint; it is not replaced, remove it first"


def test_a_file_is_not_replaced_by_a_folder(refused: Refusal, m: Path) -> None:
    line = refused(6, "apply", "m", *BAKE, "-o", "model.pt", "--force")
    assert line == "cannot write model.pt: it is not a folder, and the checkpoint is one; name another"


def test_what_git_keeps_in_a_folder_is_never_lost(refused: Refusal, m: Path) -> None:
    (m / ".git").mkdir()
    (m / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    assert "m holds .git, which would go with it" in refused(6, "apply", "m", *BAKE, "-o", "m", "--force")


def test_an_output_with_foreign_objects_is_replaced_by_the_same_command(cli: Cli, folder: Path) -> None:
    make_folder(folder / "f", [{"a.weight": torch.ones(4, 4)}], ".bin")
    state = {"a.weight": torch.ones(4, 4), "made by": collections.deque([1])}
    torch.save(state, folder / "f" / shard(1, 1, ".bin"))
    command = ("apply", "f", *BAKE, "--allow-foreign-objects")
    assert cli(*command).code == 0
    assert cli(*command, "--force").code == 0


def test_a_report_in_a_folder_that_is_still_to_come_is_refused(refused: Refusal, m: Path) -> None:
    line = refused(2, "apply", "m", *BAKE, "--report", "m.pruned/r.json")
    assert "the report would lie in the folder that is written" in line


def test_the_index_keeps_its_mode(cli: Cli, m: Path) -> None:
    (m / JSON).chmod(0o600)
    assert cli("apply", "m", *HALF).code == 0
    assert Path("m.pruned", JSON).stat().st_mode & 0o777 == 0o600


def test_a_folder_replaces_itself_with_force_only(cli: Cli, refused: Refusal, m: Path) -> None:
    assert cli("apply", "m", *BAKE, "-o", "expected").code == 0
    Path("hard").hardlink_to(m / FIRST)
    before = Path("hard").read_bytes()
    assert refused(6, "apply", "m", *BAKE, "-o", "m/").startswith("m is the input itself; name another output")
    m.chmod(0o750)
    assert cli("apply", "m", *BAKE, "-o", "m", "--force").code == 0
    assert files_of(m) == files_of(Path("expected"))
    assert m.stat().st_mode & 0o777 == 0o750
    assert Path("hard").read_bytes() == before  # whoever has the old files open, or linked, keeps them
    assert not [name for name in listing() if name.startswith(".")]


def test_a_link_to_the_output_stays_one(cli: Cli, m: Path) -> None:
    assert cli("apply", "m", *BAKE, "-o", "target").code == 0
    expected = files_of(Path("target"))
    make_folder(Path("other"), [{"old": torch.ones(3)}])
    Path("link").symlink_to("other")
    assert cli("apply", "m", *BAKE, "-o", "link", "--force").code == 0
    assert Path("link").is_symlink()
    assert files_of(Path("other")) == expected


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("m/out", "m/out and the input lie in each other; name another output with -o"),
        ("m/tokenizer/x", "m/tokenizer/x and the input lie in each other; name another output with -o"),
        ("none/out", "cannot write none/out: its parent folder is missing; write elsewhere with -o"),
        (".", "cannot write .: it is a folder; name a file in it"),
    ],
)
def test_outputs_that_cannot_be(refused: Refusal, m: Path, output: str, says: str) -> None:
    assert refused(6, "apply", "m", *BAKE, "-o", output, "--force") == says


def test_an_output_around_the_input_is_refused(refused: Refusal, m: Path) -> None:
    line = refused(6, "apply", "m/tokenizer/../../m", *BAKE, "-o", "../" + Path.cwd().name, "--force")
    assert "and the input lie in each other; name another output with -o" in line


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["-o", "-"], "a folder of shards cannot be streamed; give -o a path"),
        (["-o", "old", "--force", "--report", "old/r.json"], "the report would lie in the folder that is written"),
        (["--report", "m.pruned"], "the report would lie in the folder that is written"),
    ],
)
def test_requests_that_make_no_sense(refused: Refusal, m: Path, flags: list[str], says: str) -> None:
    make_folder(Path("old"), [{"old": torch.ones(3)}])
    assert says in refused(2, "apply", "m", *BAKE, *flags)


def test_a_report_in_the_way_stops_it_before_anything_is_written(refused: Refusal, m: Path) -> None:
    Path("m.pruned.report.json").write_bytes(b"{}")
    assert "m.pruned.report.json exists" in refused(6, "apply", "m", *BAKE)


# --- what is refused


def test_an_empty_folder_and_a_missing_one_are_refused(refused: Refusal, folder: Path) -> None:
    Path("m").mkdir()
    assert refused(3, "apply", "m", *BAKE).startswith("m is a folder without an index of shards")
    assert refused(3, "apply", "n/", *BAKE).startswith("cannot open n: No such file or directory")
    assert refused(3, "apply", "/", *BAKE).startswith("/ is the root folder")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
@pytest.mark.parametrize("name", [SECOND, JSON, "config.json"])
def test_what_may_not_be_read_is_refused(cli: Cli, folder: Path, m: Path, name: str) -> None:
    before = sorted(folder.rglob("*"))
    (m / name).chmod(0)
    outcome = cli("apply", "m", *BAKE)
    (m / name).chmod(0o600)
    assert (outcome.code, outcome.out, sorted(folder.rglob("*"))) == (3, "", before)
    assert re.fullmatch("prunecli: error: .*Permission denied.*\n", outcome.err)


# --- what goes wrong in the middle

PROGRAM = """
import os, sys
from prunecli.cli.app import run
{}
sys.exit(run(sys.argv[1:]))
"""


def start(*arguments: str, setup: str = "") -> subprocess.Popen[str]:
    command = [*python(), "-c", PROGRAM.format(setup), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_full_disk_in_the_middle_leaves_nothing(folder: Path, m: Path) -> None:
    """The second shard that is written is larger than a file may get; the first one is not."""
    save_shard({"b.weight": torch.ones(400, 300)}, m / SECOND)
    before, names = files_of(folder), sorted(folder.rglob("*"))
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, {resource.RLIM_INFINITY}))"
    with start("apply", "m", *BAKE, setup=limit) as process:
        out, error = process.communicate(timeout=60)
    assert (process.returncode, out) == (6, "")
    assert error.startswith("prunecli: error: cannot write m.pruned")
    assert error.count("\n") == 1
    assert (files_of(folder), sorted(folder.rglob("*"))) == (before, names)


# Stops when something of the second file is safely on the disk.
STOP = """
import time
sync, seen = os.fsync, []
def stop(descriptor):
    sync(descriptor)
    seen.append(descriptor)
    if len(seen) == 2:
        print("here", flush=True)
        time.sleep(60)
os.fsync = stop
"""


@pytest.mark.parametrize(
    ("signum", "there"),
    [
        (signal.SIGKILL, False),
        (signal.SIGKILL, True),
        (signal.SIGTERM, True),
    ],
)
def test_a_run_that_is_killed_leaves_what_was_there(
    cli: Cli, folder: Path, m: Path, signum: signal.Signals, there: bool
) -> None:
    if there:
        make_folder(Path("m.pruned"), [{"old": torch.ones(3)}])
    before = files_of(folder)
    with start("apply", "m", *BAKE, "--force", setup=STOP) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.send_signal(signum)
        process.communicate(timeout=60)
    assert process.returncode == -signum
    assert Path("m.pruned").exists() == there
    assert {name: data for name, data in files_of(folder).items() if not name.startswith(".")} == before
    if signum is not signal.SIGKILL:
        assert files_of(folder) == before
    assert cli("apply", "m", *BAKE, "--force").code == 0
    assert not [name for name in listing() if name.startswith(".")]
    assert set(tensors_of(Path("m.pruned"))) == {"a.weight", "b.weight", "c.bias"}


def test_a_shard_that_is_damaged_inside_leaves_nothing(refused: Refusal, folder: Path) -> None:
    """Its checksum is known only when it has been copied; the shard before it is written by then."""
    parts = [{f"{name}.weight": torch.rand(40, 30)} for name in "ab"]
    make_folder(Path("m"), parts, ".bin")
    path = Path("m", shard(2, 2, ".bin"))
    raw, payload = bytearray(path.read_bytes()), parts[1]["b.weight"].numpy().tobytes()
    raw[raw.index(payload) + 5] ^= 1
    path.write_bytes(raw)
    assert "its CRC-32" in refused(4, "apply", "m", *BAKE)


def test_masks_are_those_of_the_one_file(cli: Cli, m: Path) -> None:
    save_shard(tensors_of(m), Path("one.safetensors"))
    folder = cli("apply", "m", *HALF, "--report", "-", "-o", "out").json
    file = cli("apply", "one.safetensors", *HALF, "--report", "-", "-o", "out.safetensors").json
    assert folder["parameters"] == file["parameters"]
    one = load_file("out.safetensors")
    assert all(torch.equal(tensor, one[name]) for name, tensor in tensors_of(Path("out")).items())
    assert [set(each) for each in shards_of(Path("out")).values()] == [
        {"a.weight_orig", "a.weight_mask"},
        {"b.weight_orig", "b.weight_mask"},
        {"c.bias"},
    ]

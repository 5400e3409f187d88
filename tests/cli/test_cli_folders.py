"""Folders of shards on the command line: where they go, what comes along, and every folder that is refused."""

import collections
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from folder_zoo import CARRIED, INDEX, files_of, index_of, make_folder, save_shard, shard, shards_of, tensors_of
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


def remap(m: Path, **changes: str | None) -> None:
    """Let the index send a tensor elsewhere, or nowhere; `_` in its name stands for a dot."""
    index = index_of(m)
    index["weight_map"] |= {name.replace("_", "."): file for name, file in changes.items()}
    index["weight_map"] = {name: file for name, file in index["weight_map"].items() if file is not None}
    put_index(m, index)


def listing(folder: Path = Path()) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- where it goes


@pytest.mark.parametrize(("argument", "told"), [
    ("m", "m.pruned"), ("m/", "m.pruned"), ("./m", "m.pruned"), ("m/.", "m.pruned"), ("{}/m/", "{}/m.pruned"),
])  # fmt: skip
def test_a_folder_goes_beside_itself_with_its_report(cli: Cli, folder: Path, m: Path, argument: str, told: str) -> None:
    before = listing()
    outcome = cli("apply", argument.format(folder), *BAKE)
    assert (outcome.code, outcome.out) == (0, told.format(folder) + "\n")
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


def test_other_weights_in_the_folder_are_told(cli: Cli, m: Path) -> None:
    save_shard({"a.weight": torch.ones(3)}, m / "pytorch_model.bin")
    outcome = cli("apply", "m", *BAKE)
    assert outcome.code == 0
    assert "note: carried along as they are, weights and all: pytorch_model.bin" in outcome.err
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
    assert line == "cannot write model.pt: it is no folder, and the checkpoint is one; name another"


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


@pytest.mark.parametrize(("output", "says"), [
    ("m/out", "m/out and the input lie in each other; name another output with -o"),
    ("m/tokenizer/x", "m/tokenizer/x and the input lie in each other; name another output with -o"),
    ("none/out", "cannot write none/out: its parent folder is missing; write elsewhere with -o"),
    (".", "cannot write .: it is a folder; name a file in it"),
])  # fmt: skip
def test_outputs_that_cannot_be(refused: Refusal, m: Path, output: str, says: str) -> None:
    assert refused(6, "apply", "m", *BAKE, "-o", output, "--force") == says


def test_an_output_around_the_input_is_refused(refused: Refusal, m: Path) -> None:
    line = refused(6, "apply", "m/tokenizer/../../m", *BAKE, "-o", "../" + Path.cwd().name, "--force")
    assert "and the input lie in each other; name another output with -o" in line


@pytest.mark.parametrize(("flags", "says"), [
    (["-o", "-"], "a folder of shards cannot be streamed; give -o a path"),
    (["-o", "old", "--force", "--report", "old/r.json"], "the report would lie in the folder that is written"),
    (["--report", "m.pruned"], "the report would lie in the folder that is written"),
])  # fmt: skip
def test_requests_that_make_no_sense(refused: Refusal, m: Path, flags: list[str], says: str) -> None:
    make_folder(Path("old"), [{"old": torch.ones(3)}])
    assert says in refused(2, "apply", "m", *BAKE, *flags)


def test_a_report_in_the_way_stops_it_before_anything_is_written(refused: Refusal, m: Path) -> None:
    Path("m.pruned.report.json").write_bytes(b"{}")
    assert "m.pruned.report.json exists" in refused(6, "apply", "m", *BAKE)


# --- what is refused


def no_shard(m: Path) -> None:
    (m / SECOND).unlink()


def folder_for_a_shard(m: Path) -> None:
    no_shard(m)
    (m / SECOND).mkdir()


def in_two_shards(m: Path) -> None:
    save_shard({"a.weight": torch.ones(2), "b.weight": torch.ones(3)}, m / SECOND)


def lacking(m: Path) -> None:
    remap(m, x_weight=SECOND)


def elsewhere(m: Path) -> None:
    remap(m, a_weight=SECOND, b_weight=FIRST)


def unlisted(m: Path) -> None:
    save_shard({"b.weight": torch.ones(2), "more": torch.ones(3)}, m / SECOND)


def truncated(m: Path) -> None:
    os.truncate(m / SECOND, 1000)


def empty(m: Path) -> None:
    os.truncate(m / SECOND, 0)


def pointer(m: Path) -> None:
    (m / SECOND).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")


def text(m: Path) -> None:
    remap(m, c_bias="config.json")


def index_for_a_shard(m: Path) -> None:
    remap(m, c_bias=JSON)


def mixed(m: Path) -> None:
    torch.save({"b.weight": torch.ones(3)}, m / SECOND)


def outside(m: Path) -> None:
    (m / SECOND).rename("outside.safetensors")
    (m / SECOND).symlink_to("../outside.safetensors")


def outside_absolute(m: Path) -> None:
    (m / "passwd").symlink_to("/etc/passwd")


def outside_folder(m: Path) -> None:
    (m / "up").symlink_to("..")


def outside_through_a_link(m: Path) -> None:
    (m / "one").symlink_to("two")
    (m / "two").symlink_to("../model.pt")


def blobs_of_another(m: Path) -> None:
    """Only the blobs beside the very snapshots count."""
    Path("blobs").mkdir()
    Path("blobs/0").write_bytes(b"{}")
    (m / "x.json").symlink_to("../blobs/0")


def dangling(m: Path) -> None:
    (m / "x.json").symlink_to("nothing")


def looping(m: Path) -> None:
    (m / "x.json").symlink_to("x.json")


def folder_within_itself(m: Path) -> None:
    (m / "tokenizer/again").symlink_to("..")


def pipe(m: Path) -> None:
    os.mkfifo(m / "pipe")


def pipe_for_a_shard(m: Path) -> None:
    no_shard(m)
    os.mkfifo(m / SECOND)


def plug(m: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(m / "plug"))


def deep(m: Path) -> None:
    (m / "/".join("d" * 17)).mkdir(parents=True)
    (m / "/".join("d" * 17) / "x").write_bytes(b"")


def no_weights(m: Path) -> None:
    (m / JSON).unlink()


def two_checkpoints(m: Path) -> None:
    (m / "model.safetensors").write_bytes(b"")


REFUSED: list[tuple[Callable[[Path], None], int, str]] = [
    (no_shard, 3, f"m/{SECOND} is missing, though the index names it; fetch it"),
    (folder_for_a_shard, 3, f"m/{SECOND} is missing, though the index names it; fetch it"),
    (in_two_shards, 4, f"m: tensor a.weight is in two shards, {SECOND} is one of them"),
    (lacking, 4, f"m: {SECOND} lacks x.weight, which the index puts there"),
    (elsewhere, 4, f"m: {FIRST} has a tensor a.weight, which the index does not put there"),
    (unlisted, 4, f"m: {SECOND} has a tensor more, which the index does not put there"),
    (truncated, 4, f"m/{SECOND}: tensor b.weight ends behind the end of the file; it is truncated, fetch it again"),
    (empty, 4, f"m/{SECOND} is empty"),
    (pointer, 4, f"m/{SECOND} is a git-lfs pointer, not the file itself; run 'git lfs pull'"),
    (text, 4, "m/config.json is JSON text, not a checkpoint"),
    (index_for_a_shard, 4, f"m/{JSON} is JSON text, not a checkpoint"),
    (mixed, 4, f"m has shards of different kinds: {FIRST}, {SECOND}"),
    (outside, 5, f"m/{SECOND} is a link that leads out of its folder"),
    (outside_absolute, 5, "m/passwd is a link that leads out of its folder, to /etc/passwd; copy the file instead"),
    (outside_folder, 5, "m/up is a link that leads out of its folder"),
    (outside_through_a_link, 5, "m/one is a link that leads out of its folder"),
    (blobs_of_another, 5, "m/x.json is a link that leads out of its folder"),
    (dangling, 3, "cannot look at m/x.json: No such file or directory"),
    (looping, 3, "cannot look at m/x.json: Too many levels of symbolic links"),
    (folder_within_itself, 3, "m holds more files or levels than any checkpoint; name a file in it"),
    (pipe, 3, "m/pipe is no regular file; take it out of the folder"),
    (pipe_for_a_shard, 3, f"m/{SECOND} is no regular file; take it out of the folder"),
    (plug, 3, "m/plug is no regular file; take it out of the folder"),
    (deep, 3, "m holds more files or levels than any checkpoint; name a file in it"),
    (no_weights, 3, "m is a folder without an index of shards"),
    (two_checkpoints, 4, f"m holds several checkpoints ({JSON}, model.safetensors); name one file, or move the others"),
]


@pytest.mark.parametrize(("spoil", "code", "says"), REFUSED, ids=[each[0].__name__ for each in REFUSED])
def test_a_folder_that_is_refused(
    refused: Refusal, m: Path, spoil: Callable[[Path], None], code: int, says: str
) -> None:
    spoil(m)
    assert refused(code, "apply", "m", *BAKE).startswith(says)
    for command in ("params", "report", "remove"):
        assert refused(code, command, "m").startswith(says)


@pytest.mark.parametrize(("content", "code", "says"), [
    ("{", 4, "is no JSON; it is damaged, fetch it again"),
    ("[]", 4, "is no JSON object; it is damaged, fetch it again"),
    ("{}", 4, "has no weight_map from names to files; fetch it again"),
    ({"weight_map": {"a.weight": 1}}, 4, "has no weight_map from names to files; fetch it again"),
    ({"weight_map": {}}, 4, "lists no tensor"),
    ('{"weight_map": {"a": "x", "a": "y"}}', 4, "has a twice; fetch it again"),
    ({"weight_map": {"a": "../model.safetensors"}}, 5, "names the shard ../model.safetensors, which is no plain file"),
    ({"weight_map": {"a": "/etc/passwd"}}, 5, "names the shard /etc/passwd, which is no plain file name"),
    ({"weight_map": {"a": "tokenizer/vocab.txt"}}, 5, "names the shard tokenizer/vocab.txt, which is no plain file"),
    ({"weight_map": {"a": "\x1b[2J/\n"}}, 5, "names the shard \\x1b[2J/\\n, which is no plain file name"),
    ({"weight_map": {"a": ".."}}, 5, "names the shard .., which is no plain file name"),
    ({"weight_map": {"a": ""}}, 5, "names the shard , which is no plain file name"),
])  # fmt: skip
def test_an_index_that_is_refused(refused: Refusal, m: Path, content: object, code: int, says: str) -> None:
    put_index(m, content)
    assert refused(code, "apply", "m", *BAKE).startswith(f"m/{JSON} {says}")


def test_an_index_larger_than_any_model_s_is_refused(refused: Refusal, m: Path) -> None:
    os.truncate(m / JSON, (64 << 20) + 1)
    assert refused(5, "params", "m").endswith("no index is larger than 64 MiB")


def test_an_empty_folder_and_a_missing_one_are_refused(refused: Refusal, folder: Path) -> None:
    Path("m").mkdir()
    assert refused(3, "apply", "m", *BAKE).startswith("m is a folder without an index of shards")
    assert refused(3, "apply", "n/", *BAKE).startswith("cannot open n: No such file or directory")
    assert refused(3, "apply", "/", *BAKE).startswith("/ is the root folder")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
@pytest.mark.parametrize("name", [SECOND, JSON, "config.json"])
def test_what_may_not_be_read_is_refused(refused: Refusal, m: Path, name: str) -> None:
    (m / name).chmod(0)
    try:
        line = refused(3, "apply", "m", *BAKE)
    finally:
        (m / name).chmod(0o600)
    assert "Permission denied" in line


def test_what_the_folder_calls_its_files_reaches_no_terminal(refused: Refusal, m: Path) -> None:
    index = index_of(m)
    put_index(m, {**index, "weight_map": {**index["weight_map"], "x\x1b[2J": "y\x1b]0;\x07\u202e\n.safetensors"}})
    assert "\\x1b]0;\\x07\\u202e\\n.safetensors is missing" in refused(3, "apply", "m", *BAKE)


# --- what goes wrong in the middle

PROGRAM = """
import os, sys
from prunecli.cli.app import run
{}
sys.exit(run(sys.argv[1:]))
"""


def start(*arguments: str, setup: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM.format(setup), *arguments]
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


@pytest.mark.parametrize(("signum", "there"), [
    (signal.SIGKILL, False), (signal.SIGKILL, True), (signal.SIGTERM, True),
])  # fmt: skip
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
        {"a.weight_orig", "a.weight_mask"}, {"b.weight_orig", "b.weight_mask"}, {"c.bias"},
    ]  # fmt: skip

"""Folders that are not a checkpoint by themselves: each situation has its own message, with what to name or to do."""

import os
import subprocess
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from conftest import Cli, Refusal
from folder_zoo import files_of, make_folder, save_shard
from torch.distributed.checkpoint.state_dict_saver import save

BAKE = ("-p", "*", "-a", "0.5", "--remove", "--seed", "7")
pytestmark = pytest.mark.usefixtures("folder")

WEIGHTS = {"a.weight": torch.ones(4, 5)}


def place(*names: str) -> None:
    """Write a small checkpoint under each of these names."""
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        if Path(name).name == ".metadata":
            Path(name).write_bytes(b"")
        else:
            save_shard(WEIGHTS, Path(name))


def distributed(path: str) -> Path:
    with warnings.catch_warnings(action="ignore"):
        save({"a.weight": torch.ones(4, 5)}, checkpoint_id=path, no_dist=True)
    return Path(path)


# --- the hub's cache


def as_cache(root: str, *revisions: str) -> None:
    (Path(root) / "blobs").mkdir(parents=True)
    (Path(root) / "refs").mkdir()
    (Path(root) / "refs" / "main").write_text(revisions[0])
    for revision in revisions:
        place(f"{root}/blobs/{revision}0.safetensors")
        snapshot = Path(root, "snapshots", revision)
        snapshot.mkdir(parents=True)
        (snapshot / "model.safetensors").symlink_to(f"../../blobs/{revision}0.safetensors")


@pytest.mark.parametrize("named", ["hub", "hub/models--x--y"])
def test_a_cache_names_its_snapshot(cli: Cli, refused: Refusal, named: str) -> None:
    as_cache("hub/models--x--y", "0123abc")
    line = refused(3, "report", named)
    snapshot = "hub/models--x--y/snapshots/0123abc"
    assert line == f"{named} is a Hugging Face cache; name the snapshot in it: {snapshot}"
    assert cli("report", snapshot).code == 0


def test_a_cache_of_several_names_them(refused: Refusal) -> None:
    as_cache("hub/models--a--b", "1", "2")
    as_cache("hub/models--c--d", "3", "4")
    assert refused(3, "report", "hub") == (
        "hub is a Hugging Face cache; name one of the snapshots in it: hub/models--a--b/snapshots/1, "
        "hub/models--a--b/snapshots/2, hub/models--c--d/snapshots/3, and 1 more"
    )


# --- folders of training runs


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (
            ["checkpoint-500/model.safetensors", "checkpoint-1000/model.safetensors", "runs/events.1"],
            "name one: run/checkpoint-1000, run/checkpoint-500",
        ),
        (
            ["checkpoints/checkpoint_0/model.safetensors", "checkpoints/checkpoint_0/optimizer.bin"],
            "name it: run/checkpoints/checkpoint_0",
        ),
        (
            ["global_step9/mp_rank_00_model_states.pt", "global_step10/mp_rank_00_model_states.pt", "latest"],
            "name one: run/global_step10/mp_rank_00_model_states.pt, run/global_step9/mp_rank_00_model_states.pt",
        ),
        (
            ["lightning_logs/version_0/checkpoints/epoch=1-step=20.ckpt"],
            "name it: run/lightning_logs/version_0/checkpoints/epoch=1-step=20.ckpt",
        ),
        (["step-100/.metadata", "step-200/.metadata"], "name one: run/step-200, run/step-100"),
        (["iter_0000100/mp_rank_00/model_optim_rng.pt"], "name it: run/iter_0000100/mp_rank_00/model_optim_rng.pt"),
        (
            [f"checkpoint-{step}/pytorch_model.bin" for step in range(5)],
            "name one: run/checkpoint-4, run/checkpoint-3, run/checkpoint-2, and 2 more",
        ),
    ],
    ids=["transformers", "accelerate", "deepspeed", "lightning", "torchtitan", "megatron", "five"],
)
def test_a_training_run_names_its_checkpoints(refused: Refusal, files: list[str], says: str) -> None:
    place(*(f"run/{name}" for name in files))
    line = refused(3, "params", "run")
    assert line.startswith("run is the folder of a training run, with its checkpoints in folders; ")
    assert says in line


def test_a_training_run_with_a_model_at_its_top_is_that_model(cli: Cli) -> None:
    place("run/checkpoint-500/model.safetensors", "run/model.safetensors")
    assert cli("params", "run").out == "a.weight\tfloat32\t4x5\tdense\n"


def test_other_folders_name_a_file_in_them(refused: Refusal) -> None:
    place("run/more/last.pt")
    assert refused(3, "params", "run").endswith("; name a checkpoint in it: run/more/last.pt")
    place("run/best.ckpt")
    assert refused(3, "params", "run").endswith("; name a checkpoint in it: run/best.ckpt, run/more/last.pt")
    place("run/more/and/deeper.pt", "run/a.pt", "run/sub/model.safetensors")
    assert refused(3, "params", "run").endswith(": run/a.pt, run/best.ckpt, run/more/last.pt, and 1 more")
    place("other/and/deeper.pt", "nothing/readme.md")
    assert refused(3, "params", "other").endswith("; name a checkpoint in it: other/and/deeper.pt")
    assert refused(3, "params", "nothing").endswith("; no checkpoint lies in it or below")


# --- torch.distributed.checkpoint


def test_distcp_files_without_metadata(refused: Refusal) -> None:
    (distributed("d") / ".metadata").unlink()
    assert refused(3, "report", "d") == (
        "d holds .distcp files of torch.distributed.checkpoint, but no .metadata, which says what is in them and is "
        "written last; copy that file too (its name begins with a dot), or save again"
    )


@pytest.mark.parametrize("command", [["report"], ["params"], ["apply", *BAKE], ["remove"]])
def test_a_single_distcp_file(refused: Refusal, cli: Cli, command: list[str]) -> None:
    distributed("d")
    line = refused(4, command[0], "d/__0_0.distcp", *command[1:])
    assert line == (
        "d/__0_0.distcp is one file of a distributed checkpoint (torch.distributed.checkpoint), and the .metadata "
        "beside it says what it holds; name the folder that it lies in"
    )
    assert cli("params", "d").code == 0


# --- consolidated files


@pytest.mark.parametrize("name", ["consolidated.safetensors", "consolidated.00.pth", "consolidated.pth"])
def test_one_consolidated_file_is_named(cli: Cli, refused: Refusal, name: str) -> None:
    place("m/params.json", f"m/{name}")
    assert refused(3, "report", "m") == (
        f"m holds a model in the original layout of Mistral or Llama, in one file; name that: m/{name}"
    )
    assert cli("report", f"m/{name}").code == 0


def test_several_consolidated_files_are_slices(refused: Refusal) -> None:
    place("m/consolidated.00.pth", "m/consolidated.01.pth")
    assert refused(4, "report", "m") == (
        "m holds 2 slices of every tensor (consolidated.00.pth, ...), as model-parallel training writes them; make one "
        "checkpoint of them, or name each file with a --seed of its own, since one seed gives all of them the same mask"
    )


def test_a_consolidated_file_beside_shards_is_carried_along(cli: Cli) -> None:
    make_folder(Path("m"), [WEIGHTS])
    place("m/consolidated.safetensors")
    outcome = cli("apply", "m", *BAKE)
    assert outcome.code == 0
    assert "copied unchanged, although they contain weights: consolidated.safetensors" in outcome.err


# --- a .pt that was unpacked


@pytest.mark.parametrize("named", ["up/model", "up"])
def test_an_unpacked_file_is_packed_again_as_the_message_says(cli: Cli, refused: Refusal, named: str) -> None:
    torch.save(WEIGHTS, "model.pt")
    with zipfile.ZipFile("model.pt") as archive:
        archive.extractall("up")
    (top,) = (each.name for each in Path("up").iterdir())
    Path("up", top).rename("up/model")
    line = refused(4, "report", named)
    where = {"up/model": "is", "up": "holds"}[named]
    assert line.startswith(f"{named} {where} a .pt file that was unpacked, as browsers and unzip do")
    remedy = line.rpartition(": ")[2]
    assert remedy == "zip -0 -D -r model.pt model"
    try:
        subprocess.run(remedy.split(), cwd="up", check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("zip is not installed")
    assert cli("params", "up/model.pt").out == "a.weight\tfloat32\t4x5\tdense\n"
    assert torch.equal(torch.load("up/model.pt", weights_only=True)["a.weight"], WEIGHTS["a.weight"])


def test_a_pickle_without_data_is_not_an_unpacked_file(refused: Refusal) -> None:
    Path("m").mkdir()
    Path("m/data.pkl").write_bytes(b"\x80\x02.")
    assert refused(3, "report", "m").startswith("m is a folder without an index of shards")


# --- links that lead out


def linked(cli: Cli) -> Path:
    """A folder whose second shard and whose configuration are links to another place."""
    make_folder(Path("store"), [{"a.weight": torch.ones(4, 5)}, {"b.weight": torch.ones(6, 7)}])
    Path("m").mkdir()
    for name in ("model-00001-of-00002.safetensors", "model.safetensors.index.json"):
        Path("m", name).write_bytes(Path("store", name).read_bytes())
    for name in ("model-00002-of-00002.safetensors", "config.json", "tokenizer"):
        Path("m", name).symlink_to(Path("store", name).resolve())
    assert cli("apply", "store", *BAKE, "-o", "expected").code == 0
    return Path("m")


@pytest.mark.parametrize("command", [["report"], ["params"], ["apply", *BAKE], ["remove"], ["verify"]])
def test_links_that_lead_out_are_refused_with_the_option(cli: Cli, refused: Refusal, command: list[str]) -> None:
    linked(cli)
    report = ["expected.report.json"] if command == ["verify"] else []
    line = refused(5, command[0], "m", *command[1:], *report)
    assert "is a link that leads out of its folder, to " in line
    assert line.endswith("; copy the file instead, or read what it leads to with --follow-links")


def test_links_are_followed_on_demand_and_real_files_come_out(cli: Cli) -> None:
    linked(cli)
    before = files_of(Path("store"))
    outcome = cli("apply", "m", *BAKE, "--follow-links", "-o", "out")
    assert outcome.code == 0, outcome.err
    assert files_of(Path("out")) == files_of(Path("expected"))
    assert not any(path.is_symlink() for path in Path("out").rglob("*"))
    assert files_of(Path("store")) == before
    assert cli("params", "m", "--follow-links").out.splitlines() == [
        "a.weight\tfloat32\t4x5\tdense",
        "b.weight\tfloat32\t6x7\tdense",
    ]
    assert cli("report", "m", "--follow-links", "--format", "json").json["totals"]["elements"] == 62
    assert cli("report", "m", "--follow-links", "--baseline", "m").code == 0


def test_remove_and_verify_follow_links_too(cli: Cli) -> None:
    linked(cli)
    assert cli("apply", "m", "-p", "*", "-a", "0.5", "--seed", "7", "--follow-links", "-o", "masked").code == 0
    Path("n").mkdir()
    for each in Path("masked").iterdir():
        Path("n", each.name).symlink_to(each.resolve())
    assert cli("remove", "n", "--follow-links", "-o", "baked").code == 0
    assert files_of(Path("baked")) == files_of(Path("expected"))
    (report,) = Path().glob("masked*.report.json")
    assert cli("verify", "n", str(report), "--follow-links").code == 0
    assert cli("verify", "n", str(report)).code == 5


def test_the_output_never_writes_through_a_link(cli: Cli) -> None:
    """In place, too: the links become files, and what they led to stays as it was."""
    linked(cli)
    before = files_of(Path("store"))
    assert cli("apply", "m", *BAKE, "--follow-links", "-o", "m", "--force").code == 0
    assert not any(path.is_symlink() for path in Path("m").rglob("*"))
    assert files_of(Path("m")) == files_of(Path("expected"))
    assert files_of(Path("store")) == before


@pytest.mark.parametrize("target", ["/dev/null", "pipe"])
def test_a_link_to_something_else_than_a_file_is_refused_all_the_same(
    cli: Cli, refused: Refusal, folder: Path, target: str
) -> None:
    m = linked(cli)
    os.mkfifo("pipe")
    (m / "x.json").symlink_to(folder / target)
    assert "is not a regular file" in refused(3, "report", "m", "--follow-links")


def test_links_that_are_followed_in_a_circle_end(cli: Cli, refused: Refusal) -> None:
    (linked(cli) / "up").symlink_to("..")  # no further: other tests leave links to nothing there
    (Path("m") / "again").symlink_to(".")
    assert "holds more files or levels than any checkpoint" in refused(3, "report", "m", "--follow-links")


def test_a_distributed_folder_follows_links(cli: Cli, refused: Refusal) -> None:
    distributed("d")
    Path("d/__0_0.distcp").rename("elsewhere")
    Path("d/__0_0.distcp").symlink_to("../elsewhere")
    assert "--follow-links" in refused(5, "report", "d")
    before = Path("elsewhere").read_bytes()
    assert cli("apply", "d", *BAKE, "--follow-links", "-o", "out").code == 0
    assert Path("elsewhere").read_bytes() == before
    totals = cli("report", "out", "--format", "json").json["totals"]
    assert (totals["zeros"], totals["elements"]) == (10, 20)

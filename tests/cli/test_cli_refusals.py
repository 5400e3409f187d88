"""Bad requests, inputs and outputs: one line, the right exit code, nothing written, the input as it was."""

import argparse
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from prunecli.surgery import listing, rewrite

Refusal = Callable[..., str]
APPLY = ("-p", "fc1.weight", "-a", "0.5")
pytestmark = pytest.mark.usefixtures("folder")


@pytest.mark.parametrize(
    ("amount", "names"),
    [
        ("nan", "nan"),
        ("-1", "negative"),
        ("-0.1", "-0.1"),
        ("1.5", "1.5"),
        ("101%", "101%"),
        ("inf", "inf"),
        ("1e3", "1e3"),
        ("abc", "'abc'"),
        ("", "''"),
        ("50%%", "'50%%'"),
        ("0x10", "'0x10'"),
        ("1_000", "'1_000'"),
        ("%", "'%'"),
        ("0,5", "'0,5'"),
        ("32769", "32,768 are left"),
        ("9" * 5000, "amount"),
        ("\x1b[2J", "x1b"),
    ],
)
@pytest.mark.parametrize("source", ["model.pt", "model.safetensors"])
def test_amounts(refused: Refusal, source: str, amount: str, names: str) -> None:
    assert names in refused(2, "apply", source, "-p", "fc1.weight", f"--amount={amount}")


def test_more_than_is_left_of_a_masked_parameter(refused: Refusal) -> None:
    weight, mask = torch.ones(10), torch.tensor([1.0] * 4 + [0.0] * 6)
    torch.save({"w_orig": weight, "w_mask": mask}, "masked.pt")
    line = refused(2, "apply", "masked.pt", "-p", "w", "-a", "5")
    assert "cannot prune 5 elements of w: 4 are left" in line


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["-p", "fc1.wieght"], "matches nothing; did you mean fc1.weight?"),
        (["-p", "fc1.weight", "-p", "conv9.*"], "conv9.*"),
        (["-p", "re:nothing.*"], "re:nothing.*"),
        (["-p", "re:("], "not a regular expression"),
        (["-p", ""], "matches nothing"),
        (["-p", "fc1"], "-p fc1 is a module; for its parameters, write -p 'fc1.*'"),
        (["-p", "fc1.*", "-p", "fc2.*", "-x", "fc1*", "-x", "re:fc2.*"], "selects nothing"),
        (["-p", "*.num_batches_tracked"], "takes none of them: 2 statistics"),
        (["-p", "bn*", "--min-dim", "2"], "2 dimensions"),
        (["-x", "fc1.weight"], "-p '*'"),
        ([], "nothing is selected"),
    ],
)
def test_selections(refused: Refusal, options: list[str], names: str) -> None:
    assert names in refused(2, "apply", "model.pt", "-a", "0.5", *options)
    if "-p" in options and "--min-dim" not in options:
        for command in ("params", "report"):
            assert names in refused(2, command, "model.pt", *options)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["prune"], "no command prune"),
        (["--bogus"], "--bogus"),
        (["apply"], "CKPT"),
        (["apply", "model.pt", "-p", "*"], "give -a 0.5"),
        (["apply", "model.pt", "-p", "*", "-a", "0.5", "extra"], "extra"),
        (["apply", "model.pt", *APPLY, "--bogus"], "--bogus"),
        (["apply", "model.pt", *APPLY, "--jobs", "0"], "--jobs"),
        (["apply", "model.pt", *APPLY, "--seed", "-1"], "--seed"),
        (["apply", "model.pt", *APPLY, "--seed", "1.5"], "--seed"),
        (["apply", "model.pt", *APPLY, "--mask-dtype", "int8"], "int8"),
        (["apply", "model.pt", *APPLY, "--untie", "--remove"], "--untie"),
        (["apply", "model.pt", *APPLY, "--mask-dtype", "same", "--remove"], "--mask-dtype"),
        (["apply", "model.pt", "--min-dim", "2", "-a", "1"], "--min-dim narrows the selection of -p"),
        (["remove", "model.pt", "-x", "fc1.*"], "-x narrows the selection of -p"),
        (["apply", "model.pt", *APPLY, "-o", "nodir/"], "nodir/ is a folder; name a file in it"),
        (["apply", "model.pt", *APPLY, "--report", "nodir/"], "nodir/ is a folder; name a file in it"),
        (["report", "model.pt", "--format", "json", "-o", "nodir/"], "nodir/ is a folder; name a file in it"),
        (["apply", "model.pt", *APPLY, "--key", "nowhere"], "nowhere"),
        (["apply", "model.safetensors", *APPLY, "--key", "a"], "--key"),
        (["apply", "model.pt", *APPLY, "-o", ""], "-o is empty"),
        (["apply", "model.pt", *APPLY, "--report", ""], "--report is empty"),
        (["apply", "model.pt", *APPLY, "--report", "r.json", "--no-report"], "--no-report"),
        (["apply", "model.pt", *APPLY, "-o", "-", "--report", "-"], "standard output"),
        (["apply", "model.pt", *APPLY, "-o", "x.pt", "--report", "x.pt"], "one file"),
        (["apply", "", *APPLY], "name is empty"),
        (["remove", "model.pt"], "no masks"),
        (["report", "model.pt", "--format", "yaml"], "yaml"),
        (["report", "model.pt", "--fail-under", "2"], "--fail-under"),
        (["report", "model.pt", "--fail-under", "nan"], "--fail-under"),
        (["report", "model.pt", "-o", ""], "-o is empty"),
        (["params", "model.pt", "-a", "1"], "-a"),
    ],
)
def test_usage(refused: Refusal, arguments: list[str], names: str) -> None:
    assert names in refused(2, *arguments)


def test_a_stream_without_a_name_for_the_output(refused: Refusal) -> None:
    assert "give -o a path" in refused(2, "apply", "-", *APPLY, stdin=Path("model.pt"))


@pytest.mark.parametrize("url", ["https://me:word@host/a.safetensors?sig=word", "hf://user/model/a.safetensors"])
def test_nothing_is_put_beside_what_is_read_only_or_published(refused: Refusal, url: str) -> None:
    for command in (("apply", url, *APPLY), ("remove", url)):
        line = refused(2, *command)
        assert "no output can be written next to" in line
        assert "give -o" in line
        assert "word" not in line


def test_unwanted_masks_cannot_be_removed(refused: Refusal) -> None:
    torch.save({"w_orig": torch.ones(4), "w_mask": torch.ones(4), "v": torch.ones(4)}, "masked.pt")
    assert "none of the selected parameters has a mask" in refused(2, "remove", "masked.pt", "-p", "v")


COMMANDS = [["apply", *APPLY], ["remove"], ["report"], ["params"]]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
class TestInputs:
    def test_missing(self, refused: Refusal, command: list[str]) -> None:
        assert "No such file" in refused(3, *command, "nothing.pt")
        assert "No such file" in refused(3, *command, "nowhere/model.pt")
        assert "Not a directory" in refused(3, *command, "model.pt/model.pt")

    def test_a_folder(self, refused: Refusal, command: list[str]) -> None:
        Path("models").mkdir()
        for name in ("models", "models/"):
            assert "is a folder without an index of shards" in refused(3, *command, name)
        assert "/ is the root folder" in refused(3, *command, "/")

    def test_empty(self, refused: Refusal, command: list[str]) -> None:
        Path("empty.pt").touch()
        assert "is empty" in refused(4, *command, "empty.pt")
        output = ["-o", "out.pt"] if command[0] in ("apply", "remove") else []
        assert "is empty" in refused(4, *command, "-", *output)

    def test_truncated(self, refused: Refusal, command: list[str]) -> None:
        for source in ("model.pt", "model.safetensors"):
            whole = Path(source).read_bytes()
            for size in (1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1):
                Path("short").write_bytes(whole[:size])
                assert "short" in refused(4, *command, "short")

    def test_foreign_objects(self, refused: Refusal, command: list[str]) -> None:
        torch.save(torch.nn.Linear(2, 2), "module.pt")
        line = refused(5, *command, "module.pt")
        assert "torch.nn.modules.linear.Linear" in line
        assert "--allow-foreign-objects" in line

    def test_no_tensors(self, refused: Refusal, command: list[str]) -> None:
        torch.save(argparse.Namespace(lr=0.1), "training_args.bin")
        if command[0] in ("apply", "remove"):
            assert "argparse.Namespace" in refused(5, *command, "training_args.bin")
        else:
            assert "holds no tensors" in refused(4, *command, "training_args.bin")
        line = refused(4, *command, "training_args.bin", "--allow-foreign-objects")
        assert "holds no tensors; it is a pickled argparse.Namespace" in line


@pytest.mark.parametrize("source", ["model.pt", "model.safetensors"])
class TestOutputs:
    def test_its_folder_does_not_exist(self, refused: Refusal, source: str) -> None:
        line = refused(6, "apply", source, *APPLY, "-o", "nowhere/out")
        assert "create its folder first" in line
        assert "nowhere" in refused(6, "apply", source, *APPLY, "-o", "out", "--report", "nowhere/r.json")

    def test_it_exists(self, refused: Refusal, source: str) -> None:
        Path("out").write_text("old")
        assert "--force" in refused(6, "apply", source, *APPLY, "-o", "out")
        Path("r.json").write_text("old")
        assert "r.json exists" in refused(6, "apply", source, *APPLY, "-o", "new", "--report", "r.json")

    def test_it_is_no_file(self, refused: Refusal, source: str) -> None:
        Path("dir").mkdir()
        os.mkfifo("fifo")
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("socket")
            for name in ("dir", "fifo", "socket", "/dev/null", "/dev/stdout", ".", "/"):
                for force in ([], ["--force"]):
                    assert "cannot write" in refused(6, "apply", source, *APPLY, "-o", name, "--no-report", *force)

    def test_its_folder_is_a_file(self, refused: Refusal, source: str) -> None:
        assert "cannot write" in refused(6, "apply", source, *APPLY, "-o", "model.pt/out")


@pytest.fixture
def unprivileged(folder: Path) -> Iterator[None]:
    """Be somebody whom permissions bind, also when root runs the tests, in a folder that may only be read."""
    root = os.geteuid() == 0
    closed = {each: mode for each in folder.parents if root and not (mode := each.stat().st_mode) & 0o001}
    for parent in closed:
        parent.chmod(0o711)
    Path("model.pt").chmod(0)
    Path("locked").mkdir(mode=0o700 if root else 0)
    folder.chmod(0o555)
    if root:
        os.seteuid(65534)
    yield
    if root:
        os.seteuid(0)
    for parent, mode in {**closed, folder: 0o755}.items():
        parent.chmod(mode & 0o7777)


@pytest.mark.usefixtures("unprivileged")
def test_no_permission(cli: Callable[..., Any], folder: Path) -> None:
    unreadable = cli("params", "model.pt")
    assert unreadable.code == 3
    assert unreadable.err == "prunecli: error: cannot open model.pt: Permission denied\n"
    unwritable = cli("apply", "model.safetensors", *APPLY)
    assert unwritable.code == 6
    assert "its folder is not writable" in unwritable.err
    assert sorted(path.name for path in folder.iterdir()) == ["locked", "model.pt", "model.safetensors"]


@pytest.mark.usefixtures("unprivileged")
def test_no_permission_to_look_into_the_folder(cli: Callable[..., Any]) -> None:
    outcome = cli("params", "locked/model.pt")
    assert (outcome.code, outcome.err) == (3, "prunecli: error: cannot open locked/model.pt: Permission denied\n")


def test_an_input_name_that_is_too_long(refused: Refusal) -> None:
    assert "File name too long" in refused(3, "params", "x" * 5000)
    assert "File name too long" in refused(3, "apply", "x" * 5000, *APPLY)
    assert "File name too long" in refused(3, "remove", "x" * 5000, "-o", "out.pt")
    assert "beside it; name its report" in refused(2, "verify", "x" * 5000)


def test_an_output_name_that_is_too_long(refused: Refusal) -> None:
    assert "File name too long" in refused(6, "apply", "model.pt", *APPLY, "-o", "x" * 5000)


class TestBugs:
    """An exception that nobody foresaw."""

    @pytest.fixture(autouse=True)
    def _broken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def explode(*arguments: object, **options: object) -> None:
            raise RuntimeError("boom\x1b[2J\nsecond line")

        monkeypatch.setattr(listing, "list_parameters", explode)
        monkeypatch.setattr(rewrite, "rewrite", explode)

    @pytest.mark.parametrize("command", [["params", "model.pt"], ["apply", "model.pt", *APPLY]])
    def test_they_are_one_line(self, refused: Refusal, command: list[str]) -> None:
        line = refused(1, *command)
        assert "internal error" in line
        assert "RuntimeError: boom\\x1b[2J second line" in line
        assert "--debug" in line

    @pytest.mark.parametrize("command", [["--debug", "params", "model.pt"], ["params", "model.pt", "--debug"]])
    def test_debug_shows_the_traceback(self, cli: Callable[..., Any], command: list[str]) -> None:
        outcome = cli(*command)
        assert outcome.code == 1
        assert outcome.err.startswith("Traceback")
        assert outcome.err.splitlines()[-1].startswith("prunecli: error: internal error")

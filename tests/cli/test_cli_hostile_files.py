"""Checkpoints made to harm, through every command: the right exit code, one line, nothing run, nothing written."""

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hostile_files import CONTAINERS, DAMAGED, HIDDEN, INERT, OTHERS, RUNS, RUNS_AND_IS_LOST

from prunecli.formats.pickles.graph import load
from prunecli.formats.pickles.nodes import Call, Global, walk

Cli = Callable[..., Any]
Refusal = Callable[..., str]
FLAG = "--allow-foreign-objects"
READING = [["params"], ["report"]]
APPLYING = [
    ["apply", "-p", "*", "-a", "0.5", "--seed", "1", "--remove"],
    ["apply", "-p", "*", "-a", ".5", "--seed", "1"],
]
COMMANDS = READING + APPLYING
pytestmark = pytest.mark.usefixtures("folder")

each_container = pytest.mark.parametrize("container", CONTAINERS)


def write(data: bytes) -> str:
    Path("hostile.pt").write_bytes(data)
    return "hostile.pt"


def refuses(refused: Refusal, code: int, words: str, path: str, *flags: str, commands: list[list[str]]) -> None:
    for command in commands:
        line = refused(code, *command, path, *flags)
        assert words in line
        assert path in line or code == 2
    assert not Path("canary").exists()


def carries(cli: Cli, path: str, *flags: str) -> None:
    """Every command does its work, and the output has what the input had beside the weight."""
    before = Path(path).read_bytes()
    for command in COMMANDS:
        output = ["-o", "out.pt"] if command[0] == "apply" else []
        outcome = cli(*command, path, *flags, *output)
        assert (outcome.code, outcome.err.count("error")) == (0, 0), outcome.err
        if output:
            assert meaning(Path("out.pt")) == meaning(Path(path))
            assert cli("report", "out.pt", *flags).code == 0
            Path("out.pt").unlink()
            Path("out.report.json").unlink()
    assert Path(path).read_bytes() == before
    assert not Path("canary").exists()


def meaning(path: Path) -> list[object]:
    """What a reader of the file would make and call, for all that hangs under x."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            graph = load(archive.read("m/data.pkl"))
    else:
        data, end = path.read_bytes(), 0
        for _ in range(4):
            graph = load(data, end)
            end = graph.end
    kept = [entry for node in [graph.root] for entry in getattr(node, "entries", []) if entry.key == "x"]
    return [_label(node) for entry in kept for node in walk(entry.value)]


def _label(node: object) -> object:
    if isinstance(node, Global):
        return node.module, node.name
    if isinstance(node, Call):
        return node.kind, len(node.items), len(node.entries), len(node.states)
    return type(node), getattr(node, "frozen", None), len(getattr(node, "items", getattr(node, "entries", ())))


@pytest.mark.parametrize("case", RUNS)
def test_these_would_run(case: str) -> None:
    """The table means what it says: a plain reader runs them."""

    class Reader(pickle.Unpickler):
        def persistent_load(self, pid: Any) -> Any:
            return pid

    Reader(io.BytesIO(b"\x80\x02" + RUNS[case][0] + b".")).load()
    assert Path("canary").exists()


@each_container
@pytest.mark.parametrize("case", RUNS)
def test_what_would_run_is_refused_by_name_and_carried_if_asked(
    cli: Cli, refused: Refusal, case: str, container: str
) -> None:
    body, names = RUNS[case]
    path = write(CONTAINERS[container](body))
    words = f"objects that weights-only loading refuses ({names}); {FLAG} carries them through unread"
    refuses(refused, 5, words, path, commands=COMMANDS)
    carries(cli, path, FLAG)


@each_container
@pytest.mark.parametrize("case", RUNS_AND_IS_LOST)
def test_what_would_run_and_cannot_be_carried_is_refused_either_way(
    refused: Refusal, case: str, container: str
) -> None:
    body, names, lost = RUNS_AND_IS_LOST[case]
    path = write(CONTAINERS[container](body))
    refuses(refused, 5, f"objects that weights-only loading refuses ({names}", path, commands=COMMANDS)
    refuses(refused, 4, lost, path, FLAG, commands=COMMANDS)


@pytest.mark.parametrize("case", HIDDEN)
def test_every_pickle_of_a_legacy_file_is_judged(cli: Cli, refused: Refusal, case: str) -> None:
    data, code = HIDDEN[case]
    path = write(data)
    refuses(refused, 5, "weights-only loading refuses (posix.system)", path, commands=COMMANDS)
    if code:
        refuses(refused, code, "", path, FLAG, commands=COMMANDS)
    else:
        carries(cli, path, FLAG)


@each_container
@pytest.mark.parametrize("case", DAMAGED)
def test_what_is_no_pickle_is_damage(refused: Refusal, case: str, container: str) -> None:
    body, words = DAMAGED[case]
    path = write(CONTAINERS[container](body))
    for flags in ([], [FLAG]):
        refuses(refused, 4, words, path, *flags, commands=COMMANDS)


@each_container
@pytest.mark.parametrize("case", INERT)
def test_what_only_looks_like_a_bomb_is_carried(cli: Cli, case: str, container: str) -> None:
    path = write(CONTAINERS[container](INERT[case]))
    carries(cli, path)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor", "ignore:TypedStorage is deprecated")
@pytest.mark.parametrize("case", OTHERS)
def test_other_files(refused: Refusal, cli: Cli, case: str) -> None:
    other = OTHERS[case]
    path = write(other.make())
    for index, (flags, words) in enumerate([([], other.words), ([FLAG], other.foreign_words)]):
        for codes, commands in ((other.reading, READING), (other.applying, APPLYING)):
            if codes[index]:
                refuses(refused, codes[index], words, path, *flags, commands=commands)
            else:
                assert [cli(*command, path, *flags).code for command in commands] == [0] * len(commands)


@each_container
def test_a_million_levels(cli: Cli, container: str) -> None:
    path = write(CONTAINERS[container](b"]" * 1_000_000 + b"a" * 999_999))
    assert cli("params", path).code == 0

"""What a file is shows in its content; what is no checkpoint gets a line that says what it is instead."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from format_tools import opened, refused_bytes

from prunecli.errors import UnreadableError, UnsupportedError
from prunecli.formats.io.source import open_stdin


def test_the_suffix_says_nothing(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "m.safetensors")
    safetensors.torch.save_file({"w": torch.ones(2)}, tmp_path / "m.pt")
    with opened(tmp_path / "m.safetensors") as checkpoint:
        assert checkpoint.format == "torch zip"
    with opened(tmp_path / "m.pt") as checkpoint:
        assert checkpoint.format == "safetensors"


_STDIN = """
from prunecli.formats.detect import open_checkpoint
with open_checkpoint(None) as checkpoint:
    print(checkpoint.source.label, checkpoint.source.name, *checkpoint.tensors)
"""


@pytest.mark.parametrize("piped", [True, False])
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_standard_input_piped_or_redirected(tmp_path: Path, piped: bool, suffix: str) -> None:
    path = tmp_path / f"m.{suffix}"
    state = {"w": torch.ones(2)}
    torch.save(state, path) if suffix == "pt" else safetensors.torch.save_file(state, path)
    command = [sys.executable, "-c", _STDIN]
    with path.open("rb") as stream:
        if piped:
            done = subprocess.run(command, input=stream.read(), capture_output=True, check=True)
        else:
            done = subprocess.run(command, stdin=stream, capture_output=True, check=True)
    assert done.stdout == b"standard input None w\n"


def test_a_redirected_file_that_was_begun_is_spooled_from_where_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_bytes(b"0123456789")
    with path.open("rb", buffering=0) as stream:
        stream.read(4)
        with open_stdin(stream.fileno()) as source:
            assert source.read(0, source.size) == b"456789"


def test_a_terminal_is_not_waited_for() -> None:
    leader, follower = os.openpty()
    try:
        with pytest.raises(UnreadableError, match="standard input is a terminal; redirect"), open_stdin(follower):
            pass
    finally:
        os.close(leader)
        os.close(follower)


def test_arrays_and_models_of_others_are_recognised_by_their_first_bytes(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones(3))
    refused_bytes(tmp_path / "m.pt", (tmp_path / "a.npy").read_bytes(), UnsupportedError, "a numpy array")


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0", "a PNG image; prunecli reads safetensors files, files of torch.save, and folders"),
        (b"\xff\xd8\xff\xe0\0", "a JPEG image;"),
        (b"%PDF-1.7\n\xe2\xe3", "a PDF document;"),
        (b"# Model card\n\nA model of \xc3\xa9l\xc3\xa8ves.\n", "a text file; prunecli reads"),
        (b"x" * 511 + "é".encode() + b"more", "a text file;"),
        (b"GGUF\3\0\0\0", "a GGUF file; prunecli reads"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file; prunecli reads"),
        (b"\x00\x01\x02\x03", "not a checkpoint; prunecli reads"),
        (b"text and\0a zero byte", "not a checkpoint;"),
    ],
)
def test_other_files_are_named_as_what_they_are(tmp_path: Path, head: bytes, says: str) -> None:
    refused_bytes(tmp_path / "m.pt", head, UnsupportedError, f"m.pt is {says}")


def test_a_missing_file_has_its_nearest_neighbour(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "model.pt").touch()
    (tmp_path / "runs" / "dangling.pt").symlink_to("nowhere")
    for wrong, near in (
        ("runs/modle.pt", "runs/model.pt"),
        ("rusn/model.pt", "runs/model.pt"),
        ("rusn/other.pt", None),
        ("runs/mope.pt", None),
        ("runs/quite-different", None),
        ("runs/dangling.pt", None),
    ):
        end = f"; did you mean {tmp_path / near}?" if near else ""
        message = f"cannot open {tmp_path / wrong}: No such file or directory{end}"
        with pytest.raises(UnreadableError) as caught, opened(tmp_path / wrong):
            pass
        assert str(caught.value) == message

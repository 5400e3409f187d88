"""Folders with links that lead out, pipes, and shards that are something else."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

from hostile_corpus import FOLDER, accepted, refused
from hostile_makers import PLAIN_PICKLE, folder_of, tensors, tensors_entry, zipped

TWO = "two.safetensors"
Make = Callable[..., object]


def _folder(code: int, says: str) -> Callable[[Make], Make]:
    return refused(code, says, family="folder", kind=FOLDER)


def _spoilt(folder: Path) -> Path:
    """The folder, without its second shard."""
    (folder_of(folder) / TWO).unlink()
    return folder / TWO


@_folder(3, "is missing, though the index names it")
def a_folder_in_the_place_of_a_shard(folder: Path) -> None:
    _spoilt(folder).mkdir()


@_folder(4, f"{TWO} is empty")
def an_empty_shard(folder: Path) -> None:
    _spoilt(folder).touch()


@_folder(4, "it is truncated, fetch it again")
def a_shard_cut(folder: Path) -> None:
    folder_of(folder, two=tensors({"b.weight": tensors_entry()}, bytes(7)))


@_folder(4, "is a git-lfs pointer")
def a_shard_that_is_a_pointer(folder: Path) -> None:
    folder_of(folder, two=b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


@_folder(4, "has shards of different kinds")
def shards_of_two_kinds(folder: Path) -> None:
    folder_of(folder, two=zipped(PLAIN_PICKLE))


@_folder(5, "is a link that leads out of its folder")
def a_shard_that_is_a_link_out_of_the_folder(folder: Path) -> None:
    outside = folder.parent / "outside"
    outside.write_bytes(tensors({"b.weight": tensors_entry()}, bytes(8)))
    _spoilt(folder).symlink_to(outside)


@_folder(5, "is a link that leads out of its folder, to /etc/passwd")
def a_link_to_a_file_of_the_system(folder: Path) -> None:
    (folder_of(folder) / "passwd").symlink_to("/etc/passwd")


@_folder(5, "is a link that leads out of its folder")
def a_link_to_the_folder_above(folder: Path) -> None:
    (folder_of(folder) / "up").symlink_to("..")


@_folder(5, "is a link that leads out of its folder")
def a_link_through_a_link(folder: Path) -> None:
    (folder_of(folder) / "one").symlink_to("two")
    (folder / "two").symlink_to("../..")


@_folder(5, "is a link that leads out of its folder")
def blobs_of_another_repository(folder: Path) -> Path:
    blob = folder / "models--b" / "blobs" / "x"
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"{}")
    snapshot = folder / "models--a" / "snapshots" / "1"
    snapshot.parent.mkdir(parents=True)
    folder_of(snapshot)
    (snapshot / "x.json").symlink_to("../../../models--b/blobs/x")
    return snapshot


@_folder(5, "is a link that leads out of its folder")
def a_link_to_the_refs_of_the_same_repository(folder: Path) -> Path:
    """Of a Hugging Face cache, only the blobs are the snapshot's."""
    refs = folder / "refs" / "main"
    refs.parent.mkdir(parents=True)
    refs.write_bytes(b"1")
    (folder / "snapshots").mkdir()
    snapshot = folder_of(folder / "snapshots" / "1")
    (snapshot / "x").symlink_to("../../refs/main")
    return snapshot


@_folder(3, "cannot look at .*No such file")
def a_dangling_link(folder: Path) -> None:
    (folder_of(folder) / "x.json").symlink_to("nowhere")


@_folder(3, "Too many levels of symbolic links")
def a_link_to_itself(folder: Path) -> None:
    (folder_of(folder) / "x.json").symlink_to("x.json")


@_folder(3, "holds more files or levels than any checkpoint")
def a_folder_within_itself(folder: Path) -> None:
    (folder_of(folder) / "again").symlink_to(".")


@_folder(3, "holds more files or levels than any checkpoint")
def forty_levels(folder: Path) -> None:
    folder_of(folder).joinpath(*"x" * 40).mkdir(parents=True)


@_folder(3, "is not a regular file; take it out of the folder")
def a_pipe(folder: Path) -> None:
    os.mkfifo(folder_of(folder) / "pipe")


@_folder(3, "is not a regular file; take it out of the folder")
def a_pipe_in_the_place_of_a_shard(folder: Path) -> None:
    os.mkfifo(_spoilt(folder))


@_folder(3, "is not a regular file; take it out of the folder")
def a_pipe_in_the_place_of_the_index(folder: Path) -> None:
    (folder_of(folder) / "model.safetensors.index.json").unlink()
    os.mkfifo(folder / "model.safetensors.index.json")


@_folder(3, "is not a regular file; take it out of the folder")
def a_pipe_in_the_place_of_metadata(folder: Path) -> None:
    folder.mkdir()
    os.mkfifo(folder / ".metadata")


@_folder(3, "is not a regular file; take it out of the folder")
def a_socket_in_it(folder: Path) -> None:
    folder_of(folder)
    with socket.socket(socket.AF_UNIX) as bound:
        inside = os.open(folder, os.O_RDONLY)
        try:
            bound.bind(f"/proc/self/fd/{inside}/plug")
        finally:
            os.close(inside)


@_folder(3, "is a folder without an index of shards")
def nothing_in_it(folder: Path) -> None:
    folder.mkdir()


@_folder(3, "is a folder without an index of shards")
def no_weights(folder: Path) -> None:
    (folder_of(folder) / "model.safetensors.index.json").unlink()


@_folder(4, "holds several checkpoints")
def two_indexes(folder: Path) -> None:
    (folder_of(folder) / "other.safetensors.index.json").write_bytes(b"{}")


@_folder(4, "holds several checkpoints")
def an_index_and_a_whole_file(folder: Path) -> None:
    (folder_of(folder) / "model.safetensors").write_bytes(b"")


@accepted(family="folder", reference="safetensors", kind=FOLDER)
def a_hugging_face_cache(folder: Path) -> Path:
    (folder / "snapshots").mkdir(parents=True)
    snapshot = folder_of(folder / "snapshots" / "1")
    blobs = folder / "blobs"
    blobs.mkdir()
    for path in sorted(snapshot.iterdir()):
        path.rename(blobs / f"blob-{path.name}")
        path.symlink_to(f"../../blobs/blob-{path.name}")
    return snapshot


@accepted(family="folder", reference="safetensors", kind=FOLDER)
def a_link_within_it(folder: Path) -> None:
    _spoilt(folder).symlink_to("inner/real")
    (folder / "inner").mkdir()
    (folder / "inner" / "real").write_bytes(tensors({"b.weight": tensors_entry()}, b"\x01\x02\x03\x40" * 2))


@accepted(family="folder", reference="safetensors", kind=FOLDER)
def one_whole_file(folder: Path) -> None:
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(tensors({"b.weight": tensors_entry()}, b"\x01\x02\x03\x40" * 2))


@accepted(family="folder", reference="safetensors", kind=FOLDER)
def files_whose_names_are_no_text(folder: Path) -> None:
    (folder_of(folder) / os.fsdecode(b"\xff\x1b[2J\n.json")).write_bytes(b"{}")


@accepted(family="folder", reference="safetensors", kind=FOLDER)
def books_of_git_with_a_pipe_in_them(folder: Path) -> None:
    (folder_of(folder) / ".git").mkdir()
    os.mkfifo(folder / ".git" / "pipe")

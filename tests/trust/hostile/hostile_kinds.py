"""What is no checkpoint at all: things that are no files, and files of other kinds."""

import gzip
import io
import lzma
import os
import pickle
import socket
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from hostile_corpus import NO_FILE, accepted, refused
from hostile_makers import PLAIN_PICKLE, STORAGE, legacy, saved, tensors, tensors_entry, text, zipped

Make = Callable[..., object]


def _no_file(says: str) -> Callable[[Make], Make]:
    return refused(3, says, family="file system", kind=NO_FILE)


@_no_file("is a pipe, not a regular file")
def a_pipe(path: Path) -> None:
    os.mkfifo(path)


@_no_file("is a pipe, not a regular file")
def a_link_to_a_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


@_no_file("cannot open .*No such device or address|is a socket")
def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        inside = os.open(path.parent, os.O_RDONLY)
        try:
            bound.bind(f"/proc/self/fd/{inside}/{path.name}")
        finally:
            os.close(inside)


@_no_file("is a device, not a regular file")
def a_device() -> Path:
    return Path("/dev/zero")


@_no_file("is a device, not a regular file")
def a_link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/full")


@_no_file("is a folder without an index of shards")
def a_folder(path: Path) -> None:
    path.mkdir()


@_no_file("No such file or directory")
def nothing(path: Path) -> None:
    """There is no file of that name."""


@_no_file("No such file or directory")
def a_dangling_link(path: Path) -> None:
    path.symlink_to("nowhere")


@_no_file("Too many levels of symbolic links")
def a_link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


@_no_file("Not a directory")
def a_file_as_a_folder(path: Path) -> Path:
    path.write_bytes(saved())
    return path / "model.pt"


@_no_file("File name too long")
def a_name_of_5000_letters(path: Path) -> Path:
    return path.with_name("x" * 5000)


@refused(4, "is empty", family="file system", kind=NO_FILE)
def memory_of_the_process() -> Path:
    """A regular file by its mode, of no bytes by its size."""
    return Path("/proc/self/mem")


@refused(3, "Permission denied", family="file system", needs="no root", kind=NO_FILE)
def no_permission(path: Path) -> None:
    path.write_bytes(saved())
    path.chmod(0)


def _kind(says: str) -> Callable[[Make], Make]:
    return refused(4, says, family="kind")


@_kind("is empty")
def no_byte() -> bytes:
    return b""


@_kind("is not a checkpoint; prunecli reads")
def one_byte() -> bytes:
    return b"\0"


@_kind("is not a checkpoint; prunecli reads")
def four_kib_of_nothing() -> bytes:
    return bytes(4096)


@_kind("is a text file; prunecli reads")
def some_text() -> bytes:
    return b"just some text, no checkpoint\n"


@_kind("is a git-lfs pointer, not the file itself; run 'git lfs pull'")
def a_git_lfs_pointer() -> bytes:
    return b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12\n"


@_kind("is a web page, not a checkpoint; download it again")
def a_web_page() -> bytes:
    return b"<!DOCTYPE html><html>not found</html>"


@_kind("is a web page, not a checkpoint; download it again")
def a_web_page_behind_blanks() -> bytes:
    return b"\r\n\t <HTML lang='en'><script>alert(1)</script>"


@_kind("is a web page, not a checkpoint; download it again")
def the_error_of_an_object_store() -> bytes:
    return b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'


@_kind("is a web page, not a checkpoint; download it again")
def a_web_page_behind_a_byte_order_mark() -> bytes:
    return b"\xef\xbb\xbf<!doctype html>"


@_kind("is JSON text, not a checkpoint")
def json_text() -> bytes:
    return b'{"weight_map": {}}'


@_kind("is JSON text, not a checkpoint")
def the_error_of_a_hub() -> bytes:
    return b'{"error":"Invalid username or password."}'


@_kind("is a tar archive; unpack it first")
def a_tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        member = tarfile.TarInfo("../../model.pt")
        member.size = len(saved())
        archive.addfile(member, io.BytesIO(saved()))
    return out.getvalue()


@_kind("is compressed; decompress it first")
def a_gzip() -> bytes:
    return gzip.compress(saved(), mtime=0)


@_kind("is compressed; decompress it first")
def a_gzip_bomb() -> bytes:
    return gzip.compress(bytes(100 << 20), mtime=0)


@_kind("is compressed; decompress it first")
def an_xz() -> bytes:
    return lzma.compress(saved())


@_kind("is compressed; decompress it first")
def a_zstd() -> bytes:
    return b"\x28\xb5\x2f\xfd\x04\x58" + bytes(32)


@_kind("is compressed; decompress it first")
def a_7z() -> bytes:
    return b"7z\xbc\xaf\x27\x1c\0\4" + bytes(32)


@_kind("is a numpy array")
def a_numpy_array() -> bytes:
    out = io.BytesIO()
    np.save(out, np.ones(3))
    return out.getvalue()


@_kind("is a zip file without one data.pkl")
def a_numpy_archive() -> bytes:
    out = io.BytesIO()
    np.savez(out, w=np.ones(3))
    return out.getvalue()


@_kind("is an HDF5 file")
def hdf5() -> bytes:
    return b"\x89HDF\r\n\x1a\n" + bytes(64)


@_kind("is a GGUF file")
def gguf() -> bytes:
    return b"GGUF\3\0\0\0" + struct.pack("<QQ", 1 << 60, 1 << 60)


@_kind("is an ONNX model")
def onnx() -> bytes:
    return b"\x08\x08\x12\x07pytorch\x1a\x052.0.0:\xff\xff\xff\xff\x0f"


@_kind("is not a checkpoint; prunecli reads")
def any_protobuf() -> bytes:
    return b"\x0a\x05model\x12\xff\xff\xff\xff\x0f"


@_kind("is a plain pickle, not a checkpoint; save its state dict with torch.save")
def a_plain_pickle() -> bytes:
    return pickle.dumps({"w": [1.0]})


@_kind("is a zip file without one data.pkl")
def any_zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("readme.txt", "no checkpoint")
    return out.getvalue()


@_kind("is a zip file without one data.pkl")
def an_empty_zip() -> bytes:
    out = io.BytesIO()
    zipfile.ZipFile(out, "w").close()
    return out.getvalue()


@_kind("is a program; prunecli reads")
def a_program() -> bytes:
    return b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\0\x3e\0" + bytes(64)


@_kind("is a PNG image; prunecli reads")
def a_picture() -> bytes:
    return b"\x89PNG\r\n\x1a\n" + bytes(64)


@_kind("is a text file; prunecli reads")
def a_script() -> bytes:
    return b"#!/bin/sh\ntouch canary\n"


@_kind("holds no tensors; it is a pickled dict")
def a_torch_file_of_settings() -> bytes:
    out = io.BytesIO()
    torch.save({"epoch": 3}, out)
    return out.getvalue()


@_kind("is a frozen TorchScript program: its weights are constants without names")
def a_frozen_program() -> bytes:
    from hostile_makers import nested_zip

    frozen = {
        "data.pkl": b"\x80\x02}.",
        "code/__torch__.py": b"",
        "constants/0": STORAGE,
        "constants.pkl": b"\x80\x02).",
    }
    return nested_zip(frozen)


@_kind("is a torch.export archive of a kind that prunecli does not know")
def a_torch_export_archive_of_no_version() -> bytes:
    from hostile_makers import nested_zip

    names = ("data/weights/weight_0", "data/weights/model_weights_config.json", "models/model.json", "archive_format")
    return nested_zip(dict.fromkeys(names, b"x"))


@refused(5, "its code unpacks to more than", family="kind")
def code_that_unpacks_to_40_mb() -> bytes:
    code = b"class M(Module):\n  __parameters__ = []\n  __buffers__ = []\n" + b"#" * (40 << 20)
    return zipped(PLAIN_PICKLE, {"code/__torch__.py": code, "constants.pkl": b"\x80\x02)."}, {"code/__torch__.py"})


@_kind("code/__torch__.py is damaged")
def code_that_does_not_unpack() -> bytes:
    whole = bytearray(
        zipped(PLAIN_PICKLE, {"code/__torch__.py": b"x" * 999, "constants.pkl": b""}, {"code/__torch__.py"})
    )
    at = whole.index(b"m/code/__torch__.py") + len("m/code/__torch__.py")
    whole[at : at + 4] = b"\xff\xff\xff\xff"
    return bytes(whole)


@accepted(family="kind")
def a_link_to_a_file(path: Path) -> None:
    path.with_name("real").write_bytes(saved())
    path.symlink_to("real")


@accepted(family="kind")
def a_zip_that_begins_like_another_kind() -> bytes:
    """The name of its first record is that of a git-lfs pointer; the first bytes are those of a zip."""
    return zipped(PLAIN_PICKLE)


@accepted(family="kind")
def an_old_file_that_ends_like_a_zip() -> bytes:
    """Readers that look at the end first would take it for an archive."""
    end = b"PK\x05\x06" + bytes(18)
    pickled = b"\x80\x02}" + text("w") + _wide() + b"s."
    return legacy(pickled, storages=struct.pack("<Q", 22) + end * 4)


def _wide() -> bytes:
    from hostile_makers import tensor

    return tensor(b"N").replace(b"K\x04Nt", b"K\x16Nt").replace(b"K\x04\x85", b"K\x16\x85")


@accepted(family="kind", reference="safetensors")
def a_safetensors_file_that_ends_like_a_zip() -> bytes:
    entry = tensors_entry(dtype="U8", shape=[22], data_offsets=[16, 38])
    weight = tensors_entry(shape=[4], data_offsets=[0, 16])
    return tensors({"w": weight, "z": entry}, STORAGE + b"PK\x05\x06" + bytes(18))

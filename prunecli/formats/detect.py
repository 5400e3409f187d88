"""Open a file as the container that its content indicates, whatever its suffix.

The readers of torch's containers are imported only for their files: a command starts a tenth faster.
"""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from prunecli.errors import DamagedError, UnsupportedError, UsageError, show
from prunecli.formats.base import AS_FOUND, Checkpoint, ReadOptions
from prunecli.formats.io.locations import Location, Url
from prunecli.formats.io.remote import open_remote
from prunecli.formats.io.source import Source, open_source, open_stdin
from prunecli.formats.packed.names import is_packed, may_be_sparse
from prunecli.formats.safetensors.read import SafetensorsFile, looks_like_safetensors, read_safetensors
from prunecli.formats.torch.signatures import looks_like_export_archive, looks_like_torch_legacy, looks_like_zip
from prunecli.terms import KEY

__all__ = ["kind_of", "open_checkpoint", "open_location", "read_checkpoint"]

_HEAD = 512
_OLDEST = "in torch's format from before 0.1.10, a tar archive of pickles; load it with torch and save it again"
_READS = "prunecli reads safetensors files, files of torch.save, and folders with these"
_FRIENDLY = (
    (re.compile(rb"version https://git-lfs"), "a git-lfs pointer, not the file itself; run 'git lfs pull'"),
    (
        re.compile(rb"(\xef\xbb\xbf)?\s*(<!doctype|<html|<\?xml)", re.IGNORECASE),
        f"a web page, not a checkpoint; download it again; {_READS}",
    ),
    (
        re.compile(rb"\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|7z\xbc\xaf|\x04\x22\x4d\x18"),
        "compressed; decompress it first",
    ),
    (re.compile(rb"(?s)(sys_info|pickle|tensors|storages)\0.{248,256}ustar"), _OLDEST),
    (re.compile(rb"(?s).{257}ustar"), "a tar archive; unpack it first"),
    (re.compile(rb"\x89HDF"), f"an HDF5 file; {_READS}"),
    (re.compile(rb"GGUF"), f"a GGUF file; {_READS}"),
    (re.compile(rb"\x08[\x03-\x1f](\x10.)?\x12[\x01-\x40][\x20-\x7e]"), f"an ONNX model; {_READS}"),
    (re.compile(rb"\x93NUMPY"), f"a numpy array; {_READS}"),
    (re.compile(rb"\x80[\x02-\x05]"), "a plain pickle, not a checkpoint; save its state dict with torch.save"),
    (re.compile(rb"\x89PNG\r\n"), f"a PNG image; {_READS}"),
    (re.compile(rb"\xff\xd8\xff"), f"a JPEG image; {_READS}"),
    (re.compile(rb"GIF8[79]a"), f"a GIF image; {_READS}"),
    (re.compile(rb"%PDF-"), f"a PDF document; {_READS}"),
    (re.compile(rb"\x7fELF"), f"a program; {_READS}"),
    (re.compile(rb"\s*[\[{\"]"), f"JSON text, not a checkpoint; {_READS}"),
)


@contextmanager
def open_checkpoint(location: Location | None, reading: ReadOptions = AS_FOUND) -> Iterator[Checkpoint]:
    """Open a checkpoint and read its layout; None stands for standard input.

    Raises:
        UnreadableError: it is missing, forbidden, or not a regular file.
        DamagedError: it is damaged, or not a file that prunecli can operate on.
        UnsafeError: it holds objects that weights-only loading refuses, and `reading` does not admit them.
        UsageError: the key of `reading` leads nowhere in it, or a URL's protocol is not known or not installed.
    """
    with open_location(location) as source:
        yield read_checkpoint(source, reading)


def open_location(location: Location | None) -> AbstractContextManager[Source]:
    """Open a file on this machine or behind a URL; None stands for standard input."""
    if location is None:
        return open_stdin()
    return open_remote(location) if isinstance(location, Url) else open_source(location)


def read_checkpoint(source: Source, reading: ReadOptions = AS_FOUND) -> Checkpoint:
    """Return the layout of an open file, whichever container it is."""
    if source.size == 0:
        raise DamagedError(f"{source.label} is empty")
    head = source.read(0, min(_HEAD, source.size))
    if looks_like_zip(head):
        if source.name is not None and source.name.endswith(".distcp"):
            raise UnsupportedError(
                f"{source.label} is one file of a distributed checkpoint (torch.distributed.checkpoint), and the "
                ".metadata beside it says what it holds; name the folder that it lies in"
            )
        return _read_zip(source, reading)
    if looks_like_torch_legacy(head):
        from prunecli.formats.torch.legacy import read_torch_legacy

        return read_torch_legacy(source, reading)
    if looks_like_safetensors(head):
        found = read_safetensors(source)
        if is_packed(found.metadata):
            return _read_packed(found, reading)
        if reading.key is not None and not reading.recorded:
            raise UsageError(
                f"{KEY} {show(reading.key)}: a safetensors file has no levels to choose from; leave it out"
            )
        return _dense(found)
    raise UnsupportedError(f"{source.label} is {_description(head)}")


def _dense(found: SafetensorsFile) -> SafetensorsFile:
    """Return a safetensors file, or the dense file that its sparse tensors make."""
    if not may_be_sparse(found.tensors):
        return found
    from prunecli.formats.packed.bitmask_source import dense_file

    return dense_file(found)


def _read_packed(packed: SafetensorsFile, reading: ReadOptions) -> Checkpoint:
    from prunecli.formats.packed.source import unpacked_source

    if packed.source.is_packed:
        raise UnsupportedError(f"{packed.source.label} is a packed file in a packed file; unpack it first")
    return read_checkpoint(unpacked_source(packed.source, packed.tensors), reading)


def _read_zip(source: Source, reading: ReadOptions) -> Checkpoint:
    from prunecli.formats.torch.zip import read_torch_zip
    from prunecli.formats.torch.zip_directory import read_directory
    from prunecli.formats.torch.zip_inflating import inflate

    source, directory = inflate(source, read_directory(source))
    if looks_like_export_archive(directory.by_name):
        from prunecli.formats.torch.export_archive import read_export_archive

        return read_export_archive(source, directory, reading)
    return read_torch_zip(source, reading, directory)


def kind_of(source: Source) -> str | None:
    """Return what a file that is not a checkpoint is, by its first bytes: `a PNG image`; None if that is not known."""
    known = _known(source.read(0, min(_HEAD, source.size)))
    return known and re.split("[,;]", known)[0]


def _known(head: bytes) -> str | None:
    return next((what for pattern, what in _FRIENDLY if pattern.match(head)), None)


def _description(head: bytes) -> str:
    """Return what a file that is not a checkpoint is, by its first bytes, and a remedy."""
    return _known(head) or f"{'a text file' if _is_text(head) else 'not a checkpoint'}; {_READS}"


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # the last character may be cut
            return False
        text = head[: error.start].decode("utf-8")
    return all(char.isprintable() or char in "\t\n\r\f\ufeff" for char in text)

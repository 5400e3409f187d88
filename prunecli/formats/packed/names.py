"""The names in and of packed files."""

__all__ = [
    "DATA",
    "DIRECTORY",
    "FOLDER_SUFFIX",
    "FORMS",
    "MANIFEST",
    "MARK",
    "SUFFIX",
    "is_packed",
    "is_packed_folder",
    "may_be_sparse",
    "original_name",
]

from collections.abc import Collection, Iterable, Mapping

MARK = "prunecli.packed"
"""The entry of the metadata by which a packed file is recognised; its value is the version of the format."""

DATA, DIRECTORY = "prunecli.packed.data", "prunecli.packed.directory"
"""The two entries of a packed file."""

SUFFIX = ".packed.safetensors"
"""The suffix that packing adds to the name of a file, and unpacking takes away."""

FOLDER_SUFFIX = ".packed"
"""The suffix that packing adds to the name of a folder."""

MANIFEST = "prunecli.packed.json"
"""The list of files in a packed folder; no library looks for this name."""

FORMS = ("dense", "drawn mask", "stored mask")
"""How tensors are stored, by the form of a block; of a tensor with blocks of several forms, the last one counts."""


def is_packed(metadata: Mapping[str, str] | None) -> bool:
    """Whether the metadata of a safetensors file are those of a packed file."""
    return bool(metadata) and MARK in (metadata or {})


def is_packed_folder(names: Collection[str]) -> bool:
    """Whether the names of the files in a folder are those of a packed one, also of one that was packed in part."""
    return MANIFEST in names or (len(names) > 0 and all(name.endswith(SUFFIX) for name in names))


def original_name(name: str, suffix: str = SUFFIX) -> str | None:
    """Return the name of the original of a packed file; None if it is not the name of one."""
    found = name.removesuffix(suffix)
    return None if found == name or found in ("", ".", "..") else found


def may_be_sparse(names: Iterable[str]) -> bool:
    """Whether a checkpoint with tensors of these names may have sparse ones: numpy is imported only then."""
    return any(name.endswith((".compressed", ".bitmask")) for name in names)

"""How torch's containers are recognised, without their readers: by first bytes, or by the names of records."""

import re
from collections.abc import Iterable

__all__ = [
    "EXPORT_FORMAT",
    "OLD_EXPORT",
    "compiled_by",
    "looks_like_export_archive",
    "looks_like_torch_legacy",
    "looks_like_zip",
]

EXPORT_FORMAT = "archive_format"
"""The record that every torch.export archive has, in its folder."""

OLD_EXPORT = "serialized_exported_program.json"
"""A record of the oldest archives of torch.export, which later versions do not write."""

_COMPILED = {
    "data/aotinductor/": "AOTInductor compiled",
    "data/executorch/": "ExecuTorch compiled",
    "data/mtia": "was compiled for MTIA",
}

_LEGACY = re.compile(
    rb"(?s)(?:\x80[\x02-\x05](?:\x95.{8})?)?\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19\.|L119547037146038801333356L\n\."
)
"""The magic number as a pickle of protocol 2 and up (LONG1, in a frame from protocol 4 on), or 1 (text)."""


def looks_like_zip(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a zip file."""
    return head[:4] in (b"PK\x03\x04", b"PK\x05\x06")


def looks_like_torch_legacy(head: bytes) -> bool:
    """Whether the first bytes of a file are those of torch.save before torch 1.6."""
    return _LEGACY.match(head) is not None


def looks_like_export_archive(names: Iterable[str]) -> bool:
    """Whether an archive was written by any version of torch.export, judged by the names of its records."""
    return any(name == OLD_EXPORT or name.partition("/")[2] == EXPORT_FORMAT or compiled_by(name) for name in names)


def compiled_by(name: str) -> str | None:
    """Return what compiled the code in a record, by its name; None if it is not compiled code.

    torch 2.5 put the folders of compiled code at the top.
    """
    return next((compiled for folder, compiled in _COMPILED.items() if f"/{folder}" in f"/{name}"), None)

"""The files that HTML pages are made of, and the digests by which a page allows its own scripts and styles."""

import base64
import hashlib
from importlib import resources

__all__ = ["page_file", "script_digest"]


def page_file(name: str) -> str:
    """Return a part of the pages."""
    return (resources.files("prunecli.reporting") / "page" / name).read_text(encoding="utf-8")


def script_digest(text: str) -> str:
    """Return the digest of a script or a style, as a content security policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")

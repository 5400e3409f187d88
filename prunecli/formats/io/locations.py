"""The locations of inputs and outputs: paths on this machine, or URLs of fsspec's file systems."""

import os
import re
from contextlib import suppress
from dataclasses import field
from pathlib import Path

from prunecli.lean import dataclass

__all__ = ["Location", "Url", "lies_in", "location_of", "permissions", "protocol_of"]

_SHAPE = re.compile(r"([A-Za-z][A-Za-z0-9+._-]*(?:::[A-Za-z][A-Za-z0-9+._-]*)*)://(.*)", re.DOTALL)
"""A URL; its protocol may chain several file systems, which `connect` refuses later."""

_LOCAL = frozenset({"file", "local"})
_NO_LOGIN = frozenset({"hf", "memory"})
"""Protocols in which the text before an @ is part of the name (in hf, a revision follows)."""

_NO_SIGNATURE = frozenset({"s3", "s3a", "gs", "gcs", "hf", "memory"})
"""Protocols in which the text after a question mark is part of the name or a version, not perhaps a signature."""


@dataclass(frozen=True, slots=True)
class Url:
    """A URL as the user gave it, treated as a path: `protocol://` and names separated by slashes.

    `address` is the whole text. Messages and reports show its `str`, which masks what may be secret (user and password,
    signatures).
    """

    address: str = field(repr=False)

    def __post_init__(self) -> None:
        if _SHAPE.fullmatch(self.address) is None:
            raise ValueError("no URL")

    @property
    def protocol(self) -> str:
        """The text before `://`."""
        return self.address.partition("://")[0]

    @property
    def secrets(self) -> tuple[str, ...]:
        """The parts that are never shown: the login, its password, and the query, which may be a signature."""
        login, _, query = self._parts
        return tuple(each for each in (login, login.partition(":")[2], query) if each)

    @property
    def name(self) -> str:
        """The last part of the path; empty if the URL names only a host or a bucket."""
        path = self._parts[1].rstrip("/")
        return path.rpartition("/")[2] if "/" in path or self.protocol == "memory" else ""

    def is_dir(self) -> bool:
        """Whether the URL ends in a slash. The URL of a folder may also lack the slash."""
        return self.address.endswith("/")

    def with_name(self, name: str) -> "Url":
        """Return the URL with its last part replaced by `name`.

        Raises:
            ValueError: the URL names only a host or a bucket.
        """
        if not self.name:
            raise ValueError("a URL without a name has no neighbours")
        path = self._parts[1].rstrip("/")
        return self._with_path(path[: len(path) - len(self.name)] + name)

    def __truediv__(self, child: str) -> "Url":
        return self._with_path(f"{self._parts[1].rstrip('/')}/{child}")

    def __str__(self) -> str:
        login, path, query = self._parts
        return f"{self.protocol}://{'***@' if login else ''}{path}{'?***' if query else ''}"

    @property
    def _parts(self) -> tuple[str, str, str]:
        """The login, the host with the path, and the query."""
        path, _, query = self.address.partition("://")[2].partition("?" if self.protocol not in _NO_SIGNATURE else "\0")
        host, slash, rest = path.partition("/")
        login, _, host = ("", "", host) if self.protocol in _NO_LOGIN else host.rpartition("@")
        return login, host + slash + rest, query

    def _with_path(self, path: str) -> "Url":
        login = self._parts[0]
        return Url(f"{self.protocol}://{login}{'@' if login else ''}{path}")


Location = Path | Url


def location_of(text: str) -> Location:
    """Return the URL or path that a text names; as in fsspec, `file://` is followed by a path on this machine."""
    found = _SHAPE.fullmatch(text)
    if found is None:
        return Path(text)
    return Path(found[2]) if found[1] in _LOCAL else Url(text)


def lies_in(location: Location, folder: Location) -> bool:
    """Whether a location is `folder` or below it. URLs are compared by their text, paths after resolving links."""
    if isinstance(location, Path) and isinstance(folder, Path):
        return Path(os.path.realpath(location)).is_relative_to(os.path.realpath(folder))
    if isinstance(location, Url) and isinstance(folder, Url):
        return f"{location.address.rstrip('/')}/".startswith(f"{folder.address.rstrip('/')}/")
    return False


def permissions(location: Location) -> int | None:
    """Return the permissions of a file on this machine; None for a URL, or if they cannot be read."""
    if isinstance(location, Path):
        with suppress(OSError):
            return location.stat().st_mode & 0o777
    return None


def protocol_of(location: Location) -> str:
    """Return the text before `://` in a URL; "file" for a path."""
    return location.protocol if isinstance(location, Url) else "file"

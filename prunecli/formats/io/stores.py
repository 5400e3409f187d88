"""The file systems behind URLs, through fsspec: connections by protocol, and messages for their errors."""

import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from urllib.parse import quote, unquote

from prunecli.errors import OutputError, PrunecliError, UnreadableError, UsageError, show
from prunecli.formats.io.locations import Url
from prunecli.lean import dataclass

__all__ = ["Store", "connect", "connect_to_write", "failures", "translated"]

_EXTRAS = {
    "s3": ("s3fs", "prunecli[s3]"),
    "s3a": ("s3fs", "prunecli[s3]"),
    "gs": ("gcsfs", "prunecli[gcs]"),
    "gcs": ("gcsfs", "prunecli[gcs]"),
    "hf": ("huggingface_hub", "prunecli[hf]"),
    "http": ("aiohttp", "aiohttp"),
    "https": ("aiohttp", "aiohttp"),
    "sftp": ("paramiko", "paramiko"),
    "ssh": ("paramiko", "paramiko"),
    "smb": ("smbprotocol", "smbprotocol"),
}
"""For each protocol, the package that reads it, and its name for pip."""

_LAYERS = frozenset(
    {
        "async_wrapper",
        "asynclocal",
        "asyncwrapper",
        "blockcache",
        "cached",
        "dask",
        "data",
        "dir",
        "dvc",
        "filecache",
        "generic",
        "git",
        "libarchive",
        "reference",
        "simplecache",
        "tar",
        "zip",
    }
)
"""Protocols that fsspec layers over another file system, often that of this machine; some open paths named in files."""

_READ_ONLY = frozenset({"gist", "github", "http", "https"})

_ERRORS = (
    ("aiohttp", "ClientError"),
    ("azure.core.exceptions", "AzureError"),
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("ftplib", "Error"),
    ("gcsfs.retry", "HttpError"),
    ("google.auth.exceptions", "GoogleAuthError"),
    ("httpx", "HTTPError"),
    ("httpx2", "HTTPError"),
    ("paramiko", "SSHException"),
    ("smbprotocol.exceptions", "SMBException"),
)
"""Errors that drivers raise in addition to OSError, by module and name."""

# A connection of ftp or ssh handles one request at a time; file systems that are asynchronous inside handle many.
_one_at_a_time = threading.RLock()


def failures() -> tuple[type[Exception], ...]:
    """Return the classes of errors that the loaded drivers raise if their file systems fail.

    ValueError is one of them: drivers raise it for paths that they do not accept.
    """
    loaded = [(sys.modules.get(module), name) for module, name in _ERRORS]
    own = [getattr(module, name) for module, name in loaded if hasattr(module, name)]
    return (OSError, EOFError, NotImplementedError, ValueError, *own)


@contextmanager
def translated(url: Url, kind: type[PrunecliError], doing: str) -> Iterator[None]:
    """Turn errors of a driver in the block into one of prunecli's `kind`: "cannot DOING URL: reason"."""
    try:
        yield
    except failures() as error:
        raise kind(f"cannot {doing.format(show(url))}: {_reason(error, url)}") from error


def _reason(error: Exception, url: Url) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such bucket" if "bucket does not exist" in str(error) else "no such object"
    if isinstance(error, PermissionError):
        return "access denied; check the credentials"
    if isinstance(error, NotImplementedError):
        return "its file system does not offer that"
    text = str(getattr(error, "strerror", None) or error or type(error).__name__)
    if isinstance(status := getattr(error, "status", None), int):  # aiohttp's error, whose text contains the URL
        text = f"status {status}, {getattr(error, 'message', '')}"
    for secret in url.secrets:
        for spelt in (secret, quote(secret), unquote(secret)):
            text = text.replace(spelt, "***")
    return show(" ".join(text.split()))


@dataclass(frozen=True)
class Store:
    """A URL with the file system that it names; `path` is its path in that file system."""

    url: Url
    files: Any
    path: str

    @property
    def turn(self) -> AbstractContextManager[object]:
        """The lock that each thread must hold while it uses the file system."""
        return nullcontext() if self.files.async_impl else _one_at_a_time

    def child(self, name: str) -> "Store":
        """Return the store for a name below this one."""
        return Store(self.url / name, self.files, f"{self.path.rstrip('/')}/{name}")

    def look(self) -> dict[str, Any] | None:
        """Return the current size, type and version, as the file system reports them; None if nothing is there.

        Raises:
            OSError and the others of `failures`: the file system cannot be asked.
        """
        with self.turn:
            self.files.invalidate_cache()
            try:
                return dict(self.files.info(self.path))
            except FileNotFoundError as error:
                cause = error.__cause__  # for http: a host that cannot be reached, or a status
                if isinstance(cause, OSError | ValueError) or getattr(cause, "status", 404) != 404:
                    raise cause from None  # type: ignore[misc]
                return None

    def listed(self) -> list[dict[str, Any]]:
        """Return the entries directly below, each with its `name` (a path in the file system), `type` and `size`.

        Raises:
            OSError and the others of `failures`: the folder cannot be listed.
        """
        with self.turn:
            return [dict(each) for each in self.files.ls(self.path, detail=True)]


def connect(url: Url) -> Store:
    """Return the store for a URL.

    Raises:
        UsageError: the protocol is unknown, its package is not installed, or it needs more than a URL contains.
        UnreadableError: the host cannot be reached.
    """
    # Imported only here: fsspec takes a tenth of a second to import, and files on this machine do not need it.
    from fsspec import available_protocols, get_filesystem_class
    from fsspec.registry import registry

    protocol = url.protocol
    if protocol in _LAYERS or "::" in protocol:
        raise UsageError(f"{show(url)}: {protocol}:// stands on another file system; unpack or fetch it first")
    if protocol not in available_protocols() and protocol not in registry:
        known = "s3, gs, hf, memory, https, az, sftp, and what else fsspec knows"
        raise UsageError(f"{show(url)}: no file system is called {show(protocol, 40)}; known are {known}")
    try:
        with translated(url, UnreadableError, "open {}"):
            # As `url_to_fs` does, except that it would take `::` in the name of an object for a chained file system.
            kind = get_filesystem_class(protocol)
            files, path = kind(**kind._get_kwargs_from_urls(url.address)), kind._strip_protocol(url.address)
    except TypeError as error:
        raise UsageError(
            f"{show(url)}: {protocol}:// needs settings that no URL has; put them into fsspec's configuration"
        ) from error
    except ImportError as error:
        package, name = _EXTRAS.get(protocol, (getattr(error.__cause__ or error, "name", None) or "a driver",) * 2)
        remedy = f"pip install '{name}'" if name != "a driver" else show(error)
        raise UsageError(f"{protocol}:// needs the package {show(package)}: {remedy}") from error
    return Store(url, files, str(path))


def connect_to_write(url: Url, option: str = "-o") -> Store:
    """Return the store for an output; `option` is the option that names outputs, for messages.

    Raises:
        OutputError: the protocol can only be read.
        PrunecliError: as for `connect`.
    """
    if url.protocol in _READ_ONLY:
        raise OutputError(
            f"cannot write {show(url)}: {url.protocol}:// can only be read; write elsewhere with {option}"
        )
    return connect(url)

"""The file systems behind URLs, through fsspec: found by protocol, and their errors put into words in one place."""

import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from prunecli.errors import OutputError, PrunecliError, UnreadableError, UsageError, show
from prunecli.formats.io.locations import Url

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
"""The package that reads a protocol, and what pip calls it."""

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
"""What fsspec stacks on another file system, often that of this machine: some go wherever a file says."""

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
"""What drivers raise beside OSError, by the module that has it."""

# A connection of ftp or ssh takes one request after the other; those that are asynchronous inside take many.
_one_at_a_time = threading.RLock()


def failures() -> tuple[type[Exception], ...]:
    """Return the classes of what a file system raises when it fails: of those drivers that are loaded.

    With ValueError, which drivers raise for paths that they do not take.
    """
    loaded = [(sys.modules.get(module), name) for module, name in _ERRORS]
    own = [getattr(module, name) for module, name in loaded if hasattr(module, name)]
    return (OSError, EOFError, NotImplementedError, ValueError, *own)


@contextmanager
def translated(url: Url, kind: type[PrunecliError], doing: str) -> Iterator[None]:
    """Make what a driver raises in the block one error of ours: "cannot DOING URL: reason"."""
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
    if isinstance(status := getattr(error, "status", None), int):  # of aiohttp, whose text has the URL in it
        text = f"status {status}, {getattr(error, 'message', '')}"
    for secret in url.secrets:
        for spelt in (secret, quote(secret), unquote(secret)):
            text = text.replace(spelt, "***")
    return show(" ".join(text.split()))


@dataclass(frozen=True)
class Store:
    """A URL with the file system that it names; `path` is what that file system calls it."""

    url: Url
    files: Any
    path: str

    @property
    def turn(self) -> AbstractContextManager[object]:
        """Hold this while the file system is used, from whichever thread."""
        return nullcontext() if self.files.async_impl else _one_at_a_time

    def child(self, name: str) -> "Store":
        """Return what lies below, by its name relative to this."""
        return Store(self.url / name, self.files, f"{self.path.rstrip('/')}/{name}")

    def look(self) -> dict[str, Any] | None:
        """Ask for size, type and version as they are now; None if there is nothing.

        Raises:
            OSError and its like (`failures`): it cannot be found out.
        """
        with self.turn:
            self.files.invalidate_cache()
            try:
                return dict(self.files.info(self.path))
            except FileNotFoundError as error:
                cause = error.__cause__  # of http: a host that cannot be reached, or a status
                if isinstance(cause, OSError | ValueError) or getattr(cause, "status", 404) != 404:
                    raise cause from None  # type: ignore[misc]
                return None

    def listed(self) -> list[dict[str, Any]]:
        """List what lies directly below, each with its `name` (as the file system calls it), `type` and `size`.

        Raises:
            OSError and its like (`failures`): it cannot be listed.
        """
        with self.turn:
            return [dict(each) for each in self.files.ls(self.path, detail=True)]


def connect(url: Url) -> Store:
    """Find the file system of a URL.

    Raises:
        UsageError: no such protocol, its package is not installed, or it needs more than a URL contains.
        UnreadableError: the host cannot be reached.
    """
    # Only here: fsspec takes a tenth of a second to import, which files on this machine need not wait for.
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
            # As `url_to_fs`, for which `::` in the name of an object would be a file system below.
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
    """Find the file system of an output, which `option` names.

    Raises:
        OutputError: it can only be read.
        PrunecliError: as `connect`.
    """
    if url.protocol in _READ_ONLY:
        raise OutputError(
            f"cannot write {show(url)}: {url.protocol}:// can only be read; write elsewhere with {option}"
        )
    return connect(url)

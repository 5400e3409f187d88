"""An S3 server on loopback, which counts what it serves and fails when told to."""

import logging
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

Environ = dict[str, Any]
Wsgi = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}


@dataclass(frozen=True)
class Request:
    """What was asked for, and the bytes that were sent back."""

    method: str
    path: str
    query: str
    served: int


logging.getLogger("werkzeug").addHandler(logging.NullHandler())  # it would log broken connections to standard error


class Quiet(WSGIRequestHandler):
    """Handles requests without a log: the tests look at standard error."""

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""

    def connection_dropped(self, error: BaseException, environ: Environ | None = None) -> None:
        """End the connection."""
        self.close_connection = True


@dataclass
class Bucket:
    """The middleware around the server, and what it stores. `fault` says how to answer a request, None for as it is.

    Faults: "cut" sends half of the body, "drop" breaks the connection, "503" is the status.
    """

    app: Wsgi
    name: str = ""
    endpoint: str = ""
    requests: list[Request] = field(default_factory=list)
    fault: Callable[[Environ], str | None] = lambda _: None

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        fault = self.fault(environ)
        if (
            fault == "drop"
        ):  # a reset: after an orderly end, a client that is still sending waits minutes for TCP to give up
            environ["werkzeug.socket"].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raise ConnectionResetError
        if fault is not None and fault != "cut":
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response(f"{fault} told so", [("Content-Length", "0")])
            return []
        body = b"".join(self.app(environ, start_response))
        where = environ["PATH_INFO"], environ["QUERY_STRING"]
        self.requests.append(Request(environ["REQUEST_METHOD"], *where, len(body)))
        return [body[: len(body) // 2] if fault == "cut" else body]

    @property
    def _store(self) -> Any:
        """What the server keeps in this process: a request for it takes several milliseconds."""
        from moto.s3.models import s3_backends  # as late as this: few tests use it, and all workers collect all tests

        return s3_backends["123456789012"]["aws"]

    def create(self, name: str) -> None:
        """Create an empty bucket, and go on with it."""
        self.name = name
        self._store.create_bucket(name, KEYS["AWS_DEFAULT_REGION"])

    def url(self, key: str) -> str:
        """Return what the command line calls an object."""
        return f"s3://{self.name}/{key}"

    def put(self, key: str, data: bytes) -> str:
        """Store an object."""
        self._store.put_object(self.name, key, data)
        return self.url(key)

    def publish(self, key: str) -> None:
        """Let anybody read an object."""
        from moto.s3.models import get_canned_acl

        self._store.put_object_acl(self.name, key, get_canned_acl("public-read"))

    def get(self, key: str) -> bytes:
        """Return an object."""
        data: bytes = self._store.get_object(self.name, key).value
        return data

    @property
    def keys(self) -> list[str]:
        """The names of all objects."""
        return sorted(self._store.get_bucket(self.name).keys)

    @property
    def hanging(self) -> list[str]:
        """The uploads that were begun and neither completed nor aborted."""
        return [each.key_name for each in self._store.get_bucket(self.name).multiparts.values()]


@cache
def _moto() -> Wsgi:
    """Return the server's application; what it stores is kept for all servers of a process."""
    import moto.backends
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    modules = tuple(moto.backends.list_of_moto_modules())
    moto.backends.list_of_moto_modules = lambda: modules  # moto would look for them on disk at each request
    app: Wsgi = DomainDispatcherApplication(create_backend_app)
    return app


@contextmanager
def serving(app: Wsgi | None = None) -> Iterator[Bucket]:
    """Run the server in a thread, or another application."""
    bucket = Bucket(app or _moto())
    server: BaseWSGIServer = make_server("127.0.0.1", 0, bucket, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    bucket.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield bucket
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

"""An S3 server on loopback, which counts what it serves and fails when told to."""

import logging
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
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
    """The middleware around the server, and a client of it. `fault` says how to answer a request, None for as it is.

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

    @cached_property
    def client(self) -> Any:
        """A client of boto3; making one takes as long as a test."""
        import boto3  # as late as this: few tests use a bucket, and all workers collect all tests

        options = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "us-east-1"}
        return boto3.client("s3", endpoint_url=self.endpoint, **options)

    def url(self, key: str) -> str:
        """Return what the command line calls an object."""
        return f"s3://{self.name}/{key}"

    def put(self, key: str, data: bytes) -> str:
        """Store an object."""
        self.client.put_object(Bucket=self.name, Key=key, Body=data)
        return self.url(key)

    def get(self, key: str) -> bytes:
        """Fetch an object."""
        data: bytes = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return data

    @property
    def keys(self) -> list[str]:
        """The names of all objects."""
        return [each["Key"] for each in self.client.list_objects_v2(Bucket=self.name).get("Contents", [])]

    @property
    def hanging(self) -> list[str]:
        """The uploads that were begun and neither completed nor aborted."""
        return [each["Key"] for each in self.client.list_multipart_uploads(Bucket=self.name).get("Uploads", [])]


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

"""Python with prunecli loaded, which forks itself for each command line: a process without its start-up.

    python fork_server.py FOLDER MODULE...

It loads the modules, does each command once, and then serves `fork_client.py` on a socket in the folder until nobody
holds the pipe `held` there open. Asked to, it forks a server that has more modules loaded: see `forked.py`. A request
is the client's three streams and its environment, working directory, umask and arguments, of which those of
`python -m MODULE`, `-c CODE` and a script are understood. The answer is the child's pid, later its wait status and
what it used: processor time in microseconds and its largest size in KiB. A client that is gone, or sends 9, has its
child killed.
"""

import atexit
import gc
import importlib
import io
import marshal
import os
import runpy
import select
import shutil
import signal
import socket
import struct
import sys
import tempfile
import threading
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

_PIDFD_OPEN = os.pidfd_open  # a module may take it away
_EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "digits.pt"
_ANSWER = struct.Struct("=iqq")


def main() -> None:
    """Serve with what every command needs."""
    folder, *modules = sys.argv[1:]
    for name in modules:
        importlib.import_module(name)
    _use_each_command()
    _start(Path(folder))


def _start(folder: Path) -> None:
    """Serve in a folder until nobody holds it; then remove it."""
    assert threading.active_count() == 1
    gc.freeze()  # a collection in a child would copy all pages
    held = os.open(folder / "held", os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        listener.listen(64)
        os.write(1, b"ready\n")
        _serve(listener, held)
    shutil.rmtree(folder)
    with suppress(OSError):  # others serve
        folder.parent.rmdir()


def _start_with(folder: Path, modules: Sequence[str]) -> None:
    """Become a server with more modules, which nobody waits for."""
    if os.fork():
        return
    os.setsid()
    for name in modules:
        importlib.import_module(name)
    _start(folder)


def _use_each_command() -> None:
    """So that what is imported or built late is there for all children."""
    from prunecli.cli.app import run  # as late as this: modules may change what it finds

    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder, name)) for name in ("m.safetensors", "masked", "baked")]
        header = b'{"w":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}'
        Path(files[0]).write_bytes(len(header).to_bytes(8, "little") + header + bytes(range(16)))
        kept = os.dup(1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        for source in (files[0], str(_EXAMPLE)):
            for line in (
                ["apply", source, "-p", "*", "-a", "0.5", "-o", files[1], "-q", "--force"],
                ["remove", files[1], "-o", files[2], "-q", "--force"],
                ["verify", files[1], "-q"],
                *(["report", source, "--format", form] for form in ("table", "json", "csv", "markdown", "html")),
                ["params", source],
                ["params", source, "--all"],
            ):
                assert run(line) == 0, line
                sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _serve(listener: socket.socket, held: int) -> None:
    clients: dict[int, socket.socket] = {}  # by the handle of their child
    while True:
        children = {client: handle for handle, client in clients.items()}
        watched: list[Any] = [held, listener, *clients, *children]
        ready, _, _ = select.select(watched, [], [])
        for each in ready:
            if each == held:
                return
            if each is listener:
                _accept(listener, clients)
            elif isinstance(each, socket.socket):
                _forward(each, children[each])
        for handle in [each for each in ready if each in clients]:
            _answer(handle, clients.pop(handle))


def _accept(listener: socket.socket, clients: dict[int, socket.socket]) -> None:
    client, _ = listener.accept()
    data, streams, _, _ = socket.recv_fds(client, 1 << 16, 4)
    if not data:  # it was killed before it could ask
        client.close()
        return
    while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "little"):
        data += client.recv(1 << 16)
    pid = os.fork()
    if not pid:
        _child(streams, *marshal.loads(data[4:]))  # noqa: S302  (from our own client)
    for stream in streams:
        os.close(stream)
    client.sendall(pid.to_bytes(4, "little"))
    clients[_PIDFD_OPEN(pid)] = client


def _forward(client: socket.socket, handle: int) -> None:
    """Pass a signal on; whose client is gone is killed."""
    try:
        data = client.recv(1)
    except ConnectionError:
        data = b""
    try:
        signal.pidfd_send_signal(handle, data[0] if data else signal.SIGKILL)
    except ProcessLookupError:
        return


def _answer(handle: int, client: socket.socket) -> None:
    info = os.waitid(os.P_PIDFD, handle, os.WEXITED | os.WNOWAIT)
    assert info is not None
    _, status, usage = os.wait4(info.si_pid, 0)
    os.close(handle)
    used = round((usage.ru_utime + usage.ru_stime) * 1e6)
    with suppress(ConnectionError):  # it was killed
        client.sendall(_ANSWER.pack(status, used, usage.ru_maxrss))
    client.close()


def _child(
    streams: Sequence[int], folder: bytes, mask: int, environment: dict[bytes, bytes], arguments: Sequence[bytes]
) -> None:
    """Become the process that was asked for, and end as it ends."""
    code = 70
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        os.closerange(len(streams), max(streams) + 64)
        os.chdir(folder)
        os.umask(mask)
        os.environb.clear()
        os.environb.update(environment)
        sys.stdin, sys.stdout, sys.stderr = map(_stream, range(3))
        code = _ended(list(map(os.fsdecode, arguments)))
    finally:
        os._exit(code)


def _stream(number: int) -> Any:
    """A standard stream as Python makes it when it starts."""
    encoding, _, errors = os.environ.get("PYTHONIOENCODING", "").partition(":")
    errors = errors or ("backslashreplace" if number == 2 else "strict")
    raw = io.FileIO(number, "w" if number else "r", closefd=False)
    if number == 0:
        return io.TextIOWrapper(io.BufferedReader(raw), encoding or "utf-8", errors)
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    lines = number == 2 or raw.isatty()
    buffer: Any = raw if unbuffered else io.BufferedWriter(raw)
    return io.TextIOWrapper(
        buffer, encoding or "utf-8", errors, newline="\n", line_buffering=lines, write_through=unbuffered
    )


def _ended(arguments: list[str]) -> int:
    """Run what the arguments say; return the exit code."""
    try:
        _run(arguments)
    except SystemExit as end:
        code = _exit_code(end.code)
    except BaseException:  # as the interpreter does
        traceback.print_exc()
        code = 1
    else:
        code = 0
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
    except OSError:
        return 120
    return code


def _exit_code(code: object) -> int:
    if code is None or isinstance(code, int):
        return (code or 0) & 0xFF
    print(code, file=sys.stderr)
    return 1


def _run(arguments: list[str]) -> None:
    how, *rest = arguments
    if how == "serve":
        _start_with(Path(rest[0]), rest[1:])
    elif how == "-m":
        sys.argv, sys.path[0] = rest, str(Path.cwd())
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif how == "-c":
        sys.argv, sys.path[0] = ["-c", *rest[1:]], ""
        sys.modules["__main__"] = module = ModuleType("__main__")
        exec(compile(rest[0], "<string>", "exec"), module.__dict__)  # noqa: S102
    else:
        sys.argv, sys.path[0] = arguments, str(Path(how).parent)
        runpy.run_path(how, run_name="__main__")


if __name__ == "__main__":
    main()

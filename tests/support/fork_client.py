"""`python` by `fork_server.py`: python -I -S fork_client.py SOCKET (-m MODULE | -c CODE | SCRIPT) ARGUMENT...

It gives its streams and surroundings to a child of the server, passes signals on, and ends as the child ends. Only
built-in modules are used: each of them would take longer to import than the rest takes.
"""

import _signal  # type: ignore[import-not-found]
import _socket
import marshal
import posix
import sys


def main() -> None:
    """Ask for a child, wait for it, and end as it did."""
    server = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    server.connect(sys.argv[1])
    arguments = [each.encode(sys.getfilesystemencoding(), "surrogateescape") for each in sys.argv[2:]]
    mask = posix.umask(0)
    request = marshal.dumps((posix.getcwdb(), mask, dict(posix.environ), arguments))
    data = len(request).to_bytes(4, "little") + request
    streams = b"".join(number.to_bytes(4, sys.byteorder) for number in range(3))
    for signum in (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP):
        if _signal.getsignal(signum) != _signal.SIG_IGN:
            _signal.signal(signum, lambda signum, _: server.send(bytes([signum])))
    sent = server.sendmsg([data], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams)])
    while sent < len(data):
        sent += server.send(data[sent:])
    nowhere = posix.open("/dev/null", posix.O_RDWR)
    for number in range(3):  # a pipe that only the child holds ends when the child ends
        posix.dup2(nowhere, number)
    answer = b""
    while len(answer) < 8:
        part = server.recv(32)
        if not part:
            posix._exit(70)
        answer += part
    status = int.from_bytes(answer[4:8], sys.byteorder)
    if posix.WIFSIGNALED(status):
        _signal.signal(posix.WTERMSIG(status), _signal.SIG_DFL)
        posix.kill(posix.getpid(), posix.WTERMSIG(status))
    posix._exit(posix.WEXITSTATUS(status))


main()

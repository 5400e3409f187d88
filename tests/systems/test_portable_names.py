"""Which names of the operating system the package uses: all are on macOS, or there is another way beside them."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

from other_system import LINUX_ONLY

import prunecli

PACKAGE = Path(prunecli.__file__).parent

MODULES = ("os", "fcntl", "signal", "resource", "select", "ctypes", "time", "mmap", "pwd", "termios")
"""Modules in which systems differ."""

EVERYWHERE = {
    "os": {
        "DirEntry",
        "O_CLOEXEC",
        "O_CREAT",
        "O_EXCL",
        "O_NOFOLLOW",
        "O_NONBLOCK",
        "O_RDONLY",
        "O_RDWR",
        "SEEK_CUR",
        "W_OK",
        "X_OK",
        "_exit",
        "access",
        "close",
        "cpu_count",
        "devnull",
        "dup",
        "dup2",
        "environ",
        "fchmod",
        "fchown",
        "fdopen",
        "fsdecode",
        "PathLike",
        "fspath",
        "fsencode",
        "fstat",
        "fsync",
        "ftruncate",
        "get_terminal_size",
        "geteuid",
        "getpid",
        "getppid",
        "isatty",
        "kill",
        "link",
        "lseek",
        "open",
        "path",
        "pread",
        "pwrite",
        "read",
        "scandir",
        "stat_result",
        "statvfs",
        "strerror",
        "supports_effective_ids",
        "umask",
        "uname",
        "walk",
        "write",
    },
    "fcntl": {"LOCK_EX", "LOCK_NB", "LOCK_SH", "LOCK_UN", "fcntl", "flock", "ioctl"},
    "signal": {
        "ITIMER_REAL",
        "SIGALRM",
        "SIGHUP",
        "SIGINT",
        "SIGPIPE",
        "SIGTERM",
        "SIG_DFL",
        "SIG_IGN",
        "SIG_UNBLOCK",
        "Signals",
        "default_int_handler",
        "getsignal",
        "pthread_sigmask",
        "setitimer",
        "signal",
    },
    "resource": {"RLIMIT_NOFILE", "getrlimit", "setrlimit"},
    "ctypes": {
        "CDLL",
        "addressof",
        "byref",
        "c_char",
        "c_char_p",
        "c_double",
        "c_int32",
        "c_int64",
        "c_uint32",
        "c_uint64",
        "c_void_p",
        "get_errno",
    },
    "time": {"monotonic", "sleep"},
}
"""Names that Linux and macOS have both, by Python's documentation."""

GUARDED = {
    ("formats/outputs/system.py", "os.posix_fallocate"),  # else blocks come as they are written
    ("formats/outputs/system.py", "fcntl.F_FULLFSYNC"),  # macOS has it, Linux needs it not
    ("formats/io/sinks.py", "os.posix_fadvise"),  # advice
    ("formats/io/sinks.py", "os.POSIX_FADV_DONTNEED"),
    ("formats/io/source.py", "os.preadv"),  # else pread; macOS has it from 11 on
    ("formats/io/threads.py", "os.sched_getaffinity"),  # else the number of processors
}
"""Names that are asked for before they are used, and what is done without them."""


def names_in(path: Path) -> Iterator[str]:
    """Yield every name of those modules that a source uses, also where it is asked for as a string."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in MODULES:
            yield f"{node.value.id}.{node.attr}"
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES and not node.level:
            yield from (f"{node.module}.{each.name}" for each in node.names)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr"):
            module, name = node.args[:2]
            if isinstance(module, ast.Name) and module.id in MODULES:
                yield f"{module.id}.{ast.literal_eval(name)}"


@functools.cache
def used() -> set[tuple[str, str]]:
    """Return the names that the package uses, each with the file that does."""
    return {(str(path.relative_to(PACKAGE)), name) for path in PACKAGE.rglob("*.py") for name in set(names_in(path))}


def test_the_search_finds_names(tmp_path: Path) -> None:
    source = tmp_path / "source.py"
    source.write_text("import os\nfrom os import memfd_create\nos.splice(0, 1)\nhasattr(os, 'eventfd')\nos.O_PATH")
    assert set(names_in(source)) == {"os.memfd_create", "os.splice", "os.eventfd", "os.O_PATH"}
    assert len(used()) > 80


def test_every_name_is_there_on_macos_or_asked_for_first() -> None:
    """A name that is new here: look it up in Python's documentation, and give it another way if it is Linux's."""
    known = {f"{module}.{name}" for module, names in EVERYWHERE.items() for name in names}
    assert {each for each in used() if each[1] not in known} == GUARDED


def test_no_name_that_linux_has_alone_is_called_one_of_both() -> None:
    for module, names in LINUX_ONLY.items():
        assert not set(names) & EVERYWHERE.get(module, set())


def test_what_is_read_of_proc_has_another_way() -> None:
    """The umask, which os.umask has, too; the number of this boot; where /dev/stdout leads; the shell, or $SHELL."""
    found = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and str(node.value).startswith("/proc")
    }
    assert found == {"cli/typos.py", "formats/outputs/file.py", "formats/outputs/temp_files.py"}

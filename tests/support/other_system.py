"""What a child process does before it runs prunecli, so that Python has no more than it has on another system.

The names are those that Python's documentation gives to Linux, less what it gives to macOS, too.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import forked

__all__ = ["LINUX_ONLY", "MACOS", "WINDOWS", "on_macos", "on_windows"]

LINUX_ONLY = {
    "os": (
        "posix_fallocate",
        "posix_fadvise",
        "POSIX_FADV_DONTNEED",
        "POSIX_FADV_NORMAL",
        "POSIX_FADV_NOREUSE",
        "POSIX_FADV_RANDOM",
        "POSIX_FADV_SEQUENTIAL",
        "POSIX_FADV_WILLNEED",
        "sched_getaffinity",
        "sched_setaffinity",
        "sched_getparam",
        "sched_setparam",
        "sched_getscheduler",
        "sched_setscheduler",
        "copy_file_range",
        "splice",
        "memfd_create",
        "eventfd",
        "eventfd_read",
        "eventfd_write",
        "fdatasync",
        "getxattr",
        "setxattr",
        "listxattr",
        "removexattr",
        "getrandom",
        "pidfd_open",
        "pipe2",
        "O_PATH",
        "O_TMPFILE",
        "O_DIRECT",
        "O_NOATIME",
        "O_RSYNC",
        "O_LARGEFILE",
        "getresuid",
        "getresgid",
        "setresuid",
        "setresgid",
        "unshare",
        "setns",
        "preadv",
        "pwritev",
    ),
    "fcntl": (
        "F_ADD_SEALS",
        "F_GET_SEALS",
        "F_NOTIFY",
        "F_SETPIPE_SZ",
        "F_GETPIPE_SZ",
        "F_OFD_GETLK",
        "F_OFD_SETLK",
        "F_OFD_SETLKW",
        "F_GETLEASE",
        "F_SETLEASE",
        "F_SETSIG",
        "F_GETSIG",
        "LOCK_MAND",
        "LOCK_READ",
        "LOCK_WRITE",
    ),
    "signal": ("SIGPOLL", "SIGPWR", "SIGSTKFLT", "SIGCLD", "SIGRTMIN", "SIGRTMAX", "sigtimedwait", "sigwaitinfo"),
    "resource": ("prlimit", "RLIMIT_MSGQUEUE", "RLIMIT_NICE", "RLIMIT_RTPRIO", "RLIMIT_RTTIME", "RLIMIT_SIGPENDING"),
    "select": ("epoll", "EPOLLIN", "EPOLLOUT"),
    "time": ("CLOCK_BOOTTIME", "CLOCK_TAI", "pthread_getcpuclockid"),
}

_BEFORE = """
import ctypes, errno, fcntl, os, resource, select, signal, socket, sys, time
import fsspec, isal.isal_zlib, numpy, rich.console, rich.progress, safetensors, typer
import shutil, sysconfig, tempfile, unicodedata, urllib.request
sysconfig.get_config_vars()
"""
"""What prunecli uses, imported before the system is another one: it may use what is there."""

MACOS = (
    _BEFORE
    + f"""
for module, names in {LINUX_ONLY!r}.items():
    for name in names:
        if hasattr(sys.modules[module], name):
            delattr(sys.modules[module], name)

# No library has renameat2, and the number of Linux's FICLONE means something else.
ctypes.CDLL = lambda *arguments, **options: object()
def ioctl(*arguments):
    raise AssertionError(f"ioctl{{arguments}}")
fcntl.ioctl = ioctl

# What F_FULLFSYNC does; fsync alone must not be what a run relies on.
fsync, fcntl_of_linux = os.fsync, fcntl.fcntl
fcntl.F_FULLFSYNC, synced = 51, []
def full(descriptor, command, *rest):
    if command != 51:
        return fcntl_of_linux(descriptor, command, *rest)
    synced.append(descriptor)
    return fsync(descriptor)
def weak(descriptor):
    raise AssertionError("fsync")
fcntl.fcntl, os.fsync = full, weak

# There is no /proc, and the limit of open files says more than setrlimit takes.
def no_proc(event, arguments):
    if event in ("open", "os.listdir", "os.scandir") and str(arguments[0]).startswith("/proc"):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(arguments[0]))
sys.addaudithook(no_proc)
def limited(kind, limits):
    if limits[0] > 10240 or limits[0] < 0:
        raise ValueError("current limit exceeds maximum limit")
resource.getrlimit, resource.setrlimit = lambda kind: (256, resource.RLIM_INFINITY), limited
tempfile._O_TMPFILE_WORKS = False  # as it finds on a system without O_TMPFILE
sys.platform = "darwin"
"""
)

WINDOWS = (
    _BEFORE
    + """
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
for name in ("fork", "geteuid", "getuid", "fchown", "fchmod", "pread", "pwrite", "preadv", "statvfs", "posix_fallocate",
             "O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK", "sched_getaffinity", "posix_fadvise", "WNOHANG"):
    delattr(os, name)
for name in ("SIGHUP", "SIGPIPE", "SIGALRM", "pthread_sigmask", "setitimer"):
    delattr(signal, name)
sys.platform, os.name = "win32", "nt"
"""
)

_RUN = """
sys.argv[:] = ["prunecli", *sys.argv[1:]]
import runpy
runpy.run_module("prunecli", run_name="__main__")
"""


def on_macos(
    folder: Path, arguments: Sequence[object], *, setup: str = "", stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """Run a command line as on macOS; `setup` are lines that are run just before it."""
    program = "from as_macos import *\n" + setup + _RUN
    return _run([*forked.python("as_macos"), "-c", program, *map(str, arguments)], folder, stdin)


def on_windows(folder: Path, *arguments: object, program: str = _RUN) -> subprocess.CompletedProcess[bytes]:
    """Run a command line, or another program, as on Windows."""
    return _run([sys.executable, "-c", WINDOWS + program, *map(str, arguments)], folder, b"")


def _run(command: Sequence[str], folder: Path, stdin: bytes) -> subprocess.CompletedProcess[bytes]:
    support = str(Path(__file__).parent)
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    environment["PYTHONPATH"] = os.pathsep.join([support, environment.get("PYTHONPATH", "")])
    return subprocess.run(
        command, cwd=folder, input=stdin, capture_output=True, timeout=300, env=environment, check=False
    )

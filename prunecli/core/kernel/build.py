"""Compile the kernel when prunecli is installed; where that does not work, prunecli is installed without it.

As a hook of hatchling, this makes wheels that contain the library, and so suit one platform and all versions of Python.
The library's suffix is not `.so`, since Python would take it for one of its modules.
`python prunecli/core/kernel/build.py` compiles it in a checkout, beside its source.
"""

import contextlib
import ctypes
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import sys_tags

__all__ = ["CompiledKernel", "compile_kernel"]

_FOLDER = Path(__file__).parent
_OPTIONS = ("-std=c11", "-O3", "-ffp-contract=off", "-shared", "-fPIC", "-fvisibility=hidden")


class CompiledKernel(BuildHookInterface[Any]):
    """The hook: it adds the library to a wheel, or puts it into the checkout for an editable installation."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and say so if that did not work; `version` is that of the build target, or "editable"."""
        self._folder = tempfile.TemporaryDirectory()
        editable = version == "editable"
        library = Path(_FOLDER if editable else self._folder.name, "kernel.shared")
        failure = compile_kernel(library)
        if failure:
            self.app.display_warning(f"prunecli works without its compiled kernel, but slower: {failure}")
        elif not editable:
            build_data["force_include"][str(library)] = "prunecli/core/kernel/kernel.shared"
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{_platform()}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was only needed for the wheel."""
        self._folder.cleanup()


def compile_kernel(library: Path) -> str:
    """Compile the kernel and try it; return why that did not work, or an empty text.

    The compiler is `$CC`, else cc, gcc or clang.
    """
    made = library.with_name(f".{library.name}.{os.getpid()}")
    try:
        given = shlex.split(os.environ.get("CC", ""))
        compiler = given or [found for found in map(shutil.which, ("cc", "gcc", "clang")) if found][:1]
        if not compiler:
            return "there is no C compiler (cc, gcc or clang)"
        command = [*compiler, *_OPTIONS, *map(str, sorted(_FOLDER.glob("*.c"))), "-o", str(made)]
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - what the user calls cc
        ctypes.CDLL(str(made)).prunecli_kernel_version()
        made.replace(library)  # in one step: a process that uses the old one keeps it
    except subprocess.CalledProcessError as error:
        message = error.stderr.decode(errors="replace").strip()
        return f"{error.cmd[0]}: {message or f'exit code {error.returncode}'}"
    except (OSError, AttributeError, ValueError) as error:
        return str(error)
    finally:
        with contextlib.suppress(OSError):  # a read-only file system refuses it even if there is nothing
            made.unlink()
    return ""


def _platform() -> str:
    """Return this platform's tag, without a claim about the C library of other machines."""
    platforms = (tag.platform for tag in sys_tags())
    return next(each for each in platforms if not each.startswith(("manylinux", "musllinux")))


if __name__ == "__main__":
    sys.exit(compile_kernel(_FOLDER / "kernel.shared") or None)

"""Disks that are too small, limits on file sizes, and power that fails: what a run leaves then."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from faults.injection import Runner
from faults.scenarios import Scenario, state_of

__all__ = ["fill_disks", "loop_device", "may_mount", "power_cuts", "size_limits"]

_SHUTDOWN = 0x8004587D
"""EXT4_IOC_SHUTDOWN, as `include/uapi/linux/ext4.h` of Linux has it."""

_WITHOUT_FLUSH = 2
"""EXT4_GOING_FLAGS_NOLOGFLUSH: what is not on the disk by now is lost, as when the power fails."""


def may_mount(place: Path) -> str | None:
    """Say why small disks cannot be mounted here, None if they can."""
    if os.geteuid() != 0:
        return "only root can mount"
    try:
        with _mounted(place, "-t", "tmpfs", "-o", "size=64k", "tmpfs"):
            return None
    except subprocess.CalledProcessError as error:
        return f"tmpfs cannot be mounted here: {error.stderr.strip()[:100]}"


@contextmanager
def _mounted(place: Path, *options: str) -> Iterator[Path]:
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", *options, str(place)], check=True, capture_output=True, text=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill_disks(scenario: Scenario, runs: Runner, place: Path, sizes: int) -> tuple[list[int], list[str]]:
    """Run a scenario on disks of growing size; return the exit codes, and what was not as it must be."""
    source = place / "source"
    source.mkdir(parents=True)
    scenario.prepare(source)
    needed = sum(-(-path.stat().st_size // 4096) * 4096 for path in source.rglob("*") if path.is_file())
    codes, problems = [], []
    for number in range(sizes):
        kib = (needed + needed * 2 * number // (sizes - 1)) // 1024 + 64
        with _mounted(place / "disk", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs") as disk:
            shutil.copytree(source, disk, dirs_exist_ok=True)
            before = scenario.state(disk)
            outcome = runs.run(disk, scenario.arguments)
            after = scenario.state(disk)
            codes.append(outcome.code)
            lines = outcome.complaint
            if outcome.code == 6 and (
                after != before or len(lines) != 1 or not lines[0].startswith("prunecli: error:")
            ):
                problems.append(f"{scenario.name} on {kib} KiB: {sorted(set(after) ^ set(before))} {outcome.err}")
            if outcome.code not in (0, 6):
                problems.append(f"{scenario.name} on {kib} KiB: exit code {outcome.code}: {outcome.err}")
    if codes != sorted(codes, reverse=True) or codes[-1] != 0 or codes[0] != 6:
        problems.append(f"{scenario.name}: exit codes by size of the disk: {codes}")
    return codes, problems


def size_limits(scenario: Scenario, runs: Runner, place: Path, limits: Sequence[int]) -> list[str]:
    """Run a scenario under limits on the size of files (RLIMIT_FSIZE) that are too low for its output."""
    problems = []
    for limit in limits:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        scenario.prepare(place)
        before = scenario.state(place)
        outcome = runs.run(place, scenario.arguments, limit=limit)
        if outcome.code != 6 or scenario.state(place) != before or len(outcome.complaint) != 1:
            problems.append(f"{scenario.name}, files of at most {limit} bytes: exit {outcome.code}: {outcome.err}")
    return problems


def loop_device(place: Path) -> str | None:
    """Say why the power cannot be cut here, None if it can: that takes root, mkfs.ext4 and a loop device."""
    if os.geteuid() != 0:
        return "only root can mount"
    if shutil.which("mkfs.ext4") is None:
        return "mkfs.ext4 is not installed"
    try:
        with _ext4(place):
            return None
    except subprocess.CalledProcessError as error:
        return f"no loop device can be mounted here: {error.stderr.strip()[:100]}"


@contextmanager
def _ext4(place: Path) -> Iterator[Path]:
    place.mkdir(parents=True, exist_ok=True)
    image = place / "image"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True, capture_output=True, text=True)
    with _mounted(place / "disk", "-o", "loop", str(image)) as disk:
        yield disk


def power_cuts(scenario: Scenario, runs: Runner, place: Path) -> list[str]:
    """Cut the power right after a run has ended with success; return what the disk then lacks.

    What a run calls done has to be there after the restart: the file system is shut down without a last flush.
    """
    place.mkdir(parents=True, exist_ok=True)
    problems = []
    with _ext4(place) as disk:
        scenario.prepare(disk)
        subprocess.run(["sync", "-f", str(disk)], check=True)
        outcome = runs.run(disk, scenario.arguments)
        expected = state_of(disk)
        _cut(disk)
    with _mounted(place / "disk", "-o", "loop", str(place / "image")) as disk:
        found = state_of(disk)
    lost = sorted(path for path in {*expected, *found} if expected.get(path) != found.get(path))
    if outcome.code or lost:
        problems.append(f"{scenario.name}: exit code {outcome.code}, lost or changed: {lost}")
    return problems


def _cut(disk: Path) -> None:
    descriptor = os.open(disk, os.O_RDONLY)
    try:
        flags = ctypes.c_uint32(_WITHOUT_FLUSH)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.ioctl(descriptor, ctypes.c_ulong(_SHUTDOWN), ctypes.byref(flags)) != 0:
            raise OSError(ctypes.get_errno(), "EXT4_IOC_SHUTDOWN")
    finally:
        os.close(descriptor)

"""Ranks as processes, joined as a launcher joins them; and the program that they run, with its pace under control."""

import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from forked import python

TORCHRUN = (
    "torch.distributed.run",
    "torch.distributed.elastic.agent.server.local_elastic_agent",
    "dcp_ranks",
    "slices_ranks",
    "live_ranks",
)
"""Modules that torchrun loads, and the scripts of ranks with what they import: one server is forked for all."""

PROGRAM = """
import os, signal, sys, time
from pathlib import Path
from prunecli.formats.io import sinks
from prunecli.surgery.run import units
units._SMALLEST = 1 << 20  # cut even small files into many units
write, mark = sinks.FileSink.write, os.environ.get("KILL_ONCE")
def slow(sink, data, offset):
    time.sleep(float(os.environ.get("DELAY", "0")))
    write(sink, data, offset)
    if mark and os.environ["RANK"] == "1" and offset and not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
sinks.FileSink.write = slow
from prunecli.cli.app import run
sys.exit(run(sys.argv[1:]))
"""


def start(
    size: int, arguments: Sequence[object], folder: Path, environment: Mapping[str, str] | None = None
) -> list[subprocess.Popen[str]]:
    """Start as many ranks of one command line."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1"}
    shared |= {"MASTER_PORT": str(port), "OMP_NUM_THREADS": "1", **(environment or {})}
    return [
        subprocess.Popen(
            [*python(*TORCHRUN), "-c", PROGRAM, *map(str, arguments)],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            cwd=folder,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for rank in range(size)
    ]


def finish(ranks: Sequence[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Wait for ranks; return the code, output and error output of each."""
    outcomes = []
    for rank in ranks:
        out, err = rank.communicate(timeout=120)
        outcomes.append((rank.returncode, out, err))
    return outcomes

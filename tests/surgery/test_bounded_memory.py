"""Memory does not grow with the checkpoint: measured in processes of their own."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from forked import python
from surgery_zoo import save

_SCRIPT = """
import sys, threading
from pathlib import Path
from prunecli.formats.detect import open_checkpoint
from prunecli.surgery.plan.plan import plan_prune
from prunecli.surgery.plan.request import PruneGroup, PruneRequest
from prunecli.surgery.run.destination import Destination
from prunecli.surgery.rewrite import rewrite
from prunecli.surgery.run.options import Run
from prunecli.surgery.names.select import Selection

def anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))

peak, done = 0, threading.Event()
def sample():
    global peak
    while not done.wait(0.002):
        peak = max(peak, anonymous())
sampler = threading.Thread(target=sample)
source, target, remove = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "remove"
sampler.start()
with open_checkpoint(source) as checkpoint:
    prune = PruneRequest((PruneGroup(Selection(("*",)), 0.5),), 7, remove=remove)
    rewrite(checkpoint, plan_prune(checkpoint, prune), Destination(target), Run(2))
done.set()
sampler.join()
assert "torch" not in sys.modules
print(peak)
"""

MIB = 1 << 20


def peak_kib(source: Path, *, remove: bool) -> int:
    target = source.with_name("out")
    command = [*python(), "-c", _SCRIPT, str(source), str(target), "remove" if remove else "mask"]
    peak = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    target.unlink()
    return peak


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("rounds", "suffix"),
    [("remove", ".pt"), ("remove", ".safetensors"), ("mask", ".pt"), ("mask again", ".safetensors")],
)
def test_a_file_four_times_as_large_takes_no_more_memory(rounds: str, suffix: str, tmp_path: Path) -> None:
    peaks = []
    for size in (16 * MIB, 64 * MIB):
        tensors = {"w": torch.ones(size // 2, dtype=torch.bfloat16)}
        if rounds == "mask again":
            tensors = {"w_orig": tensors["w"], "w_mask": torch.ones(size // 2, dtype=torch.bool)}
        source = save(tensors, tmp_path / f"model{suffix}")
        peaks.append(peak_kib(source, remove=rounds == "remove"))
        source.unlink()
    assert peaks[1] - peaks[0] < 10 * 1024

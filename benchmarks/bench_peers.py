"""Other lossless compressors of weights, in an environment of their own, and the files that they compress."""

import filecmp
import subprocess
import sys
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from bench_files import COLUMNS, DTYPES, LAYERS
from bench_run import PRUNECLI
from safetensors.torch import load_file, save_file

__all__ = ["PEERS", "Input", "compressed_by", "gaussian", "inputs_of", "install_peers", "prunecli"]

_Z4AI, _LMZIP = "z4ai==0.2.0", "lmzip==1.3.0"
PEERS: Mapping[str, Sequence[str]] = {
    "z4ai 0.2.0": ("z4ai", "compress", "-q", "--dtype", "{dtype}", "-o", "{out}", "{file}"),
    "z4ai 0.2.0 --fast": ("z4ai", "compress", "-q", "--fast", "--dtype", "{dtype}", "-o", "{out}", "{file}"),
    "lmzip 1.3.0": ("lmz", "compress", "-q", "-f", "{file}", "{out}"),
    "zstd -19": ("zstd", "-q", "-19", "-f", "-o", "{out}", "{file}"),
}
_PRUNE = ("-p", "*", "--min-dim", "2", "--seed", "7")


@dataclass(frozen=True)
class Input:
    """A checkpoint to pack, in a dtype, and the size of the dense checkpoint that it was made of."""

    path: Path
    dtype: str
    dense: int

    @property
    def packed(self) -> Path:
        """Where it is packed to."""
        return self.path.with_name(f"{self.path.name}.packed.safetensors")

    def share(self, packed: Path) -> float:
        """Return the size of a packed file in percent of the dense checkpoint."""
        return 100 * packed.stat().st_size / self.dense

    def check(self) -> None:
        """Pack it, and raise unless the bytes come back."""
        again = self.path.with_name("again")
        prunecli("pack", self.path, "-o", self.packed)
        prunecli("unpack", self.packed, "-o", again)
        assert filecmp.cmp(self.path, again, shallow=False), self.path
        again.unlink()


def install_peers(folder: Path) -> Path:
    """Install the peers in an environment of their own, and return the folder of their commands."""
    venv.create(folder, with_pip=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, _Z4AI, _LMZIP], check=True, stdout=sys.stderr)
    return folder / "bin"


def compressed_by(peer: str, commands: Path, file: Input, out: Path) -> list[str]:
    """Return the command by which a peer compresses a file to `out`."""
    names = {"dtype": file.dtype, "out": str(out), "file": str(file.path)}
    program, *words = (word.format(**names) for word in PEERS[peer])
    own = commands / program
    return [str(own) if own.exists() else program, *words]


def gaussian(path: Path, dtype: str, megabytes: int) -> Input:
    """Write normally distributed weights and biases of about `megabytes` * 2**20 bytes."""
    generator = torch.Generator().manual_seed(7)
    rows = max(1, megabytes * 2**20 // DTYPES[dtype].itemsize // COLUMNS // LAYERS)
    state = {}
    for layer in range(LAYERS):
        for name, shape in (("weight", (rows, COLUMNS)), ("bias", (rows,))):
            state[f"layers.{layer}.{name}"] = (torch.randn(shape, generator=generator) * 0.02).to(DTYPES[dtype])
    save_file(state, path)
    return Input(path, dtype, path.stat().st_size)


def inputs_of(dense: Input, *, masked: bool = False) -> dict[str, Input]:
    """Write what is made of a dense checkpoint, and return all of it by name."""
    path, found = dense.path, {"dense": dense}
    for name, amount in (("50 %, drawn mask", "0.5"), ("90 %, drawn mask", "0.9")):
        found[name] = Input(path.with_name(f"drawn-{amount}-{path.name}"), dense.dtype, dense.dense)
        prunecli("apply", path, *_PRUNE, "-a", amount, "--bake", "-o", found[name].path)
    found["50 %, magnitude mask"] = Input(path.with_name(f"magnitude-{path.name}"), dense.dtype, dense.dense)
    _prune_by_magnitude(path, found["50 %, magnitude mask"].path)
    if masked:
        name = "50 %, mask beside the weights"  # of which none is dropped: only the bytes of the mask are saved
        found[name] = Input(path.with_name(f"masked-{path.name}"), dense.dtype, dense.dense)
        prunecli("apply", path, *_PRUNE, "-a", "0.5", "-o", found[name].path)
    return found


def _prune_by_magnitude(path: Path, output: Path) -> None:
    """Set the smaller half of each matrix to zero; of those with the same magnitude, the first ones."""
    state = load_file(path)
    for tensor in state.values():
        if tensor.dim() < 2:
            continue
        bits = tensor.view(torch.int16).numpy().reshape(-1)
        sizes = bits & 0x7FFF
        smaller = np.cumsum(np.bincount(sizes, minlength=1 << 15))
        level = int(np.searchsorted(smaller, bits.size // 2, side="right"))
        rest = bits.size // 2 - (int(smaller[level - 1]) if level else 0)
        ties = np.flatnonzero(sizes == level)[:rest]
        bits[sizes < level] = 0
        bits[ties] = 0
        assert np.count_nonzero(bits) == bits.size - bits.size // 2 or not sizes.all()
    save_file(state, output)


def prunecli(*words: str | Path) -> None:
    """Run a command of prunecli."""
    subprocess.run([PRUNECLI, *map(str, words), "-q"], check=True, stdout=subprocess.DEVNULL)

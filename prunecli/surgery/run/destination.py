"""The destination of results, the default names of outputs, and the progress of a run."""

from collections.abc import Callable
from contextlib import suppress

from prunecli.formats.folders.weights import folder_of_index
from prunecli.formats.io.locations import Location, protocol_of
from prunecli.lean import dataclass

__all__ = [
    "Destination",
    "Progress",
    "cumulative",
    "default_output",
    "default_report",
    "mask_file_beside",
    "older_report",
    "with_seed",
]

_SUFFIXES = (
    ".safetensors",
    ".pth.tar",
    ".pt.tar",
    ".pt",
    ".pth",
    ".bin",
    ".ckpt",
    ".tar",
    ".pkl",
    ".pickle",
    ".th",
    ".model",
)
"""The texts that count as suffixes; in `model.v1.5`, `.5` does not."""

_NOT_BESIDE = frozenset({"gist", "github", "hf", "http", "https"})
"""The protocols that cannot be written to, or where a write is a commit to a repository, usually somebody else's."""

Progress = Callable[[int, int], None]
"""A callback that receives the bytes done and the total bytes."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a result goes. A `path` of None is standard output; with a `report` of None, no report is written."""

    path: Location | None
    report: Location | None = None
    force: bool = False


def default_output(source: Location, command: str) -> Location:
    """Return the output's location next to the input: `m.pt` -> `m.pruned.pt`.

    From that, `remove` makes `m.baked.pt`, and `restore` makes `m.restored.pt`.
    The output of a folder `m` is `m.pruned`, even if the input was given as the folder's index.

    Raises:
        ValueError: the input is a URL without a name (a whole bucket), or one to which nothing is written by default.
    """
    if protocol_of(source) in _NOT_BESIDE:
        raise ValueError("an output there would be refused, or published")
    source = folder_of_index(source) or source
    stem, suffix = (source.name, "") if _is_folder(source) else _split(source)
    if command != "apply":
        name = "restored" if command == "restore" else "baked"
        return source.with_name(f"{stem.removesuffix('.pruned')}.{name}{suffix}")
    return source.with_name(f"{stem}.pruned{suffix}")


def with_seed(output: Location, seed: int) -> Location:
    """Return the default location of the output of one of several seeds: `m.pruned.pt` -> `m.pruned.seed7.pt`."""
    stem, suffix = _split(output)
    return output.with_name(f"{stem}.seed{seed}{suffix}")


def mask_file_beside(source: Location, what: str) -> Location:
    """Return the location of a mask file next to its source: `m.pt` -> `m.masks.safetensors`, if `what` is "masks".

    Raises:
        ValueError: as `default_output`.
    """
    beside = default_output(source, "apply")
    stem = _split(beside)[0].removesuffix(".pruned")
    return beside.with_name(f"{stem}.{what}.safetensors")


def _is_folder(source: Location) -> bool:
    with suppress(OSError):  # a name that is too long, for example, which the input's own error says
        return source.is_dir()
    return False


def default_report(output: Location) -> Location:
    """Return the location of the report next to the output: `m.pruned.pt` -> `m.pruned.pt.report.json`."""
    return output.with_name(f"{output.name}.report.json")


def older_report(output: Location) -> Location:
    """Return the location of the report in earlier versions: `m.pruned.pt` -> `m.pruned.report.json`."""
    return output.with_name(f"{_split(output)[0]}.report.json")


def _split(path: Location) -> tuple[str, str]:
    suffix = next((suffix for suffix in _SUFFIXES if path.name.endswith(suffix)), "")
    return path.name.removesuffix(suffix), suffix


def cumulative(progress: Progress | None, size: int) -> Callable[[int], None] | None:
    """Return a callback for the bytes just done, which reports the sum so far out of `size` to `progress`."""
    if progress is None:
        return None
    done = 0

    def add(length: int) -> None:
        nonlocal done
        done += length
        progress(done, size)

    return add

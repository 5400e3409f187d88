"""Where results go, what outputs are called that the user did not name, and how far a run is."""

from collections.abc import Callable
from dataclasses import dataclass

from prunecli.formats.folders.weights import folder_of_index
from prunecli.formats.io.locations import Location, protocol_of

__all__ = ["Destination", "Progress", "cumulative", "default_output", "default_report", "older_report"]

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
"""What counts as a suffix; in `model.v1.5` the 5 does not."""

_NOT_BESIDE = frozenset({"gist", "github", "hf", "http", "https"})
"""Where nothing can be written, or is a commit to a repository, most often another's."""

Progress = Callable[[int, int], None]
"""Called with the bytes done and the bytes in all."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where the result goes. A `path` of None is standard output; a `report` of None writes no report file."""

    path: Location | None
    report: Location | None = None
    force: bool = False


def default_output(source: Location, command: str) -> Location:
    """Return the output's name beside the input: `m.pt` -> `m.pruned.pt`; what `remove` makes of that is `m.baked.pt`.

    A folder `m` becomes `m.pruned`, and so it does if its index is named.

    Raises:
        ValueError: the input is a URL without a name, such as a whole bucket, or one where nothing is put unasked.
    """
    if protocol_of(source) in _NOT_BESIDE:
        raise ValueError("an output there would be refused, or published")
    source = folder_of_index(source) or source
    stem, suffix = (source.name, "") if source.is_dir() else _split(source)
    if command == "remove":
        return source.with_name(f"{stem.removesuffix('.pruned')}.baked{suffix}")
    return source.with_name(f"{stem}.pruned{suffix}")


def default_report(output: Location) -> Location:
    """Return the name of the report beside the output: `m.pruned.pt` -> `m.pruned.pt.report.json`."""
    return output.with_name(f"{output.name}.report.json")


def older_report(output: Location) -> Location:
    """Return the name of the report as earlier versions chose it: `m.pruned.pt` -> `m.pruned.report.json`."""
    return output.with_name(f"{_split(output)[0]}.report.json")


def _split(path: Location) -> tuple[str, str]:
    suffix = next((suffix for suffix in _SUFFIXES if path.name.endswith(suffix)), "")
    return path.name.removesuffix(suffix), suffix


def cumulative(progress: Progress | None, size: int) -> Callable[[int], None] | None:
    """Return a callback for the bytes just done, which reports the bytes done so far, out of `size`."""
    if progress is None:
        return None
    done = 0

    def add(length: int) -> None:
        nonlocal done
        done += length
        progress(done, size)

    return add

"""Where results go, and how far they are: what rewriting a file and rewriting a folder have in common."""

from collections.abc import Callable
from dataclasses import dataclass

from prunecli.formats.folders.weights import folder_of_index
from prunecli.formats.io.locations import Location, Url

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
"""What is taken for a suffix; in `model.v1.5` the 5 is none."""

_NOT_BESIDE = frozenset({"gist", "github", "hf", "http", "https"})
"""Where nothing can be written, or is a commit to a repository, most often another's."""

Progress = Callable[[int, int], None]
"""Told the bytes done and the bytes in all."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where the result goes. A `path` of None is standard output; a `report` of None writes no report file."""

    path: Location | None
    report: Location | None = None
    force: bool = False


def default_output(source: Location, command: str) -> Location:
    """Name the output beside the input: `m.pt` -> `m.pruned.pt`, and what `remove` makes of that `m.baked.pt`.

    A folder `m` becomes `m.pruned`, and so it does if its index is named.

    Raises:
        ValueError: the input is a URL without a name, such as a whole bucket, or one where nothing is put unasked.
    """
    if isinstance(source, Url) and source.protocol in _NOT_BESIDE:
        raise ValueError("an output there would be refused, or published")
    source = folder_of_index(source) or source
    folder = source.is_folder if isinstance(source, Url) else source.is_dir()
    stem, suffix = (source.name, "") if folder else _split(source)
    if command == "remove":
        return source.with_name(f"{stem.removesuffix('.pruned')}.baked{suffix}")
    return source.with_name(f"{stem}.pruned{suffix}")


def default_report(output: Location) -> Location:
    """Name the report beside the output: `m.pruned.pt` -> `m.pruned.pt.report.json`."""
    return output.with_name(f"{output.name}.report.json")


def older_report(output: Location) -> Location:
    """Name the report as earlier versions did: `m.pruned.pt` -> `m.pruned.report.json`."""
    return output.with_name(f"{_split(output)[0]}.report.json")


def _split(path: Location) -> tuple[str, str]:
    suffix = next((suffix for suffix in _SUFFIXES if path.name.endswith(suffix)), "")
    return path.name.removesuffix(suffix), suffix


def cumulative(progress: Progress | None, size: int) -> Callable[[int], None] | None:
    """Turn the bytes just done into the bytes done so far, out of `size`."""
    if progress is None:
        return None
    done = 0

    def told(length: int) -> None:
        nonlocal done
        done += length
        progress(done, size)

    return told

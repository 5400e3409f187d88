"""The suffix of an output file: it must not name another format than the file will have."""

from pathlib import PurePosixPath

from prunecli.errors import UsageError, show
from prunecli.formats.io.locations import Location
from prunecli.terms import OUTPUT

__all__ = ["check_folder_suffix", "check_safetensors_suffix", "check_suffix"]

_SAFETENSORS = (".safetensors",)
_TORCH = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".th", ".pt2", ".tar")
"""The suffixes by which people and libraries recognise files of torch. All others are left to the user."""


def check_suffix(output: Location, format_: str, source: Location | None) -> None:
    """Check that an output's suffix fits the input's format, which is also the output's; `source` is the input.

    A suffix that the input has, too, is accepted.

    Raises:
        UsageError: loaders that go by the suffix would take the file for one of another format.
    """
    torch = format_ != "safetensors"
    suffix, own = _suffix_of(output), "" if source is None else _suffix_of(source)
    if suffix not in (_SAFETENSORS if torch else _TORCH) or suffix == own:
        return
    right = (own if own in _TORCH else ".pt") if torch else ".safetensors"
    better = show(output.name[: -len(suffix)].removesuffix(".pt").removesuffix(".pth") + right)
    raise UsageError(
        f"cannot write {show(output)}: the input is a {format_} file, and nothing is converted here; name the output "
        f"{better} with {OUTPUT}"
    )


def check_folder_suffix(output: Location, source: Location | None) -> None:
    """Check that the suffix of a new folder does not name a format of files; `source` is the input folder.

    A suffix that the input has, too, is accepted.

    Raises:
        UsageError: people and loaders would take the folder for a file.
    """
    suffix, own = _suffix_of(output), "" if source is None else _suffix_of(source)
    if suffix in _SAFETENSORS + _TORCH and suffix != own:
        better = show(output.name[: -len(suffix)])
        raise UsageError(
            f"cannot write {show(output)}: the input is a folder, and so is its output; name it {better} with {OUTPUT}"
        )


def check_safetensors_suffix(output: Location, what: str) -> None:
    """Check that the suffix of a new safetensors file, of the kind `what`, does not name a format of torch.

    Raises:
        UsageError: it does.
    """
    if _suffix_of(output) in _TORCH:
        better = show(PurePosixPath(output.name).with_suffix(".safetensors").name)
        raise UsageError(
            f"cannot write {show(output)}: {what} is a safetensors file; name the output {better} with {OUTPUT}"
        )


def _suffix_of(location: Location) -> str:
    return PurePosixPath(location.name).suffix.lower()

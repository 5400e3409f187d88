"""Functions on masks, one for each command of `prunecli mask`."""

from typing import Literal

from prunecli.errors import messages_for
from prunecli.files.arguments import PathLike, Patterns, report_output, run_with, selection_in, text_of
from prunecli.formats.base import ReadOptions
from prunecli.reporting.options import TableOptions
from prunecli.reporting.overlap import write_overlap
from prunecli.surgery.compare.overlap_model import Overlap
from prunecli.surgery.listing import Listener
from prunecli.surgery.mask_jobs import (
    MaskFile,
    MaskOptions,
    combine_masks,
    extract_masks,
    invert_masks,
    mask_output,
    open_mask_sources,
    overlap_of,
)
from prunecli.surgery.places import checkpoint_location
from prunecli.surgery.run.destination import Progress
from prunecli.terms import Interface

__all__ = ["mask_combine", "mask_extract", "mask_invert", "mask_overlap"]


@messages_for(Interface.FILES)
def mask_extract(
    path: PathLike,
    *,
    params: Patterns = (),
    exclude: Patterns = (),
    min_dim: int = 0,
    from_zeros: bool = False,
    key: str | None = None,
    allow_foreign_objects: bool = False,
    follow_links: bool = False,
    output: PathLike | None = None,
    bits: bool = False,
    force: bool = False,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> MaskFile:
    """Write the masks of a checkpoint into a file, as `prunecli mask extract` does, and return what was written.

    Raises:
        PrunecliError: there are no masks, or they cannot be read, or the file cannot be written.
    """
    reading = ReadOptions(key, allow_foreign_objects, follow_links, read_only=True)
    options = MaskOptions(reading, selection_in(params, exclude, min_dim, reading=True), from_zeros)
    source, run = checkpoint_location(text_of(path)), run_with(jobs)
    target = mask_output(source, "masks", text_of(output), bits=bits, force=force)
    return extract_masks(source, options, target, run, Listener(progress))


@messages_for(Interface.FILES)
def mask_combine(
    a: PathLike,
    b: PathLike,
    operation: Literal["and", "or", "xor", "minus"],
    *,
    key: str | None = None,
    allow_foreign_objects: bool = False,
    follow_links: bool = False,
    output: PathLike | None = None,
    bits: bool = False,
    force: bool = False,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> MaskFile:
    """Combine the kept elements of two mask files, as `prunecli mask combine` does, and return what was written.

    Raises:
        PrunecliError: the masks cannot be read, or differ in names or shapes, or the file cannot be written.
    """
    options = MaskOptions(ReadOptions(key, allow_foreign_objects, follow_links, read_only=True))
    sources, run = (checkpoint_location(text_of(a)), checkpoint_location(text_of(b))), run_with(jobs)
    target = mask_output(sources[0], operation, text_of(output), bits=bits, force=force)
    return combine_masks(sources, operation, options, target, run, Listener(progress))


@messages_for(Interface.FILES)
def mask_invert(
    path: PathLike,
    *,
    key: str | None = None,
    allow_foreign_objects: bool = False,
    follow_links: bool = False,
    output: PathLike | None = None,
    bits: bool = False,
    force: bool = False,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> MaskFile:
    """Keep what masks drop and drop what they keep, as `prunecli mask invert` does, and return what was written.

    Raises:
        PrunecliError: there are no masks, or they cannot be read, or the file cannot be written.
    """
    options = MaskOptions(ReadOptions(key, allow_foreign_objects, follow_links, read_only=True))
    source, run = checkpoint_location(text_of(path)), run_with(jobs)
    target = mask_output(source, "inverted", text_of(output), bits=bits, force=force)
    return invert_masks(source, options, target, run, Listener(progress))


@messages_for(Interface.FILES)
def mask_overlap(
    a: PathLike,
    b: PathLike,
    *,
    params: Patterns = (),
    exclude: Patterns = (),
    min_dim: int = 0,
    from_zeros: bool = False,
    key: str | None = None,
    allow_foreign_objects: bool = False,
    follow_links: bool = False,
    format_: str | None = None,
    output: PathLike | None = None,
    force: bool = False,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Overlap:
    """Return what two masks keep in common, as `prunecli mask overlap` counts it; `output` also writes a file.

    Raises:
        PrunecliError: the masks cannot be read, or differ in names or shapes, or the file cannot be written.
    """
    written = report_output(format_, output, None, TableOptions(), force=force)
    reading = ReadOptions(key, allow_foreign_objects, follow_links, read_only=True)
    options = MaskOptions(reading, selection_in(params, exclude, min_dim, reading=True), from_zeros)
    sources, run = (checkpoint_location(text_of(a)), checkpoint_location(text_of(b))), run_with(jobs)
    with open_mask_sources(sources, options, run, Listener()) as (one, two):
        found = overlap_of(one, two, run, Listener(progress))
        written = written.closed_like(one.checkpoint).closed_like(two.checkpoint)
    write_overlap(found, written)
    return found

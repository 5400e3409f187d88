"""Open a checkpoint, and list its tensors: all that `params` does, without the modules that plan, write and report."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from itertools import accumulate

from prunecli.errors import UsageError
from prunecli.formats.base import ReadOptions
from prunecli.formats.folders.model_parallel import slices_note
from prunecli.formats.io.locations import Location
from prunecli.formats.opening import AnyCheckpoint, open_any
from prunecli.formats.packed.names import FORMS
from prunecli.surgery.names.absent import check_absent
from prunecli.surgery.names.inventory import InventoryEntry, inventory, matching, state_of
from prunecli.surgery.names.parameters import parameters_of
from prunecli.surgery.names.select import Selection, select, unmatched_excludes
from prunecli.surgery.run.destination import Progress
from prunecli.surgery.run.options import Run

__all__ = ["Listener", "list_parameters", "list_tensors", "note_excludes", "open_for_ranks"]


class Listener:
    """Receives the notes and the progress of a job: this one drops notes, and passes progress to a callback."""

    def __init__(self, progress: Progress | None = None) -> None:
        self._progress = progress

    def note(self, text: str) -> None:
        """Receive a note."""

    def progress(self, label: str, *, delayed: bool = False) -> AbstractContextManager[Progress | None]:
        """Return a context with the callback for bytes done; `delayed` for work that is usually over at once.

        The `label` names what is read.
        """
        return nullcontext(self._progress)


@contextmanager
def open_for_ranks(
    source: Location | None,
    reading: ReadOptions | Callable[[], ReadOptions],
    run: Run,
    listener: Listener,
) -> Iterator[AnyCheckpoint]:
    """Open a checkpoint on each rank, and pass on its notes; a callable `reading` is called by the leader only.

    Raises:
        UsageError: several ranks would read standard input.
        PrunecliError: as `open_any`.
    """
    if source is None and run.ranks.size > 1:
        raise UsageError("several ranks cannot read one standard input; give the checkpoint's path")
    with ExitStack() as stack:
        options = reading if isinstance(reading, ReadOptions) else run.ranks.from_leader(reading)
        checkpoint = run.ranks.on_all(lambda: stack.enter_context(open_any(source, options)))
        for sentence in filter(None, (*checkpoint.notes, slices_note(source, checkpoint))):
            listener.note(sentence)
        yield checkpoint


def note_excludes(checkpoint: AnyCheckpoint, selections: Sequence[Selection | None], listener: Listener) -> None:
    """Pass on a note for each exclude that matches nothing."""
    with_excludes = [each for each in selections if each is not None and each.excludes]
    parameters = parameters_of(checkpoint) if with_excludes else {}
    for selection in with_excludes:
        for sentence in unmatched_excludes(parameters, selection):
            listener.note(sentence)


def list_parameters(checkpoint: AnyCheckpoint, selection: Selection | None) -> list[InventoryEntry]:
    """Return the tensors of the state dict under their parameters' names: all, or those that a selection takes.

    Raises:
        PrunecliError: as `check_absent` and `select`.
    """
    found = parameters_of(checkpoint)
    if selection is not None:
        check_absent(checkpoint, found, selection)
    chosen = list(found.values()) if selection is None else select(found, selection)
    entries = [InventoryEntry(each.name, each.weight, each.role, state_of(each), each.name) for each in chosen]
    return _with_storage(checkpoint, entries)


def list_tensors(checkpoint: AnyCheckpoint, selection: Selection | None) -> list[InventoryEntry]:
    """Return the tensors of the file, with any role: all, or those that a selection matches.

    Raises:
        UsageError: as `matching`.
    """
    entries = inventory(checkpoint)
    return _with_storage(checkpoint, entries if selection is None else matching(entries, selection))


def _with_storage(checkpoint: AnyCheckpoint, entries: list[InventoryEntry]) -> list[InventoryEntry]:
    """Return entries that say how packed files store them; of a tensor in parts, the form that needs most."""
    sources = list(checkpoint.sources.values())
    if not any(source.is_packed for source in sources):
        return entries
    starts = [0, *accumulate(source.size for source in sources[:-1])]  # the files of a folder, one after the other

    def stored(entry: InventoryEntry) -> str:
        found, tensor = [], entry.tensor
        for storage, view in [(each.storage, each.view) for each in tensor.parts] or [(tensor.storage, tensor.view)]:
            at, width = bisect_right(starts, storage.offset) - 1, tensor.dtype.itemsize
            begin = storage.offset - starts[at] + view.start * width
            found.append(sources[at].stored_as(begin, (view.stop - view.start) * width if view.elements else 0))
        return max(found, key=FORMS.index, default=FORMS[0])

    return [replace(each, stored=stored(each)) for each in entries]

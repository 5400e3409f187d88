"""Functions that read checkpoints: what is in them, what differs, and whether they match their reports."""

from collections.abc import Sequence

from prunecli.errors import messages_for
from prunecli.files.arguments import PathLike, Patterns, patterns_in, report_output, run_with, selection_in, text_of
from prunecli.formats.base import ReadOptions
from prunecli.formats.opening import check_unchanged
from prunecli.reporting.options import Sort, TableOptions
from prunecli.surgery.compare.model import Comparison, check_allowance, check_comparison
from prunecli.surgery.jobs import (
    compare_with,
    measure_checkpoint,
    measure_each,
    report_beside,
    report_reader,
    with_recorded_key,
)
from prunecli.surgery.listing import Listener, list_parameters, list_tensors, open_for_ranks
from prunecli.surgery.names.inventory import InventoryEntry
from prunecli.surgery.places import checkpoint_location
from prunecli.surgery.report.gates import check_gates, check_gates_of_each, parse_gates
from prunecli.surgery.report.model import Report
from prunecli.surgery.run.destination import Progress
from prunecli.surgery.run.options import Run
from prunecli.surgery.verify import Verification, check_verification, verify_checkpoint
from prunecli.terms import Interface

__all__ = ["compare", "diff", "params", "report", "reports", "verify"]


@messages_for(Interface.FILES)
def report(
    path: PathLike,
    *,
    params: Patterns = (),
    exclude: Patterns = (),
    min_dim: int = 0,
    key: str | None = None,
    allow_foreign_objects: bool = False,
    follow_links: bool = False,
    format_: str | None = None,
    output: PathLike | None = None,
    plot: PathLike | None = None,
    depth: int | None = None,
    sort: Sort = "name",
    top: int | None = None,
    fail_under: float | Patterns = (),
    fail_over: float | Patterns = (),
    force: bool = False,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Return the report of a checkpoint, as `prunecli report` makes it; `output` and `plot` also write files.

    Raises:
        ThresholdError: the sparsity is not within `fail_under` and `fail_over`.
        PrunecliError: the checkpoint cannot be read, or a file cannot be written.
    """
    written = report_output(format_, output, plot, TableOptions(depth, sort, top), force=force)
    gates = parse_gates(_bounds(fail_under), _bounds(fail_over))
    reading, run = ReadOptions(key, allow_foreign_objects, follow_links, read_only=True), run_with(jobs, progress)
    selection = selection_in(params, exclude, min_dim, reading=True)
    with open_for_ranks(checkpoint_location(text_of(path)), reading, run, Listener()) as opened:
        found = measure_checkpoint(opened, selection, run, key=key, pictures=written.pictures)
        written = written.closed_like(opened)
    written.write(found)
    check_gates(found, gates)
    return found


@messages_for(Interface.FILES)
def reports(
    paths: Sequence[PathLike],
    *,
    params: Patterns = (),
    exclude: Patterns = (),
    min_dim: int = 0,
    key: str | None = None,
    allow_foreign_objects: bool = False,
    follow_links: bool = False,
    format_: str | None = None,
    output: PathLike | None = None,
    sort: Sort = "name",
    fail_under: float | Patterns = (),
    fail_over: float | Patterns = (),
    force: bool = False,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> list[Report]:
    """Return the reports of several checkpoints, as `prunecli report A B C` makes them, without `structure`.

    `output` also writes their table, a row for each checkpoint; `sort` is its order.

    Raises:
        ThresholdError: the sparsity of one is not within `fail_under` and `fail_over`.
        PrunecliError: a checkpoint cannot be read, or the table cannot be written.
    """
    written = report_output(format_, output, None, TableOptions(sort=sort), force=force)
    gates = parse_gates(_bounds(fail_under), _bounds(fail_over))
    reading = ReadOptions(key, allow_foreign_objects, follow_links, read_only=True)
    sources = [checkpoint_location(text_of(path)) for path in paths]
    run, selection = run_with(jobs), selection_in(params, exclude, min_dim, reading=True)
    found = []
    for opened, each in measure_each(sources, reading, selection, run, Listener(progress)):
        written = written.closed_like(opened)
        found.append(each)
    written.write_several(found)
    check_gates_of_each(found, gates)
    return found


@messages_for(Interface.FILES)
def diff(
    old: PathLike,
    new: PathLike,
    *,
    params: Patterns = (),
    exclude: Patterns = (),
    min_dim: int = 0,
    key: str | None = None,
    allow_foreign_objects: bool = False,
    follow_links: bool = False,
    only_zeros: bool = False,
    allow_changes: bool = False,
    format_: str | None = None,
    output: PathLike | None = None,
    depth: int | None = None,
    sort: Sort = "name",
    top: int | None = None,
    force: bool = False,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Return what differs between two checkpoints, as `prunecli diff` compares them; `output` also writes a file.

    Raises:
        ThresholdError: with `only_zeros`, there are changes other than new zeros.
        PrunecliError: a checkpoint cannot be read, or the file cannot be written.
    """
    check_allowance(only_zeros=only_zeros, allow_changes=allow_changes)
    written = report_output(format_, output, None, TableOptions(depth, sort, top), force=force)
    written.check_for_comparison()
    source, run = checkpoint_location(text_of(new)), run_with(jobs, progress)
    reading = ReadOptions(key, allow_foreign_objects, follow_links, read_only=True)
    reading = with_recorded_key(reading, report_beside(source))
    selection = selection_in(params, exclude, min_dim, reading=True)
    with open_for_ranks(source, reading, run, Listener()) as opened:
        found = compare_with(checkpoint_location(text_of(old)), opened, reading, selection, run)
        written = written.closed_like(opened)
    written.write_comparison(found)
    if only_zeros:
        check_comparison(found, allow_changes=allow_changes)
    return found


def compare(
    path: PathLike,
    baseline: PathLike,
    *,
    params: Patterns = (),
    exclude: Patterns = (),
    min_dim: int = 0,
    key: str | None = None,
    allow_foreign_objects: bool = False,
    follow_links: bool = False,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Return `diff(baseline, path)`: an earlier name of `diff`, with the later checkpoint first.

    Raises:
        PrunecliError: a checkpoint cannot be read.
    """
    return diff(
        baseline,
        path,
        params=params,
        exclude=exclude,
        min_dim=min_dim,
        key=key,
        allow_foreign_objects=allow_foreign_objects,
        follow_links=follow_links,
        jobs=jobs,
        progress=progress,
    )


@messages_for(Interface.FILES)
def params(
    path: PathLike,
    *,
    params: Patterns = (),
    exclude: Patterns = (),
    min_dim: int = 0,
    all_: bool = False,
    key: str | None = None,
    allow_foreign_objects: bool = False,
    follow_links: bool = False,
) -> list[InventoryEntry]:
    """Return the parameters of a checkpoint, as `prunecli params` lists them, or with `all_` every tensor.

    Raises:
        PrunecliError: the checkpoint cannot be read.
    """
    reading = ReadOptions(key, allow_foreign_objects, follow_links, read_only=True)
    selection = selection_in(params, exclude, min_dim, reading=True)
    with open_for_ranks(checkpoint_location(text_of(path)), reading, Run(), Listener()) as opened:
        return (list_tensors if all_ else list_parameters)(opened, selection)


@messages_for(Interface.FILES)
def verify(
    path: PathLike,
    report: PathLike | None = None,
    *,
    key: str | None = None,
    allow_foreign_objects: bool = False,
    follow_links: bool = False,
    jobs: int | None = None,
    check: bool = True,
    progress: Progress | None = None,
) -> Verification:
    """Check that a checkpoint matches its report, as `prunecli verify` does, and return what was verified.

    With `check=False`, differences are returned instead of raised.

    Raises:
        ThresholdError: it does not match.
        PrunecliError: the checkpoint or the report cannot be read.
    """
    source, run = checkpoint_location(text_of(path)), run_with(jobs, progress)
    expected = report_reader(source, text_of(report))()
    reading = with_recorded_key(ReadOptions(key, allow_foreign_objects, follow_links, read_only=True), expected)
    with open_for_ranks(source, reading, run, Listener()) as opened:
        found = verify_checkpoint(opened, expected, run)
        check_unchanged(opened)
    if check:
        check_verification(found)
    return found


def _bounds(given: float | Patterns) -> Sequence[str]:
    return [str(float(given))] if isinstance(given, int | float) else patterns_in(given)

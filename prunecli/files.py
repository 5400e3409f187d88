"""Functions on checkpoints, one for each command of the command line, with its words: they return and print nothing.

Paths are strings (also URLs) or `os.PathLike`. Arguments have the names of the options, with an underscore behind
`global`, `format` and `all`, which are taken in Python. `progress` is called with the bytes done and the bytes in all.
Everything runs in this process, also under `torchrun`.
"""

from collections.abc import Sequence
from typing import Any, Literal

from prunecli.core.amount import Amount, amount_list, parse_amounts
from prunecli.core.methods.request import given_method
from prunecli.errors import messages_for
from prunecli.file_arguments import PathLike, Patterns, patterns_in, run_with, selection_in, text_of
from prunecli.formats.base import ReadOptions
from prunecli.formats.opening import check_unchanged
from prunecli.formats.outputs.staged import staged
from prunecli.mask_files import mask_combine, mask_extract, mask_invert, mask_overlap
from prunecli.packed_files import pack, unpack
from prunecli.reporting.options import ReportFormat, Sort, TableOptions
from prunecli.reporting.output import plan_report_output
from prunecli.surgery import jobs as _jobs
from prunecli.surgery import listing as _listing
from prunecli.surgery.apply import ApplyOptions, GivenMaskOptions, RequestOverrides, check_options
from prunecli.surgery.compare.model import Comparison, check_allowance, check_comparison
from prunecli.surgery.division import DivisionOptions
from prunecli.surgery.names.inventory import InventoryEntry
from prunecli.surgery.places import checkpoint_location, destination_of
from prunecli.surgery.report.gates import Gate, check_gates, check_gates_of_each, parse_gate
from prunecli.surgery.report.model import Report
from prunecli.surgery.run.destination import Progress
from prunecli.surgery.run.options import Run
from prunecli.surgery.seeds import SeededOutputs, parse_seeds, refuse_beside_seeds
from prunecli.surgery.verify import Verification, check_verification, verify_checkpoint
from prunecli.terms import Interface

__all__ = [
    "apply",
    "apply_seeds",
    "compare",
    "diff",
    "mask_combine",
    "mask_extract",
    "mask_invert",
    "mask_overlap",
    "pack",
    "params",
    "remove",
    "report",
    "reports",
    "restore",
    "unpack",
    "verify",
]


@messages_for(Interface.FILES)
def apply(
    path: PathLike,
    *,
    params: Patterns = (),
    exclude: Patterns = (),
    min_dim: int = 0,
    untie: bool = False,
    amount: Amount | str | Sequence[Amount | str] | None = None,
    global_: bool = False,
    allocation: str | None = None,
    ratios: PathLike | None = None,
    like: PathLike | None = None,
    order: PathLike | None = None,
    masks: PathLike | None = None,
    missing: Literal["kept"] | None = None,
    per_slice: bool = False,
    per_row: bool = False,
    method: str | None = None,
    n_of_m: str | tuple[int, int] | None = None,
    block: str | tuple[int, int] | None = None,
    dim: int | None = None,
    norm: float | str | None = None,
    scores: PathLike | None = None,
    abs_scores: bool = False,
    recipe: PathLike | None = None,
    from_report: PathLike | None = None,
    seed: int | None = None,
    key_prefix: str | None = None,
    zeros_are_pruned: bool = False,
    key: str | None = None,
    allow_foreign_objects: bool = False,
    follow_links: bool = False,
    bake: bool | None = None,
    remove: bool | None = None,
    rescale: bool = False,
    mask_dtype: Literal["bool", "same"] | None = None,
    with_state: bool = False,
    stamp: bool = False,
    output: PathLike | None = None,
    force: bool = False,
    link: bool = False,
    report: PathLike | None = None,
    no_report: bool = False,
    resume: bool = False,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Prune a checkpoint at random, or by another method, as `prunecli apply` does, and return the report.

    `amount` may also be a list of amounts, in which `"PATTERN=0.5"` is that of single parameters. `remove` is an
    earlier name of `bake`.

    Raises:
        TypeError: the amount is not a number.
        PrunecliError: the checkpoint cannot be read or pruned, or an output cannot be written.
    """
    total, amounts = parse_amounts(amount_list(amount))
    settings = {"n_of_m": n_of_m, "block": block, "dim": dim, "norm": norm, "scores": text_of(scores)}
    chosen = given_method(method, **settings, abs_scores=abs_scores)
    ratios, like, order = map(text_of, (ratios, like, order))
    division = DivisionOptions(amounts, allocation, ratios, like, order, per_slice, per_row, chosen)
    bake = remove if bake is None else bake
    overrides = RequestOverrides(seed, bake, mask_dtype, untie, zeros_are_pruned, key_prefix, with_state, rescale)
    selection = selection_in(params, exclude, min_dim)
    request, given = (text_of(recipe), text_of(from_report)), GivenMaskOptions(text_of(masks), missing)
    options = ApplyOptions(selection, total, global_, overrides, *request, stamp, division, given)
    check_options(options, stdin_is_taken=False)
    source = checkpoint_location(text_of(path))
    destination = destination_of(source, "apply", text_of(output), text_of(report), no_report=no_report, force=force)
    reading, run = ReadOptions(key, allow_foreign_objects, follow_links), run_with(jobs, resume=resume, link=link)
    with _jobs.prepare_apply(source, options, destination, reading, run, _listing.Listener(progress)) as job:
        return job.rewrite()


@messages_for(Interface.FILES)
def apply_seeds(
    path: PathLike,
    seeds: str | range,
    *,
    output: PathLike | None = None,
    report: PathLike | None = None,
    no_report: bool = False,
    force: bool = False,
    **options: Any,
) -> list[Report]:
    """Prune a checkpoint with each of several seeds, as `prunecli apply --seeds` does, and return the reports.

    `seeds` is a range, or `"0..19"`. `output` and `report` contain `{seed}`. The other `options` are those of `apply`.
    Either all outputs appear, or none.

    Raises:
        TypeError: `apply` has no option of this name.
        PrunecliError: as `apply`.
    """
    refuse_beside_seeds(**{name: options.get(name) for name in ("seed", "from_report", "masks", "resume")})
    places = SeededOutputs(text_of(output), text_of(report), no_report, force).destinations(
        checkpoint_location(text_of(path)),
        parse_seeds(seeds),
    )
    reports = []
    with staged():
        for seed, place in places.items():
            named = {"output": str(place.path), "report": place.report and str(place.report)}
            reports.append(apply(path, **options | named, seed=seed, no_report=no_report, force=force))
    return reports


@messages_for(Interface.FILES)
def remove(
    path: PathLike,
    *,
    params: Patterns = (),
    exclude: Patterns = (),
    key: str | None = None,
    allow_foreign_objects: bool = False,
    follow_links: bool = False,
    output: PathLike | None = None,
    force: bool = False,
    link: bool = False,
    report: PathLike | None = None,
    no_report: bool = False,
    resume: bool = False,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Make the masks of a checkpoint permanent, as `prunecli remove` does, and return the report.

    Raises:
        PrunecliError: the checkpoint cannot be read or has no masks, or an output cannot be written.
    """
    selection = selection_in(params, exclude)
    source = checkpoint_location(text_of(path))
    destination = destination_of(source, "remove", text_of(output), text_of(report), no_report=no_report, force=force)
    reading, run = ReadOptions(key, allow_foreign_objects, follow_links), run_with(jobs, resume=resume, link=link)
    with _jobs.prepare_remove(source, selection, destination, reading, run, _listing.Listener(progress)) as job:
        return job.rewrite()


@messages_for(Interface.FILES)
def restore(
    path: PathLike,
    *,
    params: Patterns = (),
    exclude: Patterns = (),
    key: str | None = None,
    allow_foreign_objects: bool = False,
    follow_links: bool = False,
    output: PathLike | None = None,
    force: bool = False,
    link: bool = False,
    report: PathLike | None = None,
    no_report: bool = False,
    resume: bool = False,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Drop the masks of a checkpoint, as `prunecli restore` does, and return the report; no weight changes.

    Raises:
        PrunecliError: the checkpoint cannot be read or has no masks, or an output cannot be written.
    """
    selection = selection_in(params, exclude)
    source = checkpoint_location(text_of(path))
    destination = destination_of(source, "restore", text_of(output), text_of(report), no_report=no_report, force=force)
    reading, run = ReadOptions(key, allow_foreign_objects, follow_links), run_with(jobs, resume=resume, link=link)
    with _jobs.prepare_restore(source, selection, destination, reading, run, _listing.Listener(progress)) as job:
        return job.rewrite()


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
    form = None if format_ is None else ReportFormat(format_)
    written = plan_report_output(form, text_of(output), text_of(plot), TableOptions(depth, sort, top), force=force)
    gates = _gates(fail_under, fail_over)
    reading, run = ReadOptions(key, allow_foreign_objects, follow_links, read_only=True), run_with(jobs, progress)
    selection = selection_in(params, exclude, min_dim, reading=True)
    with _listing.open_for_ranks(checkpoint_location(text_of(path)), reading, run, _listing.Listener()) as opened:
        found = _jobs.measure_checkpoint(opened, selection, run, key=key, pictures=written.pictures)
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
    form = None if format_ is None else ReportFormat(format_)
    written = plan_report_output(form, text_of(output), None, TableOptions(sort=sort), force=force)
    gates = _gates(fail_under, fail_over)
    reading = ReadOptions(key, allow_foreign_objects, follow_links, read_only=True)
    sources = [checkpoint_location(text_of(path)) for path in paths]
    run, selection = run_with(jobs), selection_in(params, exclude, min_dim, reading=True)
    found = []
    for opened, each in _jobs.measure_each(sources, reading, selection, run, _listing.Listener(progress)):
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
    form = None if format_ is None else ReportFormat(format_)
    written = plan_report_output(form, text_of(output), None, TableOptions(depth, sort, top), force=force)
    written.check_for_comparison()
    source, run = checkpoint_location(text_of(new)), run_with(jobs, progress)
    reading = ReadOptions(key, allow_foreign_objects, follow_links, read_only=True)
    reading = _jobs.with_recorded_key(reading, _jobs.report_beside(source))
    selection = selection_in(params, exclude, min_dim, reading=True)
    with _listing.open_for_ranks(source, reading, run, _listing.Listener()) as opened:
        found = _jobs.compare_with(checkpoint_location(text_of(old)), opened, reading, selection, run)
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
    with _listing.open_for_ranks(checkpoint_location(text_of(path)), reading, Run(), _listing.Listener()) as opened:
        return (_listing.list_tensors if all_ else _listing.list_parameters)(opened, selection)


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
    expected = _jobs.report_reader(source, text_of(report))()
    reading = _jobs.with_recorded_key(ReadOptions(key, allow_foreign_objects, follow_links, read_only=True), expected)
    with _listing.open_for_ranks(source, reading, run, _listing.Listener()) as opened:
        found = verify_checkpoint(opened, expected, run)
        check_unchanged(opened)
    if check:
        check_verification(found)
    return found


def _gates(fail_under: float | Patterns, fail_over: float | Patterns) -> list[Gate]:
    under = [parse_gate("under", text) for text in _bounds(fail_under)]
    return under + [parse_gate("over", text) for text in _bounds(fail_over)]


def _bounds(given: float | Patterns) -> Sequence[str]:
    return [str(float(given))] if isinstance(given, int | float) else patterns_in(given)

"""Functions that change checkpoints: prune, and make masks permanent or drop them."""

from collections.abc import Sequence
from typing import Any, Literal

from prunecli.core.amount import Amount, amount_list, parse_amounts
from prunecli.core.methods.request import given_method
from prunecli.errors import messages_for
from prunecli.files.arguments import PathLike, Patterns, run_with, selection_in, text_of
from prunecli.formats.base import ReadOptions
from prunecli.formats.outputs.staged import staged
from prunecli.surgery.apply import ApplyOptions, GivenMaskOptions, RequestOverrides, check_options
from prunecli.surgery.division import DivisionOptions
from prunecli.surgery.listing import Listener
from prunecli.surgery.places import checkpoint_location, destination_of
from prunecli.surgery.prepare import prepare_apply, prepare_unmasking
from prunecli.surgery.report.model import Report
from prunecli.surgery.run.destination import Progress
from prunecli.surgery.seeds import SeededOutputs, parse_seeds, refuse_beside_seeds
from prunecli.terms import Interface

__all__ = ["apply", "apply_seeds", "remove", "restore"]


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
    with prepare_apply(source, options, destination, reading, run, Listener(progress)) as job:
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
    with prepare_unmasking("remove", source, selection, destination, reading, run, Listener(progress)) as job:
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
    with prepare_unmasking("restore", source, selection, destination, reading, run, Listener(progress)) as job:
        return job.rewrite()

"""`apply --seeds`: the same prune with several seeds, whose outputs appear together."""

import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace

from prunecli.cli.messages import print_path, print_sentence
from prunecli.cli.notes import masks_note, plan_notes, result_notes
from prunecli.cli.run import print_plan
from prunecli.cli.verbosity import Verbosity
from prunecli.errors import UsageError, show
from prunecli.formats.outputs.staged import staged
from prunecli.reporting.numbers import size_of
from prunecli.surgery.apply import ApplyOptions
from prunecli.surgery.prepare import PreparedRewrite
from prunecli.surgery.run.destination import Destination
from prunecli.terms import SEEDS

__all__ = ["apply_with_seeds"]


class _Later(Verbosity):
    """What the runs after the first print: their notes would be the same."""

    def note(self, text: str) -> None:
        """Drop a note."""


def apply_with_seeds(
    places: Mapping[int, Destination],
    options: ApplyOptions,
    prepare: Callable[..., AbstractContextManager[PreparedRewrite]],
    verbosity: Verbosity,
    *,
    dry_run: bool,
    print_recipe: bool,
) -> None:
    """Carry out a prune with several seeds, and print the paths of the outputs once all of them are there.

    With `dry_run`, the first plan is printed, and a line for each output. `prepare` plans with options for a place.
    """
    for option, text in options.files():
        if text == "-":
            raise UsageError(f"{SEEDS} reads {option} once for each seed; give it a path instead of -")
    size, listener = 0, verbosity
    with staged():
        for seed, place in places.items():
            own = replace(options, overrides=replace(options.overrides, seed=seed))
            with prepare(own, place, listener=listener) as job:
                if listener is verbosity:
                    _note((_same_note(job), *plan_notes(job)), verbosity)
                if dry_run:
                    _rehearse(job, first=listener is verbosity, recipe=print_recipe or not sys.stdout.isatty())
                else:
                    size += _carry_out(job, verbosity, last=seed == max(places))
            listener = _Later(verbosity.quiet)
    if dry_run:
        return
    for place in places.values():
        if place.path is not None:
            print_path(place.path)
    if not verbosity.quiet:
        sys.stdout.flush()
        outputs = "1 output" if len(places) == 1 else f"{len(places):,} outputs"
        print_sentence(f"wrote {outputs} ({size_of(size)})")


def _same_note(job: PreparedRewrite) -> str:
    """Return a note if seeds decide only among equal values."""
    methods = job.plan.prune.methods if job.plan.prune else []
    if not any(each.reads_values or each.reads_scores for each in methods):
        return ""
    return (
        f"{SEEDS}: values decide which elements are pruned, and a seed only among equal ones; outputs may be the same"
    )


def _carry_out(job: PreparedRewrite, verbosity: Verbosity, *, last: bool) -> int:
    """Write an output, and return its size in bytes; the last one has the notes that hold for all."""
    report = job.rewrite()
    if not verbosity.quiet:
        totals = report.totals
        print_sentence(f"seed {report.seed}: {totals.pruned_now:,} of {totals.elements:,} elements pruned")
    if last:
        _note((*result_notes(job, report), masks_note(job)), verbosity)
    return report.output.bytes if report.output else 0


def _note(texts: Iterable[str], verbosity: Verbosity) -> None:
    for text in filter(None, texts):
        verbosity.note(text)


def _rehearse(job: PreparedRewrite, *, first: bool, recipe: bool) -> None:
    """Check that a plan can be carried out; print the first one, and where the others would be written."""
    prune, place = job.plan.prune, job.destination.path
    if first and prune is not None:
        print_plan(replace(job.plan, prune=replace(prune, seed=None)), job.destination, recipe=recipe)
    elif place is not None:
        print_sentence(f"would write {show(place)}, seed {job.plan.seed}; nothing is written")
    job.rehearse()

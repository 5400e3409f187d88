"""Prune a module in memory like a checkpoint on disk, with the same patterns, plan, random stream and report.

A module is one more layout. The functions for files select the parameters, find ties, compute the amounts and count for
the report. Only the last step differs, and it is undone if anything fails.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn

from prunecli.core.amount import Amount, amount_list, parse_amounts
from prunecli.core.methods import make_method
from prunecli.core.methods.base import Method
from prunecli.core.methods.request import given_method, spelled
from prunecli.errors import UnsupportedError, UsageError, messages_for, show
from prunecli.modules.hooks import untouched_on_failure
from prunecli.modules.layout import LiveModule
from prunecli.modules.passes import agreed_seed, check_refused, pass_over
from prunecli.modules.scores import GIVEN, given_scores
from prunecli.modules.shards import fsdp_records, names_restored_on_failure
from prunecli.modules.sites import bake_site, find_sites, invalidate_graphs, mask_site, restore_fsdp_names
from prunecli.surgery.data.final_mask import FinalMask
from prunecli.surgery.data.kept import NOTHING, Given
from prunecli.surgery.division import DivisionOptions
from prunecli.surgery.names.parameters import parameters_of
from prunecli.surgery.names.select import Selection, unmatched_excludes
from prunecli.surgery.plan.model import Plan
from prunecli.surgery.plan.plan import plan_bake, plan_prune
from prunecli.surgery.plan.request import PruneRequest
from prunecli.surgery.plan.scan import ThisProcess
from prunecli.surgery.report.measure import make_report
from prunecli.surgery.report.model import Report
from prunecli.surgery.run.edit import PreparedEdit, build_edit
from prunecli.terms import MATRICES, Interface

__all__ = ["bake_module", "prune_module"]


@messages_for(Interface.MODULES)
def prune_module(
    module: nn.Module,
    params: str | Sequence[str],
    amount: Amount | str | Sequence[Amount | str] | None = None,
    *,
    seed: int | None = None,
    exclude: str | Sequence[str] = (),
    min_dim: int = 0,
    everywhere: bool = False,
    allocation: str | None = None,
    per_slice: bool = False,
    per_row: bool = False,
    method: str | None = None,
    n_of_m: str | tuple[int, int] | None = None,
    block: str | tuple[int, int] | None = None,
    dim: int | None = None,
    norm: float | str | None = None,
    scores: Mapping[str, Tensor] | None = None,
    abs_scores: bool = False,
    bake: bool = False,
    remove: bool = False,
    untie: bool = False,
    zeros_are_pruned: bool = False,
) -> Report:
    """Prune parameters of a module in place, to the masks that `prunecli apply` gives its state dict.

    As with `RandomUnstructured.apply`, each selected parameter becomes `NAME_orig` and `NAME_mask` (with the
    parameter's shape and dtype), and its module gets a hook that keeps the product up to date. If a module reads the
    weights of another module without calling it (`nn.MultiheadAttention` reads those of `out_proj`), the reader gets a
    hook, too. Optimizers stay valid: the `Parameter` objects are the same, with every option. As after torch's own
    pruning, `copy.deepcopy` needs products without gradients: prune under `torch.no_grad()`, or run the module once
    under it before the copy.

    If anything fails, including by an interrupt, the module is unchanged.

    Args:
        module: a module with tensors on any device, wrapped (`module.`, `_orig_mod.`) or not.
        params: names, globs or `re:REGEX`, as for `--param`; names do not need the wrapper's prefix.
        amount: an int is a number of elements of each parameter, a float a fraction of those still unpruned. In a list,
            `"PATTERN=0.5"` is the amount of single parameters.
        seed: determines the masks. If not given, it is drawn from torch's global CPU generator; the report records it.
        exclude: patterns to leave out of what `params` selects.
        min_dim: patterns match only parameters with at least this many dimensions.
        everywhere: one amount over all selected parameters together, as `--global`.
        allocation: a rule that divides the amount, as one total, among the selected parameters, as `--allocation`. The
            order of layers is that of `named_parameters()`.
        per_slice: prune each index of the first dimension of parameters of three dimensions separately: `NAME#3`.
        per_row: prune the same amount of every row (index of the first dimension).
        method: `random`, `l1`, `scores`, `lamp`, `random-structured` or `ln`, as `--method`.
        n_of_m: keep N of every M neighbours, as `"2:4"`; without an amount.
        block: prune whole blocks of rows and columns, as `"16x16"`; the amount counts blocks.
        dim: the dimension of slices, or of N:M.
        norm: 1, 2 or `"inf"`, for `ln`.
        scores: a tensor for each selected parameter, by name: the smallest scores go.
        abs_scores: order scores by magnitude, as torch does.
        bake: bake at once. The parameters are overwritten, +0.0 where pruned, without masks or hooks. The overwritten
            values are kept in memory until the end.
        remove: an earlier name of `bake`.
        untie: mask a tied parameter and keep its partners dense.
        zeros_are_pruned: elements that are zero already count as pruned.

    Returns:
        The report, with numbers counted from the data as for a file.

    Raises:
        TypeError: the amount is not a real number, or the seed is not an integer.
        UsageError: a pattern matches nothing, an amount is out of range or cannot be divided, or a tie needs a
            decision.
        UnsupportedError: a tensor has no values (meta device), a mask has values that are not supported, or a module is
            TorchScript.

    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> report = prune_module(net, "*.weight", 0.5, seed=7)
    >>> [(each.name, each.pruned_now) for each in report.parameters if each.pruned_now]
    [('0.weight', 16), ('2.weight', 8)]
    """
    selection = Selection(_patterns(params), _patterns(exclude), min_dim)
    if not selection.patterns:
        raise UsageError(f"nothing is selected; give {MATRICES} for all matrices named weight, or names as params")
    total, amounts = parse_amounts(amount_list(amount))
    settings = {"dim": dim, "norm": norm, "n_of_m": n_of_m, "block": block, "scores": None if scores is None else GIVEN}
    chosen = given_method(method, **settings, abs_scores=abs_scores)
    division = DivisionOptions(amounts, allocation, per_slice=per_slice, per_row=per_row, method=chosen)
    division.check(total, global_=everywhere)
    live = LiveModule(module)
    check_refused(live, selection)
    if selection.excludes and (unmatched := unmatched_excludes(parameters_of(live), selection)):
        raise UsageError(unmatched[0])
    if zeros_are_pruned and live.shards:
        raise UnsupportedError(
            f"{show(next(iter(live.shards)))} is spread over ranks, and zeros_are_pruned has to see all of it on one; "
            "prune the saved checkpoint with --zeros-are-pruned"
        )
    group = division.group(selection, total, global_=everywhere)
    return _pruned(live, PruneRequest((group,), seed, bake or remove, untie, zeros_are_pruned), given_scores(scores))


def _pruned(live: LiveModule, prune: PruneRequest, given: Given = NOTHING) -> Report:
    """Plan a request, after drawing a seed if it has none, and carry it out."""
    reading = next((group.method for group in prune.groups if _reads(make_method(group.method))), None)
    if live.shards and reading is not None:
        raise UnsupportedError(
            f"{show(next(iter(live.shards)))} is spread over ranks, and {spelled(reading.name)} has to see all of it "
            "on one; prune the saved checkpoint"
        )
    prune = replace(prune, seed=agreed_seed(live, prune.seed), mask_dtype="same")
    plan = plan_prune(live, prune, ThisProcess(given), given=given)
    return _carry_out(live, plan, given)


def _reads(method: Method) -> bool:
    """Whether a method sees elements, of weights or of scores."""
    return method.reads_values or method.reads_scores


@messages_for(Interface.MODULES)
def bake_module(
    module: nn.Module, params: str | Sequence[str] | None = None, exclude: str | Sequence[str] = ()
) -> Report:
    """Make masks permanent in place, all or those of selected parameters, as `prunecli remove` does for a file.

    The parameters, the same objects, get their names back and are +0.0 where they were pruned; masks, products and
    hooks are removed. Masks of all pruning methods of torch are baked; a mask with values other than 0 and 1 is
    multiplied in. If anything fails, the module is unchanged; the overwritten values are kept in memory until the end.

    Args:
        module: as for `prune_module`.
        params: as for `prune_module`; None means every parameter that has a mask.
        exclude: patterns to leave out of what `params` selects.

    Returns:
        The report, with numbers counted from the data as for a file.

    Raises:
        UsageError: no selected parameter has a mask, or a tied partner that is not selected would change, too.
        UnsupportedError: as `prune_module`.
    """
    excludes = _patterns(exclude)
    if params is None and excludes:
        raise UsageError("exclude takes from what params selects; add params='*'")
    selection = None if params is None else Selection(_patterns(params), excludes)
    live = LiveModule(module)
    if selection is not None:
        check_refused(live, selection)
    return _carry_out(live, plan_bake(live, selection))


def _patterns(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _carry_out(live: LiveModule, plan: Plan, given: Given = NOTHING) -> Report:
    """Carry out a plan: count, and write if it bakes; then change names, masks and hooks."""
    sites = find_sites(live.module, plan)
    records = fsdp_records(live.module)
    surgery = build_edit(live, plan, given=given)
    counts = surgery.new_counts()
    touched = {id(each): each for site in sites for each in (site.owner, *(reader for reader, _ in site.readers))}
    with contextlib.ExitStack() as stack:
        stack.enter_context(live.source.restored_on_failure())
        stack.enter_context(names_restored_on_failure(records))
        for each in touched.values():
            stack.enter_context(untouched_on_failure(each))
        for mask in _held_masks(plan, surgery):
            mask.hold()
        pass_over(live, plan, surgery, counts)
        report = make_report(live, plan, counts, None)
        for site in sites:
            if plan.bake:
                bake_site(site)
            else:
                mask_site(site, surgery.mask(site.planned.parameter.name))
        if plan.bake:
            invalidate_graphs(sites)
            restore_fsdp_names(sites, records)
    return report


def _held_masks(plan: Plan, surgery: PreparedEdit) -> list[FinalMask]:
    """Return the masks that are computed completely before the pass.

    These are the masks that the module gets, and those that depend on values which the pass overwrites.
    """
    prune = plan.prune
    if prune is None or (plan.bake and not (prune.zeros_are_pruned or any(map(_reads, prune.methods)))):
        return []
    return [surgery.mask(name) for name in plan.planned]

"""`prunecli apply`. The commands import what they need when they run, so that `--help` starts fast."""

from functools import partial

from prunecli.cli import apply_options as apply_opt
from prunecli.cli import division_options as div
from prunecli.cli import method_options as how
from prunecli.cli import options as opt

__all__ = ["apply"]


def apply(
    checkpoint: opt.Checkpoint,
    amount: div.Amounts = None,
    param: opt.Params = None,
    params_from: opt.ParamsFrom = None,
    exclude: opt.Exclude = None,
    global_: apply_opt.Global = False,
    allocation: div.Allocation = None,
    ratios: div.Ratios = None,
    like: div.Like = None,
    order: div.OrderFile = None,
    masks: div.Masks = None,
    missing: div.Missing = None,
    per_slice: div.PerSlice = False,
    per_row: div.PerRow = False,
    method: how.Method = None,
    n_of_m: how.NOfM = None,
    block: how.Block = None,
    dim: how.Dim = None,
    norm: how.Norm = None,
    scores: how.Scores = None,
    abs_scores: how.AbsScores = False,
    recipe: apply_opt.Recipe = None,
    from_report: apply_opt.FromReport = None,
    seed: apply_opt.Seed = None,
    seeds: div.Seeds = None,
    key_prefix: apply_opt.KeyPrefix = None,
    remove: apply_opt.Remove = None,
    rescale: div.Rescale = False,
    mask_dtype: apply_opt.MaskType = None,
    key: opt.Key = None,
    foreign: opt.Foreign = False,
    follow_links: opt.FollowLinks = False,
    untie: apply_opt.Untie = False,
    min_dim: opt.MinDim = 0,
    zeros_are_pruned: apply_opt.ZerosArePruned = False,
    with_state: apply_opt.WithState = False,
    stamp: apply_opt.Stamp = False,
    output: opt.Output = None,
    report: opt.ReportFile = None,
    no_report: opt.NoReport = False,
    dry_run: opt.DryRun = False,
    print_recipe: apply_opt.PrintRecipe = False,
    force: opt.Force = False,
    resume: opt.Resume = False,
    link: opt.Link = False,
    jobs: opt.Jobs = None,
    quiet: opt.Quiet = False,
) -> None:
    """Prune at random, or by --method: add a weight_mask, or write zeros with --bake."""
    from prunecli.cli.parse import destination_of, selection_of
    from prunecli.cli.run import carry_out
    from prunecli.cli.verbosity import Verbosity, run_options
    from prunecli.core.amount import parse_amounts
    from prunecli.core.methods.request import given_method
    from prunecli.errors import UsageError
    from prunecli.formats.base import ReadOptions
    from prunecli.surgery.apply import ApplyOptions, GivenMaskOptions, RequestOverrides, check_options
    from prunecli.surgery.division import DivisionOptions
    from prunecli.surgery.places import checkpoint_location
    from prunecli.surgery.prepare import prepare_apply

    selection = selection_of(checkpoint, param, params_from, exclude, min_dim)
    overrides = RequestOverrides(seed, remove, mask_dtype, untie, zeros_are_pruned, key_prefix, with_state, rescale)
    total, amounts = parse_amounts(amount or ())
    chosen = given_method(method, dim=dim, norm=norm, n_of_m=n_of_m, block=block, scores=scores, abs_scores=abs_scores)
    division = DivisionOptions(amounts, allocation, ratios, like, order, per_slice, per_row, chosen)
    options = ApplyOptions(
        selection, total, global_, overrides, recipe, from_report, stamp, division, GivenMaskOptions(masks, missing)
    )
    source = checkpoint_location(checkpoint)
    if print_recipe and not dry_run:
        raise UsageError("--print-recipe is an option of --dry-run; add that, or leave it out")
    check_options(options, stdin_is_taken=source is None)
    reading = ReadOptions(key, foreign, follow_links)
    if seeds is not None:
        from prunecli.cli.seeds import apply_with_seeds
        from prunecli.surgery.seeds import SeededOutputs, parse_seeds, refuse_beside_seeds

        numbers = parse_seeds(seeds)
        with run_options(jobs, resume=resume, link=link) as run:
            refuse_beside_seeds(seed=seed, from_report=from_report, masks=masks, resume=resume, ranks=run.ranks.size)
            places = SeededOutputs(output, report, no_report, force).destinations(source, numbers)
            prepare = partial(prepare_apply, source, reading=reading, run=run)
            apply_with_seeds(places, options, prepare, Verbosity(quiet), dry_run=dry_run, print_recipe=print_recipe)
        return
    destination = destination_of(source, "apply", output, report, no_report=no_report, force=force)
    with run_options(jobs, resume=resume, link=link) as run:
        verbosity = Verbosity(quiet or not run.ranks.is_leader, report == "-")
        with prepare_apply(source, options, destination, reading, run, verbosity) as job:
            carry_out(job, verbosity, dry_run=dry_run, print_recipe=print_recipe)

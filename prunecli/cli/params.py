"""`prunecli params`."""

from prunecli.cli import options as opt
from prunecli.cli import report_options as report_opt
from prunecli.reporting.options import ListFormat

__all__ = ["params"]


def params(
    checkpoint: opt.Checkpoint,
    param: opt.Params = None,
    params_from: opt.ParamsFrom = None,
    exclude: opt.Exclude = None,
    min_dim: opt.MinDim = 0,
    all_: report_opt.All = False,
    key: opt.Key = None,
    foreign: opt.Foreign = False,
    follow_links: opt.FollowLinks = False,
    form: report_opt.ListFormatOption = ListFormat.TABLE,
    no_fold: report_opt.NoFold = False,
    schema: report_opt.ParamsSchema = False,
) -> None:
    """List the parameters that can be pruned: name, type, shape, state."""
    from prunecli.cli.inventory import print_inventory
    from prunecli.cli.parse import selection_of
    from prunecli.cli.verbosity import Verbosity, run_options
    from prunecli.formats.base import ReadOptions
    from prunecli.surgery.listing import list_parameters, list_tensors, note_excludes, open_for_ranks
    from prunecli.surgery.places import checkpoint_location

    selection = selection_of(checkpoint, param, params_from, exclude, min_dim, reading=True)
    source, reading = checkpoint_location(checkpoint), ReadOptions(key, foreign, follow_links, read_only=True)
    with run_options() as run, open_for_ranks(source, reading, run, Verbosity(not run.ranks.is_leader)) as opened:
        if run.ranks.is_leader:
            note_excludes(opened, [selection], Verbosity(quiet=False))
            entries = (list_tensors if all_ else list_parameters)(opened, selection)
            print_inventory(opened, entries, form, "tensor" if all_ else "parameter", folded=not no_fold)

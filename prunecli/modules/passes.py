"""The pass over a module's data, on this rank and all others with parts of it, and what ranks must agree on before."""

from dataclasses import replace

import torch

from prunecli.core.seed import check_seed
from prunecli.errors import UnsupportedError, UsageError, show
from prunecli.formats.io.pieces import Piece
from prunecli.formats.io.sinks import NullSink
from prunecli.formats.io.stream import run_pieces
from prunecli.formats.io.threads import default_jobs
from prunecli.modules.layout import LiveModule, WriteThrough
from prunecli.modules.shards import exchange
from prunecli.surgery.data.counts import Counts
from prunecli.surgery.names.parameters import canonical
from prunecli.surgery.names.select import Selection, matcher
from prunecli.surgery.plan.model import Plan
from prunecli.surgery.plan.plan import SEEDS
from prunecli.surgery.run.edit import PreparedEdit, read_only_pieces

__all__ = ["agreed_seed", "check_refused", "pass_over"]


def check_refused(live: LiveModule, selection: Selection) -> None:
    """Refuse matching tensors that are spread over ranks in an unknown way, so that none is left out silently."""
    takes, leaves = ([matcher(each) for each in patterns] for patterns in (selection.patterns, selection.excludes))
    for name, reason in live.refused.items():
        key = canonical(name.removesuffix("_orig"))
        if any(each(name) or each(key) for each in takes) and not any(each(name) or each(key) for each in leaves):
            raise UnsupportedError(
                f"{show(name)} is a DTensor that cannot be pruned: {reason}; prune before it is spread, or exclude it"
            )


def agreed_seed(live: LiveModule, seed: int | None) -> int:
    """Return the seed that all ranks use: the requested seed, or one that the first rank draws."""
    drawn = int(torch.randint(SEEDS, (), device="cpu")) if seed is None else check_seed(seed)
    for mesh in live.meshes:
        requests = exchange(mesh, (seed, drawn))
        if len({asked for asked, _ in requests}) > 1:
            raise UsageError(f"the ranks ask for different seeds: {', '.join(str(asked) for asked, _ in requests[:4])}")
        drawn = requests[0][1]
    return drawn


def pass_over(live: LiveModule, plan: Plan, surgery: PreparedEdit, counts: Counts) -> None:
    """Run the pass on every rank, and add up the findings of all ranks; if one rank fails, all fail."""
    failure: BaseException | None = None
    try:
        _pass_over_here(live, plan, surgery, counts)
    except BaseException as error:
        failure = error
        if not live.meshes:
            raise
    others_failed = False
    by_tensor = {each.weight.name: name for name, each in plan.parameters.items() if name in counts.by_name}
    for mesh, tensors in live.meshes.items():
        shards = {by_tensor[each]: live.shards[each] for each in tensors if each in by_tensor}
        counted = {id(counts.by_name[name]): name for name in reversed(shards)}.values()  # tied ones share theirs
        own = {name: (counts.by_name[name].drain() or {}, shards[name].first) for name in counted}
        for counted_there in exchange(mesh, None if failure else own):
            others_failed = others_failed or counted_there is None
            for name, (drained, first) in (counted_there or {}).items():
                kinds = drained if first else drained.keys() & {"mask"}
                counts.by_name[name].merge({kind: drained[kind] for kind in kinds})
    if failure is not None:
        raise failure
    if others_failed:
        raise UnsupportedError("another rank failed; the module is as it was, here as there")


def _pass_over_here(live: LiveModule, plan: Plan, surgery: PreparedEdit, counts: Counts) -> None:
    """Run one pass over the data on this rank, which counts, and writes the data back if the plan bakes."""
    parameters = plan.parameters.values()
    tensors = [tensor for each in parameters for tensor in (each.weight, each.mask) if tensor is not None]
    pieces: list[Piece] = []
    for piece in read_only_pieces(surgery.edit, tensors):
        if plan.bake and piece.content is not None:
            pieces.append(replace(piece, content=WriteThrough(piece.content, live.source, piece.offset)))
        else:
            pieces.append(piece)
    pieces += [piece for addition in surgery.edit.additions for piece in addition.pieces]
    run_pieces(pieces, live.source, NullSink(), jobs=default_jobs(), found=counts.add)

"""What another checkpoint, a mask file or a report has pruned of each parameter, for masks with the same counts."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from prunecli.core.block import BLOCK
from prunecli.core.mask_digest import MaskDigest
from prunecli.errors import UsageError, show
from prunecli.formats.base import AnyCheckpoint, Layout, ReadOptions
from prunecli.formats.detect import open_location
from prunecli.formats.folders.weights import folder_of_index
from prunecli.formats.io.locations import Location
from prunecli.formats.io.threads import default_jobs
from prunecli.formats.opening import check_unchanged, open_any
from prunecli.surgery.data.block_task import BlockTask, run_tasks
from prunecli.surgery.data.final_mask import FinalMask
from prunecli.surgery.data.kept import KeptFlags
from prunecli.surgery.data.sums import ReadSums
from prunecli.surgery.data.workspace import Workspace
from prunecli.surgery.masks.flags import StoredFlags, ZeroFlags
from prunecli.surgery.masks.source import MASKS, masks_of
from prunecli.surgery.names.parameters import parameters_of
from prunecli.surgery.places import input_location
from prunecli.surgery.plan.amounts import LikeRow
from prunecli.surgery.plan.model import Plan, PlannedParameter
from prunecli.surgery.plan.planned_mask import planned_mask
from prunecli.surgery.report.model import ParameterReport
from prunecli.surgery.report.reading import read_report
from prunecli.terms import LIKE, SEED

__all__ = ["check_unlike", "read_like"]

_MASK = "_mask"
_HEAD, _HEADS = 1 << 16, 64
"""The elements whose flags are compared, at the beginning of some parameters, the largest ones."""

_INDEPENDENT = 8
"""The most standard deviations by which masks of different seeds agree more than by chance."""


def read_like(text: str, reading: ReadOptions) -> dict[str, LikeRow]:
    """Return what is pruned in a checkpoint, a mask file or a report, by the names of parameters.

    A mask counts if a parameter has one, else zeros do.

    Raises:
        UsageError: it is standard input.
        PrunecliError: it cannot be read, its data contradict its checksums, or a mask has values other than 0 and 1.
    """
    location = None if not text else input_location(text, LIKE)
    if location is None:
        raise UsageError(f"{LIKE} needs the path or URL of a checkpoint or report")
    if _is_report(location):
        return {each.name: row for each in read_report(location).parameters if (row := _recorded(each)) is not None}
    with open_any(location, replace(reading, key=None, read_only=True)) as checkpoint:
        rows = _counted(checkpoint)
        check_unchanged(checkpoint)
    return rows


def check_unlike(checkpoint: Layout, plan: Plan) -> None:
    """Check that a plan's masks are not those whose counts it takes, before anything is written.

    The masks are drawn, the smallest first, until one differs. Zeros of a model that was pruned are its mask and some
    zeros more, so that their counts, and with them the masks drawn from the same seed, differ a little: they agree far
    more than chance would.

    Raises:
        UsageError: all are the same, or agree too much.
        PrunecliError: the checkpoint cannot be read.
    """
    first = show(next(iter(plan.unlike), ""))
    names = sorted(plan.unlike, key=lambda name: plan.planned[name].parameter.weight.elements)
    if names and all(_digest(_final(checkpoint, plan, name)) == plan.unlike[name].digest for name in names):
        raise UsageError(
            f"the new masks are those that {LIKE} counts, {first} first: both are from seed {plan.seed}; draw others "
            f"with another {SEED}"
        )
    distance = _agreement(checkpoint, plan)
    if distance > _INDEPENDENT:
        raise UsageError(
            f"the new masks drop what {LIKE} counts, {first} first, {distance:,.0f} standard deviations more often "
            f"than chance: both are probably from seed {plan.seed}; draw others with another {SEED}"
        )


def _final(checkpoint: Layout, plan: Plan, name: str) -> FinalMask:
    return planned_mask(checkpoint.source, plan, plan.planned[name])


def _agreement(checkpoint: Layout, plan: Plan) -> float:
    """Return by how many standard deviations more elements are dropped in both masks than by chance.

    Parameters of which elements were pruned before are left out: these are the same in masks of any seed.
    """
    workspace, excess, variance = Workspace(), 0.0, 0.0
    fresh = [name for name, row in plan.unlike.items() if row.head and _is_comparable(plan.planned[name], row)]
    for name in fresh[:_HEADS]:
        elements, mask = plan.planned[name].parameter.weight.elements, _final(checkpoint, plan, name)
        flags = workspace.keep.flags(min(BLOCK, elements))
        mask.keep(0, flags, workspace)
        mask.release()
        share = plan.planned[name].pruned_now / elements
        size = min(_HEAD, elements)
        other = ~np.unpackbits(np.frombuffer(plan.unlike[name].head, np.uint8), count=size).view(np.bool_)
        excess += np.count_nonzero(~flags[:size].view(np.bool_) & other) - share * np.count_nonzero(other)
        variance += share * (1 - share) * np.count_nonzero(other)
    return excess / variance**0.5 if variance else 0.0


def _is_comparable(planned: PlannedParameter, row: LikeRow) -> bool:
    return row.elements == planned.target.candidates == planned.parameter.weight.elements


def _digest(mask: FinalMask) -> str:
    digest, workspace, elements = MaskDigest(), Workspace(), mask.parameter.weight.elements
    for start in range(0, elements, BLOCK):
        flags = workspace.keep.flags(min(BLOCK, elements - start))
        mask.keep(start, flags, workspace)
        digest.add(MaskDigest.look(start, flags))
    mask.release()
    return digest.hexdigest()


def _is_report(location: Location) -> bool:
    """Whether a file is JSON, by its content; behind a URL, by its name."""
    if folder_of_index(location) is not None:
        return False
    if not isinstance(location, Path):
        return location.name.endswith(".json")
    if location.is_dir():
        return False
    with open_location(location) as source:
        head = source.read(0, min(64, source.size))
    return head.lstrip()[:1] == b"{" and b"\0" not in head  # the length in front of a safetensors header has zeros


def _recorded(each: ParameterReport) -> LikeRow | None:
    """Return what a row of a report records: what a run dropped and earlier ones had dropped, else the zeros."""
    if each.candidates is not None:
        return LikeRow(each.elements, each.elements - each.candidates + each.pruned_now, each.mask_sha256)
    return None if each.zeros is None else LikeRow(each.elements, each.zeros, each.mask_sha256)


class _CountedMask(BlockTask[tuple[int, tuple[int, bytes]]]):
    """A mask whose kept elements are counted, with its digest."""

    def __init__(self, mask: KeptFlags, *, has_head: bool) -> None:
        super().__init__(mask.elements, 1, mask)
        self._mask, self._kept, self._digest = mask, 0, MaskDigest()
        self._has_head, self._head = has_head, b""

    def look(self, first: int, count: int, workspace: Workspace) -> tuple[int, tuple[int, bytes]]:
        """Return how many elements of a block are kept, and its part of the digest."""
        flags = workspace.block.flags(count)
        self._mask.read(first, flags, workspace)
        if not first and self._has_head:
            self._head = np.packbits(flags[:_HEAD]).tobytes()
        return int(np.count_nonzero(flags)), MaskDigest.look(first, flags)

    def add(self, found: tuple[int, tuple[int, bytes]]) -> None:
        """Add a block."""
        self._kept += found[0]
        self._digest.add(found[1])

    def row(self) -> LikeRow:
        """Return the result."""
        return LikeRow(self.elements, self.elements - self._kept, self._digest.hexdigest(), self._head)


def _counted(checkpoint: AnyCheckpoint) -> dict[str, LikeRow]:
    sums = ReadSums(checkpoint)
    masks = _masks(checkpoint, sums)
    largest = set(sorted(masks, key=lambda name: -masks[name].elements)[: 4 * _HEADS])
    counted = {name: _CountedMask(mask, has_head=name in largest) for name, mask in masks.items()}
    run_tasks(list(counted.values()), checkpoint.source, default_jobs())
    sums.check(default_jobs(), (tensor for mask in masks.values() for tensor in mask.tensors))
    return {name: each.row() for name, each in counted.items()}


def _masks(checkpoint: AnyCheckpoint, sums: ReadSums) -> Mapping[str, KeptFlags]:
    """Return the masks of parameters that have one, and the zeros of the others."""
    names = checkpoint.tensors
    if MASKS in (checkpoint.metadata or {}) or (names and all(name.endswith(_MASK) for name in names)):
        return masks_of(checkpoint).masks
    return {
        name: ZeroFlags(checkpoint, each, sums)
        if each.mask is None
        else StoredFlags(checkpoint, name, each.key, each.mask)
        for name, each in parameters_of(checkpoint).items()
        if each.countable
    }

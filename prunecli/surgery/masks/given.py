"""Given masks paired with the parameters of a checkpoint."""

from collections.abc import Iterator, Mapping, Sequence

from prunecli.errors import UsageError, show
from prunecli.formats.base import Layout, TensorInfo
from prunecli.surgery.data.kept import Given, KeptFlags
from prunecli.surgery.masks.pairs import listed
from prunecli.surgery.masks.source import MaskSource
from prunecli.surgery.names.absent import check_absent
from prunecli.surgery.names.pair import pair_names
from prunecli.surgery.names.parameters import Parameter, parameters_of
from prunecli.surgery.names.select import Selection, select
from prunecli.terms import MASKS, MISSING

__all__ = ["given_masks"]


def given_masks(
    checkpoint: Layout, source: MaskSource, selection: Selection | None, *, missing_kept: bool, untie: bool = False
) -> Given:
    """Return the masks of a source for a checkpoint: for all parameters that have one, or for the selected ones.

    Names pair as in all comparisons: the same name, else the same canonical name. Parameters that share memory share a
    mask, unless `untie`. With `missing_kept`, parameters without a mask are kept, and masks without a parameter are
    left out.

    Raises:
        UsageError: a mask has no parameter, a selected parameter no mask, or the shapes differ; or nothing is left.
    """
    parameters = parameters_of(checkpoint)
    chosen = None
    if selection is not None:
        check_absent(checkpoint, parameters, selection)
        chosen = [each.name for each in select(parameters, selection)]
    names = pair_names(source.keys, {name: each.key for name, each in parameters.items()})
    found = {name: source.masks[own] for own, name in names.items()}
    if not untie:
        found |= dict(_shared(parameters, found))
    wrong = [name for name, mask in found.items() if mask.shape != parameters[name].weight.shape]
    if wrong:
        raise UsageError(_wrong_shapes(wrong, parameters, found))
    ours, theirs = checkpoint.source.label, show(source.checkpoint.source.label, 80)
    alone = [name for name in source.masks if name not in names]
    bare = [] if chosen is None else [name for name in chosen if name not in found]
    for missing, what in (
        (alone, f"{ours} has no {{}}, of which {theirs} has masks"),
        (bare, f"{theirs} has no masks of {{}}"),
    ):
        if missing and not missing_kept:
            raise UsageError(f"{what.format(listed(missing))}; {MISSING} goes on without")
    notes = [f"without a parameter, and left out: masks of {listed(alone)}"] if alone else []
    notes += [f"without a mask, and kept: {listed(bare)}"] if bare else []
    taken = {name: found[name] for name in (found if chosen is None else chosen) if name in found}
    if not taken:
        raise UsageError(
            f"{MASKS} {theirs} has no mask of a parameter of {ours}; compare the names with 'prunecli params'"
        )
    return Given(taken, sources=(source.checkpoint,), notes=notes)


def _shared(parameters: Mapping[str, Parameter], found: Mapping[str, KeptFlags]) -> Iterator[tuple[str, KeptFlags]]:
    """Yield the parameters without a mask that lie in the same memory as one that has a mask, and that mask."""
    places = {_place(parameters[name].weight): mask for name, mask in found.items()}
    for name, each in parameters.items():
        if name not in found and each.weight.elements and (mask := places.get(_place(each.weight))) is not None:
            yield name, mask


def _place(tensor: TensorInfo) -> object:
    return tensor.storage.key, tensor.view, tensor.dtype.name


def _wrong_shapes(wrong: Sequence[str], parameters: Mapping[str, Parameter], found: Mapping[str, KeptFlags]) -> str:
    shapes = [
        f"{show(name, 80)} is {list(parameters[name].weight.shape)}, and its mask {list(found[name].shape)}"
        for name in wrong[:3]
    ]
    more = f"; {len(wrong) - 3:,} more differ" if len(wrong) > 3 else ""
    return f"shapes differ: {'; '.join(shapes)}{more}"

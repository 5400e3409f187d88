"""Where masks come from: a mask file, a dictionary of masks, the masks of a checkpoint, or its zeros."""

from collections.abc import Mapping
from typing import Literal

from prunecli.core.raw_elements import is_one, is_zero
from prunecli.core.scratch import Buffer
from prunecli.errors import DamagedError, UnsupportedError, UsageError, show
from prunecli.formats.base import AnyCheckpoint, Layout, Storage, TensorInfo
from prunecli.formats.dtypes import DTYPES
from prunecli.formats.json_text import parse_object
from prunecli.formats.opening import check_unchanged
from prunecli.formats.views import View
from prunecli.lean import dataclass
from prunecli.surgery.data.final_mask import Elements
from prunecli.surgery.data.kept import KeptFlags
from prunecli.surgery.data.sums import ReadSums
from prunecli.surgery.masks.flags import PackedFlags, StoredFlags, ZeroFlags
from prunecli.surgery.names.absent import check_absent
from prunecli.surgery.names.parameters import Parameter, canonical_names, parameters_of
from prunecli.surgery.names.select import Selection, select
from prunecli.terms import EXTRACT_ZEROS

__all__ = ["ENCODING", "KEPT", "MASKS", "SHAPES", "VERSION", "MaskSource", "masks_of"]

MASKS, KEPT, ENCODING, SHAPES = "prunecli.masks", "prunecli.kept", "prunecli.encoding", "prunecli.shapes"
"""The entries in the metadata of a mask file: the version of the format, what True means, "bool" or "bits", and for
bits the shapes of the parameters, as JSON."""

VERSION = "1"
_PROBED = 4096
"""Elements that are read to distinguish a dictionary of masks from a checkpoint without masks."""


@dataclass(frozen=True)
class MaskSource:
    """Masks by the names of their parameters, in the order of the file. `checkpoint` is the file that contains them.

    `sums` are the checksums of what is read of it, if the masks add to them.
    """

    checkpoint: AnyCheckpoint
    kind: Literal["mask file", "dictionary", "checkpoint", "zeros"]
    masks: Mapping[str, KeptFlags]
    sums: ReadSums | None = None

    def check(self, jobs: int) -> None:
        """Check, after the masks have been read, that no file has changed, and that recorded checksums are right.

        Raises:
            UnreadableError: a file has changed, or cannot be read.
            DamagedError: as `check_sums`.
        """
        tensors = (tensor for each in self.masks.values() for tensor in each.tensors)
        (self.sums or ReadSums(self.checkpoint)).check(jobs, tensors)
        check_unchanged(self.checkpoint)

    @property
    def keys(self) -> dict[str, str]:
        """The canonical names by the names, as `pair_names` takes them."""
        return {name: each.key for name, each in self.masks.items()}


def masks_of(checkpoint: AnyCheckpoint, selection: Selection | None = None, *, from_zeros: bool = False) -> MaskSource:
    """Return the masks in a checkpoint or mask file, all or those of the selected parameters.

    With `from_zeros`, the zeros of a checkpoint count as pruned; a mask file contains masks all the same. Values are
    checked when they are read: `KeptFlags.read` refuses values other than 0 and 1.

    Raises:
        UsageError: it has no masks, or a pattern matches nothing.
        DamagedError: it is a mask file, and its metadata contradict its tensors.
        UnsupportedError: it is a mask file of a later version, or a mask is not one of single elements.
    """
    if MASKS in (checkpoint.metadata or {}):
        return MaskSource(checkpoint, "mask file", _selected(_mask_file(checkpoint), selection))
    found = parameters_of(checkpoint)
    if selection is not None:
        check_absent(checkpoint, found, selection)
    if from_zeros:
        selection = selection or Selection(("*",))
        sums = ReadSums(checkpoint)
        zeros = {each.name: ZeroFlags(checkpoint, each, sums) for each in select(found, selection)}
        return MaskSource(checkpoint, "zeros", zeros, sums)
    masked = {name: each for name, each in found.items() if each.mask is not None}
    if masked:
        chosen = list(masked.values()) if selection is None else select(masked, selection)
        stored = [StoredFlags(checkpoint, each.name, each.key, each.mask) for each in chosen if each.mask is not None]
        return MaskSource(checkpoint, "checkpoint", {each.name: each for each in stored})
    return MaskSource(checkpoint, "dictionary", _selected(_dictionary(checkpoint), selection))


def _mask_file(checkpoint: AnyCheckpoint) -> dict[str, KeptFlags]:
    metadata, label = checkpoint.metadata or {}, checkpoint.source.label
    version, kept, encoding = metadata[MASKS], metadata.get(KEPT, "true"), metadata.get(ENCODING, "bool")
    if version != VERSION:
        raise UnsupportedError(f"{label} is a mask file of version {show(version, 20)}; this prunecli reads {VERSION}")
    if kept != "true" or encoding not in ("bool", "bits"):
        raise DamagedError(
            f"{label}: its metadata have {KEPT} {show(kept, 20)} and {ENCODING} {show(encoding, 20)}; a mask file has "
            "true, and bool or bits"
        )
    keys = canonical_names(list(checkpoint.tensors))
    if encoding == "bool":
        return {name: StoredFlags(checkpoint, name, keys[name], each) for name, each in checkpoint.tensors.items()}
    shapes = _shapes(metadata.get(SHAPES, ""), checkpoint)
    return {
        name: PackedFlags(checkpoint, name, keys[name], each, shapes[name]) for name, each in checkpoint.tensors.items()
    }


def _shapes(text: str, checkpoint: AnyCheckpoint) -> dict[str, tuple[int, ...]]:
    label, tensors = checkpoint.source.label, checkpoint.tensors
    found = parse_object(text.encode("utf-8", "surrogatepass"), f"{label}: {SHAPES}")
    for name in tensors:
        shape = found.get(name)
        whole = isinstance(shape, list) and len(shape) <= 64 and {*map(type, shape)} <= {int}
        if not whole or (shape and (min(shape) < 0 or max(shape) >= 1 << 63)):
            raise DamagedError(f"{label}: {SHAPES} has no shape of {show(name)}")
    if len(found) != len(tensors):
        extra = next(name for name in found if name not in tensors)
        raise DamagedError(f"{label}: {SHAPES} has {show(extra)}, of which there are no bits")
    return {name: tuple(shape) for name, shape in found.items()}


def _dictionary(checkpoint: AnyCheckpoint) -> dict[str, KeptFlags]:
    """Return the tensors of a state dict that is a dictionary of masks; `_mask` at the end of all names is dropped."""
    tensors = {name: each for name, each in checkpoint.tensors.items() if not each.within}
    first = next((name for name, each in tensors.items() if each.elements), None)
    if first is None or not _may_be_mask(checkpoint, tensors[first]):
        why = "" if first is None else f" ({show(first, 60)} has other values than 0 and 1)"
        raise UsageError(
            f"{checkpoint.source.label} has no masks{why}; make a mask file of its zeros with {EXTRACT_ZEROS}"
        )
    cut = len("_mask") if all(name.endswith("_mask") for name in tensors) else 0
    by_name = {name[: len(name) - cut]: each for name, each in tensors.items()}
    keys = canonical_names(list(by_name))
    return {name: StoredFlags(checkpoint, name, keys[name], each) for name, each in by_name.items()}


def _may_be_mask(layout: Layout, tensor: TensorInfo) -> bool:
    """Whether a tensor may be a mask: its first elements are 0 and 1, or its type is bool."""
    if not tensor.dtype.prunable or tensor.dtype.kind == "bool" or not tensor.view.row_major:
        return tensor.dtype.prunable
    raw, room = Elements(layout.source, tensor).read(0, min(_PROBED, tensor.elements), Buffer()), Buffer()
    zero = is_zero(raw, signed_zero=tensor.dtype.signed_zero, out=Buffer().flags(raw.size), room=room)
    return bool((zero | is_one(raw, tensor.dtype.one)).all())


def _selected(masks: Mapping[str, KeptFlags], selection: Selection | None) -> dict[str, KeptFlags]:
    """Return the masks of the parameters that a selection takes; a mask stands for its parameter there."""
    if selection is None:
        return dict(masks)
    parameters = {name: _stand_in(each) for name, each in masks.items()}
    return {each.name: masks[each.name] for each in select(parameters, selection)}


def _stand_in(mask: KeptFlags) -> Parameter:
    tensor = TensorInfo(mask.name, DTYPES["bool"], View.of(mask.shape), Storage(mask.name, 0, 0))
    return Parameter(mask.name, mask.key, tensor, None)

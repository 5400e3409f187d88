"""safetensors: an 8-byte length, a JSON header, then the tensors' bytes back to back.

Format: https://github.com/huggingface/safetensors#format. The library's own validation decides whether a file is valid.
This module also reads the header, for the offsets, which the library does not report, and for errors that the library
accepts (repeated names).
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import safetensors

from prunecli.errors import DamagedError, UnreadableError, UnsupportedError, show
from prunecli.formats.base import Edit, SingleFile, Storage, TensorInfo, patched_copies
from prunecli.formats.dtypes import DTYPES, DType
from prunecli.formats.io.memory import return_freed
from prunecli.formats.io.pieces import Copy, Piece
from prunecli.formats.io.source import FileSource, Source, in_source
from prunecli.formats.json_text import parse_object
from prunecli.formats.safetensors.write import CODES, HEADER_LIMIT, METADATA, PACKED_BITS, NewTensor, pieces_in_order
from prunecli.formats.views import View
from prunecli.lean import dataclass
from prunecli.terms import HERE

__all__ = ["SafetensorsFile", "looks_like_safetensors", "read_safetensors"]

_FIELDS = ("dtype", "shape", "data_offsets")
_NEEDED = frozenset(_FIELDS)

_LARGE = 1 << 20
"""A header of more bytes than this took memory worth returning."""


class _Entry(NamedTuple):
    """The description of a tensor, in the form that the library writes: a third of the memory of its dict."""

    dtype: DType
    bits: int
    view: View
    start: int
    stop: int


def looks_like_safetensors(head: bytes) -> bool:
    """Whether a file begins like a safetensors file: with a plausible length, then the brace of the header."""
    return len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= HEADER_LIMIT


@dataclass(frozen=True)
class SafetensorsFile(SingleFile):
    """The layout of a safetensors file. `tensors` is in the order of the header.

    `fields` are the descriptions of tensors that have other fields, or another order, than the library writes.
    `recorded` has the header's `__metadata__`, if there is an entry.
    """

    source: Source
    tensors: Mapping[str, TensorInfo]
    fields: Mapping[str, Mapping[str, Any]]
    recorded: Mapping[str, Any]
    data_offset: int
    format: str = "safetensors"
    wrapper: str = ""
    carried: Sequence[TensorInfo] = ()
    no_masks_because: str | None = None
    notes: Sequence[str] = ()

    @property
    def metadata(self) -> Mapping[str, str]:
        """The header's `__metadata__`; as in the library, null means that there is none."""
        return self.recorded.get(METADATA) or {}

    def pieces(self, edit: Edit) -> Iterator[Piece]:
        """Return the pieces of the rewritten file; the header is copied if only tensor bytes change, else it is new."""
        if not edit.structural and not edit.metadata:
            yield Copy(0, self.data_offset)
            for tensor in sorted(self.tensors.values(), key=lambda tensor: tensor.storage.offset):
                yield from patched_copies(tensor.storage, edit.patches.get(tensor.storage.key, ()))
            return
        yield from pieces_in_order(self._order(edit), self._new_metadata(edit))

    def _new_metadata(self, edit: Edit) -> dict[str, Any]:
        if not edit.metadata:
            return dict(self.recorded)
        entries = {key: value for key, value in {**self.metadata, **edit.metadata}.items() if value is not None}
        return {METADATA: entries} if entries else {}

    def _order(self, edit: Edit) -> list[NewTensor]:
        """Return the tensors in the library's order: wider elements first, so that each tensor is aligned."""
        order: list[NewTensor] = []
        for name, tensor in sorted(self.tensors.items(), key=lambda item: item[1].storage.offset):
            if name not in edit.removals:
                pieces = list(patched_copies(tensor.storage, edit.patches.get(name, ())))
                new_name = edit.renames.get(name, name)
                order.append(NewTensor(new_name, tensor.dtype, tensor.shape, pieces, self.fields.get(name, {})))
            order += [NewTensor(each.name, each.dtype, each.shape, each.pieces) for each in edit.behind.get(name, ())]
        return sorted(order, key=lambda entry: -entry.dtype.itemsize) if edit.structural else order


@in_source
def read_safetensors(source: Source) -> SafetensorsFile:
    """Read the layout of a safetensors file.

    Raises:
        DamagedError: the header and the file contradict each other.
        UnsupportedError: it contains an element type that prunecli does not know.
        UnreadableError: no more files can be opened.
    """
    length = int.from_bytes(source.read(0, 8), "little")
    data_offset = 8 + length
    if data_offset > source.size:
        raise DamagedError(f"{source.label} ends in its header ({source.size} of {data_offset} bytes); fetch it again")
    header = parse_object(source.read(8, length), f"{source.label}: its header", _compact)
    recorded = {METADATA: header.pop(METADATA)} if METADATA in header else {}
    _check_metadata(recorded.get(METADATA))
    tensors = {name: _tensor(name, entry, source, data_offset) for name, entry in header.items()}
    unusual = [name for name, entry in header.items() if not isinstance(entry, _Entry)]
    del header  # several hundred bytes a tensor
    # Their own fields may contain what `_compact` takes for the description of a tensor.
    whole = parse_object(source.read(8, length), source.label) if unusual else {}
    fields = {name: whole[name] for name in unusual}
    del whole
    _check_coverage(tensors, source, data_offset)
    _ask_library(source, data_offset)
    if length > _LARGE:
        return_freed()
    return SafetensorsFile(source, tensors, fields, recorded, data_offset)


def _check_metadata(metadata: object) -> None:
    if metadata is None:
        return
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise DamagedError(f"{HERE}: its __metadata__ is not a mapping from strings to strings; fetch it again")


def _compact(found: dict[str, Any]) -> Any:
    """Return an object of the header as an `_Entry` if it is one in the usual form, else as it is."""
    if tuple(found) != _FIELDS or not isinstance(found["dtype"], str) or found["dtype"] not in CODES:
        return found
    return _entry("", found) or found


def _read_entry(name: str, entry: Any) -> _Entry:
    if not isinstance(entry, dict) or not _NEEDED.issubset(entry):  # other fields are ignored, as in the library
        raise _wrong(name, "is not described by dtype, shape and data_offsets")
    found = _entry(name, entry)
    if found is None:
        raise _wrong(name, "has a shape or offsets that are not whole numbers")
    return found


def _entry(name: str, entry: Mapping[str, Any]) -> _Entry | None:
    """Return a description with all fields, None if its numbers are not whole numbers."""
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not (_whole_numbers(shape) and _whole_numbers(offsets) and len(offsets) == 2 and len(shape) <= 64):
        return None
    return _Entry(*_element_type(entry["dtype"], name), View.of(shape), *offsets)


def _tensor(name: str, entry: Any, source: Source, data_offset: int) -> TensorInfo:
    dtype, bits, view, start, stop = entry if isinstance(entry, _Entry) else _read_entry(name, entry)
    if (stop - start) * 8 != view.elements * bits:
        raise _wrong(name, f"has {stop - start} bytes for {view.elements} elements of {dtype.name}")
    if data_offset + stop > source.size:
        raise _wrong(name, "ends behind the end of the file; it is truncated, fetch it again")
    return TensorInfo(name, dtype, view, Storage(name, data_offset + start, stop - start))


def _wrong(name: str, what: str) -> DamagedError:
    return DamagedError(f"{HERE}: tensor {show(name)} {what}")


def _element_type(code: object, name: str) -> tuple[DType, int]:
    if isinstance(code, str) and code in CODES:
        dtype = DTYPES[CODES[code]]
        return dtype, dtype.itemsize * 8
    if isinstance(code, str) and code in PACKED_BITS:
        return DType(code, 1, "opaque"), PACKED_BITS[code]
    # A list or a dict may be nested too deeply for repr.
    named = f"a {type(code).__name__}" if isinstance(code, list | dict) else show(code)
    raise UnsupportedError(f"{HERE}: tensor {show(name)} has the element type {named}, which prunecli does not know")


def _whole_numbers(values: Any) -> bool:
    if not isinstance(values, list):
        return False
    return not [1 for each in values if type(each) is not int or not 0 <= each < 1 << 63]


def _check_coverage(tensors: Mapping[str, TensorInfo], source: Source, data_offset: int) -> None:
    at = data_offset
    for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.storage.offset, tensor.storage.nbytes)):
        if tensor.storage.offset != at:
            raise DamagedError(f"{source.label}: a gap or an overlap before the bytes of tensor {show(tensor.name)}")
        at += tensor.storage.nbytes
    if at != source.size:
        raise DamagedError(f"{source.label} has {source.size - at} bytes behind its last tensor")


def _ask_library(source: Source, data_offset: int) -> None:
    """Let the library validate the file; for a remote file, validate its header followed by a hole of the same size."""
    with ExitStack() as stack:
        if isinstance(source, FileSource):
            descriptor = source.descriptor
        else:
            stand_in = stack.enter_context(tempfile.TemporaryFile(prefix="prunecli-"))
            stand_in.write(source.read(0, data_offset))
            stand_in.truncate(source.size)
            stand_in.flush()
            descriptor = stand_in.fileno()
        try:
            with safetensors.safe_open(f"/dev/fd/{descriptor}", framework="numpy"):
                pass
        except FileNotFoundError:  # the library raises this for every descriptor that it cannot open again
            raise UnreadableError(
                f"cannot open {source.label} once more for the safetensors library; allow more files with 'ulimit -n'"
            ) from None
        except (safetensors.SafetensorError, OSError):  # its message is not shown: it may contain text from the file
            raise DamagedError(f"{source.label} is refused by the safetensors library; fetch it again") from None

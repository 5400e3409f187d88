"""The compiled kernel: it draws, counts and clears elements several times faster than numpy, with the same results.

prunecli/core/kernel/build.py compiles the C sources here when prunecli is installed. If the library is missing (there
was no compiler), or `PRUNECLI_KERNEL=0` is in the environment, each function here does nothing, and its result says so.
Its caller, which has the same algorithm in numpy, then does the work. Masks do not depend on which of them made them.
"""

import ctypes
import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "all_equal",
    "count_zeros",
    "draw_block",
    "draw_each",
    "drop_smallest",
    "fill",
    "gather",
    "halved_groups",
    "is_compiled",
    "merge_planes",
    "most_kept",
    "scatter",
    "share",
    "split_planes",
]

_VERSION = 10
"""The number of the interface; that of the library must be the same."""

_LARGEST_GROUP = 32
"""The size of the largest groups that the library can order."""

_WIDTHS = frozenset({1, 2, 4, 8, 16})
_LOW = (1 << 32) - 1
_char_in: Any = ctypes.c_char.from_buffer  # numpy's types do not say that arrays are buffers


@functools.cache
def _library() -> "ctypes.CDLL | None":  # a string: tests of other systems replace the class by a function
    """Return the library with its functions declared; None if it is missing, unusable here, or not wanted."""
    if os.environ.get("PRUNECLI_KERNEL") == "0":
        return None
    path = Path(__file__).with_name("kernel.shared")
    try:
        if _is_stale(path):
            return None
        library = ctypes.CDLL(str(path))
        return _declared(library) if library.prunecli_kernel_version() == _VERSION else None
    except (OSError, AttributeError):  # not built, or built for another machine or from other sources
        return None


def _is_stale(path: Path) -> bool:
    """Whether a library in a checkout is older than its sources; installed packages do not contain the sources."""
    built = path.stat().st_mtime_ns
    return any(source.stat().st_mtime_ns > built for source in path.parent.glob("*.[ch]"))


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    """Return the library with the types of its functions set."""
    pointer, integer, bits, small = ctypes.c_void_p, ctypes.c_int64, ctypes.c_uint64, ctypes.c_int32
    library.prunecli_draw.argtypes = [ctypes.c_char_p, ctypes.c_uint32, integer, integer, integer, bits, pointer]
    library.prunecli_draw_each.argtypes = [ctypes.c_char_p, integer, pointer, pointer, integer, bits, pointer]
    library.prunecli_share.argtypes = [*[ctypes.c_double] * 4, integer, integer, integer]
    library.prunecli_share.restype = integer
    library.prunecli_all_equal.argtypes = [pointer, integer, small, bits]
    library.prunecli_zeros.argtypes = [pointer, integer, small, bits, pointer, pointer, pointer, small]
    library.prunecli_fill.argtypes = [pointer, integer, small, bits, pointer]
    library.prunecli_halved_groups.argtypes = [pointer, integer]
    library.prunecli_most_kept.argtypes = [pointer, integer, integer, ctypes.c_uint32]
    library.prunecli_most_kept.restype = ctypes.c_uint32
    grouping = [small, integer, small, bits, bits]
    library.prunecli_drop_smallest.argtypes = [pointer, small, pointer, integer, *grouping, pointer]
    elements: list[Any] = [pointer, integer, small, small, bits]
    library.prunecli_keys.argtypes = [*elements, pointer]
    library.prunecli_histogram.argtypes = [*elements, pointer, small, small, bits, bits, pointer]
    library.prunecli_sums.argtypes = [*elements, pointer, small, small, pointer]
    library.prunecli_below.argtypes = [*elements, pointer, bits, pointer, pointer, pointer]
    library.prunecli_outermost.argtypes = [*elements, pointer, small, pointer]
    rows: list[Any] = [pointer, small, pointer, pointer, integer, integer, small, bits, bits, bits, pointer]
    library.prunecli_drop_in_rows.argtypes = rows
    for function in (library.prunecli_histogram, library.prunecli_below, library.prunecli_drop_in_rows):
        function.restype = integer
    library.prunecli_outermost.restype = integer
    for function in (library.prunecli_gather, library.prunecli_scatter):
        function.argtypes = [pointer, integer, small, pointer, pointer]
    for function in (library.prunecli_split, library.prunecli_merge):
        function.argtypes = [pointer, integer, small, small, pointer]
    for function in (library.prunecli_zeros, library.prunecli_halved_groups):
        function.restype = bits
    for function in (library.prunecli_fill, library.prunecli_scatter, library.prunecli_split, library.prunecli_merge):
        function.restype = None
    for function in (library.prunecli_keys, library.prunecli_sums, library.prunecli_drop_smallest):
        function.restype = None
    return library


def is_compiled() -> bool:
    """Whether the compiled kernel is used."""
    return _library() is not None


def draw_block(key: int, index: int, amount: int, chosen: NDArray[np.bool_], *, rare: int, close: int) -> bool:
    """Draw block `index` of the stream with a 128-bit `key` into `chosen`: `amount` true flags, uniformly.

    `rare` and `close` are the constants of the stream's definition. Returns False if nothing was done.

    Raises:
        MemoryError: there was not enough memory for the positions of rare elements.
    """
    library = _library()
    if library is None or index >= 1 << 32 or not chosen.flags.c_contiguous:
        return False
    drawn = library.prunecli_draw(key.to_bytes(16, "little"), index, chosen.size, amount, rare, close, _address(chosen))
    if drawn:
        raise MemoryError
    return True


def draw_each(
    keys: bytes,
    sizes: NDArray[np.int64],
    amounts: NDArray[np.int64],
    chosen: NDArray[np.bool_],
    *,
    rare: int,
    close: int,
) -> bool:
    """Draw subsets one after the other into `chosen`: of `sizes` elements, with `amounts` true flags.

    `keys` has 16 bytes for each. Returns False if nothing was done.

    Raises:
        MemoryError: as `draw_block`.
    """
    library = _library()
    if library is None or not chosen.flags.c_contiguous:
        return False
    place = _address(sizes), _address(amounts)
    if library.prunecli_draw_each(keys, sizes.size, *place, rare, close, _address(chosen)):
        raise MemoryError
    return True


def share(fraction: float, total: int, good: int, draws: int, mode: int, low: int, high: int) -> int | None:
    """Return the share of a block, as `random_stream._hypergeometric`; None if nothing was done."""
    library = _library()
    if library is None or total >= 1 << 53:  # larger numbers are rounded
        return None
    found: int = library.prunecli_share(fraction, total - good - draws, good, draws, mode, low, high)
    return None if found < 0 else found


def count_zeros(
    raw: NDArray[Any],
    mask: int,
    before: NDArray[np.bool_] | None,
    keep: NDArray[np.bool_] | None,
    zero: NDArray[np.bool_] | None,
    *,
    clear: bool,
) -> tuple[int, int] | None:
    """Count the elements of shape `(n,)` whose bits in `mask` are all 0, as `raw_elements.count_zeros` does.

    For elements of 16 bytes, `mask` applies to each half. Returns None if nothing was done.
    """
    library = _library()
    if library is None or not _simple(raw, before, keep, zero):
        return None
    counts: int = library.prunecli_zeros(
        _address(raw),
        raw.size,
        raw.itemsize,
        mask,
        None if before is None else _address(before),
        None if keep is None else _address(keep),
        None if zero is None else _address(zero),
        clear,
    )
    return counts & _LOW, counts >> 32


def fill(raw: NDArray[Any], one: int, keep: NDArray[np.bool_]) -> bool:
    """Set elements of at most 8 bytes to `one` where kept, else to 0; shapes `(n,)`.

    Returns False if nothing was done.
    """
    library = _library()
    if library is None or raw.itemsize > 8 or not _simple(raw, keep):
        return False
    library.prunecli_fill(_address(raw), raw.size, raw.itemsize, one, _address(keep))
    return True


def all_equal(raw: NDArray[Any], one: int) -> bool | None:
    """Return whether elements of at most 8 bytes, shape `(n,)`, all have the bits `one`; None if nothing was done."""
    library = _library()
    if library is None or raw.itemsize > 8 or not _simple(raw):
        return None
    return bool(library.prunecli_all_equal(_address(raw), raw.size, raw.itemsize, one))


def halved_groups(flags: NDArray[np.bool_]) -> tuple[int, int] | None:
    """Return the number of groups of 4, and of 8, with at least half of their flags set; None if nothing was done.

    Groups are consecutive; the number of flags is a multiple of 4.
    """
    library = _library()
    if library is None or flags.size % 4 or not _simple(flags):
        return None
    counts: int = library.prunecli_halved_groups(_address(flags), flags.size)
    return counts & _LOW, counts >> 32


def most_kept(zero: NDArray[np.bool_], inner: int, caps: bytes) -> bytes | None:
    """Return the largest numbers of nonzero elements of groups, as `flags.most_kept`; None if nothing was done."""
    library = _library()
    if library is None or not zero.flags.c_contiguous:
        return None
    found: int = library.prunecli_most_kept(_address(zero), zero.size, inner, int.from_bytes(caps, "little"))
    return found.to_bytes(len(caps), "little")


def drop_smallest(
    keys: NDArray[Any] | None,
    candidates: NDArray[np.bool_] | None,
    out: NDArray[np.bool_],
    size: int,
    inner: int,
    kept: int,
    tie_key: int,
    start: int,
) -> bool:
    """Flag the smallest keys of each group, as `group_ranks.drop_smallest`; returns False if nothing was done.

    Without `candidates`, all elements are.
    """
    library = _library()
    if library is None or size > _LARGEST_GROUP or not _simple(out, candidates):
        return False
    if keys is not None and (not keys.dtype.isnative or keys.itemsize > 8 or not _simple(keys, out)):
        return False
    left = None if candidates is None else _address(candidates)
    width, place = (0, None) if keys is None else (keys.itemsize, _address(keys))
    library.prunecli_drop_smallest(place, width, left, out.size, size, inner, kept, tie_key, start, _address(out))
    return True


def gather(raw: NDArray[np.uint8], width: int, keep: NDArray[np.bool_], out: NDArray[np.uint8]) -> bool | None:
    """Move the bytes of kept elements to the start of `out`, which is as long as `raw`.

    Returns whether a bit of the others is not 0; None if nothing was done.
    """
    library = _library()
    if library is None or not (raw.flags.c_contiguous and out.flags.c_contiguous and keep.flags.c_contiguous):
        return None
    return bool(library.prunecli_gather(_address(raw), keep.size, width, _address(keep), _address(out)))


def scatter(values: NDArray[np.uint8], width: int, keep: NDArray[np.bool_], raw: NDArray[np.uint8]) -> bool:
    """Put the bytes of elements where kept, and zeros elsewhere; returns False if nothing was done.

    The memory of `values` ends 16 bytes later.
    """
    return _packed("prunecli_scatter", values, keep.size, width, _address(keep), raw)


def split_planes(raw: NDArray[np.uint8], width: int, planes: NDArray[np.uint8], *, rotate: bool) -> bool:
    """Split numbers of at most 8 bytes into planes of their bytes; returns False if nothing was done."""
    return _packed("prunecli_split", raw, raw.size // width, width, rotate, planes)


def merge_planes(planes: Sequence[NDArray[np.uint8]], raw: NDArray[np.uint8], *, rotate: bool) -> bool:
    """Put planes of the same size together again, the reverse of `split_planes`; False if nothing was done."""
    library = _library()
    if library is None or not raw.flags.c_contiguous or not all(each.flags.c_contiguous for each in planes):
        return False
    places = (ctypes.c_void_p * len(planes))(*map(_address, planes))
    library.prunecli_merge(places, planes[0].size, len(planes), rotate, _address(raw))
    return True


def _packed(name: str, source: NDArray[Any], count: int, width: int, third: int, target: NDArray[Any]) -> bool:
    library = _library()
    if library is None or not (source.flags.c_contiguous and target.flags.c_contiguous):
        return False
    getattr(library, name)(_address(source), count, width, third, _address(target))
    return True


def _simple(raw: NDArray[Any], *flags: NDArray[np.bool_] | None) -> bool:
    """Whether arrays have the same size below 2**32, contiguous memory, and a width that the kernel knows."""
    if raw.itemsize not in _WIDTHS or raw.size > _LOW or not raw.flags.c_contiguous:
        return False
    return not [1 for each in flags if each is not None and (each.size != raw.size or not each.flags.c_contiguous)]


def _address(array: NDArray[Any]) -> int:
    """Return the address of an array's memory; `ctypes.data` takes several times as long, more than a small array."""
    if array.size and array.flags.writeable:
        return ctypes.addressof(_char_in(array))
    return array.ctypes.data

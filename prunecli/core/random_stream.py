"""Exact uniform k-subsets, drawn block by block from a stream that only (seed, name, candidates) determine.

This is version 1 of the random stream. It never changes: golden values in the tests pin it. A subset of the ranks
`0 .. candidates - 1` is drawn in three steps.

1. A 128-bit key is hashed from (seed, name, candidates).
2. The ranks are cut into blocks of `BLOCK`. How many of the k fall into each block is a chain of hypergeometric draws.
3. Within a block, a Bernoulli set is drawn from one random byte per rank; then ranks are added or removed at random
   until its size is right. Conditioned on its size, a Bernoulli set is uniform, and adding or removing a uniform subset
   keeps it uniform.

Blocks are independent after step 2, so they can be drawn in any order, by any thread, on any machine. Only raw 64-bit
words of numpy's SFC64 are used, a stream that numpy guarantees. Integers and fractions are computed from them here with
operations that IEEE 754 defines to the bit, so numpy and libm versions cannot change a mask. The compiled kernel has
step 3 in C, with the same results; the code here defines them, and does the step without the kernel.
"""

import functools
import hashlib
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from prunecli.core import kernel
from prunecli.core.block import BLOCK
from prunecli.core.seed import check_seed
from prunecli.lean import dataclass

__all__ = ["Subset", "allocate", "draw_slices", "split", "stream_key"]

_RARE = 256
"""If fewer than one rank in this many is pruned (or kept), positions are drawn, not bytes. Part of the definition."""

_CLOSE = 1 << 30
"""The largest error of a rank's probability: a quarter of a 256th, in units of 2**-40. Part of the definition."""


def stream_key(seed: int, name: str, candidates: int, *, purpose: str = "prunecli/1") -> int:
    """Return the 128-bit key of a mask's stream, a hash of everything that the mask depends on.

    Fields are length-prefixed, so that two different triples never share an encoding. `purpose` separates streams with
    different uses (masks, the split of a global amount) and contains the version of the stream.

    Raises:
        TypeError, UsageError: as `check_seed`.
    """
    digest = _begun(purpose, str(check_seed(seed))).copy()
    digest.update(_encoded(name, str(candidates)))
    return int.from_bytes(digest.digest(), "little")


@functools.lru_cache(maxsize=16)
def _begun(*parts: str) -> "hashlib.blake2b":
    """Return the hash of what the keys of all masks of a run begin with; only copies of it are updated."""
    return hashlib.blake2b(_encoded(*parts), digest_size=16)


def _encoded(*parts: str) -> bytes:
    """Return texts with their lengths in front."""
    encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
    return b"".join(len(raw).to_bytes(8, "little") + raw for raw in encoded)


@dataclass(frozen=True, slots=True)
class Subset:
    """A uniform `amount`-subset of the ranks `0 .. candidates - 1`: the ranks to prune.

    Blocks are drawn on request, and only the requested blocks take memory.

    >>> subset = Subset(stream_key(7, "layer1.weight", 10), candidates=10, amount=4)
    >>> subset.span(0, 10).shape, int(subset.span(0, 10).sum())
    ((10,), 4)
    """

    key: int
    candidates: int
    amount: int

    def __post_init__(self) -> None:
        if not 0 <= self.amount <= self.candidates:
            raise ValueError(f"cannot draw {self.amount} of {self.candidates}")

    @property
    def allocation(self) -> Sequence[int]:
        """The number of pruned ranks in each block."""
        return [self.amount] if self.candidates <= BLOCK else _allocation(self.key, self.candidates, self.amount)

    def draw(self, start: int, out: NDArray[np.bool_]) -> None:
        """Draw the ranks from `start` on into `out`, shape `(count,)`: True where pruned.

        Whole blocks are drawn directly into `out`; a block that `out` covers only in part is drawn into other memory,
        which is kept for a moment, for the part that follows.
        """
        if not start and out.size == self.candidates <= BLOCK:  # a whole parameter of one block, as very many are
            _draw_block(self.key, 0, self.amount, out)
            return
        stop = start + out.size
        if not 0 <= start <= stop <= self.candidates:
            raise IndexError(f"ranks {start} to {stop} of {self.candidates}")
        for index in range(start // BLOCK, -(-stop // BLOCK)):
            first, last = index * BLOCK, min((index + 1) * BLOCK, self.candidates)
            low, high = max(start, first), min(stop, last)
            part = out[low - start : high - start]
            if part.size == last - first:
                _draw_block(self.key, index, self.allocation[index], part)
            else:
                part[:] = _drawn_block(self.key, index, self.allocation[index], last - first)[
                    low - first : high - first
                ]

    def span(self, start: int, stop: int) -> NDArray[np.bool_]:
        """Draw the ranks `start .. stop - 1` into a new array of shape `(stop - start,)`."""
        drawn = np.empty(stop - start, dtype=np.bool_)
        self.draw(start, drawn)
        return drawn


_Counts = NDArray[np.int64]


def draw_slices(
    seed: int, name: str, first: int, sizes: _Counts, amounts: _Counts, rank: int, out: NDArray[np.bool_]
) -> None:
    """Draw consecutive slices of a parameter into `out`, from a rank of slice `first` on, until `out` is full.

    Slice 3 of `NAME` is drawn like a parameter called `NAME#3`. `sizes` and `amounts` are the numbers of candidates and
    of those that are pruned, for each slice into which `out` reaches.
    """
    keys, ends = _slice_keys(seed, name, first, sizes.tolist()), np.add.accumulate(sizes) - rank
    starts, count = ends - sizes, len(keys)
    low, high = int(rank > 0), count - int(ends[-1] > out.size)  # of those that `out` contains as a whole
    if low < high and int(sizes[low:high].max()) <= BLOCK:
        whole, chosen = slice(low, high), out[starts[low] : ends[high - 1]]
        drawn = kernel.draw_each(b"".join(keys[whole]), sizes[whole], amounts[whole], chosen, rare=_RARE, close=_CLOSE)
    else:
        drawn = False
    for place in {*range(low), *range(high, count)} if drawn else range(count):
        start, stop = max(int(starts[place]), 0), min(int(ends[place]), out.size)
        subset = Subset(int.from_bytes(keys[place], "little"), int(sizes[place]), int(amounts[place]))
        subset.draw(start - int(starts[place]), out[start:stop])


def _slice_keys(seed: int, name: str, first: int, candidates: Sequence[int]) -> list[bytes]:
    """Return the bytes of the key of each slice, as `stream_key` makes them."""
    common = _begun("prunecli/1", str(check_seed(seed)))
    raw, keys = f"{name}#".encode("utf-8", "surrogatepass"), []
    for number, count in enumerate(candidates, first):
        digest, end, last = common.copy(), b"%d" % number, b"%d" % count
        lengths = (len(raw) + len(end)).to_bytes(8, "little"), len(last).to_bytes(8, "little")
        digest.update(b"".join((lengths[0], raw, end, lengths[1], last)))
        keys.append(digest.digest())
    return keys


@functools.lru_cache(maxsize=256)
def _allocation(key: int, candidates: int, amount: int) -> Sequence[int]:
    full, rest = divmod(candidates, BLOCK)
    return allocate(_words(key), [BLOCK] * full + ([rest] if rest else []), amount)


def split(seed: int, counts: Sequence[int], amount: int, *, name: str = "") -> list[int]:
    """Return the shares of a global amount for parameters with `counts` candidates, as if they were one tensor.

    The result depends on the order of `counts`: sort the parameters by name first. Use a different `name` for each
    amount whose split should be independent of the others.
    """
    return allocate(_words(stream_key(seed, name, sum(counts), purpose="prunecli/1/global")), counts, amount)


def allocate(words: "_RawStream", counts: Sequence[int], amount: int) -> list[int]:
    """Return how many of `amount` uniformly pruned candidates fall into each of the consecutive `counts`."""
    left, draws, shares = sum(counts), amount, []
    if not 0 <= draws <= left:
        raise ValueError(f"cannot draw {draws} of {left}")
    for count, word in zip(counts, words.take(len(counts)).tolist(), strict=True):
        share = _hypergeometric(word, left, count, draws)
        shares.append(share)
        left -= count
        draws -= share
    return shares


class _RawStream:
    """The raw 64-bit words of one stream, in order."""

    def __init__(self, bits: "np.random.SFC64") -> None:
        self._bits = bits

    def take(self, count: int) -> NDArray[np.uint64]:
        words: NDArray[np.uint64] = self._bits.random_raw(count)
        return words

    def below(self, bound: int, count: int) -> NDArray[np.uint64]:
        """Return `count` integers below `bound` <= 2**32 with an exactly uniform distribution.

        Lemire's multiply and reject: each integer is the high half of a 32-bit word times the bound. A few low halves
        are rejected that would favour some values ("Fast Random Integer Generation in an Interval", ACM TOMACS 29(1),
        2019).
        """
        drawn = np.empty(0, dtype=np.uint64)
        while drawn.size < count:
            product = (self.take(count - drawn.size) >> np.uint64(32)) * np.uint64(bound)
            fair = (product & np.uint64(0xFFFFFFFF)) >= np.uint64((1 << 32) % bound)
            drawn = np.concatenate([drawn, product[fair] >> np.uint64(32)])
        return drawn


def _words(key: int, *path: int) -> _RawStream:
    return _RawStream(np.random.SFC64(np.random.SeedSequence(key, spawn_key=path)))


def _hypergeometric(word: int, total: int, good: int, draws: int) -> int:
    """Return how many of `draws` out of `total` are among the `good` ones, determined by one 64-bit word.

    The method is inversion over the probabilities around the mode, each of which follows from its neighbour by a ratio.
    Only + - * / of floats are used, so the result is the same everywhere. The window of 8 standard deviations and the
    rounding leave an error below 1e-11 in total variation, too small for any experiment to detect.
    """
    low, high = max(0, draws - (total - good)), min(good, draws)
    if low == high:
        return low
    mode = min(max((draws + 1) * (good + 1) // (total + 2), low), high)
    variance = draws * good * (total - good) * (total - draws) // (total * total * (total - 1))
    reach = 8 * math.isqrt(variance) + 40
    low, high = max(low, mode - reach), min(high, mode + reach)
    fraction = (word >> 11) * 2.0**-53
    found = kernel.share(fraction, total, good, draws, mode, low, high)
    return _share(fraction, total, good, draws, mode, low, high) if found is None else found


def _share(fraction: float, total: int, good: int, draws: int, mode: int, low: int, high: int) -> int:
    """Return the result of `_hypergeometric` from the window of probabilities from `low` to `high`."""
    rest = total - good - draws
    x = np.arange(mode, low, -1).astype(np.float64)
    falling = (rest + x) * x / ((good + 1 - x) * (draws + 1 - x))  # of each probability to its neighbour below the mode
    x = np.arange(mode, high).astype(np.float64)
    rising = (good - x) * (draws - x) / ((x + 1) * (rest + 1 + x))
    weights = np.concatenate([np.multiply.accumulate(falling)[::-1], [1.0], np.multiply.accumulate(rising)])
    cumulative = np.add.accumulate(weights)
    return low + int(np.searchsorted(cumulative, fraction * cumulative[-1], side="right"))


def _draw_block(key: int, index: int, amount: int, chosen: NDArray[np.bool_]) -> None:
    """Draw block `index`: a uniform `amount`-subset of its ranks, as booleans, by the kernel or by numpy."""
    if not kernel.draw_block(key, index, amount, chosen, rare=_RARE, close=_CLOSE):
        _choose(_words(key, index), amount, chosen)


@functools.lru_cache(maxsize=8)
def _drawn_block(key: int, index: int, amount: int, size: int) -> NDArray[np.bool_]:
    """Return block `index`, read-only; it is kept for a moment, since its other ranks are usually drawn next."""
    chosen = np.empty(size, dtype=np.bool_)
    _draw_block(key, index, amount, chosen)
    return chosen


def _choose(words: _RawStream, amount: int, chosen: NDArray[np.bool_]) -> None:
    """Draw a uniform `amount`-subset of `chosen.size` ranks into `chosen`, as booleans."""
    size = chosen.size
    if amount * _RARE <= size:
        chosen.fill(False)
    elif (size - amount) * _RARE <= size:
        chosen.fill(True)
    else:
        _bernoulli(words, amount, chosen)
    surplus = int(np.count_nonzero(chosen)) - amount
    if surplus:
        _flip(words, chosen, surplus > 0, abs(surplus))


def _bernoulli(words: _RawStream, amount: int, chosen: NDArray[np.bool_]) -> None:
    """Choose every rank with about the probability `amount / size`: its byte decides, and another word decides ties.

    The probability need not be exact: conditioned on the number chosen, any Bernoulli set is uniform. So if a multiple
    of 1/256 is close enough, a few more repairs cost less than finding ties.
    """
    level = (amount << 40) // chosen.size
    drawn = _bytes(words, chosen.size)
    nearest = (level + (1 << 31)) >> 32
    if abs(level - (nearest << 32)) <= _CLOSE:
        np.less(drawn, np.uint8(nearest), out=chosen)
        return
    threshold, remainder = np.uint8(level >> 32), np.uint64(level & 0xFFFFFFFF)
    np.less(drawn, threshold, out=chosen)
    tied = np.flatnonzero(np.equal(drawn, threshold, out=drawn.view(np.bool_)))
    chosen[tied] = (words.take(tied.size) >> np.uint64(32)) < remainder


def _bytes(words: _RawStream, count: int) -> NDArray[np.uint8]:
    """Return `count` random bytes, the low byte of each word first; the rest of the last word is discarded."""
    return words.take(-(-count // 8)).astype("<u8", copy=False).view(np.uint8)[:count]


def _flip(words: _RawStream, chosen: NDArray[np.bool_], value: bool, count: int) -> None:
    """Flip a uniform choice of `count` of the ranks whose state is `value`, in place.

    Uniform positions are drawn until there are enough; those in the other state and repetitions are skipped.
    """
    ones = int(np.count_nonzero(chosen))
    eligible = ones if value else chosen.size - ones
    if eligible * 16 < chosen.size:
        places = np.flatnonzero(chosen == value)
        scale = 1
    else:
        places = None
        scale = chosen.size // eligible
    while count:
        size = chosen.size if places is None else places.size
        drawn = words.below(size, count * (scale + 1) + 16).astype(np.int64)
        if places is not None:
            drawn = places[drawn]
        drawn = drawn[chosen[drawn] == value]
        fresh = drawn[np.sort(np.unique(drawn, return_index=True)[1])[:count]]
        chosen[fresh] = not value
        count -= fresh.size

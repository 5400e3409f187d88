"""The laws of the random stream, and golden values that pin version 1 of it.

Every draw here has a fixed key, so that each test either always passes or always fails. A statistical test asks for a
p-value that is neither below 1e-4 (the law does not hold) nor above 1 - 1e-4 (the draws are too even to be random).
"""

import hashlib
import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest
from late import Late
from numpy.typing import NDArray

from prunecli.core import kernel, random_stream
from prunecli.core.block import BLOCK
from prunecli.core.random_stream import Subset, allocate, split, stream_key
from prunecli.errors import UsageError

stats = Late("scipy.stats")

RARE = 256
"""Amounts below one rank in this many are drawn by position. Written out: the stream's law, not the code's constant."""

Bools = NDArray[np.bool_]


def subset(candidates: int, amount: int, *, seed: int = 0, name: str = "layer.weight") -> Subset:
    return Subset(stream_key(seed, name, candidates), candidates, amount)


def drawn(candidates: int, amount: int, *, seed: int = 0, name: str = "layer.weight") -> Bools:
    return subset(candidates, amount, seed=seed, name=name).span(0, candidates)


def hypergeometric(word: int, total: int, good: int, draws: int) -> int:
    return random_stream._hypergeometric(word, total, good, draws)


def believable(p_value: float) -> bool:
    return 1e-4 < p_value < 1 - 1e-4


def chi_square(observed: Sequence[float], expected: Sequence[float]) -> float:
    """The p-value of counts against what a law expects, with outcomes rarer than 10 thrown together.

    It is 0 when something was counted that the law excludes.
    """
    seen, law = np.asarray(observed, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    possible = law > 1e-9
    if seen[~possible].any():
        return 0.0
    seen, law = seen[possible], law[possible]
    common = law >= 10
    if not common.all():
        seen = np.append(seen[common], seen[~common].sum())
        law = np.append(law[common], law[~common].sum())
    return float(stats.chi2.sf(((seen - law) ** 2 / law).sum(), law.size - 1))


def evenness(counts: NDArray[np.float64], rounds: int, amount: int) -> float:
    """The p-value of how often each rank was drawn in `rounds` subsets of size `amount`, against a uniform draw.

    Ranks of one subset exclude each other, so the sum of squares has one degree of freedom less than ranks, and its
    usual variance is corrected by (n - 1) / n.
    """
    ranks = counts.size
    share = amount / ranks
    spread = rounds * share * (1 - share) * ranks / (ranks - 1)
    return float(stats.chi2.sf(((counts - rounds * share) ** 2).sum() / spread, ranks - 1))


def overlap_score(one: Bools, other: Bools) -> float:
    """By how many standard deviations the overlap of two sets differs from that of independent uniform ones."""
    law = stats.hypergeom(one.size, int(one.sum()), int(other.sum()))
    return float((np.count_nonzero(one & other) - law.mean()) / law.std())


# How often every subset comes.


@pytest.mark.parametrize(
    ("candidates", "amount", "rare"),
    [(7, 3, RARE), (7, 4, RARE), (6, 3, RARE), (9, 1, RARE), (9, 8, RARE), (7, 3, 2), (7, 4, 2), (8, 1, 4), (8, 7, 4)],
)
def test_all_subsets_of_a_small_set_are_equally_likely(
    candidates: int, amount: int, rare: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where `rare` is 2 or 4, the small set takes the way that otherwise only sparse or dense amounts take.
    monkeypatch.setattr(random_stream, "_RARE", rare)
    subsets = math.comb(candidates, amount)
    rounds = 60 * subsets
    seen = Counter(drawn(candidates, amount, seed=seed).tobytes() for seed in range(rounds))
    assert len(seen) == subsets
    assert believable(chi_square(list(seen.values()), [60] * subsets))


@pytest.mark.parametrize(
    ("size", "value", "eligible", "count"),
    [
        (6, False, 6, 3),  # from nothing, as for rare amounts
        (6, True, 6, 3),  # from everything, as for dense ones
        (8, True, 5, 2),  # a repair by trial
        (8, False, 3, 2),
        (100, True, 5, 2),  # a repair among few, whose places are listed
        (100, False, 5, 2),
        (100, True, 5, 5),
    ],
)
def test_repairs_are_uniform_among_the_eligible(size: int, value: bool, eligible: int, count: int) -> None:
    words = random_stream._words(1, size, eligible)
    before = np.full(size, not value)
    before[:: size // eligible][:eligible] = value
    ways = math.comb(eligible, count)
    seen: Counter[bytes] = Counter()
    for _ in range(200 * ways):
        after = before.copy()
        random_stream._flip(words, after, value, count)
        assert np.count_nonzero(after != before) == count
        assert not (after != before)[before != value].any()
        seen[after.tobytes()] += 1
    assert len(seen) == ways
    assert ways == 1 or believable(chi_square(list(seen.values()), [200] * ways))


REGIMES = [
    pytest.param(600, 1, id="one"),
    pytest.param(1024, 4, id="rare"),
    pytest.param(1024, 5, id="just Bernoulli"),
    pytest.param(500, 17, id="Bernoulli, few"),
    pytest.param(500, 150, id="Bernoulli"),
    pytest.param(501, 250, id="Bernoulli, half"),
    pytest.param(500, 483, id="Bernoulli, many"),
    pytest.param(1024, 1020, id="dense"),
]


@pytest.mark.parametrize(("candidates", "amount"), REGIMES)
def test_ranks_and_pairs_of_them_are_included_equally_often(candidates: int, amount: int) -> None:
    rounds = 1000
    sets = np.stack([drawn(candidates, amount, seed=seed) for seed in range(rounds)])
    assert believable(evenness(sets.sum(axis=0, dtype=np.float64), rounds, amount))
    if amount == 1:
        return
    # How two residue classes share a subset follows the multivariate hypergeometric law; a dependence between
    # neighbours, or between ranks whose bytes come from one word, would show in it.
    shares = np.stack([sets[:, rest::8].sum(axis=1) for rest in range(8)], axis=1)
    sizes = np.bincount(np.arange(candidates) % 8)
    expected = amount * sizes / candidates
    law = amount * (candidates - amount) / (candidates - 1) * np.diag(sizes / candidates)
    law -= law.sum(axis=1)[:, None] * sizes / candidates
    products = (shares - expected)[:, :, None] * (shares - expected)[:, None, :]
    score = (products.mean(axis=0) - law) / (products.std(axis=0) / math.sqrt(rounds))
    # 36 different entries: the largest of them stays below 4.5 deviations in all but 1 of 4000 tests.
    assert np.abs(score).max() < 4.5


@pytest.mark.parametrize("lag", [1, 2, 7, 8, 64, 1 << 12, 1 << 18])
@pytest.mark.parametrize("amount", [BLOCK // 100, BLOCK // 2])
def test_neighbours_in_a_full_block_are_uncorrelated(
    lag: int, amount: int, full_blocks: dict[int, list[Bools]]
) -> None:
    together = np.array([np.count_nonzero(chosen & np.roll(chosen, lag)) for chosen in full_blocks[amount]])
    expected = amount * (amount - 1) / (BLOCK - 1)
    assert abs(together.mean() - expected) < 4.5 * together.std(ddof=1) / math.sqrt(together.size)


@pytest.fixture(scope="module")
def full_blocks() -> dict[int, list[Bools]]:
    return {amount: [drawn(BLOCK, amount, seed=seed) for seed in range(24)] for amount in (BLOCK // 100, BLOCK // 2)}


@pytest.mark.parametrize("amount", [BLOCK // 1000, BLOCK // 3, BLOCK - BLOCK // 1000])
def test_a_full_block_is_pruned_evenly(amount: int) -> None:
    rounds, parts = 12, 1024
    counts = sum(drawn(BLOCK, amount, seed=seed).reshape(parts, -1).sum(axis=1) for seed in range(rounds))
    share = amount / BLOCK
    spread = rounds * BLOCK / parts * share * (1 - share)
    deviations = (counts - rounds * amount / parts) ** 2 / spread
    assert believable(float(stats.chi2.sf(deviations.sum(), parts - 1)))


# How a set spreads over blocks, and a global amount over parameters.


def exact_law(total: int, good: int, draws: int) -> dict[int, Fraction]:
    low, high = max(0, draws - (total - good)), min(good, draws)
    ways = math.comb(total, draws)
    return {
        value: Fraction(math.comb(good, value) * math.comb(total - good, draws - value), ways)
        for value in range(low, high + 1)
    }


@pytest.mark.parametrize(
    ("total", "good", "draws"),
    [
        (2, 1, 1),
        (10, 4, 3),
        (10, 7, 8),
        (10, 10, 4),
        (10, 0, 4),
        (10, 5, 0),
        (10, 5, 10),
        (300, 120, 70),
        (300, 2, 299),
    ],
)
def test_a_word_is_turned_into_a_hypergeometric_share(total: int, good: int, draws: int) -> None:
    # The share is a monotonic function of the word, so the words where it steps are the cumulated probabilities: this
    # compares the whole law, not a sample of it.
    below, margin = Fraction(0), 1 << 24  # 2**-40 of the words
    for value, probability in exact_law(total, good, draws).items():
        first, last = int(below * 2**64) + margin, int((below + probability) * 2**64) - 1 - margin
        if first <= last:
            assert hypergeometric(first, total, good, draws) == value
            assert hypergeometric(last, total, good, draws) == value
        below += probability
    assert below == 1


@pytest.mark.parametrize(
    ("total", "good", "draws"),
    [(3 * BLOCK, BLOCK, BLOCK), (64 * BLOCK, BLOCK, 20 * BLOCK), (900 * BLOCK, BLOCK, 10**6), (5000, 4000, 2500)],
)
def test_a_word_is_turned_into_a_hypergeometric_share_of_a_big_block(total: int, good: int, draws: int) -> None:
    # scipy itself is off by up to 2e-8 here, by comparison with 40 digits.
    law = stats.hypergeom(total, good, draws)
    for value in np.unique(np.linspace(law.ppf(1e-5), law.isf(1e-5), 50).astype(int)).tolist():
        edge = float(law.cdf(value))
        assert hypergeometric(int((edge - 1e-7) * 2**64), total, good, draws) <= value
        assert hypergeometric(int((edge + 1e-7) * 2**64), total, good, draws) > value


def test_a_word_on_the_edge_of_two_shares_gives_the_upper_one() -> None:
    assert [hypergeometric(word, 2, 1, 1) for word in (2**63 - 2**11, 2**63)] == [0, 1]


def test_the_first_and_last_words_give_possible_shares() -> None:
    for total, good, draws in itertools.product((1, 2, 9, 1000, 10**10), (0, 1, 2, 9, 1000, BLOCK), (0, 1, 8, 999)):
        if good <= total and draws <= total:
            for word in (0, 2**64 - 1):
                share = hypergeometric(word, total, good, draws)
                assert max(0, draws - (total - good)) <= share <= min(good, draws)


def joint_law(counts: Sequence[int], amount: int) -> dict[tuple[int, ...], float]:
    shares = itertools.product(*(range(count + 1) for count in counts))
    ways = math.comb(sum(counts), amount)
    return {
        share: math.prod(math.comb(count, part) for count, part in zip(counts, share, strict=True)) / ways
        for share in shares
        if sum(share) == amount
    }


def allocated(counts: Sequence[int], amount: int) -> Callable[[int], list[int]]:
    words = random_stream._words(2, amount)
    return lambda _: allocate(words, counts, amount)


def globally_split(counts: Sequence[int], amount: int) -> Callable[[int], list[int]]:
    return lambda seed: split(seed, counts, amount)


@pytest.mark.parametrize("way", [allocated, globally_split])
@pytest.mark.parametrize(("counts", "amount"), [((3, 4, 5), 6), ((1, 9, 2), 3), ((2, 0, 30, 1), 30)])
def test_shares_follow_the_joint_law(
    way: Callable[[Sequence[int], int], Callable[[int], list[int]]], counts: Sequence[int], amount: int
) -> None:
    law = joint_law(counts, amount)
    rounds, draw = 1500, way(counts, amount)
    seen = Counter(tuple(draw(seed)) for seed in range(rounds))
    assert set(seen) <= set(law)
    observed = [seen[share] for share in law]
    assert believable(chi_square(observed, [rounds * probability for probability in law.values()]))


@pytest.mark.parametrize("amount", [5, BLOCK, 2 * BLOCK, 3 * BLOCK + 10])
def test_blocks_of_a_big_set_share_it_by_the_hypergeometric_law(amount: int) -> None:
    candidates, rounds = 3 * BLOCK + 17, 800
    shares = np.array([subset(candidates, amount, seed=seed).allocation for seed in range(rounds)])
    assert (shares.sum(axis=1) == amount).all()
    for block, count in enumerate((BLOCK, BLOCK, BLOCK, 17)):
        law = stats.hypergeom(candidates, count, amount)
        if law.std() < 0.3:
            continue  # the short block's share is all but fixed: nothing to compare
        edges = np.unique(law.ppf(np.linspace(0.05, 0.95, 19)))
        bins = np.diff(np.concatenate([[0.0], law.cdf(edges), [1.0]]))
        seen = np.bincount(np.searchsorted(edges, shares[:, block], side="left"), minlength=bins.size)
        assert believable(chi_square(seen.tolist(), (rounds * bins).tolist()))
        assert abs(shares[:, block].mean() - law.mean()) < 4.5 * law.std() / math.sqrt(rounds)


def test_the_spread_of_shares_over_big_blocks_is_the_hypergeometric_one() -> None:
    candidates, amount, rounds = 3 * BLOCK, BLOCK, 1200
    shares = np.array([subset(candidates, amount, seed=seed).allocation for seed in range(rounds)], dtype=np.float64)
    variance = float(stats.hypergeom(candidates, BLOCK, amount).var())
    # The share is all but normal, so (rounds - 1) s**2 / variance is chi-square.
    for block in range(3):
        ratio = (rounds - 1) * shares[:, block].var(ddof=1) / variance
        assert believable(float(stats.chi2.sf(ratio, rounds - 1)))
    # Three shares of one sum: each pair is correlated by -1/2.
    correlations = np.atleast_2d(np.corrcoef(shares, rowvar=False))[np.triu_indices(3, 1)]
    assert np.abs(correlations + 0.5).max() < 4.5 * 0.75 / math.sqrt(rounds)


@pytest.mark.parametrize("amount", [0, 1, 500, 2 * BLOCK, 5_000_009, 5_000_010])
def test_a_split_adds_up_and_exceeds_no_count(amount: int) -> None:
    counts = [1, 0, 5_000_000, 2, 7]
    for seed in range(50):
        shares = split(seed, counts, amount)
        assert sum(shares) == amount
        assert all(0 <= share <= count for share, count in zip(shares, counts, strict=True))


def test_a_split_over_very_large_parameters_keeps_the_proportions() -> None:
    counts, amount = [3 * 10**10, 10**10, 10**4], 10**10
    shares = np.array([split(seed, counts, amount) for seed in range(50)], dtype=np.float64)
    for share, count in zip(shares.T, counts, strict=True):
        law = count / sum(counts)
        spread = math.sqrt(amount * law * (1 - law) * (1 - amount / sum(counts)))
        assert abs(share.mean() - amount * law) < 4.5 * spread / math.sqrt(50)
        assert 0.7 < share.std() / spread < 1.3


def test_nothing_is_split_over_nothing() -> None:
    assert split(0, [], 0) == []


# Words, integers, sizes.


@pytest.mark.parametrize("bound", [1, 2, 3, 7, 10, 100, 257, 1000])
def test_bounded_integers_are_uniform(bound: int) -> None:
    rounds = 100 * max(bound, 50)
    numbers = random_stream._words(3, bound).below(bound, rounds)
    assert numbers.size == rounds
    counts = np.bincount(numbers.astype(np.int64), minlength=bound)
    assert counts.size == bound
    assert bound == 1 or believable(chi_square(counts.tolist(), [rounds / bound] * bound))


class _FixedWords(random_stream._RawStream):
    """Words that a test chooses instead of a stream."""

    def __init__(self, words: NDArray[np.uint64]) -> None:
        self._left = words

    def take(self, count: int) -> NDArray[np.uint64]:
        taken, self._left = self._left[:count], self._left[count:]
        return taken


@pytest.mark.parametrize("bound", [3, 5, 641, BLOCK - 1, BLOCK, BLOCK + 1, 3 * 2**30 + 1, 2**32 - 1, 2**32])
def test_bounded_integers_reject_what_would_favour_some_values(bound: int) -> None:
    # A value v is the image of the 32-bit words from ceil(v * 2**32 / bound) on; exactly floor(2**32 / bound) of them
    # may be kept, so that all values are equally likely. The rejected ones lie at the ends of a value's words.
    fair = 2**32 // bound
    for value in {0, 1, bound // 2, bound - 2, bound - 1}:
        first, stop = -(-value * 2**32 // bound), -(-(value + 1) * 2**32 // bound)
        edge = sorted({*range(first, min(first + 3, stop)), *range(max(first, stop - 3), stop)})
        kept = [_keeps(word, bound, value) for word in edge]
        assert kept.count(False) == stop - first - fair


def _keeps(word: int, bound: int, value: int) -> bool:
    """Tell whether a 32-bit word is used: a rejected one is followed by a spare, whose value for sure is another."""
    spare = 2**32 - 1 if value != bound - 1 else 2**31
    words = _FixedWords(np.array([word << 32, spare << 32, spare << 32], dtype=np.uint64))
    (number,) = words.below(bound, 1).tolist()
    return bool(number == value)


def test_every_small_set_has_exactly_its_size() -> None:
    words = random_stream._words(4)
    for candidates in (*range(1, 101), 128, 255, 256, 257, 300):
        chosen = np.empty(candidates, dtype=np.bool_)
        for amount in range(candidates + 1):
            random_stream._choose(words, amount, chosen)
            assert np.count_nonzero(chosen) == amount


@pytest.mark.parametrize("candidates", [0, 1, 255, 256, 257, 2**18 + 3, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 17])
def test_every_set_has_exactly_its_size(candidates: int) -> None:
    rare = candidates // RARE
    near = {edge + step for edge in (0, rare, candidates // 2) for step in (-1, 0, 1)}
    amounts = {amount for amount in near if 0 <= amount <= candidates}
    for amount in sorted(amounts | {candidates - amount for amount in amounts}):
        whole = subset(candidates, amount)
        assert int(whole.span(0, candidates).sum()) == sum(whole.allocation) == amount


@pytest.mark.parametrize("amount", [-1, 11])
def test_impossible_sizes_are_refused(amount: int) -> None:
    with pytest.raises(ValueError, match=f"cannot draw {amount} of 10"):
        Subset(0, 10, amount)


# A part is a slice of the whole.

SIZE = 3 * BLOCK + 17


@pytest.fixture(scope="module", params=[1000, SIZE // 3, SIZE - 1000])
def whole(request: pytest.FixtureRequest) -> tuple[Subset, Bools]:
    made = subset(SIZE, request.param)
    return made, made.span(0, SIZE)


SPANS = [
    (0, 0),
    (SIZE, SIZE),
    (3 * BLOCK, SIZE),
    (SIZE - 1, SIZE),
    (BLOCK - 1, BLOCK + 1),
    (5, 12),
    (BLOCK, 2 * BLOCK),
    (BLOCK + 3, 2 * BLOCK),
    (0, BLOCK + 1),
    (17, 3 * BLOCK + 2),
]


def test_any_span_is_that_slice_of_the_whole_in_any_order(whole: tuple[Subset, Bools]) -> None:
    fresh = Subset(whole[0].key, SIZE, whole[0].amount)
    for start, stop in SPANS + SPANS[::-1]:
        np.testing.assert_array_equal(fresh.span(start, stop), whole[1][start:stop])


def test_threads_draw_the_same_set(whole: tuple[Subset, Bools]) -> None:
    fresh, step = Subset(whole[0].key, SIZE, whole[0].amount), BLOCK // 2 + 1
    together = np.empty(SIZE, dtype=np.bool_)
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(fresh.draw, start, together[start : start + step]) for start in range(0, SIZE, step)]
    for job in jobs:
        job.result()
    np.testing.assert_array_equal(together, whole[1])


def test_a_draw_writes_its_own_ranks_only(whole: tuple[Subset, Bools]) -> None:
    for fill in (False, True):
        room = np.full(120, fill)
        whole[0].draw(BLOCK - 50, room[10:110])
        np.testing.assert_array_equal(room[10:110], whole[1][BLOCK - 50 : BLOCK + 50])
        assert (room[:10] == fill).all()
        assert (room[110:] == fill).all()


def test_a_draw_into_a_strided_array_is_the_same(whole: tuple[Subset, Bools]) -> None:
    room = np.zeros(2 * SIZE, dtype=np.bool_)
    whole[0].draw(0, room[::2])
    np.testing.assert_array_equal(room[::2], whole[1])
    assert not room[1::2].any()


# What a key depends on.


def test_different_seeds_names_and_candidates_give_different_keys() -> None:
    triples = list(
        itertools.product((0, 1, 2, 12, 2**64, 10**30), ("", "1", "a", "a.b", "1a", "é"), (0, 1, 2, 21, 112))
    )
    assert len({stream_key(*triple) for triple in triples}) == len(triples)
    assert stream_key(1, "23", 4) != stream_key(12, "3", 4)
    assert stream_key(1, "2", 34) != stream_key(1, "23", 4)
    assert stream_key(1, "a", 2, purpose="other") != stream_key(1, "a", 2)


@pytest.mark.parametrize("amount", [300, 50_000, 99_700])
def test_sets_of_different_seeds_names_and_candidates_are_independent(amount: int) -> None:
    size = 100_000
    sets = [drawn(size, amount, seed=seed, name=name) for seed in range(4) for name in ("a", "b", "a.weight")]
    sets += [drawn(size + more, amount)[:size] for more in range(1, 5)]
    scores = np.array([overlap_score(one, other) for one, other in itertools.combinations(sets, 2)])
    assert np.abs(scores).max() < 4.5
    assert 0.7 < scores.std() < 1.3


def test_the_blocks_of_a_set_are_independent() -> None:
    blocks = drawn(5 * BLOCK, 2 * BLOCK).reshape(5, BLOCK)
    assert all(abs(overlap_score(one, other)) < 4.5 for one, other in itertools.combinations(blocks, 2))


def test_a_later_round_of_the_same_seed_is_an_independent_draw() -> None:
    size, scores = 60_000, []
    for seed in range(40):
        first = drawn(size, size // 2, seed=seed)
        second = drawn(size // 2, size // 4, seed=seed)
        scores.append(overlap_score(first[: size // 2], second))
        scores.append(overlap_score(first[size // 2 :], second))
    assert np.abs(scores).max() < 4.5
    assert believable(float(stats.kstest(scores, "norm").pvalue))


@pytest.mark.parametrize("seed", [-1, -(10**30), 1 << 128])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(UsageError, match=r"a seed is a whole number from 0 to 2\*\*128 - 1"):
        stream_key(seed, "a", 1)


@pytest.mark.parametrize("seed", [True, 1.0, "1", None])
def test_a_seed_that_is_no_int_is_refused(seed: object) -> None:
    with pytest.raises(TypeError, match="a seed is an int"):
        stream_key(seed, "a", 1)  # type: ignore[arg-type]


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (0, 11), (10, 11)])
def test_ranks_that_there_are_not_are_refused(start: int, stop: int) -> None:
    with pytest.raises(IndexError):
        Subset(1, 10, 4).span(start, stop)


@pytest.mark.parametrize("amount", [-1, 7])
def test_a_split_of_more_than_there_is_is_refused(amount: int) -> None:
    with pytest.raises(ValueError, match="cannot draw"):
        split(0, [3, 3], amount)


# Golden values of version 1: a mask that was drawn once is drawn again by every later version.


@pytest.mark.parametrize(
    ("seed", "name", "candidates", "key"),
    [
        (0, "", 0, "ca46ab4f4b96faa74b7af71893a71b26"),
        (0, "layer.weight", 10, "c0593554c9d00c29723ff6a285b4f32a"),
        (7, "layer1.weight", 10, "642159daa6fc9fcaabd8ad93220a196c"),
        (2**64, "encoder.größe", 10**12, "13fc1fd7d531d684e17575b7e95111cf"),
        (1, "\udc80", 3, "385b703923238741b941abe3b7ea91b7"),
    ],
)
def test_golden_keys(seed: int, name: str, candidates: int, key: str) -> None:
    assert f"{stream_key(seed, name, candidates):032x}" == key


@pytest.fixture(params=["the kernel, if there is one", "numpy"])
def _drawn_by_both(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "numpy":
        monkeypatch.setattr(kernel, "_library", lambda: None)


@pytest.mark.usefixtures("_drawn_by_both")
@pytest.mark.parametrize(
    ("seed", "candidates", "amount", "ranks"),
    [
        (0, 7, 3, [0, 1, 5]),
        (1, 7, 3, [0, 2, 3]),
        (0, 10, 5, [0, 1, 7, 8, 9]),
        (0, 10, 9, [0, 1, 2, 3, 5, 6, 7, 8, 9]),
        (42, 30, 12, [0, 2, 5, 7, 8, 9, 10, 13, 21, 24, 27, 28]),
        (0, 100, 5, [48, 50, 55, 77, 83]),
        (0, 512, 2, [99, 473]),  # the most that counts as rare
        (0, 511, 2, [432, 498]),
        (0, 600, 2, [49, 571]),
        (3, 5000, 9, [819, 2251, 2583, 2647, 3492, 3926, 4235, 4560, 4788]),
    ],
)
def test_golden_subsets(seed: int, candidates: int, amount: int, ranks: list[int]) -> None:
    assert np.flatnonzero(drawn(candidates, amount, seed=seed)).tolist() == ranks


@pytest.mark.usefixtures("_drawn_by_both")
@pytest.mark.parametrize(
    ("candidates", "amount", "start", "stop", "digest"),
    [
        (1000, 500, 0, 1000, "9871731e35ba5e670926a492c7c3e2c78eb68b444fd5d5a9a8459d5aba8ef785"),
        (512, 510, 0, 512, "4972344ee434e98ecca5a1acd5795a56a95d83e399a2cab662505d7ef31f9020"),
        (511, 509, 0, 511, "2617b0d72e83aea0c0c60370a97bd64e183fdbe6af7a7479d893849617766a0f"),
        (1000, 997, 0, 1000, "712081687410ed76cab355dec80f769a5f32616000c28cccce9cda483c39798f"),
        (100_000, 37, 0, 100_000, "387baac65db2c58ea425e9ab56af528d613fd2bb0e926ffd5ac9117c28e235ac"),
        (100_000, 400, 0, 100_000, "611aec7c7d1fb00b954b384b901e20926b80c4e81a43b6076463d5c68fc22516"),
        (BLOCK, BLOCK // 2, 0, BLOCK, "f13e545e56d31b14f29b1c902e2dbcb3fa585d39507ab8f55ba07011538b96e3"),
        (SIZE, SIZE // 3, 0, SIZE, "1b41bee1a46903f94ebb5ac21432151f3bc6621c11d1f129b4065afe152686c2"),
        (SIZE, SIZE - 999, 0, SIZE, "d0e5ac363af2284d1afc3853593375c5d5bb050a4306bf17de693e1c41957142"),
        (SIZE, 1000, 0, SIZE, "ba87bd8e35b578e73a4577cd98076e743ca34a0af9d28e946fcba85befc34bb9"),
        (
            SIZE,
            SIZE // 40,
            BLOCK - 9,
            2 * BLOCK + 9,
            "df8906b50b9cc247e1b9446da4fd56b59b6ab1c2c10f794d0692ea567e38cec5",
        ),
        (
            2000 * BLOCK + 5,
            600 * BLOCK,
            1999 * BLOCK - 8,
            2000 * BLOCK + 5,
            "90fcf65c2da15b3c0f0e679fcbe0e86dda8c0652a5fd6489cdf70eef26ddd0f2",
        ),
    ],
)
def test_golden_spans(candidates: int, amount: int, start: int, stop: int, digest: str) -> None:
    packed = np.packbits(subset(candidates, amount, seed=2026).span(start, stop))
    assert hashlib.sha256(packed.tobytes()).hexdigest() == digest


@pytest.mark.parametrize(
    ("candidates", "amount", "allocation"),
    [
        (SIZE, 1000, [360, 321, 319, 0]),
        (SIZE, SIZE // 2, [525039, 523949, 523878, 6]),
        (5 * BLOCK, BLOCK, [209540, 210435, 209525, 209478, 209598]),
    ],
)
def test_golden_allocations(candidates: int, amount: int, allocation: list[int]) -> None:
    assert subset(candidates, amount, seed=2026).allocation == allocation


@pytest.mark.parametrize(
    ("seed", "counts", "amount", "shares"),
    [
        (0, [3, 4, 5], 6, [1, 3, 2]),
        (1, [3, 4, 5], 6, [1, 3, 2]),
        (0, [144, 4608, 32768, 640], 19080, [80, 2290, 16377, 333]),
        (9, [1, 0, 7000000000, 2000000], 1000000000, [0, 0, 999714480, 285520]),
    ],
)
def test_golden_splits(seed: int, counts: list[int], amount: int, shares: list[int]) -> None:
    assert split(seed, counts, amount) == shares


def test_golden_integers() -> None:
    # A quarter of the words is rejected for this bound.
    assert random_stream._words(5, 1).below(3 * 2**30 + 1, 6).tolist() == [
        187957710,
        2248749623,
        1288226812,
        106171901,
        1016761327,
        474521564,
    ]

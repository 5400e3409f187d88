"""Remarks on the zeros of a checkpoint: what they could save, and what that requires."""

from collections import Counter
from collections.abc import Iterable, Sequence

from prunecli.core.structure.model import Structure
from prunecli.lean import dataclass
from prunecli.reporting.left_out import left_out_text
from prunecli.reporting.norms import zero_norms_text
from prunecli.reporting.numbers import percent, size_of
from prunecli.surgery.report.model import ParameterReport, Report, counted_of

__all__ = ["Remark", "StorageRows", "facts", "storage"]

_FEW = 0.01
"""The smallest share of elements that is worth removing."""
_PATTERNS = 3
"""The largest number of N:M patterns that are named."""


@dataclass(frozen=True, slots=True)
class Remark:
    """A sentence, and its topic in a word or two."""

    topic: str
    text: str


@dataclass(frozen=True, slots=True)
class StorageRows:
    """Bytes of the values if all are stored, or if one bit per element and the non-zero values are stored."""

    dense: int
    bitmask: int
    bits: int
    """Bytes of the bits alone."""


def storage(parameters: Iterable[ParameterReport]) -> StorageRows:
    """Return the sums of the bytes of parameters whose zeros are counted."""
    dense = bitmask = bits = 0
    for each in parameters:
        if each.zeros is not None:
            dense += each.bytes
            bits += (each.elements + 7) // 8
            bitmask += each.bytes // each.elements * (each.elements - each.zeros) if each.elements else 0
    return StorageRows(dense, bits + bitmask, bits)


def facts(report: Report) -> list[Remark]:
    """Return the remarks on a report, without those that need unmeasured data."""
    counted = counted_of(report.parameters)
    whole = sum(each.bytes for each in counted) + sum(group.bytes for group in report.left_out)
    found = [Remark("left out", left_out_text(report.left_out, whole))] if report.left_out else []
    if text := zero_norms_text(report.parameters):
        found.append(Remark("weight norm", text))
    found += [Remark("storage", _of_storage(storage(counted)))] if report.totals.elements else []
    found += _of_magnitudes(counted)
    if report.totals.zeros >= _FEW * report.totals.elements:  # a dense model has nothing for kernels to skip
        found += _of_kernels(counted)
    return [*found, *_of_patterns(counted)]


def _of_kernels(counted: Iterable[ParameterReport]) -> list[Remark]:
    # A vector is a single row: whether it or its columns are empty is not informative.
    matrices = [each.structure for each in counted if each.structure is not None and len(each.shape) > 1]
    matrices = [each for each in matrices if each.rows and each.columns]
    if not matrices:
        return []
    lines, blocks = Remark("rows, columns", _of_lines(matrices)), Remark("16x16 blocks", _of_blocks(matrices))
    return [lines, blocks, *_of_fours(matrices)]


def _of_magnitudes(counted: Iterable[ParameterReport]) -> list[Remark]:
    """Return a remark on whether the smallest values were pruned, if masks or gaps above zero show it."""
    pruned = [each for each in counted if each.zeros and each.zeros >= _FEW * each.elements]
    masked = [each.smallest_pruned for each in pruned if each.smallest_pruned is not None]
    gaps = [each.smallest_left for each in pruned if each.smallest_left is not None]
    parts = []
    if masked:
        parts.append(f"masks drop the smallest values in {sum(masked) or 'none'} of {len(masked):,} parameters")
    if gaps:
        others = sum(each.state != "masked" for each in pruned)
        text = f"no value below {min(gaps):.3g} is left in {len(gaps):,} of {others:,} parameters with zeros"
        parts.append(f"{text} and no mask" if masked else text)
    return [Remark("magnitudes", "; ".join(parts))] if parts else []


def _of_patterns(counted: Iterable[ParameterReport]) -> list[Remark]:
    """Return a remark on the N:M patterns of zeros, the commonest first, if there are any."""
    pruned = [each for each in counted if len(each.shape) > 1 and each.zeros]
    found = Counter(pattern for each in pruned for pattern in each.patterns).most_common()
    if not found:
        return []
    (commonest, count), *others = found
    parts = [f"{commonest} in {count:,} of {len(pruned):,} matrices with zeros"]
    parts += [f"{pattern} in {number:,}" for pattern, number in others[: _PATTERNS - 1]]
    if len(found) > _PATTERNS:
        parts.append(f"{len(found) - _PATTERNS:,} more")
    return [Remark("N:M", "; ".join(parts))]


def _of_storage(sizes: StorageRows) -> str:
    if sizes.bitmask < sizes.dense:
        less = percent(sizes.dense - sizes.bitmask, sizes.dense, 0)
        return f"as bitmask and nonzero values, {size_of(sizes.dense)} become {size_of(sizes.bitmask)} (-{less})"
    least = percent(sizes.bits, sizes.dense, 1)
    return f"{size_of(sizes.dense)}; a bitmask with the nonzero values is smaller only above {least} zeros"


def _of_lines(matrices: Sequence[Structure]) -> str:
    rows, columns = sum(each.empty_rows for each in matrices), sum(each.empty_columns for each in matrices)
    if not rows and not columns:
        return "none is all zeros, so only a sparse kernel could skip the zeros"
    gone = sum(
        each.empty_rows * each.columns + each.empty_columns * each.rows - each.empty_rows * each.empty_columns
        for each in matrices
    )
    whole = sum(each.rows * each.columns for each in matrices)
    all_rows, all_columns = sum(each.rows for each in matrices), sum(each.columns for each in matrices)
    text = f"{rows:,} of {all_rows:,} rows and {columns:,} of {all_columns:,} columns are all zeros; "
    share = percent(gone, whole)
    if gone < _FEW * whole:
        return f"{text}they hold {share} of the elements, too few to matter"
    return f"{text}without them, the matrices have {share} fewer elements"


def _of_blocks(matrices: Sequence[Structure]) -> str:
    empty, blocks = sum(each.empty_blocks_16x16 for each in matrices), sum(each.blocks_16x16 for each in matrices)
    if not empty:
        return "none is all zeros, so block-sparse kernels have nothing to skip"
    text = f"{empty:,} of {blocks:,} are all zeros ({percent(empty, blocks)})"
    return f"{text}, too few to matter" if empty < _FEW * blocks else f"{text}; a block-sparse kernel can skip them"


def _of_fours(matrices: Sequence[Structure]) -> list[Remark]:
    """Return a remark on how close the groups of four are to the pattern that hardware supports, per dimension.

    Hardware sums over the inputs, which are dimension 1 of the weights of linear layers and convolutions. It is not
    known whether a stack of matrices is multiplied from the left or from the right.
    """
    grouped = [each for each in matrices if each.groups_of_4]
    groups_of_4 = sum(each.groups_of_4 or 0 for each in grouped)
    if not groups_of_4:
        return []
    halved = sum(each.groups_of_4_with_2_zeros or 0 for each in grouped)
    whole = sum(each.groups_of_4 == each.groups_of_4_with_2_zeros for each in grouped)
    known = all(each.group_dimension == 1 for each in grouped)
    dimensions = sorted({each.group_dimension for each in grouped if each.group_dimension is not None})
    along = f" along dimension{'s' * (len(dimensions) > 1)} {' and '.join(map(str, dimensions))}" if dimensions else ""
    if halved == groups_of_4:
        text = f"all groups of four{along} have two zeros"
        more = ", as 2:4 hardware needs" if known else "; whether hardware sums over it is not known"
        return [Remark("2:4", text + (more if dimensions else ""))]
    share = percent(halved, groups_of_4, 1)
    text = f"{share} of the groups of four{along} have two zeros; 2:4 hardware needs 100%"
    return [Remark("2:4", f"{text}, reached by {whole} of {len(grouped)} matrices" if whole else text)]

"""Verify a checkpoint: measure it, and compare the result with its report.

The shape, type, zeros, mask and checksum of each parameter are compared. Other tensors (statistics, optimizer state)
are not in a report, and are not compared.
"""

from collections.abc import Iterator, Mapping, Sequence

from prunecli.errors import DamagedError, ThresholdError, show
from prunecli.formats.base import Layout
from prunecli.lean import dataclass
from prunecli.surgery.data.scanned import BlockScan, CandidateCounter
from prunecli.surgery.names.pair import pair_names
from prunecli.surgery.names.parameters import Parameter, canonical, parameters_of
from prunecli.surgery.report.measure import measure_parameters
from prunecli.surgery.report.model import ParameterReport, Report
from prunecli.surgery.run.options import Run
from prunecli.surgery.run.scan import RunScanner

__all__ = ["Difference", "Verification", "check_verification", "verify_checkpoint"]


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference between a parameter and its row in the report."""

    name: str
    what: str

    def __str__(self) -> str:
        return f"{show(self.name, 80)} {self.what}"


@dataclass(frozen=True, slots=True)
class Verification:
    """The result: the numbers of compared `parameters`, `elements`, `zeros` and checksums (`summed`)."""

    parameters: int
    elements: int
    zeros: int
    summed: int
    differences: Sequence[Difference]


def verify_checkpoint(checkpoint: Layout, report: Report, run: Run | None = None) -> Verification:
    """Compare a checkpoint with a report. The masks are scanned first, then everything is counted in one pass.

    A report of `apply` or `remove` lists all ordinary parameters, so an unlisted one is a difference. A report of
    `report` may list only selected parameters. The result is valid on the leader; the other ranks only measure their
    share.

    Raises:
        DamagedError: the report lists a parameter twice, or the checkpoint is damaged.
    """
    run = run or Run()
    parameters = parameters_of(checkpoint)
    pairs = _paired(report, parameters)
    listed = {parameter.name for parameter in pairs.values()}
    others = [each for each in parameters.values() if each.matches_globs and each.name not in listed]
    not_binary = _not_binary(checkpoint, list(pairs.values()), run)
    measured = measure_parameters(checkpoint, list(pairs.values()), run)
    found = {each.name: each for each in measured.parameters}
    differences: list[Difference] = []
    summed = 0
    for recorded in report.parameters:
        parameter = pairs.get(recorded.name)
        if parameter is None:
            differences.append(Difference(recorded.name, "is missing"))
            continue
        own = found[parameter.name]
        what = next(_differences(recorded, own), None)
        if what is None and parameter.name in not_binary:
            what = "has a mask with values other than 0 and 1, which reports do not record"
        if what is not None:
            differences.append(Difference(recorded.name, what))
        summed += recorded.crc32 is not None and own.crc32 is not None
    if report.command != "report":
        differences += [Difference(each.name, "is not in the report") for each in others]
    totals = measured.totals
    return Verification(len(pairs), totals.elements, totals.zeros, summed, differences)


def check_verification(verification: Verification, *, shown: bool = False) -> None:
    """Raise an error if a verification found differences; `shown`: the user has already seen them.

    Raises:
        ThresholdError: there are differences; the message says how many parameters differ, and unless `shown`, contains
            the first.
    """
    if not verification.differences:
        return
    first, *others = verification.differences
    if shown:
        differ = f"{1 + len(others):,} parameters differ" if others else "1 parameter differs"
        raise ThresholdError(f"not what the report says: {differ}")
    more = "; 1 other parameter differs too" if len(others) == 1 else ""
    more = f"; {len(others):,} other parameters differ too" if len(others) > 1 else more
    raise ThresholdError(f"not what the report says: {first}{more}")


def _paired(report: Report, parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """Return the parameters that a report lists, by their names in the report."""
    listed = {each.name: canonical(each.name) for each in report.parameters}
    if len(listed) != len(report.parameters):
        raise DamagedError("the report lists a parameter twice; it is not a report as prunecli writes it")
    pairs = pair_names(listed, {name: each.key for name, each in parameters.items()})
    return {name: parameters[other] for name, other in pairs.items()}


def _differences(recorded: ParameterReport, own: ParameterReport) -> Iterator[str]:
    """Yield the differences between a row of the report and a measured row, the most informative first."""
    if recorded.shape != own.shape:
        yield f"has the shape {_shape(own.shape)}, and {_shape(recorded.shape)} in the report"
    if recorded.dtype != own.dtype:
        yield f"is {own.dtype}, and {recorded.dtype} in the report"
    state = "dense" if recorded.state == "baked" else recorded.state
    if state != own.state:
        yield f"is {own.state}, and {recorded.state} in the report"
    if recorded.zeros is not None and own.zeros is not None and recorded.zeros != own.zeros:
        yield f"has {own.zeros:,} zeros, and {recorded.zeros:,} in the report"
    if own.state == "masked" and recorded.mask_sha256 != own.mask_sha256:
        yield "has a mask that differs from the report's"
    if recorded.crc32 is not None and own.crc32 is not None and recorded.crc32 != own.crc32:
        yield f"has other values: their CRC-32 is {own.crc32}, and {recorded.crc32} in the report"


def _not_binary(checkpoint: Layout, parameters: Sequence[Parameter], run: Run) -> set[str]:
    """Return the names of the parameters whose masks contain values other than 0 and 1."""
    counters = {
        each.name: (each, CandidateCounter()) for each in parameters if each.mask is not None and each.countable
    }
    RunScanner(run).scan(checkpoint, [BlockScan(each, counter) for each, counter in counters.values()])
    return {name for name, (_, counter) in counters.items() if not counter.count().binary}


def _shape(shape: tuple[int, ...]) -> str:
    return show("x".join(map(str, shape)) or "scalar", 40)

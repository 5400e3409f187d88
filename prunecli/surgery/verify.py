"""Whether a checkpoint is what a report says: measured anew in one pass, and laid beside it.

The report names each parameter's shape, type, zeros, mask and a checksum of its values. Of tensors that are no
parameters (statistics, optimizer state) it says nothing, nor does this.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from prunecli.errors import DamagedError, ThresholdError, show
from prunecli.formats.base import Layout
from prunecli.surgery.data.scanned import BlockScan, CandidateCounter
from prunecli.surgery.names.pair import pair_names
from prunecli.surgery.names.parameters import Parameter, canonical, parameters_of
from prunecli.surgery.plan.scan import THIS_PROCESS
from prunecli.surgery.report.measure import measure_parameters
from prunecli.surgery.report.model import ParameterReport, Report
from prunecli.surgery.run.resume import Run

__all__ = ["Difference", "Verification", "check_verification", "verify_checkpoint"]


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not as the report says of the parameter `name`."""

    name: str
    what: str

    def __str__(self) -> str:
        return f"{show(self.name, 80)} {self.what}"


@dataclass(frozen=True, slots=True)
class Verification:
    """What was verified: `elements` and `zeros` of so many `parameters`, of which `summed` have a checksum."""

    parameters: int
    elements: int
    zeros: int
    summed: int
    differences: Sequence[Difference]


def verify_checkpoint(checkpoint: Layout, report: Report, run: Run | None = None) -> Verification:
    """Measure a checkpoint, and compare it with a report; several ranks measure a share each.

    A report of `apply` or `remove` lists all ordinary parameters, so that others are differences; one of `report` may
    be of selected ones.

    Raises:
        DamagedError: the report lists a parameter twice, or the checkpoint is damaged.
    """
    run = run or Run()
    parameters = parameters_of(checkpoint)
    pairs = _paired(report, parameters)
    listed = {parameter.name for parameter in pairs.values()}
    others = [each for each in parameters.values() if each.matches_globs and each.name not in listed]
    measured = measure_parameters(checkpoint, list(pairs.values()), run)
    found = {each.name: each for each in measured.parameters}
    differences: list[Difference] = []
    summed = 0
    for told in report.parameters:
        parameter = pairs.get(told.name)
        if parameter is None:
            differences.append(Difference(told.name, "is missing"))
            continue
        own = found[parameter.name]
        what = next(_differences(told, own), None)
        if what is None and run.ranks.is_leader and not _is_binary(checkpoint, parameter):
            what = "has a mask that holds more than 0 and 1, of which no report tells"
        if what is not None:
            differences.append(Difference(told.name, what))
        summed += told.crc32 is not None and own.crc32 is not None
    if report.command != "report":
        differences += [Difference(each.name, "is not in the report") for each in others]
    totals = measured.totals
    return Verification(len(pairs), totals.elements, totals.zeros, summed, differences)


def check_verification(verification: Verification) -> None:
    """Say what is not as the report says.

    Raises:
        ThresholdError: anything; the message names the first, and how many there are.
    """
    if not verification.differences:
        return
    first, *others = verification.differences
    more = "; 1 other parameter differs too" if len(others) == 1 else ""
    more = f"; {len(others):,} other parameters differ too" if len(others) > 1 else more
    raise ThresholdError(f"not what the report says: {first}{more}")


def _paired(report: Report, parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """Find the parameters that a report lists, by name, then by canonical name; by the report's names."""
    listed = {each.name: canonical(each.name) for each in report.parameters}
    if len(listed) != len(report.parameters):
        raise DamagedError("the report lists a parameter twice; it is not a report as prunecli writes it")
    pairs = pair_names(listed, {name: each.key for name, each in parameters.items()})
    return {name: parameters[other] for name, other in pairs.items()}


def _differences(told: ParameterReport, own: ParameterReport) -> Iterator[str]:
    """Yield what is not as the report says, what explains most first."""
    if told.shape != own.shape:
        yield f"has the shape {_shape(own.shape)}, and {_shape(told.shape)} in the report"
    if told.dtype != own.dtype:
        yield f"is {own.dtype}, and {told.dtype} in the report"
    state = "dense" if told.state == "baked" else told.state
    if state != own.state:
        yield f"is {own.state}, and {told.state} in the report"
    if told.zeros is not None and own.zeros is not None and told.zeros != own.zeros:
        yield f"has {own.zeros:,} zeros, and {told.zeros:,} in the report"
    if own.state == "masked" and told.mask_sha256 != own.mask_sha256:
        yield "has another mask than the report tells of"
    if told.crc32 is not None and own.crc32 is not None and told.crc32 != own.crc32:
        yield f"has other values: their CRC-32 is {own.crc32}, and {told.crc32} in the report"


def _is_binary(checkpoint: Layout, parameter: Parameter) -> bool:
    """Whether a parameter's mask, if it has one, holds nothing but 0 and 1."""
    if not parameter.countable:
        return True
    counter = CandidateCounter()
    if parameter.mask is not None:
        THIS_PROCESS.scan(checkpoint, [BlockScan(parameter, counter)])
    return counter.count().binary


def _shape(shape: tuple[int, ...]) -> str:
    return show("x".join(map(str, shape)) or "scalar", 40)

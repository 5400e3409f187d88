"""The method of each selected parameter, and the scores that it reads."""

from collections.abc import Mapping, Sequence

from prunecli.core.methods import make_method
from prunecli.core.methods.base import Method, Target
from prunecli.errors import UsageError, show
from prunecli.formats.base import Layout, TensorInfo
from prunecli.lean import dataclass
from prunecli.surgery.data.kept import Given, GivenScores, ScoresRef
from prunecli.surgery.names.pair import pair_names
from prunecli.surgery.names.parameters import Parameter, parameters_of
from prunecli.surgery.plan.request import PruneGroup
from prunecli.terms import SCORES

__all__ = ["ParameterMethod", "methods_of", "scores_in"]


@dataclass(frozen=True, slots=True)
class ParameterMethod:
    """The method that prunes a parameter, and the scores that it reads. `where` is the place of its settings, or ""."""

    method: Method
    scores: ScoresRef | None = None
    where: str = ""

    def check(self, target: Target) -> None:
        """Refuse a target as `Method.check` does."""
        try:
            self.method.check(target)
        except UsageError as error:
            raise error.inside(self.where) from None


def methods_of(
    selected: Sequence[Parameter], groups: Mapping[str, PruneGroup], keys: Mapping[str, str], given: Given
) -> dict[str, ParameterMethod]:
    """Return the method of each selected parameter by name. `groups` are by name, `keys` are equal if tied.

    Tied parameters have the scores of the first one of them that has some.

    Raises:
        UsageError: a method does not take its settings, or scores are missing or have another shape.
    """
    distinct = {id(group): group for group in groups.values()}
    methods = {
        number: ParameterMethod(make_method(group.method), where=group.where) for number, group in distinct.items()
    }
    found: dict[str, ParameterMethod] = {}
    reading: dict[str, list[Parameter]] = {}
    for each in selected:
        group = groups[each.name]
        found[each.name] = own = methods[id(group)]
        if group.method.scores is not None and own.method.reads_scores:
            reading.setdefault(group.method.scores, []).append(each)
    for place, parameters in reading.items():
        refs = _scores(parameters, keys, place, given.scores[place])
        for each in parameters:
            own = found[each.name]
            found[each.name] = ParameterMethod(own.method, refs[keys[each.name]], own.where)
    return found


def scores_in(layout: Layout, label: str = "") -> GivenScores:
    """Return the scores in a checkpoint: its tensors, under the names of parameters."""
    found = parameters_of(layout)
    tensors = {name: each.weight for name, each in found.items()}
    return GivenScores(layout, tensors, {name: each.key for name, each in found.items()}, show(label, 80))


def _scores(
    parameters: Sequence[Parameter], keys: Mapping[str, str], place: str, file: GivenScores
) -> dict[str, ScoresRef]:
    """Return the scores of parameters by their keys."""
    names = pair_names({each.name: each.key for each in parameters}, file.keys)
    refs: dict[str, ScoresRef] = {}
    for each in parameters:
        if (name := names.get(each.name)) is not None:
            tensor = file.tensors[name]
            _check_scores(each, tensor, file)
            refs.setdefault(keys[each.name], ScoresRef(place, name, tensor.dtype.name, tensor.dtype.itemsize))
    missing = next((each.name for each in parameters if keys[each.name] not in refs), None)
    if missing is not None:
        raise UsageError(
            f"{SCORES}{file.label and f' {file.label}'} has no scores of {show(missing)}, which is selected"
        )
    return refs


def _check_scores(parameter: Parameter, tensor: TensorInfo, file: GivenScores) -> None:
    """Refuse scores of another shape, or whose elements have no order."""
    inside = file.label and f" in {file.label}"
    if tensor.shape != parameter.weight.shape:
        raise UsageError(
            f"{show(parameter.name)} is {list(parameter.weight.shape)}, and its scores{inside} are {list(tensor.shape)}"
        )
    if not tensor.dtype.prunable or tensor.dtype.kind not in ("float", "int") or not tensor.view.nested:
        raise UsageError(
            f"the scores of {show(parameter.name)}{inside} are {tensor.dtype.name}; scores are real numbers"
        )

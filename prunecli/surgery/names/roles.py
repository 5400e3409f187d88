"""What each tensor of a checkpoint is: one role each, from structure and siblings first, from names last.

`RULES` is a table: the first rule whose evidence holds gives the role, and what no rule claims is a parameter. Patterns
take parameters only. Evidence is what a header says (names, shapes, element types, nesting), so a hostile file can at
most give its own tensors wrong roles.
"""

import fnmatch
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from prunecli.formats.base import TensorInfo

__all__ = ["RULES", "Role", "Rule", "Subject", "roles_of"]


class Role(StrEnum):
    """What a tensor is, in the words of notes and reports."""

    PARAMETER = "parameter"
    STATISTIC = "statistic"
    OPTIMIZER = "optimizer state"
    MASK = "mask"
    DERIVED = "derived copy"
    AUXILIARY = "auxiliary vector"
    QUANTISER = "quantiser state"
    SETTING = "setting"
    AVERAGE = "average"
    OTHER = "other network"
    PACKED = "packed weight"
    INTEGER = "integer tensor"
    OPAQUE = "tensor without plain elements"


@dataclass(frozen=True, slots=True)
class Subject:
    """A tensor and what surrounds it.

    `siblings` are the tensors of the same module by the last component of their names, this one among them;
    `below` are those whose names continue this one's (`weight.absmax` below `weight`), by the rest.
    """

    tensor: TensorInfo
    module: str
    last: str
    siblings: Mapping[str, TensorInfo]
    below: Mapping[str, TensorInfo]


@dataclass(frozen=True, slots=True)
class Rule:
    """A row of the table: `holds` looks for the evidence that gives a tensor the role.

    `evidence` says in words what is looked for; `writers` names the libraries that write it, with their versions.
    """

    role: Role
    evidence: str
    writers: str
    holds: Callable[[Subject], bool]


_STATISTIC = re.compile("|".join(map(fnmatch.translate, ("running_*", "num_batches_tracked"))))
_QUANTISER = re.compile("|".join(map(fnmatch.translate, (
    "scale", "scales", "*_scale", "*_scales", "*_scale_inv", "zero_point", "zero_points", "*_zero_point",
    "*_zero_points", "qzeros", "g_idx",
))))  # fmt: skip


RULES: tuple[Rule, ...] = (
    Rule(
        Role.OPAQUE, "an element type without elements of its own, or a tensor that torch rebuilds otherwise",
        "torch 2.13 (sparse, quantised, nested, DTensor, subclasses), safetensors 0.8 (F4, F6, F8_E8M0)",
        lambda subject: subject.tensor.dtype.kind == "opaque",
    ),
    Rule(
        Role.OPTIMIZER, "lies in a dict that has both `state` and `param_groups`, at any depth",
        "torch.optim", lambda subject: subject.tensor.within == "optimizer state",
    ),
    Rule(
        Role.AVERAGE, "lies under a key that names an average, beside the networks",
        "timm, ultralytics, BasicSR", lambda subject: subject.tensor.within == "average",
    ),
    Rule(
        Role.STATISTIC, "a buffer, where the file says so", "torch.nn.Module, TorchScript, torch.export",
        lambda subject: subject.tensor.buffer,
    ),
    Rule(
        Role.STATISTIC, "`running_*`, `num_batches_tracked`", "torch.nn batch and instance norms",
        lambda subject: _STATISTIC.match(subject.last) is not None,
    ),
    Rule(
        Role.QUANTISER, "a scale or zero point by its name", "torch.ao, GPTQ, AWQ, compressed-tensors",
        lambda subject: _QUANTISER.match(subject.last) is not None,
    ),
    Rule(
        Role.INTEGER, "whole numbers or truth values", "position ids, token types, attention masks",
        lambda subject: subject.tensor.dtype.kind in ("int", "bool"),
    ),
)  # fmt: skip
"""Every rule, in order of precedence."""


def roles_of(tensors: Mapping[str, TensorInfo]) -> dict[str, Role]:
    """Return the role of each tensor by its name, from the first rule that holds; `Role.PARAMETER` if none does."""
    modules: dict[str, dict[str, TensorInfo]] = {}
    for name, tensor in tensors.items():
        module, _, last = name.rpartition(".")
        modules.setdefault(module, {})[last] = tensor
    nothing: Mapping[str, TensorInfo] = {}
    found = {}
    for name, tensor in tensors.items():
        module, _, last = name.rpartition(".")
        subject = Subject(tensor, module, last, modules[module], modules.get(name, nothing))
        found[name] = next((rule.role for rule in RULES if rule.holds(subject)), Role.PARAMETER)
    return found

"""Prune several parameters together by one amount, as `torch.nn.utils.prune.global_unstructured`."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune
from torch.nn.utils.prune import BasePruningMethod

from prunecli.errors import UsageError, messages_for, show
from prunecli.modules.chosen import Candidates, keep_flags
from prunecli.modules.hooks import attach, untouched_on_failure
from prunecli.modules.masks import mask_after, ones_like
from prunecli.modules.methods import CustomFromMask
from prunecli.modules.pruning_method import SeededMethod, check_shape, check_tensors, unpruned_parameter
from prunecli.terms import Interface

__all__ = ["global_unstructured"]


@messages_for(Interface.MODULES)
def global_unstructured(
    parameters: Iterable[tuple[nn.Module, str]],
    pruning_method: type[BasePruningMethod],
    importance_scores: Mapping[tuple[nn.Module, str], Tensor] | None = None,
    *,
    keys: Sequence[str] | None = None,
    **settings: Any,
) -> None:
    """Prune parameters together, in place, by one amount over all elements that are left.

    Nothing is concatenated: besides the masks, memory is needed for a flag per element. If anything fails, the modules
    are unchanged.

    Args:
        parameters: pairs of a module and the name of one of its parameters.
        pruning_method: `prunecli.L1Unstructured` or `prunecli.RandomUnstructured`. Another method is passed to torch's
            function, with the settings.
        importance_scores: tensors to compare instead of the parameters, of their shapes, by the same pairs.
        keys: the keys of the random streams, one for each parameter. With the dotted names in the model, the masks are
            those of `prunecli apply --global`. The default is the number of the parameter and its name.
        settings: `amount` and `seed`, as for the class.

    Raises:
        TypeError: the method is not for elements, or `parameters` are not pairs.
        UsageError: a parameter is not there or occurs twice, or the amount is more than is left.
    """
    pairs = _pairs(parameters)
    if not issubclass(pruning_method, SeededMethod) or pruning_method.PRUNING_TYPE != "unstructured":
        torch_prune.global_unstructured(pairs, pruning_method, importance_scores, **settings)
        return
    chooser = pruning_method(**settings)
    names = _keys(pairs, keys)
    scores = importance_scores or {}
    found = {key: _candidates(*pair, scores.get(pair), key) for key, pair in zip(names, pairs, strict=True)}
    kept = keep_flags(chooser.file_method(), found, chooser.amount, chooser.seed, everywhere=True)
    with contextlib.ExitStack() as stack:
        for each in {id(module): module for module, _ in pairs}.values():
            stack.enter_context(untouched_on_failure(each))
        for key, (module, name) in zip(names, pairs, strict=True):
            mask = mask_after(found[key].mask, kept.pop(key))
            hook = CustomFromMask(mask)
            hook._tensor_name = name
            attach(module, hook, mask)


def _pairs(parameters: Iterable[tuple[nn.Module, str]]) -> list[tuple[nn.Module, str]]:
    pairs = list(parameters)
    if not all(isinstance(each, tuple | list) and len(each) == 2 for each in pairs):
        raise TypeError("parameters are pairs of a module and the name of its parameter")
    found = [(module, name) for module, name in pairs]
    for number, (module, name) in enumerate(found):
        if (module, name) in found[:number]:
            raise UsageError(f"{show(name)} of {type(module).__name__} occurs twice")
    return found


def _keys(pairs: Sequence[tuple[nn.Module, str]], keys: Sequence[str] | None) -> list[str]:
    found = [f"{number}.{name}" for number, (_, name) in enumerate(pairs)] if keys is None else list(keys)
    if len(found) != len(pairs) or len(set(found)) != len(found):
        raise UsageError(f"{len(set(found)):,} different keys for {len(pairs):,} parameters; give one for each")
    return found


def _candidates(module: nn.Module, name: str, scores: Tensor | None, key: str) -> Candidates:
    parameter, before = unpruned_parameter(module, name)
    check_tensors(parameter)
    values = parameter.detach() if scores is None else scores
    check_shape("importance_scores", values, parameter)
    return Candidates(key, values, ones_like(parameter) if before is None else before)

"""What the keys of a checkpoint indicate: optimizer state, an average, bookkeeping, or nothing.

Keys are compared word by word (`optimizerG` has two words), so that `optimized_model`, `grad_net`, `averager` and
`schema_encoder` count as networks.
"""

import functools
import re

__all__ = ["AVERAGE", "ENGINES", "MASTER", "MASTERS", "OPTIMIZER", "PART", "is_bookkeeping", "kind_of_key"]

OPTIMIZER, AVERAGE, PART = "optimizer state", "average", "tensor without plain elements"
"""The values of `TensorInfo.within`. A `PART` is a component of a sparse tensor, a nested one, or a subclass."""

MASTER = "fp32 master"
"""The statistic for a parameter's copy in full precision, from which the next step recomputes the parameter."""

MASTERS = frozenset(
    {
        "fp32_from_fp16_params",
        "single_partition_of_fp32_groups",
        "fp32_flat_groups",
        "fp32_groups_flat",
    }
)
"""Keys under which the optimizers of Megatron and DeepSpeed keep weights in full precision."""

ENGINES = MASTERS | {"base_optimizer_state"}
"""Keys that identify those optimizers."""

_LONGEST = 256  # characters of a key that are examined
_TOKEN = re.compile(r"[^\W\d_]+")
_CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_TRAINING = frozenset(
    {
        "optim",
        "optims",
        "optimizer",
        "optimizers",
        "optimiser",
        "optimisers",
        "sched",
        "scheds",
        "scheduler",
        "schedulers",
        "scaler",
        "scalers",
        "gradscaler",
        "rng",
    }
)
_GRADIENTS = frozenset({"grad", "grads", "gradients"})  # as the last word only: `grad_net` is a network
_AVERAGES = frozenset({"ema", "emas", "swa", "average", "averages", "averaged", "averaging", "polyak"})
_SHORT_AVERAGES = frozenset({"avg", "shadow"})  # `avg_pool` and `shadow_net` are modules
_WHOLES = frozenset({"model", "models", "params", "parameters", "weights", "state", "dict"})
_BOOKKEEPING = frozenset(
    {
        "loss",
        "losses",
        "loops",
        "callbacks",
        "hooks",
        "meter",
        "meters",
        "metrics",
        "message_hub",
        "dataloader",
    }
)


def is_bookkeeping(key: str) -> bool:
    """Whether a key names a trainer's records, which may contain tensors but are not a network."""
    return key.lower() in _BOOKKEEPING


def kind_of_key(key: str) -> str:
    """Return what a key names: `OPTIMIZER` (also schedulers, scalers, gradients, random state), `AVERAGE`, or ""."""
    return _kind(key[:_LONGEST])


@functools.lru_cache(maxsize=4096)
def _kind(key: str) -> str:
    words = _words(key)
    if not words:
        return ""
    if key in ENGINES or not _TRAINING.isdisjoint(words) or words[-1] in _GRADIENTS:
        return OPTIMIZER
    if not _AVERAGES.isdisjoint(words):
        return AVERAGE
    short = next((place for place, word in enumerate(words) if word in _SHORT_AVERAGES), None)
    if short is not None and (short == len(words) - 1 or words[short + 1] in _WHOLES):
        return AVERAGE
    return ""


def _words(key: str) -> list[str]:
    """Return the words of a key (`optimizerG`, `model_ema`, `EMACallback`) in lower case."""
    tokens = _TOKEN.findall(key)
    return [word.lower() for token in tokens for word in (_CAMEL.findall(token) if token.isascii() else [token])]

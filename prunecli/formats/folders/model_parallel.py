"""Files with slices of tensors, one for each rank of a parallel run, that do not record which slices they contain.

They are recognised by name, if files or folders of other ranks lie beside them, or by DTensors in the pickle.
"""

import re
from pathlib import Path

from prunecli.errors import show
from prunecli.formats.base import Layout
from prunecli.formats.folders.files import SHARDING_INFO, entry_names
from prunecli.formats.io.locations import Location
from prunecli.terms import SEED

__all__ = ["slices_note"]

_FILES = re.compile(
    r"consolidated\.(?P<llama>\d+)\.(?:pth|pt|safetensors)"  # Meta's Llama, Mistral
    r"|.*mp_rank_(?P<deepspeed>\d+)_model_states\.pt"  # DeepSpeed
    r"|model-rank-(?P<vllm>\d+)-part-\d+\.safetensors"  # vLLM, SGLang: sharded_state
    r"|rank(?P<tensorrt>\d+)\.safetensors"  # TensorRT-LLM
    r"|.*-model_part-(?P<metaseq>\d+)\.pt"  # metaseq: OPT
    r"|model_world_size_\d+_rank_(?P<verl>\d+)\.pt"  # verl and other trainers with FSDP
)
"""Names of files; the one group that matches is the number of the rank."""

_FOLDERS = re.compile(r"mp_rank_(?P<megatron>\d+)(?:_\d+)*|tp_rank_(?P<nemo>\d+)(?:_pp_rank_\d+)?")
"""Names of folders with the files of one rank: Megatron-LM, NeMo."""

_DTENSOR = "DTensor"
_SEEN = 100_000
_REMEDY = f"merge or convert them into one checkpoint first, or give each file a {SEED} of its own"


def slices_note(location: Location | None, checkpoint: Layout) -> str:
    """Return a note that a file contains slices, with the remedy; "" if nothing indicates slices."""
    if isinstance(location, Path) and SHARDING_INFO in (checkpoint.metadata or {}) and location.is_file():
        return (
            f"{show(location.name, 60)} is one of several files of slices, and one seed gives each slice the same "
            "mask; name their folder, which is pruned as whole tensors"
        )
    if any(each.dtype.kind == "opaque" and _DTENSOR in each.dtype.name for each in checkpoint.tensors.values()):
        return (
            "there are DTensors in it, each a slice that one rank held, and those are not pruned; merge the files of "
            "all ranks, or save with torch.distributed.checkpoint, whose folders are pruned as whole tensors"
        )
    count = _ranks(location) if isinstance(location, Path) else 0
    if count < 2 or not isinstance(location, Path):
        return ""
    return (
        f"{show(location.name, 60)} holds slices of tensors: it is one of {count} ranks, and one seed gives each slice "
        f"the same mask; {_REMEDY}"
    )


def _ranks(location: Path) -> int:
    """Return the number of ranks with a file like this one beside it; 0 if its name is not that of a rank's file."""
    place = location.absolute()
    for each, names in ((place, _FILES), (place.parent, _FOLDERS)):
        own = names.fullmatch(each.name)
        if own is not None:
            return len(
                {found for name in entry_names(each.parent, _SEEN) if (found := _rank(name, names, own)) is not None}
            )
    return 0


def _rank(name: str, names: re.Pattern[str], own: re.Match[str]) -> int | None:
    """Return the rank in a name; None if the name differs from `own` in anything before the number of the rank."""
    found = names.fullmatch(name)
    if found is None or found.lastgroup != own.lastgroup or found.lastgroup is None:
        return None
    group = found.lastgroup
    return int(found[group]) if name[: found.start(group)] == own.string[: own.start(group)] else None

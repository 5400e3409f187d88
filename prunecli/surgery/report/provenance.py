"""Stamps: how masks were made, recorded in a safetensors file's `__metadata__`.

The entry `prunecli` is a JSON list with one object for each run with `--stamp`, the latest last.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from prunecli import __version__
from prunecli.errors import UnsupportedError
from prunecli.formats.base import Layout
from prunecli.surgery.plan.model import Plan
from prunecli.surgery.plan.request import request_as_dict
from prunecli.terms import STAMP

__all__ = ["ENTRY", "STAMP_SCHEMA", "STREAM", "stamped", "stamps_of", "without_stamps"]

ENTRY = "prunecli"
STREAM = 1
"""The version of the random stream that masks are drawn from."""

STAMP_SCHEMA = "prunecli.stamp/1"

_DEEPEST = 8
"""The deepest permitted nesting of lists and objects in a stamp; prunecli writes four levels."""


def stamped(checkpoint: Layout, plan: Plan) -> Plan:
    """Return the plan with its own stamp after the stamps that the checkpoint already has.

    Raises:
        UnsupportedError: the format has no metadata, or the metadata have an entry `prunecli` that is not a list of
            stamps.
    """
    if checkpoint.metadata is None:
        raise UnsupportedError(
            f"{checkpoint.source.label} is not a safetensors file and cannot contain a stamp; leave {STAMP} out, the "
            "report records the same"
        )
    earlier = stamps_of(checkpoint)
    if not earlier and ENTRY in checkpoint.metadata:
        raise UnsupportedError(
            f"{checkpoint.source.label} has an entry '{ENTRY}' in its metadata that is not a list of stamps; leave "
            f"{STAMP} out"
        )
    return replace(plan, metadata={ENTRY: _as_text([*earlier, _stamp(plan)])})


def stamps_of(checkpoint: Layout) -> Sequence[Mapping[str, Any]]:
    """Return the stamps in a checkpoint, oldest first; empty if the entry is not a list of objects."""
    try:
        found = json.loads((checkpoint.metadata or {}).get(ENTRY, "[]"), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return ()
    if not isinstance(found, list) or not all(isinstance(each, dict) and _is_plain(each, _DEEPEST) for each in found):
        return ()
    return found


def without_stamps(checkpoint: Layout, plan: Plan) -> Plan:
    """Return the plan of a restore without the stamps of the masks, if the plan drops all masks.

    The stamps of baked prunes stay.
    """
    stamps = stamps_of(checkpoint)
    kept = [each for each in stamps if each.get("remove") is not False]
    if len(kept) == len(stamps) or any(
        each.mask and each.name not in plan.planned for each in plan.parameters.values()
    ):
        return plan
    return replace(plan, metadata={ENTRY: _as_text(kept) if kept else None})


def _as_text(stamps: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps(stamps, separators=(",", ":"))


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _is_plain(value: Any, depth: int) -> bool:
    """Whether a value is nested no deeper than `depth` levels."""
    if not isinstance(value, dict | list):
        return True
    below = value.values() if isinstance(value, dict) else value
    return depth > 0 and all(_is_plain(each, depth - 1) for each in below)


def _stamp(plan: Plan) -> dict[str, Any]:
    if plan.prune is None:
        raise ValueError("only a prune has a stamp")
    drawn = {each.key: each.pruned_now for each in plan.planned.values()}  # a tied group has one key
    return {
        "schema": STAMP_SCHEMA,
        "version": __version__,
        "stream": STREAM,
        "method": plan.prune.method_name,
        **request_as_dict(plan.prune),
        "pruned_now": sum(drawn.values()),
    }

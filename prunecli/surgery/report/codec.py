"""A report as JSON, `prunecli.report/1`: what `apply` and `remove` write beside their output."""

import json
import platform
from dataclasses import asdict
from typing import Any

import numpy as np

from prunecli import __version__
from prunecli.core.structure.model import Structure
from prunecli.formats.base import Layout
from prunecli.formats.outputs.output import Output, write_output
from prunecli.surgery.data.counts import Counts
from prunecli.surgery.plan.plan import Plan
from prunecli.surgery.plan.request import request_as_dict
from prunecli.surgery.report.measure import CheckpointRef, ParameterReport, Report, make_report
from prunecli.surgery.report.provenance import STREAM
from prunecli.surgery.roles.table import Role

__all__ = ["SCHEMA", "as_dict", "render_json", "write_report"]

SCHEMA = "prunecli.report/1"


def write_report(checkpoint: Layout, plan: Plan, counts: Counts, place: CheckpointRef, target: Output | None) -> Report:
    """Put a finished run's report together, and write it if it has a place to go.

    Raises:
        OutputError: it cannot be written.
    """
    report = make_report(checkpoint, plan, counts, place)
    if target is not None:
        write_output(target, render_json(report))
    return report


def render_json(report: Report) -> bytes:
    """Render a report as JSON: ASCII only, so that no name in it can do anything to a terminal."""
    return (json.dumps(as_dict(report), indent=2, ensure_ascii=True) + "\n").encode("ascii")


def as_dict(report: Report) -> dict[str, Any]:
    """Return a report as plain dicts and lists, by the published names."""
    totals = report.totals
    return {
        "schema": SCHEMA,
        "tool": {
            "name": "prunecli",
            "version": __version__,
            "stream": STREAM,
            "python": platform.python_version(),
            "numpy": np.__version__,
        },
        "command": report.command,
        "source": asdict(report.source),
        "output": None if report.output is None else asdict(report.output),
        "key": report.key,
        "method": report.prune.method if report.prune else None,
        **({"seed": None, "groups": []} if report.prune is None else request_as_dict(report.prune)),
        "totals": {
            "parameters": totals.parameters,
            "elements": totals.elements,
            "zeros": totals.zeros,
            "sparsity": totals.sparsity,
            "pruned_now": totals.pruned_now,
        },
        "parameters": [_parameter_dict(each) for each in report.parameters],
        "carried": list(report.carried),
        "stamps": [dict(stamp) for stamp in report.stamps],
        "left_out": [
            {
                "role": each.role.value,
                "key": each.key,
                "tensors": each.tensors,
                "elements": each.elements,
                "bytes": each.bytes,
            }
            for each in report.left_out
        ],
    }


def _parameter_dict(each: ParameterReport) -> dict[str, Any]:
    return {
        "name": each.name,
        "module": each.module,
        "shape": list(each.shape),
        "dtype": each.dtype,
        "elements": each.elements,
        "zeros_before": each.zeros_before,
        "zeros": each.zeros,
        "sparsity": each.sparsity,
        "state": each.state,
        "pruned_now": each.pruned_now,
        "tied_to": list(each.tied_to),
        "key": each.key,
        "candidates": each.candidates,
        "mask_sha256": each.mask_sha256,
        "crc32": each.crc32,
        "structure": None if each.structure is None else _structure(each.structure),
        "copies": list(each.copies),
        **({"choice": dict(each.choice)} if each.choice else {}),
        **({"zeroed": list(each.zeroed)} if each.zeroed else {}),
        **({} if each.role is Role.PARAMETER else {"role": each.role.value}),
        **({"zero_norms": each.zero_norms} if each.zero_norms else {}),
    }


def _structure(found: Structure) -> dict[str, Any]:
    return {
        "rows": found.rows,
        "empty_rows": found.empty_rows,
        "columns": found.columns,
        "empty_columns": found.empty_columns,
        "blocks_16x16": found.blocks,
        "empty_blocks_16x16": found.empty_blocks,
        "groups_of_4": found.groups_of_4,
        "groups_of_4_with_2_zeros": found.groups_of_4_with_2_zeros,
        "groups_of_8": found.eights,
        "groups_of_8_with_4_zeros": found.halved_eights,
        "group_dimension": found.grouped_by,
    }

"""Measure the time to render a synthetic report on many tensors in each form, and the size of the result.

Counting the zeros is not part of this; see benchmarks/main_job.py.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice

import numpy as np
from trillion import mixture_of_experts

from prunecli.core.structure.model import Density, Structure
from prunecli.reporting.format import rendered
from prunecli.reporting.options import ReportFormat
from prunecli.reporting.plot import draw
from prunecli.reporting.terminal import PAGE, Screen
from prunecli.surgery.report.model import CheckpointRef, ParameterReport, Report

LAYERS = 80
PICTURED, SIDE = 4096, 32
DTYPES = {"BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F32": "float32"}


def main() -> None:
    """Print a line for each form."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tensors", type=int, default=90_000, metavar="N", help="tensors of the report")
    options = parser.parse_args()
    report = Report("report", CheckpointRef("model", "folder", 10**12), None, list(parameters(options.tensors)))
    print(f"{len(report.parameters):,} tensors")
    for name, screen in (("terminal", Screen(100, 40, live=True, colour=True)), ("pipe", PAGE)):
        _measure(name, partial(rendered, report, ReportFormat.TABLE, screen))
    for form in (ReportFormat.JSON, ReportFormat.CSV, ReportFormat.MARKDOWN, ReportFormat.HTML):
        _measure(form, partial(rendered, report, form))
    for kind in ("png", "svg", "pdf"):
        _measure(kind, partial(draw, report, kind))


def parameters(count: int) -> Iterator[ParameterReport]:
    """Yield synthetic parameters of a mixture of experts, each half zero, with as many pictures as a report has."""
    random = np.random.default_rng(0)
    for number, tensor in enumerate(islice(mixture_of_experts(LAYERS), count)):
        rows = tensor.shape[0] if len(tensor.shape) > 1 else 1
        columns = tensor.elements // rows
        picture = Density(min(rows, SIDE), SIDE, random.integers(120, 136, min(rows, SIDE) * SIDE, np.uint8).tobytes())
        fours, eights = columns // 4, columns // 8
        structure = Structure(
            rows,
            0,
            columns,
            0,
            -(-rows // 16) * -(-columns // 16),
            0,
            rows * fours,
            rows * fours * 11 // 16,
            rows * eights,
            rows * eights * 163 // 256,
            density=picture if number < PICTURED and columns >= SIDE else None,
        )
        half = tensor.elements // 2
        yield ParameterReport(
            name=tensor.name,
            module=tensor.name.rpartition(".")[0],
            shape=tensor.shape,
            dtype=DTYPES[tensor.code],
            elements=tensor.elements,
            zeros_before=half,
            zeros=half,
            state="dense",
            pruned_now=0,
            tied_to=(),
            key=tensor.name,
            candidates=None,
            mask_sha256=None,
            crc32="00000000",
            structure=structure,
            copies=(),
        )


def _measure(name: str, render: Callable[[], bytes]) -> None:
    before = time.process_time()
    size = len(render())
    print(f"{name:10} {time.process_time() - before:6.2f} s of a processor {size / 1e6:8.2f} MB", flush=True)


if __name__ == "__main__":
    main()

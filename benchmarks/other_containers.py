"""Compare legacy files and TorchScript programs with the torch zip of the same tensors; the goal is the same cost.

Results are checked first, and must equal those of the zip; then both sides run in turns. See README.md beside this
file.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from bench_files import Source, check_bake, check_equal, check_masks, check_zip, write_source
from bench_measure import Command, Goal, Row, clear, interleave, run_command
from bench_run import BAKE, MASKS, PRUNECLI, Bench, apply, make, run_benchmark

LIKE_THE_ZIP = Goal(1.1)


def main() -> None:
    """Measure, print the table, and write the JSON."""
    run_benchmark(__doc__ or "", _measure)


def _measure(bench: Bench) -> Iterator[Row]:
    for kind in ("torch legacy", "TorchScript"):
        works: list[tuple[str, Callable[[Bench, Source, Source, str], Row]]] = [
            (f"apply --bake, {kind}", _bake_row),
            (f"report, {kind}", _report_row),
        ]
        if kind == "torch legacy":
            works.insert(1, (f"apply masks, {kind}", _masks_row))
        wanted = [(name, work) for name, work in works if bench.only in name]
        if wanted:
            zipped, other = (write_source(bench.folder, each, "bf16", bench.size) for each in ("torch zip", kind))
            for name, work in wanted:
                yield work(bench, zipped, other, name)
            zipped.path.unlink()
            other.path.unlink()


def _bake_row(bench: Bench, zipped: Source, other: Source, name: str) -> Row:
    output = make(bench, other, "bake", BAKE)
    check_bake(other.path, output)
    check_zip(output)
    check_equal(output, make(bench, zipped, "zip", BAKE))
    return _side_by_side(bench, zipped, other, name, partial(apply, bench, how=BAKE))


def _masks_row(bench: Bench, zipped: Source, other: Source, name: str) -> Row:
    masks = make(bench, other, "masks", MASKS)
    check_masks(other.path, masks, make(bench, other, "bake", BAKE))
    check_equal(masks, make(bench, zipped, "zip", MASKS))
    return _side_by_side(bench, zipped, other, name, partial(apply, bench, how=MASKS))


def _report_row(bench: Bench, zipped: Source, other: Source, name: str) -> Row:
    check_equal(other.path, zipped.path)
    return _side_by_side(bench, zipped, other, name, lambda source: [PRUNECLI, "report", str(source.path)])


def _side_by_side(
    bench: Bench, zipped: Source, other: Source, name: str, command: Callable[[Source], Sequence[str]]
) -> Row:
    clear(bench.out)
    sides = (partial(run_command, Command(command(source), bench.out, source.path)) for source in (other, zipped))
    return Row(name, "torch zip", "s", *interleave(bench.rounds, *sides), LIKE_THE_ZIP)


if __name__ == "__main__":
    main()

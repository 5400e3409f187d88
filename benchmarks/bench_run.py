"""Code shared by the benchmark scripts: options, the working folder, and the output of rows."""

import argparse
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench_files import Source
from bench_measure import Command, Cost, Goal, Row, clear, machine, table, to_json

__all__ = [
    "BAKE",
    "MASKS",
    "PRUNECLI",
    "Bench",
    "apply",
    "apply_folder",
    "copy_file",
    "copy_folder",
    "cost_row",
    "cost_rows",
    "make",
    "run_benchmark",
]

Costs = tuple[Sequence[Cost], Sequence[Cost]]

PRUNECLI = str(Path(sys.executable).with_name("prunecli"))
MASKS = ("-p", "*.weight", "--amount", "0.5", "--seed", "7")
BAKE = (*MASKS, "--bake")


@dataclass(frozen=True)
class Bench:
    """The values of the options, and the working folder; `out` is emptied after every measurement."""

    folder: Path
    size: int
    rounds: int
    only: str

    @property
    def out(self) -> Path:
        """The folder into which commands write."""
        return self.folder / "out"


def run_benchmark(description: str, measure: Callable[[Bench], Iterator[Row]]) -> None:
    """Read the options, measure, print the table, and write the JSON."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the folder is removed after a SIGTERM, too
    options = _options(description)
    if options.folder is not None:
        options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="prunecli-bench-", dir=options.folder or Path.cwd()) as folder:
        bench = Bench(Path(folder), options.size, options.rounds, options.only)
        clear(bench.out)
        about = machine(bench.folder) | {"size": f"{bench.size} MiB", "rounds": str(bench.rounds)}
        rows: list[Row] = []
        try:
            for row in measure(bench):
                print(f"{row.what}: {' '.join(row.cells()[2:])}", file=sys.stderr, flush=True)
                rows.append(row)
        finally:  # a failed check late in a long run must not lose earlier measurements
            _publish(about, rows, options.json)


def _publish(about: dict[str, str], rows: Sequence[Row], path: Path | None) -> None:
    print("\n".join(f"{name}: {value}" for name, value in about.items()), end="\n\n")
    print(table(rows))
    if path is not None:
        path.write_text(to_json(about, rows), encoding="utf-8")


def _options(description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--size", type=int, default=1024, metavar="MB", help="size of the files; memory: also 4 times")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="measurements of each side")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="scratch folder goes below; default: this one")
    parser.add_argument("--only", default="", metavar="SUBSTRING", help="only rows whose name has it")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write every measurement there")
    return parser.parse_args()


def apply(bench: Bench, source: Source, how: Sequence[str], stem: str = "ours") -> list[str]:
    """Return the command that prunes a source."""
    output = bench.out / f"{stem}{source.path.suffix}"
    return [PRUNECLI, "apply", str(source.path), *how, "-o", str(output)]


def apply_folder(bench: Bench, folder: Path, *more: str) -> list[str]:
    """Return the command that bakes a folder of shards."""
    return [PRUNECLI, "apply", str(folder), *BAKE, "-o", str(bench.out / "ours"), "--no-report", "-q", *more]


def copy_file(bench: Bench, path: Path) -> Command:
    """Return the copy command, which syncs so that the copy is as safe on disk as our output."""
    argv = ["sh", "-c", 'cp "$1" "$2" && sync "$2"', "sh", str(path), str(bench.out / "copy")]
    return Command(argv, bench.out, path)


def copy_folder(bench: Bench, folder: Path) -> Command:
    """Return the command that copies a folder, and syncs the files of the copy."""
    argv = ["sh", "-c", 'cp -r "$1" "$2" && sync "$2"/*', "sh", str(folder), str(bench.out / "copy")]
    return Command(argv, bench.out, folder)


def cost_row(name: str, against: str, sides: Costs, what: str, goal: Goal) -> Row:
    """Return a row of the costs of both sides: `what` is "processor" or "wall"."""
    ours, theirs = ([getattr(cost, what) for cost in side] for side in sides)
    return Row(f"{name}: {what} time", against, "s", ours, theirs, goal)


def cost_rows(name: str, against: str, sides: Costs, goal: Goal) -> list[Row]:
    """Return a row of processor time and one of wall time, with the same goal."""
    return [cost_row(name, against, sides, what, goal) for what in ("processor", "wall")]


def make(bench: Bench, source: Source, stem: str, how: Sequence[str]) -> Path:
    """Write an output for a check, and return its path."""
    argv = apply(bench, source, how, stem)
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return Path(argv[-1])

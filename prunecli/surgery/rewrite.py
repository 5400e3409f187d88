"""Carry out a plan: write the new checkpoint, and report the counts made on the way."""

from collections.abc import Iterator, Sequence

from prunecli.errors import PrunecliError, UsageError, show
from prunecli.formats.base import AnyCheckpoint, Edit, Layout, PassthroughFile, Patch, TensorInfo
from prunecli.formats.io.locations import lies_in, permissions
from prunecli.formats.io.memory import return_freed
from prunecli.formats.io.pieces import Literal
from prunecli.formats.opening import check_unchanged
from prunecli.formats.outputs.base import Output, OutputContents, OutputFile, is_resumable
from prunecli.formats.outputs.output import FileOutput, check_checkpoint_output, check_output, private_output
from prunecli.formats.outputs.permissions import private_as, readers_of
from prunecli.formats.outputs.staged import held
from prunecli.lean import dataclass
from prunecli.surgery.data.counts import Counts
from prunecli.surgery.data.kept import NOTHING, Given
from prunecli.surgery.data.sums import check_sums
from prunecli.surgery.plan.model import Plan
from prunecli.surgery.replay import check_masks
from prunecli.surgery.report.codec import write_report
from prunecli.surgery.report.model import CheckpointRef, Report
from prunecli.surgery.report.reading import read_report
from prunecli.surgery.run.destination import Destination, default_report
from prunecli.surgery.run.edit import build_edit, read_only_pieces
from prunecli.surgery.run.interruption import noting, written_by_now
from prunecli.surgery.run.options import Run
from prunecli.surgery.run.resume import RewriteJob, carry_out, unfinished_seed
from prunecli.terms import LINK, OUTPUT, REPORT

__all__ = ["rehearse", "rewrite", "unfinished"]


_MANY = 10_000
"""The number of parameters from which tables of them take memory worth returning."""


@dataclass(frozen=True, slots=True)
class _Outputs:
    """The outputs, after the check that they can be written; `report` is None if no report is to be written."""

    checkpoint: Output
    report: "FileOutput | None"


def rewrite(
    checkpoint: AnyCheckpoint,
    plan: Plan,
    destination: Destination,
    run: Run | None = None,
    given: Given = NOTHING,
) -> Report:
    """Write the checkpoint that the plan describes, then its report; first check that both can be written.

    `given` are the masks and scores that methods read.

    Raises:
        OutputError: an output exists, cannot be written, or is the input; or as `carry_out`.
        UsageError: as `rehearse`.
        DamagedError: the input's data contradict its checksums.
    """
    run = run or Run()
    outputs = run.ranks.from_leader(lambda: _check(checkpoint, destination, run, given))
    final, outputs = outputs.checkpoint.final, _Outputs(held(outputs.checkpoint), held(outputs.report))
    contents, counts = _prepared(checkpoint, plan, given)

    def check() -> None:
        check_masks(plan, counts)
        for source, tensors in _read(given, plan):
            check_sums(source, tensors, run.threads)
        for each in (checkpoint, *given.sources):
            check_unchanged(each)

    with noting(written_by_now(final)):
        carry_out(RewriteJob(checkpoint, plan, counts, outputs.checkpoint, contents, check, given.sources), run)
        output = _written(checkpoint, contents, destination)
        del contents  # with very many tensors, it takes as much memory as the report
        if len(plan.parameters) > _MANY:
            return_freed()
        return run.ranks.from_leader(lambda: write_report(checkpoint, plan, counts, output, outputs.report))


def _read(given: Given, plan: Plan) -> Iterator[tuple[Layout, list[TensorInfo]]]:
    """Yield the other files that a plan reads, and what it reads of each."""
    if given.flags:
        yield given.sources[0], [tensor for each in given.flags.values() for tensor in each.tensors]
    refs = {each.scores for each in plan.planned.values() if each.scores is not None}
    for place, file in given.scores.items():
        yield file.layout, [file.tensors[ref.name] for ref in refs if ref.place == place]


def _prepared(checkpoint: AnyCheckpoint, plan: Plan, given: Given) -> tuple[OutputContents, Counts]:
    prepared = build_edit(checkpoint, plan, given=given)
    return _contents(checkpoint, plan, prepared.edit), prepared.new_counts()


def _written(checkpoint: AnyCheckpoint, contents: OutputContents, destination: Destination) -> CheckpointRef:
    size = sum(
        file.size if file.changes else checkpoint.sources[file.name].size for file in contents.files if not file.closing
    )
    return CheckpointRef(None if destination.path is None else str(destination.path), checkpoint.format, size)


def rehearse(
    checkpoint: AnyCheckpoint,
    plan: Plan,
    destination: Destination,
    run: Run | None = None,
    given: Given = NOTHING,
) -> None:
    """Check that `rewrite` can begin: that the outputs can be written, and that the container supports the edit.

    Raises:
        UnsupportedError: the container does not support the edit.
        OutputError: an output exists, is the input, or cannot be written.
        UsageError: both outputs would be one file, or the output cannot be streamed, resumed, linked or made by ranks.
    """
    _check(checkpoint, destination, run or Run(), given)
    _contents(checkpoint, plan, build_edit(checkpoint, plan, given=given).edit)


def unfinished(checkpoint: AnyCheckpoint, destination: Destination) -> int | None:
    """Return the seed of an unfinished output that can be resumed, None if there is none.

    Raises:
        PrunecliError: as `rehearse`.
    """
    output = _check(checkpoint, destination, Run()).checkpoint
    return unfinished_seed(output.final) if is_resumable(output) else None


def _check(checkpoint: AnyCheckpoint, destination: Destination, run: Run, given: Given = NOTHING) -> _Outputs:
    if any(source.is_packed for source in checkpoint.sources.values()):
        raise UsageError(f"{checkpoint.source.label} is packed, and only read; unpack it first")
    if run.link and not checkpoint.is_folder:
        raise UsageError(
            f"{LINK} is about files that a folder carries along unchanged; leave it out, as this is a single file"
        )
    output = check_checkpoint_output(checkpoint, destination.path, force=destination.force)
    report = _check_report(checkpoint, output, destination)
    if run.in_units and (destination.path is None or checkpoint.path is None):
        raise UsageError(f"a stream can neither be resumed nor spread over ranks; name files, with {OUTPUT} as well")
    if run.in_units and not output.resumable:
        raise UsageError(
            f"{show(output.final)} can neither be resumed nor spread over ranks, being behind a URL; write to this "
            "machine, then copy it there"
        )
    if run.link and not output.resumable:
        raise UsageError(f"{show(output.final)} takes no hard links, being behind a URL; leave {LINK} out")
    readers = readers_of(*given.sources)
    return _Outputs(private_output(output, readers), None if report is None else private_as(report, readers))


def _check_report(checkpoint: AnyCheckpoint, output: Output, destination: Destination) -> "FileOutput | None":
    path = destination.report
    if path is None:
        return None
    force = destination.force or _is_left_over(destination)
    if not checkpoint.is_folder:
        (source,) = checkpoint.sources.values()
        report = check_output(path, force=force, source=source, option=REPORT)
        if report.final == output.final:
            raise UsageError(f"the checkpoint and its report would be one file; give {REPORT} another name")
        return private_as(report, readers_of(checkpoint))
    if destination.path is not None and lies_in(path, destination.path):
        raise UsageError(f"the report would lie in the folder that is written; give {REPORT} a place beside it")
    return private_as(check_output(path, force=force, option=REPORT), readers_of(checkpoint))


def _is_left_over(destination: Destination) -> bool:
    """Return whether the report exists, and is that of an earlier output with the name of this one.

    Without `force`, that output is gone, since its name is free.
    """
    if destination.path is None or destination.report != default_report(destination.path):
        return False
    try:
        return read_report(destination.report).output is not None
    except PrunecliError:
        return False


def _contents(checkpoint: AnyCheckpoint, plan: Plan, edit: Edit) -> OutputContents:
    """Describe the content of each file that changes, and the ranges to count in each of the others."""
    folder = checkpoint.path if checkpoint.is_folder else None
    changed, tensors = set[str](), dict[str, list[TensorInfo]]()
    if folder is not None:
        changed, tensors = _changed_files(checkpoint, plan), _tensors_by_file(checkpoint)
    patches: dict[str, dict[str, Sequence[Patch]]] = {name: {} for name in checkpoint.sources}
    for key, found in edit.patches.items() if folder is not None else ():
        patches[checkpoint.file_of(key)][key] = found
    files, passthrough = [], list(checkpoint.passthrough)
    for name, source in checkpoint.sources.items():
        if folder is None or name in changed:
            files.append(OutputFile(name, list(checkpoint.file_pieces(name, edit)), source, mode=source.mode))
        else:
            pieces = read_only_pieces(Edit(patches[name]), tensors[name])
            files.append(OutputFile(name, pieces, checkpoint.source, changes=False))
            passthrough.append(PassthroughFile(name, folder / name, source.size))
    for name, data in checkpoint.closing(edit).items():
        mode = None if folder is None else permissions(folder / name)
        files.append(OutputFile(name, [Literal(data)], checkpoint.source, mode=mode, closing=True))
    return OutputContents(files, passthrough)


def _changed_files(checkpoint: AnyCheckpoint, plan: Plan) -> set[str]:
    planned = [each.parameter for each in plan.planned.values()]
    changed = [tensor for each in planned for tensor in (each.weight, each.mask) if tensor is not None]
    changed += [tensor for own in plan.state.values() for tensor in own]
    return {checkpoint.file_of(storage.key) for tensor in changed for storage in tensor.storages}


def _tensors_by_file(checkpoint: AnyCheckpoint) -> dict[str, list[TensorInfo]]:
    found: dict[str, list[TensorInfo]] = {name: [] for name in checkpoint.sources}
    for tensor in checkpoint.tensors.values():
        for storage in tensor.storages:
            found[checkpoint.file_of(storage.key)].append(tensor)
    return found

"""The lists of `params`: a table on a terminal, else a line each of name, type, shape and state, set apart by tabs."""

import sys
from collections.abc import Sequence

from prunecli.cli.render import note
from prunecli.errors import show
from prunecli.formats.opening import AnyCheckpoint
from prunecli.reporting.layout import Column, Row, lay_out
from prunecli.reporting.numbers import label_of, shape_of
from prunecli.reporting.terminal import screen_of
from prunecli.surgery.names.absent import check_absent
from prunecli.surgery.names.inventory import InventoryEntry, inventory, matching, state_of
from prunecli.surgery.names.parameters import parameters_of
from prunecli.surgery.names.select import LONGEST, Selection, select

__all__ = ["list_parameters", "list_tensors"]


def list_parameters(checkpoint: AnyCheckpoint, selection: Selection | None) -> None:
    """List the tensors of the state dict by the names of their parameters, or those that a selection takes.

    Raises:
        PrunecliError: as `check_absent` and `select`.
    """
    found = parameters_of(checkpoint)
    if selection is not None:
        check_absent(checkpoint, found, selection)
    chosen = list(found.values()) if selection is None else select(found, selection)
    _write(
        checkpoint,
        "parameter",
        [InventoryEntry(each.name, each.weight, each.role, state_of(each), "") for each in chosen],
    )


def list_tensors(checkpoint: AnyCheckpoint, selection: Selection | None) -> None:
    """List every tensor of the file, or those that a selection matches, whatever their roles.

    Raises:
        UsageError: as `matching`.
    """
    entries = inventory(checkpoint)
    _write(checkpoint, "tensor", entries if selection is None else matching(entries, selection))


def _write(checkpoint: AnyCheckpoint, heading: str, entries: Sequence[InventoryEntry]) -> None:
    rows = [
        (label_of(each.name, LONGEST), each.tensor.dtype.name, shape_of(each.tensor.shape), each.state)
        for each in entries
    ]
    if not sys.stdout.isatty():
        sys.stdout.writelines("\t".join(row) + "\n" for row in rows)
        return
    columns = [Column("type", right=False, drop=2), Column("shape", right=False, drop=1), Column("state", right=False)]
    table = lay_out(heading, columns, [Row(name, rest) for name, *rest in rows], screen_of(sys.stdout))
    sys.stdout.writelines(f"{line}\n" for line in table)
    if checkpoint.wrapper:
        note(f"the state dict lies under {show(checkpoint.wrapper)}", quiet=False)

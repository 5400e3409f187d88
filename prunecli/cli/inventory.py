"""The list of `params` on standard output."""

import sys
from collections.abc import Sequence

from prunecli.cli.messages import print_note
from prunecli.errors import show
from prunecli.formats.opening import AnyCheckpoint
from prunecli.reporting.inventory import inventory_as_lines, inventory_as_table
from prunecli.reporting.options import ListFormat
from prunecli.reporting.terminal import screen_of
from prunecli.surgery.names.inventory import InventoryEntry

__all__ = ["print_inventory"]


def print_inventory(
    checkpoint: AnyCheckpoint, entries: Sequence[InventoryEntry], form: ListFormat, noun: str, *, folded: bool
) -> None:
    """Print the list in a format; a table is lines with tabs in a pipe. `noun` is "parameter" or "tensor"."""
    if form is ListFormat.JSON:
        from prunecli.surgery.report.inventory_json import inventory_json  # it imports the modules that plan and report

        sys.stdout.writelines(inventory_json(checkpoint, entries))
        return
    if not sys.stdout.isatty():
        sys.stdout.writelines(f"{line}\n" for line in inventory_as_lines(entries))
        return
    table = inventory_as_table(noun, entries, screen_of(sys.stdout), folded=folded)
    sys.stdout.writelines(f"{line}\n" for line in table)
    if checkpoint.wrapper:
        print_note(f"the key of the state dict is {show(checkpoint.wrapper)}")

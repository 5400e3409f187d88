"""What `verify` says: one line if the checkpoint is what the report says, else the first differences, a line each."""

from prunecli.surgery.verify import Verification

__all__ = ["verification_text"]

_SHOWN = 10


def verification_text(label: str, found: Verification) -> str:
    """Render a verification; `label` names the checkpoint, fit to be shown."""
    differences = found.differences
    if not differences:
        unsummed = found.parameters - found.summed
        but = f", {unsummed:,} of them without a checksum of their values" if unsummed else ""
        return (
            f"{label} is what the report says: {found.parameters:,} parameters{but}, {found.elements:,} elements, "
            f"{found.zeros:,} zeros\n"
        )
    lines = [f"{each}\n" for each in differences[:_SHOWN]]
    if len(differences) > _SHOWN:
        lines.append(f"and {len(differences) - _SHOWN:,} more\n")
    return "".join(lines)

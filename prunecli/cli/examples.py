"""Examples of each command: in its help, in docs/cli.md, and run by a test, in a folder that has the files named."""

from collections.abc import Mapping, Sequence

__all__ = ["EXAMPLES"]

EXAMPLES: Mapping[str, Sequence[tuple[str, str]]] = {
    "apply": (
        (
            "half of every matrix, as zeros in a copy of the file",
            "prunecli apply model.safetensors -p '*.weight' --min-dim 2 -a 0.5 --remove",
        ),
        (
            "masks for one layer, to go on training",
            "prunecli apply model.pt -p fc1.weight -a 90% --seed 7 -o masked.pt",
        ),
        (
            "what would be done to the parameters that a pipe names",
            (
                "prunecli params model.pt | grep fc |\n"
                "  prunecli apply model.pt --params-from - -a 1000 --global -o out.pt --dry-run"
            ),
        ),
    ),
    "remove": (
        ("bake all masks, for a plain module to load", "prunecli remove masked.pt -o baked.pt"),
        ("in a pipe", "prunecli remove - -o - < masked.pt > piped.pt"),
    ),
    "report": (
        ("how sparse is it?", "prunecli report model.pt"),
        ("for a script", "prunecli report model.pt --format json -o model.json"),
        (
            "what a prune changed: exit code 7 if it is more than zeros",
            "prunecli report masked.pt --baseline model.pt",
        ),
        (
            "a gate: exit code 7 if less than half of the masked layers is zero",
            "prunecli report masked.pt -p fc1.weight --fail-under 0.5",
        ),
    ),
    "verify": (
        ("is the file what its report says?", "prunecli verify masked.pt"),
        ("of what comes through a pipe", "prunecli verify - masked.pt.report.json < masked.pt"),
    ),
    "params": (
        ("what can be pruned", "prunecli params model.pt"),
        ("every tensor with its role", "prunecli params model.pt --all"),
        ("the names of the matrices alone", "prunecli params model.pt -p '*' --min-dim 2 | cut -f 1"),
    ),
}
"""What an example shows, and its lines."""

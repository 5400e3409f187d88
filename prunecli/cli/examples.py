"""Examples of each command, shown in its help and in docs/cli.md; a test runs them."""

from collections.abc import Mapping, Sequence

__all__ = ["EXAMPLES"]

EXAMPLES: Mapping[str, Sequence[tuple[str, str]]] = {
    "apply": (
        (
            "write zeros into half of every matrix named weight, in a copy of the file",
            "prunecli apply model.safetensors -p '*.weight' --min-dim 2 -a 0.5 --bake",
        ),
        (
            "mask one layer, to continue training",
            "prunecli apply model.pt -p fc1.weight -a 90% --seed 7 -o masked.pt",
        ),
        (
            "only print what would be done, and keep it as a recipe",
            "prunecli apply model.pt -p 'fc*' -a 1000 --global --dry-run > recipe.toml",
        ),
    ),
    "remove": (
        (
            "make all masks permanent, for a plain module to load",
            "prunecli remove masked.pt -o baked.pt",
        ),
        ("work in a pipe", "prunecli remove - -o - < masked.pt > piped.pt"),
    ),
    "restore": (
        ("drop all masks: the checkpoint as it was before apply", "prunecli restore masked.pt -o dense.pt"),
        ("drop the mask of one layer", "prunecli restore masked.pt -p fc1.weight -o partly.pt"),
    ),
    "report": (
        ("print the sparsity of every module", "prunecli report model.pt"),
        ("write one table, a row for each checkpoint", "prunecli report model.pt masked.pt -o sweep.csv"),
        (
            "exit 7 if less than half of a layer is zero",
            "prunecli report masked.pt -p fc1.weight --fail-under 0.5",
        ),
    ),
    "diff": (
        ("compare a checkpoint with the original", "prunecli diff model.pt masked.pt"),
        (
            "exit 7 unless the only change is new zeros",
            "prunecli diff model.pt masked.pt --only-zeros",
        ),
    ),
    "verify": (
        ("check a file against the report next to it", "prunecli verify masked.pt"),
        ("check a file from a pipe", "prunecli verify - masked.pt.report.json < masked.pt"),
    ),
    "params": (
        ("list what can be pruned", "prunecli params model.pt"),
        ("list every tensor with its role", "prunecli params model.pt --all"),
        ("print only the names of matrices", "prunecli params model.pt -p '*' --min-dim 2 | cut -f 1"),
    ),
    "pack": (
        ("write a smaller file: its masks are drawn again, not stored", "prunecli pack masked.pt"),
        ("print how large it would be", "prunecli pack model.pt --dry-run"),
    ),
    "unpack": (
        ("write the file that was packed", "prunecli unpack masked.pt.packed.safetensors -o again.pt"),
        ("work in a pipe", "prunecli pack model.pt -o - | prunecli unpack - -o piped2.pt"),
        ("write sparse-bitmask tensors densely", "prunecli unpack old.safetensors -o dense.safetensors"),
    ),
    "mask extract": (
        ("write the masks of a checkpoint into a file", "prunecli mask extract masked.pt -o a.safetensors"),
        (
            "count the zeros of a parameter as pruned elements",
            "prunecli mask extract baked.pt --from-zeros -p fc1.weight -o b.safetensors",
        ),
    ),
    "mask overlap": (
        ("compare two masks with each other, and with chance", "prunecli mask overlap a.safetensors b.safetensors"),
        (
            "compare the zeros of two checkpoints, as JSON",
            "prunecli mask overlap model.pt baked.pt --from-zeros -o overlap.json",
        ),
    ),
    "mask combine": (
        (
            "keep what both masks keep",
            "prunecli mask combine a.safetensors b.safetensors --and -o both.safetensors",
        ),
        (
            "keep what only the first keeps",
            "prunecli mask combine a.safetensors b.safetensors --minus -o rest.safetensors",
        ),
    ),
    "mask invert": (
        ("keep what was dropped", "prunecli mask invert a.safetensors -o dropped.safetensors"),
        ("work in a pipe", "prunecli mask extract masked.pt -o - | prunecli mask invert - -o c.safetensors"),
    ),
}
"""The examples of each command: a description, and the lines."""

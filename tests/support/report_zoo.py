"""Reports made up for the tests: of models as they are, of any names, and of names that attack."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from prunecli.core.structure.model import Density, Structure
from prunecli.surgery.report.model import CheckpointRef, ParameterReport, Report

NASTY = [
    "clear\x1b[2J\x1b]52;c;ZXZpbA==\x07.weight",
    "line\nprunecli: error: forged.weight",
    "tab\tseparated\r.weight",
    "bidi\u202egnp.weight\u2066",
    "c1\x9b31m.weight",
    "zero\u200bwidth\ufeff.weight",
    "separator\u2028and\u2029.weight",
    "[/]closing.[bold red]style[/bold red] [link=http://evil]x[/link]",
    ":boom: {0} %s \\x1b ${x} @TITLE@ @DATA@.weight",
    "long" * 300 + ".weight",
    "</script><script>alert(1)</script>.weight",
    "<!--<script>.weight",
    "<img src=x onerror=alert(1)>.weight",
    "]]>&lt;b&gt;&amp;.weight",
    "`code` ``two`` *b* _i_ ~~s~~ [a](http://evil) ![i](http://evil/x.png).weight",
    "a|b||c\\|d\\.weight",
    "@octocat #1 https://evil.example www.evil.example foo@evil.example.weight",
    '=HYPERLINK("http://evil","x").weight',
    "+1+1.weight",
    "-1-1.weight",
    "@SUM(1).weight",
    "\uff1d1+1.weight",
    " =1+1.weight",
    'quo"te,comma;semi.weight',
    "$x^2$ $\\frac{1}{0}$ \\textbf{b} %.weight",
    "漢字かな交じり.重み",
    "e\u0301\u0302\u0303 combining.weight",
    "emoji\U0001f600\U0001f468\u200d\U0001f469.weight",
    "lone\udc80surrogate.weight",
    "../../etc/passwd",
    ".".join("a" * 500),
    "..",
    "",
    " ",
    "__proto__.constructor",
    "{0..5}",
]
"""Names that attack a terminal, a table, a spreadsheet, Markdown, a page, a figure, or what reads a name."""


def parameter(
    name: str, shape: tuple[int, ...] = (8, 4), zeros: int | None = 0, dtype: str = "float32", **more: object
) -> ParameterReport:
    """Make up a parameter."""
    plain = ParameterReport(
        name=name,
        module=name.rpartition(".")[0],
        shape=shape,
        dtype=dtype,
        elements=math.prod(shape),
        zeros_before=zeros,
        zeros=zeros,
        state="dense",
        pruned_now=0,
        tied_to=(),
        key=name,
        candidates=None,
        mask_sha256=None,
        crc32=None,
        structure=None,
        copies=(),
    )
    return replace(plain, **more)  # type: ignore[arg-type]


def report(parameters: Sequence[ParameterReport], path: str | None = "model.pt") -> Report:
    """Make up a report of `prunecli report`."""
    return Report("report", CheckpointRef(path, "torch zip", 1234), None, parameters)


def transformer(layers: int, sparsity: float = 0.5) -> Report:
    """Make up a report of a small transformer, with pictures, each matrix pruned alike."""
    shapes: dict[str, tuple[int, ...]] = {"embed.weight": (100, 16)}
    for layer in range(layers):
        for name, shape in (
            ("attn.qkv", (48, 16)),
            ("attn.out", (16, 16)),
            ("mlp.up", (64, 16)),
            ("mlp.down", (16, 64)),
        ):
            shapes[f"layers.{layer}.{name}.weight"] = shape
            shapes[f"layers.{layer}.{name}.bias"] = shape[:1]
        shapes[f"layers.{layer}.norm.weight"] = (16,)
    shapes["head.weight"] = (100, 16)
    zeros = {name: int(math.prod(shape) * sparsity) if len(shape) > 1 else 0 for name, shape in shapes.items()}
    return report([pictured(parameter(name, shape, zeros[name])) for name, shape in shapes.items()])


def pictured(each: ParameterReport, seed: int = 0) -> ParameterReport:
    """Add what is known of a parameter's structure, of zeros drawn at random, and a picture of them."""
    rows = each.shape[0] if len(each.shape) > 1 else 1
    columns = each.elements // rows if rows else 0
    kept = np.ones(each.elements, bool)
    kept[np.random.default_rng(seed).permutation(each.elements)[: each.zeros or 0]] = False
    return replace(each, structure=structure_of(kept.reshape(rows, columns)))


def structure_of(kept: np.ndarray) -> Structure:
    """Tell the structure of a matrix, True where an element is not zero, with a cell an element as its picture."""
    rows, columns = kept.shape
    blocks = [
        kept[row : row + 16, column : column + 16] for row in range(0, rows, 16) for column in range(0, columns, 16)
    ]
    groups: Mapping[int, int | None] = {
        size: int(((~kept.reshape(-1, size)).sum(axis=1) >= size // 2).sum()) if columns % size == 0 else None
        for size in (4, 8)
    }
    picture = np.where(kept, 0, 255).astype(np.uint8)[:128, :128]
    return Structure(
        rows,
        int((~kept.any(axis=1)).sum()),
        columns,
        int((~kept.any(axis=0)).sum()),
        len(blocks),
        sum(not block.any() for block in blocks),
        kept.size // 4 if columns % 4 == 0 else None,
        groups[4],
        kept.size // 8 if columns % 8 == 0 else None,
        groups[8],
        1 if columns % 4 == 0 else None,
        Density(picture.shape[0], picture.shape[1], picture.tobytes()),
    )


def nasty() -> Report:
    """Make up a report in which every string attacks."""
    parameters = [
        pictured(parameter(name, zeros=number % 32, tied_to=(NASTY[number - 1],) if number % 5 == 4 else ()))
        for number, name in enumerate(NASTY)
    ]
    return report(parameters, path="evil\x1b[2J</script>|`@x\u202e.pt")


def large(count: int) -> Report:
    """Make up a report of a mixture of experts with so many tensors."""
    parts = ("gate_proj", "up_proj", "down_proj")
    parameters = [
        parameter(
            f"model.layers.{number // 1152}.mlp.experts.{number // 3 % 384}.{parts[number % 3]}.weight",
            (2048, 7168),
            2048 * 3584,
            "bfloat16",
        )
        for number in range(count)
    ]
    return report(parameters)

"""The options of `apply` that say which elements are pruned."""

import enum
from typing import Annotated

import typer

from prunecli.cli.help import AMOUNT

__all__ = ["AbsScores", "Block", "Dim", "Method", "MethodName", "NOfM", "Norm", "Scores"]


class MethodName(enum.StrEnum):
    """The methods; a test compares them with `core.methods.known_methods`, which is not imported here."""

    RANDOM = "random"
    L1 = "l1"
    SCORES = "scores"
    LAMP = "lamp"
    RANDOM_STRUCTURED = "random-structured"
    LN = "ln"


Method = Annotated[
    MethodName | None,
    typer.Option(
        "--method",
        metavar="METHOD",
        help="Choose by l1, lamp, ln, ... (default: at random).\n"
        "random, l1 (smallest magnitudes), scores, lamp, random-structured or ln (docs/methods.md).",
        rich_help_panel=AMOUNT,
    ),
]
NOfM = Annotated[
    str | None,
    typer.Option(
        "--n-of-m",
        metavar="N:M",
        help="Keep N of every M neighbours, as in 2:4.\n"
        "With random, l1 or scores; along the last dimension of two, the second of more, or --dim. Takes no -a.",
        rich_help_panel=AMOUNT,
    ),
]
Block = Annotated[
    str | None,
    typer.Option(
        "--block",
        metavar="RxC",
        help="Prune whole blocks of R rows and C columns.\n"
        "With random, l1 or scores; -a counts blocks, those at the edges are smaller.",
        rich_help_panel=AMOUNT,
    ),
]
Dim = Annotated[
    int | None,
    typer.Option(
        "--dim",
        metavar="D",
        help="Prune slices, or N:M, along dimension D.\n0 is the first, -1 the last one.",
        rich_help_panel=AMOUNT,
    ),
]
Norm = Annotated[
    str | None,
    typer.Option(
        "--norm",
        metavar="1|2|inf",
        help="With --method ln: the norm of slices.\nThe slices of the smallest norm along --dim are pruned.",
        rich_help_panel=AMOUNT,
    ),
]
Scores = Annotated[
    str | None,
    typer.Option(
        "--scores",
        metavar="FILE",
        help="Prune the elements with the smallest scores in FILE.\n"
        "FILE is a checkpoint with a score for each element, under the names of the parameters.",
        rich_help_panel=AMOUNT,
    ),
]
AbsScores = Annotated[
    bool,
    typer.Option(
        "--abs-scores",
        help="Order scores by magnitude.\ntorch takes its importance_scores so; signed ones are the default.",
        rich_help_panel=AMOUNT,
    ),
]

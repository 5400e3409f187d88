"""How messages call what a user works on, and the ways out that the command line and Python have."""

from dataclasses import dataclass

__all__ = ["PYTHON", "SHELL", "Wording"]


@dataclass(frozen=True, slots=True)
class Wording:
    """The words that one side knows: options of a command, or arguments of a function."""

    whole: str
    param: str
    exclude: str
    listing: str
    untie: str
    remove: str
    clone: str
    """What to do about memory that is shared by chance."""


SHELL = Wording(
    whole="the checkpoint",
    param="--param",
    exclude="--exclude",
    listing="'prunecli params'",
    untie="--untie",
    remove="--remove",
    clone="save the checkpoint with clones",
)
"""What the commands say."""

PYTHON = Wording(
    whole="the module",
    param="params",
    exclude="exclude",
    listing="named_parameters()",
    untie="untie=True",
    remove="remove=True",
    clone="give one of them memory of its own by clone()",
)
"""What the functions on live modules say."""

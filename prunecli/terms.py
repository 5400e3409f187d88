"""Terms in messages that differ between interfaces: `--untie` on a command line is `untie=True` in Python.

A message is composed where something fails, and the interface that the user called is known only in the outermost
layer. So messages contain the terms below. Each term contains its text for every interface, and `render` keeps the
right one.
`PrunecliError` renders its own message when it is converted to a string. What comes from a recipe is called by the
recipe's keys (`in_recipe`), whatever the interface.

The marks around a term are private-use characters. `errors.show` escapes them, so text from a file is never a term.
"""

import enum
import re

__all__ = [
    "ABS_SCORES",
    "ALLOCATION",
    "ALLOW_CHANGES",
    "ALLOW_FOREIGN",
    "AMOUNT",
    "BAKE",
    "BLOCK",
    "CLONE",
    "DIM",
    "EXCLUDE",
    "EXTRACT_ZEROS",
    "FAIL_OVER",
    "FAIL_UNDER",
    "FOLLOW_LINKS",
    "FORCE",
    "FORMAT",
    "FROM_REPORT",
    "FROM_ZEROS",
    "GLOBAL",
    "HERE",
    "KEY",
    "KEY_PREFIX",
    "LIKE",
    "LINK",
    "LISTING",
    "MASKS",
    "MASK_DTYPE",
    "MATRICES",
    "METHOD",
    "MIN_DIM",
    "MISSING",
    "NORM",
    "NO_REPORT",
    "N_OF_M",
    "ONLY_ZEROS",
    "ORDER",
    "OUTPUT",
    "PARAM",
    "PER_ROW",
    "PER_SLICE",
    "PLOT",
    "RATIOS",
    "RECIPE",
    "REPORT",
    "RESCALE",
    "RESUME",
    "SCORES",
    "SEED",
    "SEEDS",
    "STAMP",
    "SUBJECT",
    "UNTIE",
    "WITH_STATE",
    "ZEROS_ARE_PRUNED",
    "Interface",
    "in_recipe",
    "percentage",
    "render",
]


class Interface(enum.IntEnum):
    """The ways to call prunecli."""

    COMMAND_LINE = 0
    FILES = 1
    """The functions on checkpoints; their arguments are named like the options."""
    MODULES = 2
    """The functions on modules in memory."""


_START, _BETWEEN, _END = "\ue000", "\ue001", "\ue002"
HERE = "\ue003"
"""The place of an error: `errors.raised_in` replaces it by the file, or the part of a file, that is being read."""
_TERM = re.compile(f"{_START}([^{_END}]*){_END}")


def render(message: str, interface: Interface = Interface.COMMAND_LINE) -> str:
    """Return a message with each term in the wording of an interface.

    >>> render(f"{SUBJECT} has masks; use {BAKE}")
    'the checkpoint has masks; use --bake'
    >>> render(f"{SUBJECT} has masks; use {BAKE}", Interface.MODULES)
    'the module has masks; use bake=True'
    """
    if _START in message:
        message = _TERM.sub(lambda term: term[1].split(_BETWEEN)[interface], message)
    return message.replace(HERE, "the file")


def in_recipe(message: str) -> str:
    """Return a message with the settings of a recipe's groups in the recipe's words; other terms are left as they are.

    >>> in_recipe(f"leave {GLOBAL} out")
    'leave global = true out'
    """
    return _TERM.sub(_in_recipe, message)


def _in_recipe(term: re.Match[str]) -> str:
    words = term[1].split(_BETWEEN)
    return words[-1] if len(words) > len(Interface) else term[0]


def _term(command_line: str, files: str, modules: str | None = None, *, recipe: str | None = None) -> str:
    words = [command_line, files, files if modules is None else modules, *([] if recipe is None else [recipe])]
    return f"{_START}{_BETWEEN.join(words)}{_END}"


def _setting(option: str, key: str) -> str:
    """Return the term of a setting with a value, which is called the same in Python and in recipes."""
    return _term(option, key, recipe=key)


def _switch(option: str, key: str) -> str:
    """Return the term of a setting that is on or off."""
    return _term(option, f"{key}=True", recipe=f"{key} = true")


def percentage(whole: int) -> str:
    """Return an amount of 1 to 100 percent as it is written in each interface: `90%` or `0.9`."""
    return _term(f"{whole}%", str(whole / 100))


SUBJECT = _term("the checkpoint", "the checkpoint", "the module")
LISTING = _term("'prunecli params'", "params()", "named_parameters()")
CLONE = _term(
    "save the checkpoint with clones",
    "save the checkpoint with clones",
    "give one of them memory of its own by clone()",
)
"""The remedy for memory that tensors share by chance."""

ABS_SCORES = _switch("--abs-scores", "abs_scores")
ALLOW_CHANGES = _term("--allow-changes", "allow_changes=True")
ALLOCATION = _setting("--allocation", "allocation")
ALLOW_FOREIGN = _term("--allow-foreign-objects", "allow_foreign_objects=True")
AMOUNT = _setting("-a", "amount")
BAKE = _term("--bake", "bake=True")
"""Writing zeros instead of masks; `--remove` and `remove=True` are earlier names of it, and stay."""
BLOCK = _setting("--block", "block")
DIM = _setting("--dim", "dim")
EXCLUDE = _setting("-x", "exclude")
EXTRACT_ZEROS = _term("'prunecli mask extract --from-zeros -p NAME'", "mask_extract(from_zeros=True, params=NAME)")
"""The command that makes a mask file of the zeros of a checkpoint."""
FAIL_OVER = _term("--fail-over", "fail_over")
FAIL_UNDER = _term("--fail-under", "fail_under")
FOLLOW_LINKS = _term("--follow-links", "follow_links=True")
FORCE = _term("--force", "force=True")
FORMAT = _term("--format", "format_")
FROM_REPORT = _term("--from-report", "from_report")
FROM_ZEROS = _term("--from-zeros", "from_zeros=True")
GLOBAL = _term("--global", "global_=True", "everywhere=True", recipe="global = true")
KEY = _term("--key", "key")
KEY_PREFIX = _term("--key-prefix", "key_prefix")
LIKE = _setting("--like", "like")
LINK = _term("--link", "link=True")
MASKS = _term("--masks", "masks")
MASK_DTYPE = _term("--mask-dtype", "mask_dtype")
MATRICES = _term("-p '*.weight' --min-dim 2", "params='*.weight', min_dim=2")
"""A selection of the matrices named `weight`; `in_proj_weight` and `weight_ih_l0` are not among them."""
METHOD = _setting("--method", "method")
MIN_DIM = _setting("--min-dim", "min_dim")
MISSING = _term("--missing kept", "missing='kept'")
NORM = _setting("--norm", "norm")
NO_REPORT = _term("--no-report", "no_report=True")
N_OF_M = _setting("--n-of-m", "n_of_m")
ONLY_ZEROS = _term("--only-zeros", "only_zeros=True")
ORDER = _setting("--order", "order")
OUTPUT = _term("-o", "output")
PARAM = _setting("-p", "params")
PER_ROW = _switch("--per-row", "per_row")
PER_SLICE = _switch("--per-slice", "per_slice")
PLOT = _term("--plot", "plot")
RATIOS = _term("--ratios", "ratios")
RECIPE = _term("--recipe", "recipe")
REPORT = _term("--report", "report")
RESCALE = _term("--rescale", "rescale=True")
RESUME = _term("--resume", "resume=True")
SCORES = _setting("--scores", "scores")
SEED = _term("--seed", "seed")
SEEDS = _term("--seeds", "seeds")
STAMP = _term("--stamp", "stamp=True")
UNTIE = _term("--untie", "untie=True")
WITH_STATE = _term("--with-state", "with_state=True")
ZEROS_ARE_PRUNED = _term("--zeros-are-pruned", "zeros_are_pruned=True")

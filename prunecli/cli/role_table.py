"""The table of roles in docs/checkpoints.md: `python -m prunecli.cli.role_table docs/checkpoints.md` regenerates it."""

import sys
from collections.abc import Iterator
from pathlib import Path

from prunecli.surgery.roles.table import RULES, Role

__all__ = ["BEGIN", "END", "role_table", "with_role_table"]

BEGIN = "<!-- the table of roles: python -m prunecli.cli.role_table docs/checkpoints.md -->"
END = "<!-- end of the table of roles -->"


def role_table() -> str:
    """Return the rules as a Markdown table, in order of precedence."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "| role | evidence | written by | seen in |"
    yield "|---|---|---|---|"
    for rule in RULES:
        yield f"| {rule.role.value} | {_cell(rule.evidence)} | {_cell(rule.writers)} | {_cell(rule.source)} |"
    yield f"| {Role.PARAMETER.value} | none of these | | |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def with_role_table(page: str) -> str:
    """Return a page with the table between its two marks regenerated."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{role_table()}{END}{tail}"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_role_table(path.read_text(encoding="utf-8")), encoding="utf-8")

"""A case of each family through the commands that read checkpoints for something else than a prune."""

from dataclasses import replace

from hostile_corpus import CASES, Case, Kind, Roles, register

OTHERS = Roles(
    {
        "diff": ("diff", "{}", "{}"),
        "mask extract": ("mask", "extract", "{}", "--from-zeros", "-p", "*", "-o", "out"),
        "mask overlap": ("mask", "overlap", "{}", "{}", "--from-zeros"),
        "apply --like": ("apply", "{}", "-p", "*", "--seed", "1", "--like", "{}", "--remove", "-o", "out"),
    },
    {},
)
_HEAVY = "heavy"


def _other(case: Case) -> Case:
    codes = dict.fromkeys(OTHERS.commands, case.codes["report"])
    name, kind = f"{case.family}, {case.name}", Kind(case.kind.suffix, "")
    return replace(case, name=name, family="other commands", codes=codes, roles=OTHERS, foreign=None, kind=kind)


_FIRST = {
    (case.family, case.is_refused): case
    for case in reversed(list(CASES.values()))
    if case.roles is None and not case.needs and case.family != _HEAVY
}
for _case in _FIRST.values():
    register(_other(_case))

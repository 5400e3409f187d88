"""The published schema: every real report is valid, and what is not a report is not."""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from safetensors.torch import save_file

from prunecli.cli.app import run
from prunecli.surgery.report.document import SCHEMA, SCHEMA_2
from prunecli.surgery.report.schema import report_schema
from prunecli.surgery.roles.table import Role

SCHEMA_DICT = json.loads(report_schema())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA_DICT)
COMMANDS = {
    "apply": ["apply", "model.pt", "-p", "*.weight", "-a", "0.5", "--report", "r.json"],
    "apply, a count": [
        "apply",
        "model.pt",
        "-p",
        "fc1.weight",
        "-x",
        "b*",
        "-a",
        "7",
        "--mask-dtype",
        "same",
        "--report",
        "r.json",
    ],
    "apply, global": ["apply", "model.pt", "-p", "*", "-a", "0.5", "--global", "--min-dim", "2", "--report", "r.json"],
    "apply, baked": ["apply", "model.pt", "-p", "*", "-a", "50%", "--remove", "--report", "r.json"],
    "apply, stamped": ["apply", "stamped.safetensors", "-p", "*", "-a", "1.0", "--stamp", "--report", "r.json"],
    "apply, divided": [
        *["apply", "model.pt", "-p", "*", "--min-dim", "2", "-a", "0.5", "-a", "fc2*=0"],
        *["--allocation", "erk", "--report", "r.json"],
    ],
    "remove": ["remove", "masked.pt", "--report", "r.json"],
    "report": ["report", "model.pt", "-o", "r.json"],
    "report, masked": ["report", "masked.pt", "-o", "r.json"],
    "report, stamped": ["report", "stamped.safetensors", "-o", "r.json"],
    "report, odd tensors": ["report", "odd.pt", "-p", "*", "-p", "scale", "-p", "phase", "-o", "r.json"],
}


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each of the commands reports."""
    folder = tmp_path_factory.mktemp("reports")
    example = Path(__file__).parents[2] / "examples" / "digits.pt"
    state = torch.load(example, weights_only=True)["state_dict"]
    shared = torch.zeros(4, 8)
    odd = {
        "w": shared,
        "tied": shared,
        "empty": torch.empty(0, 3),
        "scalar": torch.ones(()),
        "scale": torch.ones(3),
        "phase": torch.zeros(3, dtype=torch.int8),
        "é\x1b": torch.ones(2).bfloat16(),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("model.pt").write_bytes(example.read_bytes())
        torch.save(odd, "odd.pt")
        save_file(state, "plain.safetensors")
        assert run(["apply", "plain.safetensors", "-p", "*", "-a", "0.5", "--stamp", "-o", "stamped.safetensors"]) == 0
        assert run(["apply", "model.pt", "-p", "*.weight", "-a", "0.5", "-o", "masked.pt"]) == 0
        found = {}
        for name, command in COMMANDS.items():
            assert run([*command, "--force"]) == 0
            found[name] = json.loads(Path("r.json").read_text())
    return found


def test_the_schema_is_one_and_names_the_version() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA_DICT)
    assert SCHEMA_DICT["properties"]["schema"]["enum"] == [SCHEMA, SCHEMA_2]
    assert report_schema().isascii()


@pytest.mark.parametrize("name", COMMANDS)
def test_what_the_commands_report_is_valid(reports: dict[str, Any], name: str) -> None:
    VALIDATOR.validate(reports[name])


def objects(schema: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every schema that describes an object with known keys."""
    if isinstance(schema, dict):
        if schema.get("type") == "object" and "properties" in schema:
            yield at, schema
        for key, value in schema.items():
            yield from objects(value, (*at, key))


def test_known_objects_are_closed_and_their_keys_required() -> None:
    found = dict(objects(SCHEMA_DICT))
    assert len(found) == 9
    assert all(each["additionalProperties"] is False for each in found.values())
    # Only a prune has the first six, only some rows a role or zeroed state; older reports lack the others.
    optional = {(at, key) for at, each in found.items() for key in set(each["properties"]) - set(each["required"])}
    top = {
        "remove",
        "mask_dtype",
        "untie",
        "zeros_are_pruned",
        "key_prefix",
        "with_state",
        "left_out",
        "key",
        "rescale",
    }
    some = {
        "ParameterReport": {"role", "zeroed", "zero_norms", "choice", "group"}
        | {"smallest_pruned", "smallest_left", "patterns"},
        "GroupRecord": {"allocation", "amounts", "order", "like", "per_slice", "per_row"}
        | {"method", "dim", "norm", "n_of_m", "block", "scores", "abs_scores"},
        "Structure": {"group_dimension"},
    }
    expected = {(("$defs", record), key) for record, keys in some.items() for key in keys}
    assert optional == {((), key) for key in top} | expected


def paths(value: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place in a report but in its stamps, which are whatever stands in a file."""
    if at and at[0] == "stamps" and len(at) > 1:
        return
    if at:
        yield at
    pairs = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, below in pairs:
        yield from paths(below, (*at, key))


def changed(value: Any, at: tuple[str | int, ...], change: Callable[[Any, str | int], None]) -> Any:
    copied = copy.deepcopy(value)
    place = copied
    for key in at[:-1]:
        place = place[key]
    change(place, at[-1])
    return copied


@pytest.mark.parametrize("name", ["apply", "apply, stamped", "remove", "report"])
def test_any_key_taken_away_added_or_of_another_type_is_noticed(reports: dict[str, Any], name: str) -> None:
    made = reports[name]
    for at in paths(made):
        with pytest.raises(jsonschema.ValidationError):
            VALIDATOR.validate(changed(made, at, lambda place, key: place.__setitem__(key, {"odd": object})))
        if isinstance(at[-1], str) and at not in (("left_out",), ("key",)) and at[-1] != "group_dimension":
            with pytest.raises(jsonschema.ValidationError):
                VALIDATOR.validate(changed(made, at, lambda place, key: place.__delitem__(key)))
        if isinstance(at[-1], str):
            with pytest.raises(jsonschema.ValidationError):
                VALIDATOR.validate(changed(made, at, lambda place, _: place.__setitem__("odd", 1)))


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (("command",), "prune"),
        (("schema",), "prunecli.report/3"),
        (("seed",), -1),
        (("seed",), None),
        (("method",), None),
        (("output",), None),
        (("groups",), []),
        (("mask_dtype",), "uint8"),
        (("totals", "sparsity"), 1.5),
        (("totals", "zeros"), 1.5),
        (("parameters", 0, "state"), "pruned"),
        (("parameters", 0, "dtype"), "float"),
        (("parameters", 0, "elements"), -1),
        (("parameters", 0, "shape"), [2, -2]),
        (("parameters", 0, "mask_sha256"), "0" * 63),
        (("parameters", 0, "crc32"), "XYZ"),
        (("groups", 0, "params"), []),
        (("groups", 0, "amount"), "50%"),
    ],
)
def test_values_out_of_range_are_noticed(reports: dict[str, Any], at: tuple[str | int, ...], value: object) -> None:
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(changed(reports["apply"], at, lambda place, key: place.__setitem__(key, value)))


def test_reports_of_old_are_valid(reports: dict[str, Any]) -> None:
    for report in reports.values():
        VALIDATOR.validate({key: value for key, value in report.items() if key not in ("left_out", "key")})


def test_the_roles_are_those_of_the_code(reports: dict[str, Any]) -> None:
    assert SCHEMA_DICT["$defs"]["Role"]["enum"] == [role.value for role in Role]
    assert {(each["role"], each["key"], each["tensors"]) for each in reports["report"]["left_out"]} >= {
        ("statistic", None, 6)
    }
    roles = {each["name"]: each.get("role") for each in reports["report, odd tensors"]["parameters"]}
    assert (roles["w"], roles["phase"]) == (None, "integer tensor")


def test_what_only_a_prune_has_is_nowhere_else(reports: dict[str, Any]) -> None:
    for key in ("remove", "mask_dtype", "untie", "zeros_are_pruned"):
        with pytest.raises(jsonschema.ValidationError):
            VALIDATOR.validate({**reports["report"], key: reports["apply"][key]})

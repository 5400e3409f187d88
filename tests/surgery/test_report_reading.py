"""Reports read back: as they were, or refused in one line whatever was done to them."""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from surgery_zoo import apply, ask, noise, save

from prunecli.core.amount import Amount
from prunecli.core.structure.model import Structure
from prunecli.errors import DamagedError, PrunecliError, UnsafeError, UnsupportedError
from prunecli.surgery.names.left_out import LeftOut
from prunecli.surgery.report.codec import as_dict, parse_report, render_json
from prunecli.surgery.report.model import CheckpointRef, ParameterReport, Report
from prunecli.surgery.roles.table import Role


def _example() -> str:
    """Return a small report that has everything."""
    weight = ParameterReport(
        name="a.w",
        module="a",
        shape=(4, 6),
        dtype="float32",
        elements=24,
        zeros_before=0,
        zeros=12,
        state="masked",
        pruned_now=12,
        tied_to=("b.w",),
        key="a.w",
        candidates=24,
        mask_sha256="00" * 32,
        crc32="deadbeef",
        structure=None,
        copies=("e",),
    )
    left = LeftOut(Role.OTHER, 2, 40, 160, key="generator")
    report = Report(
        "apply",
        CheckpointRef("m", "torch zip", 9),
        CheckpointRef(None, "torch zip", 9),
        [weight],
        ask(0.5),
        ["o"],
        [{}],
        (left,),
    )
    return json.dumps(as_dict(report))


_REPORT = _example()


@settings(max_examples=20, deadline=None)
@given(amount=st.floats(0, 1) | st.integers(0, 9), together=st.booleans(), remove=st.booleans())
def test_a_report_reads_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, amount: Amount, together: bool, remove: bool
) -> None:
    root = tmp_path_factory.mktemp("reading")
    source = save({"a.weight": noise((5, 7)), "b": torch.zeros(0), "c": torch.ones(16, 2, 2)}, root / "m.pt")
    report = apply(source, root / "one.pt", ask(amount, "a.weight", "c", everywhere=together, remove=remove))
    again = parse_report(render_json(report), "r.json")
    assert again == replace(
        report, parameters=tuple(report.parameters), carried=tuple(report.carried), stamps=tuple(report.stamps)
    )
    assert render_json(again) == render_json(report)


def test_a_report_of_any_size_is_read_and_a_text_of_other_objects_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here without the room that small texts have too, so that each row has to pay for itself, as among 222,747.

    What costs most for its letters are short names, and lists of them.
    """
    report = parse_report(_REPORT.encode(), "r.json")
    monkeypatch.setattr("prunecli.formats.json_text._ROOM", 0)
    places = Structure(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    row = replace(report.parameters[0], name="", module="", key="", shape=(), elements=1, pruned_now=0, candidates=0)
    row = replace(row, zeros=0, zeros_before=0, structure=places, tied_to=("",) * 9, copies=("",) * 9, state="dense")
    many = replace(report, parameters=(row,) * 20)
    assert parse_report(render_json(many), "r.json") == many
    for letters in ("{},", "[],", '"",'):
        with pytest.raises(UnsafeError):
            parse_report(b'{"parameters": [%s0]}' % (letters * 2000).encode(), "r.json")


def test_reports_of_old_have_nothing_left_out_and_parameters_alone() -> None:
    content = json.loads(_REPORT)
    assert content.pop("left_out") == [
        {"role": "other network", "key": "generator", "tensors": 2, "elements": 40, "bytes": 160}
    ]
    assert "role" not in content["parameters"][0]
    report = parse_report(json.dumps(content).encode(), "r.json")
    assert (report.left_out, report.parameters[0].role) == ((), Role.PARAMETER)


def test_reports_of_old_do_not_say_along_which_dimension_groups_lie() -> None:
    content = json.loads(_REPORT)
    structure = {
        "rows": 8,
        "empty_rows": 1,
        "columns": 12,
        "empty_columns": 2,
        "blocks_16x16": 1,
        "empty_blocks_16x16": 0,
        "groups_of_4": 24,
        "groups_of_4_with_2_zeros": 5,
        "groups_of_8": None,
        "groups_of_8_with_4_zeros": None,
    }
    for reported, expected in (({}, None), ({"group_dimension": 1}, 1)):
        content["parameters"][0]["structure"] = {**structure, **reported}
        found = parse_report(json.dumps(content).encode(), "r.json").parameters[0].structure
        assert found == Structure(8, 1, 12, 2, 1, 0, 24, 5, None, None, expected)


def _values(content: Any) -> st.SearchStrategy[Any]:
    other: list[Any] = [None, True, -1, 1 << 200, 0.5, "", "x\x1b", [], {}, [1], [{}], {"a": 1}]
    return st.sampled_from([each for each in other if each != content])


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_report_with_a_wrong_value_is_refused_or_read_never_more(data: st.DataObject) -> None:
    content = json.loads(_REPORT)
    place: Any = content
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            break
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or data.draw(st.booleans()):
            place[key] = data.draw(_values(place[key]))
            break
        place = place[key]
    try:
        parse_report(json.dumps(content).encode(), "r.json")
    except PrunecliError as error:
        refusal = error
    else:
        return
    assert refusal.exit_code == 4
    assert str(refusal).startswith("r.json")
    assert str(refusal).isprintable()


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_report_that_lacks_a_field_is_refused(data: st.DataObject) -> None:
    content = json.loads(_REPORT)
    records = [content, content["source"], content["groups"][0], content["parameters"][0], content["left_out"][0]]
    record = data.draw(st.sampled_from(records))
    field = data.draw(st.sampled_from(sorted(set(record) - {"method", "totals", "sparsity", "left_out"})))
    if field == "key" and record is content:
        return  # older reports have none
    del record[field]
    with pytest.raises(DamagedError, match=f"^r.json.*{field}"):
        parse_report(json.dumps(content).encode(), "r.json")


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"\x80", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"schema": 1, "schema": 1}', "schema twice"),
        (b'{"schema": "x\\u001b"}', r"its schema is 'x\x1b'"),
    ],
)
def test_what_is_no_report_is_refused(raw: bytes, words: str) -> None:
    with pytest.raises(DamagedError) as caught:
        parse_report(raw, "r.json")
    assert words in str(caught.value)


def test_another_version_of_the_stream_is_refused() -> None:
    content = json.loads(_REPORT)
    content["tool"]["stream"] = 2
    with pytest.raises(UnsupportedError, match="is of version 2 of the random stream"):
        parse_report(json.dumps(content).encode(), "r.json")

"""What reports record of choices: the text of flags is made for one row after the other."""

import json
import pickle
from pathlib import Path
from typing import Any
from weakref import ref

import pytest
from surgery_zoo import ask, noise, save

from prunecli.core.methods.request import MethodRequest
from prunecli.core.methods.units import UnitChoice
from prunecli.formats.detect import open_checkpoint
from prunecli.surgery.plan.plan import plan_prune
from prunecli.surgery.rewrite import rewrite
from prunecli.surgery.run.destination import Destination


class _Text(str):
    """A string to which there are weak references."""

    __slots__ = ("__weakref__",)


def test_the_flags_of_one_parameter_are_text_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_dict, made, most = UnitChoice.as_dict, list[Any](), 0

    def watched(choice: UnitChoice) -> dict[str, Any]:
        nonlocal most
        made.append(ref(text := _Text(as_dict(choice)["units"])))
        most = max(most, sum(each() is not None for each in made))
        return {"units": text}

    monkeypatch.setattr(UnitChoice, "as_dict", watched)
    source, path = save({f"{number}.w": noise((8, 6)) for number in range(9)}, tmp_path / "m.pt"), tmp_path / "r.json"
    with open_checkpoint(source) as checkpoint:
        plan = plan_prune(checkpoint, ask(0.5, remove=True, method=MethodRequest(block=(1, 4))))
        report = rewrite(checkpoint, plan, Destination(tmp_path / "out.pt", path))
    assert made
    assert most <= 2  # that of a row, and the one that it is compared with or follows
    written = [each["choice"] for each in json.loads(path.read_bytes())["parameters"]]
    assert [each.choice for each in report.parameters] == written
    monkeypatch.undo()
    assert [each.choice for each in pickle.loads(pickle.dumps(report)).parameters] == written
    assert repr(report.parameters[0].choice) == repr(written[0])

"""The law of `restore`: the file before `apply`, byte for byte where torch and the safetensors library wrote it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from component_zoo import make_pipeline
from folder_zoo import make_folder
from rank_threads import by_ranks
from safetensors.torch import load_file, save_file
from spread_zoo import contents
from surgery_zoo import noise
from torch.nn.utils import prune as torch_prune

from prunecli import files
from prunecli.cli.app import run
from prunecli.errors import OutputError, ThresholdError, UsageError
from prunecli.formats.io.sinks import FileSink
from prunecli.formats.opening import open_any
from prunecli.surgery.plan.restore import plan_restore
from prunecli.surgery.report.codec import as_dict
from prunecli.surgery.rewrite import rewrite
from prunecli.surgery.run.destination import Destination
from prunecli.surgery.run.options import Run
from prunecli.surgery.run.ranks import Ranks

pytestmark = pytest.mark.usefixtures("inside")


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def sequential() -> Mapping[str, Any]:
    """Return a state dict with `_metadata`, whose names of modules are also keys of storages."""
    return torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.BatchNorm1d(7), torch.nn.Linear(7, 3)).state_dict()


def trained() -> Mapping[str, Any]:
    state = {0: {"step": torch.tensor(1.0), "exp_avg": noise((4, 3))}, 1: {"step": torch.tensor(1.0)}}
    optimizer = {"state": state, "param_groups": [{"lr": 0.1, "params": [0, 1]}]}
    return {"epoch": 3, "state_dict": torch.nn.Linear(3, 4).state_dict(), "optimizer": optimizer, "w": "w"}


def views() -> Mapping[str, Any]:
    table = noise((6, 8), seed=2)
    return {"w": table, "tied": table, "t": noise((4, 6)).t(), "part": noise((9,))[2:7]}


def types() -> Mapping[str, Any]:
    kinds = (torch.float16, torch.float8_e5m2, torch.bfloat16, torch.float64, torch.complex64, torch.int8, torch.bool)
    return {f"{kind}"[6:]: noise((3, 5)).to(kind) for kind in kinds} | {"empty": torch.empty(0, 3), "0d": noise(())}


def legacy(value: Any, path: str) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False)


def library(value: Any, path: str) -> None:
    save_file(value, path, metadata={"format": "pt"})


@pytest.mark.parametrize("options", [{}, {"mask_dtype": "same", "seed": 2}], ids=["bool", "same"])
@pytest.mark.parametrize(
    ("state", "save"),
    [
        *((state, save) for state in (sequential, trained, views, types) for save in (torch.save, legacy)),
        (sequential, library),
        (types, library),
    ],
)
def test_it_is_the_file_before_apply(
    state: Callable[[], Any], save: Callable[[Any, str], None], options: dict[str, Any]
) -> None:
    save(state(), "before")
    files.apply("before", params="*", amount=0.5, output="masked", **options)
    files.apply("masked", params="*", amount=0.5, output="twice", **options)
    report = files.restore("twice", output="after")
    assert Path("after").read_bytes() == Path("before").read_bytes()
    measured = files.report("before")
    assert (report.command, report.seed, report.totals) == ("restore", None, measured.totals)
    assert as_dict(report)["schema"] == "prunecli.report/2"  # version 1 does not know the command
    assert {each.state for each in report.parameters} == {"dense"}
    assert [each.zeros_before for each in report.parameters] == [
        each.zeros for each in files.report("twice").parameters
    ]
    assert files.verify("after").differences == []
    with pytest.raises(ThresholdError):
        files.verify("twice", "after.report.json")


def test_a_stamp_of_masks_goes_with_them_and_that_of_zeros_stays() -> None:
    save_file({"a": noise((8, 8)), "b": noise((8, 8))}, "plain")
    files.apply("plain", params="a", amount=0.5, bake=True, stamp=True, output="baked")
    for before in ("plain", "baked"):
        files.apply(before, params="*", amount=0.5, stamp=True, output="masked", force=True)
        files.restore("masked", output="after", force=True)
        assert Path("after").read_bytes() == Path(before).read_bytes()
    files.restore("masked", params="a", output="partly")
    assert len(files.report("partly").stamps) == 2


def test_selected_masks_only() -> None:
    save_file({"a": noise((8, 8)), "b": noise((8, 8), seed=3)}, "before")
    files.apply("before", params="*", amount=0.5, output="masked", seed=1)
    report = files.restore("masked", params="*", exclude="b", output="partly")
    assert [(each.name, each.state) for each in report.parameters] == [("a", "dense"), ("b", "masked")]
    found, masked = load_file("partly"), load_file("masked")
    assert found.keys() == {"a", "b_orig", "b_mask"}
    assert torch.equal(found["a"], masked["a_orig"])
    assert torch.equal(found["b_mask"], masked["b_mask"])
    files.restore("partly", output="after")
    assert Path("after").read_bytes() == Path("before").read_bytes()


@pytest.mark.parametrize(
    ("state", "after"),
    [
        ({"x": noise((4,)), "x_mask": torch.tensor([1.0, 0, 1, 0])}, {"x"}),
        ({"m.weight": noise((4,)), "m.sparse_pruning_mask": torch.tensor([True, False, True, True])}, {"m.weight"}),
        ({"parametrizations.w.original": noise((2,)), "parametrizations.w.0.mask": torch.tensor([1.0, 0])}, {"w"}),
        ({"w_orig": noise((2,)), "w_mask": torch.tensor([0.5, 1]), "w_amount": torch.tensor(0.5)}, {"w"}),
        ({"w_orig": torch.arange(2), "w_mask": torch.tensor([0.5, 1])}, {"w"}),  # no `remove` can multiply these
    ],
)
def test_every_layout_of_masks(state: dict[str, Any], after: set[str]) -> None:
    torch.save(state, "masked.pt")
    files.restore("masked.pt")
    found = torch.load("masked.restored.pt")
    assert found.keys() == after
    assert torch.equal(next(iter(found.values())), next(iter(state.values())))


def test_the_command_notes_where_bytes_may_differ(capsys: pytest.CaptureFixture[str]) -> None:
    save_file({"a.weight": noise((8, 9))}, "one")
    shards(Path("folder"), ".safetensors")
    for name, noted in (("one", False), ("folder", True)):
        files.apply(name, params="*.weight", amount=0.5, output=f"masked.{name}")
        assert run(["restore", f"masked.{name}", "-o", f"after.{name}"]) == 0
        captured = capsys.readouterr()
        assert captured.out == f"after.{name}\n"
        assert ("bytes may differ" in captured.err) is noted
        assert "note: no longer masked: a.weight" in captured.err
        assert "pruned now" not in captured.err


def test_a_module_is_the_one_before_pruning() -> None:
    module = torch.nn.Linear(4, 4)
    weight = module.weight.detach().clone()
    torch_prune.random_unstructured(module, "weight", 0.5)  # type: ignore[no-untyped-call]
    torch.save(module, "masked.pt")
    files.restore("masked.pt", output="after.pt", allow_foreign_objects=True)
    found = torch.load("after.pt", weights_only=False)
    assert torch.equal(found.weight, weight)
    assert isinstance(found.weight, torch.nn.Parameter)
    assert not found._forward_pre_hooks


def shards(path: Path, suffix: str) -> Path:
    return make_folder(path, [{"a.weight": noise((8, 9)), "n": torch.tensor(3)}, {"b.weight": noise((7, 5))}], suffix)


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("kind", [".safetensors", ".bin", "pipeline", "file"])
def test_folders_and_ranks(kind: str, ranks: int) -> None:
    before = Path("before")
    if kind == "file":
        save_file({"a.weight": noise((8, 9)), "b.weight": noise((5,))}, before)
    else:
        make_pipeline(before) if kind == "pipeline" else shards(before, kind)
    files.apply(before, params="*.weight", amount=0.5, output="masked")

    def restored(ranks: Ranks) -> int:
        with open_any(Path("masked")) as checkpoint:
            plan = plan_restore(checkpoint, None)
            return rewrite(checkpoint, plan, Destination(Path("after")), Run(2, ranks=ranks)).totals.zeros

    assert by_ranks(ranks, restored)[0] == files.report(before).totals.zeros == 0
    assert contents(Path("after")) == contents(before)


def test_an_interrupted_restore_resumes_and_is_not_the_job_of_remove(monkeypatch: pytest.MonkeyPatch) -> None:
    before = shards(Path("before"), ".safetensors")
    files.apply(before, params="*.weight", amount=0.5, output="masked")
    write, left = FileSink.write, iter(range(3))

    def fail(sink: FileSink, data: memoryview, offset: int) -> None:
        if next(left, None) is None:
            raise OSError(28, "No space left on device")
        write(sink, data, offset)

    with monkeypatch.context() as patched:
        patched.setattr(FileSink, "write", fail)
        with pytest.raises(OutputError):
            files.restore("masked", output="after", resume=True)
    with pytest.raises(UsageError, match="unfinished"):
        files.remove("masked", output="after", resume=True)
    files.restore("masked", output="after", resume=True)
    assert contents(Path("after")) == contents(before)


@pytest.mark.parametrize(
    ("options", "words"),
    [({}, "holds no masks to drop"), ({"params": "b"}, "none of the selected parameters has a mask")],
)
def test_without_masks_it_is_refused(options: dict[str, Any], words: str) -> None:
    save_file({"a": noise((4,)), "b": noise((4,))}, "before")
    if options:
        files.apply("before", params="a", amount=0.5, output="masked")
    with pytest.raises(UsageError, match=words):
        files.restore("masked" if options else "before", output="after", **options)
    assert not Path("after").exists()

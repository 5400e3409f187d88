"""TorchScript programs against torch.jit.load: names, their order, and what is a buffer come from the code's tables."""

import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from format_tools import Filled, geometry, geometry_of, opened, raw_storage, refused, rewrite
from torch import Tensor, nn
from torch_tools import rezipped

from prunecli.errors import DamagedError, UnsafeError, UnsupportedError
from prunecli.formats.base import Edit, Patch
from prunecli.formats.torch import script as torch_script
from prunecli.formats.torch.zip_directory import read_directory


class Block(nn.Module):
    """Every kind of attribute that holds tensors."""

    many: list[Tensor]
    named: dict[str, Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(4, 4)
        self.gain = nn.Parameter(torch.ones(4))
        self.seen = nn.Buffer(torch.zeros(4))
        self.temp = nn.Buffer(torch.zeros(2), persistent=False)
        self.table = torch.arange(4.0)
        self.many = [torch.ones(2), torch.zeros(3)]
        self.named = {"a": torch.ones(1)}

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.lin(x) * self.gain + self.table[0] + self.many[0][0] + self.named["a"]
        y += self.seen
        y += self.temp[0]
        return y


class Net(nn.Module):
    """Containers, ties, and the layers whose parameters torch keeps in odd places."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block()])
        self.by_name = nn.ModuleDict({"x": nn.Linear(4, 4), "y": nn.Conv1d(4, 4, 1)})
        self.tied = nn.Linear(4, 4)
        self.tied.weight = self.blocks[0].lin.weight  # type: ignore[union-attr, assignment]
        self.again = self.blocks[1]
        self.lstm = nn.LSTM(4, 4, 2, bidirectional=True)
        self.norm = nn.BatchNorm1d(8)
        self.attention = nn.MultiheadAttention(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        x = self.tied(self.again(self.by_name["x"](x)))
        y, _ = self.lstm(x.unsqueeze(0))
        y = self.norm(y[0])
        z: Tensor = self.attention(y, y, y)[0]
        return z


def _scripted(module: nn.Module) -> Any:
    return torch.jit.script(module.eval())


def _traced(module: nn.Module) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer, that a branch is fixed
        return torch.jit.trace(module.eval(), torch.ones(3, 4))  # type: ignore[no-untyped-call]


def _half() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4).bfloat16()).eval()


PROGRAMS: dict[str, Callable[[], Any]] = {
    "scripted": lambda: _scripted(Net()),
    "traced": lambda: _traced(Net()),
    "two types": lambda: _scripted(_half()),
    "one tensor": lambda: _scripted(nn.Embedding(4, 3)),
}


def saved(program: Any, path: Path) -> Path:
    torch.manual_seed(0)
    torch.jit.save(program, path)
    return path


def loaded(path: Path) -> Any:
    return torch.jit.load(path)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("name", PROGRAMS)
def test_layout_is_what_torch_loads(tmp_path: Path, name: str) -> None:
    path = saved(PROGRAMS[name](), tmp_path / "m.pt")
    program = loaded(path)
    expected = program.state_dict()
    with opened(path) as checkpoint:
        assert checkpoint.format == "TorchScript"
        assert checkpoint.wrapper == ""
        assert "program" in (checkpoint.no_masks_because or "")
        assert list(checkpoint.tensors) == list(expected)
        buffers = {name for name, info in checkpoint.tensors.items() if info.buffer}
        assert buffers == {name for name, _ in program.named_buffers(remove_duplicate=False)}
        for name, info in checkpoint.tensors.items():
            assert geometry_of(info) == geometry(expected[name]), name
            raw = checkpoint.source.read(info.storage.offset, info.storage.nbytes)
            assert raw == raw_storage(expected[name]), name


def test_plain_attributes_are_no_part_of_the_state_dict(tmp_path: Path) -> None:
    with opened(saved(_scripted(Block()), tmp_path / "m.pt")) as checkpoint:
        assert list(checkpoint.tensors) == ["gain", "seen", "temp", "lin.weight", "lin.bias"]
        assert {info.name for info in checkpoint.carried} == {"table", "many.0.0", "many.0.1", "named.0.a"}
        assert {info.name for info in checkpoint.carried if info.buffer} == {"table"}


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_edit_in_place_changes_its_records_only(tmp_path: Path, name: str) -> None:
    path = saved(PROGRAMS[name](), tmp_path / "m.pt")
    assert rewrite(path, tmp_path / "same.pt", Edit()) == path.read_bytes()
    with opened(path) as checkpoint:
        first = next(iter(checkpoint.tensors.values()))
    rewrite(path, tmp_path / "out.pt", Edit({first.storage.key: [Patch(0, 1, Filled(9))]}))
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "out.pt") as new:
        assert new.testzip() is None
        assert new.namelist() == old.namelist()
        changed = [each for each in new.namelist() if new.read(each) != old.read(each)]
    assert [each.partition("/")[2] for each in changed] == [f"data/{first.storage.key}"]
    state, before = loaded(tmp_path / "out.pt").state_dict(), loaded(path).state_dict()
    storages = {name: tensor.untyped_storage()[0] for name, tensor in state.items()}
    assert storages[first.name] == 9
    untouched = [name for name, at in storages.items() if at != 9]
    assert all(torch.equal(state[name], before[name]) for name in untouched)


def test_programs_for_phones_have_the_same_names(tmp_path: Path) -> None:
    program, path = _scripted(Net()), tmp_path / "m.ptl"
    program._save_for_lite_interpreter(str(path))
    with opened(path) as checkpoint:
        assert list(checkpoint.tensors) == list(program.state_dict())


def test_frozen_programs_are_refused_with_the_remedy(tmp_path: Path) -> None:
    frozen = torch.jit.freeze(_scripted(nn.Sequential(nn.Linear(4, 4), nn.ReLU())))
    refused(saved(frozen, tmp_path / "m.pt"), UnsupportedError, "prune it before torch.jit.freeze")


def test_classes_that_the_code_does_not_define_are_foreign(tmp_path: Path) -> None:
    path = saved(_scripted(nn.Linear(4, 3)), tmp_path / "m.pt")
    out = rezipped(
        path,
        tmp_path / "changed.pt",
        lambda name, data: data.replace(b"__torch__", b"__other__") if name == "data.pkl" else data,
    )
    refused(out, UnsafeError, r"__other__\.torch\.nn\.modules\.linear\.\S*Linear")


def test_without_tables_all_that_hangs_is_named(tmp_path: Path) -> None:
    """Code may be printed otherwise than we know; names are still those of the graph, and nothing is a buffer."""
    path = saved(_scripted(nn.BatchNorm1d(3)), tmp_path / "m.pt")
    out = rezipped(path, tmp_path / "changed.pt", lambda name, data: data.replace(b"__parameters__", b"__params__"))
    with opened(out) as checkpoint:
        assert set(checkpoint.tensors) == set(loaded(path).state_dict())
        assert not any(info.buffer for info in checkpoint.tensors.values())


def test_names_in_other_letters_stand_in_octal(tmp_path: Path) -> None:
    """As the printer means to write them; where `char` is signed, torch 2.13 writes what it cannot read itself."""
    path = saved(_scripted(nn.ModuleDict({"abcd": nn.BatchNorm1d(3)})), tmp_path / "m.pt")
    new = {"data.pkl": (b"running_mean", "laufendé ø".encode())}

    def change(name: str, data: bytes) -> bytes:
        if name == "data.pkl":
            return data.replace(*new["data.pkl"])
        return data.replace(b'"running_mean"', rb'"laufend\303\251 \303\270"')

    assert len(new["data.pkl"][0]) == len(new["data.pkl"][1])
    with opened(rezipped(path, tmp_path / "changed.pt", change)) as checkpoint:
        assert checkpoint.tensors["abcd.laufendé ø"].buffer


def test_damaged_code_is_damage(tmp_path: Path) -> None:
    path = saved(_scripted(nn.Linear(4, 3)), tmp_path / "m.pt")
    data = bytearray(path.read_bytes())
    with opened(path) as checkpoint:
        code = next(each for each in read_directory(checkpoint.source).records if "/linear" in each.name)
    data[code.offset + code.stored_size // 2] ^= 1
    path.write_bytes(data)
    refused(path, DamagedError, r"record \S+/linear\S* is damaged")


def test_code_that_unpacks_to_more_than_any_program_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(_scripted(nn.Linear(4, 3)), tmp_path / "m.pt")
    monkeypatch.setattr(torch_script, "_LARGEST_CODE", 1 << 20)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "bomb.pt", "w") as new:
        for name in old.namelist():
            is_code = "/linear" in name
            data = old.read(name) + (b"#" * (1 << 21) if is_code else b"")
            new.writestr(name, data, zipfile.ZIP_DEFLATED if is_code else zipfile.ZIP_STORED)
    refused(tmp_path / "bomb.pt", UnsafeError, "its code unpacks to more than 1 MiB")

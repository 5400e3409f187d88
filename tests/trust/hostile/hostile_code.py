"""Files that run code where torch.load reads them without its guard: all opcodes that can, in all containers."""

import argparse
import io
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hostile_corpus import body, refused
from hostile_makers import (
    STORAGE,
    beside_a_weight,
    call,
    distributed,
    folder_of,
    legacy,
    mapping,
    nested_zip,
    tensor,
    text,
    view,
    zipped,
)
from torch.distributed.checkpoint.metadata import MetadataIndex
from torch.package.package_exporter import PackageExporter

from prunecli.formats.pickles.dump import dump
from prunecli.formats.pickles.nodes import Call, Global, TupleNode

__all__ = ["EVIL", "Filled", "Made", "Stateful"]

_TOUCH = b"(Vtouch canary\nt"
_SYSTEM = b"cposix\nsystem\n" + _TOUCH + b"R"
EVIL = b"\x80\x02" + _SYSTEM + b"."
"""A pickle that leaves a file named canary where it is run."""

_PLAIN = beside_a_weight(b"N", b"N")
_REFUSED = r"objects that weights-only loading refuses \({}\); --allow-foreign-objects leaves them as they are, unread"


def _runs(names: str) -> Callable[[Callable[[], bytes]], Callable[[], bytes]]:
    return body(5, _REFUSED.format(names), family="code", foreign=0, within="zip legacy script")


@_runs("posix.system")
def reduce() -> bytes:
    return _SYSTEM


@_runs("builtins.exec")
def reduce_of_exec() -> bytes:
    return b"cbuiltins\nexec\n(Vopen('canary', 'w').close()\ntR"


@_runs("__builtin__.eval")
def reduce_of_eval_as_python_2_named_it() -> bytes:
    return b"c__builtin__\neval\n(Vopen('canary', 'w').close()\ntR"


@_runs("posix.system")
def stack_global() -> bytes:
    return text("posix") + text("system") + b"\x93" + _TOUCH + b"R"


@_runs("posix.system")
def inst() -> bytes:
    return b"(Vtouch canary\niposix\nsystem\n"


@_runs("posix.system")
def obj() -> bytes:
    return b"(cposix\nsystem\nVtouch canary\no"


@_runs("hostile_code.Made")
def newobj() -> bytes:
    return b"chostile_code\nMade\n(Vcanary\nt\x81"


@_runs("hostile_code.Made")
def newobj_ex() -> bytes:
    return b"chostile_code\nMade\n)}Vpath\nVcanary\ns\x92"


@_runs("hostile_code.Stateful")
def build() -> bytes:
    return b"chostile_code\nStateful\n)\x81Vcanary\nb"


@_runs("hostile_code.Filled")
def appends() -> bytes:
    return b"chostile_code\nFilled\n)\x81(Vcanary\ne"


@_runs("hostile_code.Filled")
def setitems() -> bytes:
    return b"chostile_code\nFilled\n)\x81(Vcanary\nNu"


@_runs("_pickle.loads")
def a_nested_pickle() -> bytes:
    return b"c_pickle\nloads\n(C" + bytes([len(EVIL)]) + EVIL + b"tR"


@_runs("builtins.getattr, builtins.__import__")
def a_chain_of_calls() -> bytes:
    return b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(Vposix\ntRVsystem\ntR" + _TOUCH + b"R"


@_runs("posix.system")
def a_call_under_a_key() -> bytes:
    return b"}" + _SYSTEM + b"Ns"


@_runs("posix.system")
def a_call_in_a_persistent_id_of_a_class() -> bytes:
    return b"(" + text("module") + b"cposix\nsystem\n" + text("f.py") + _SYSTEM + b"tQ"


@_runs("runpy._run_code, builtins.dict")
def a_module_that_runs_code() -> bytes:
    return b"crunpy\n_run_code\n(Vopen('canary', 'w').close()\ncbuiltins\ndict\n)RtR"


@_runs("posix.system")
def a_call_among_the_arguments_of_what_is_admitted() -> bytes:
    return b"ccollections\nOrderedDict\n(" + _SYSTEM + b"tR"


def _lost(names: str, lost: str) -> Callable[[Callable[[], bytes]], Callable[[], bytes]]:
    """What would run, too, but no graph can hold."""
    says = rf"objects that weights-only loading refuses \({names}"
    return body(5, says, family="code", foreign=4, foreign_says=lost)


@_lost("posix.system", "POP at byte")
def a_call_whose_result_is_popped() -> bytes:
    return _SYSTEM + b"0N"


@_lost("posix.system", "POP_MARK at byte")
def calls_whose_results_are_popped() -> bytes:
    return b"(" + _SYSTEM + b"1N"


@_lost("evil.C", "SETITEM at byte")
def build_before_setitem() -> bytes:
    return b"cevil\nC\n)\x81NbNNs"


@_lost("evil.C", "APPEND at byte")
def setitem_before_append() -> bytes:
    return b"cevil\nC\n)\x81NNsNa"


def _hidden(foreign: int) -> Callable[[Callable[..., object]], Callable[..., object]]:
    return refused(5, r"weights-only loading refuses \(posix.system\)", family="code", foreign=foreign)


@_hidden(4)
def legacy_the_version() -> bytes:
    return legacy(_PLAIN, version=EVIL)


@_hidden(4)
def legacy_the_pickle_of_the_version() -> bytes:
    return legacy(_PLAIN, version=b"\x80\x02" + _SYSTEM + b"0M\xe9\x03.")


@_hidden(0)
def legacy_the_facts() -> bytes:
    return legacy(_PLAIN, facts=EVIL)


@_hidden(4)
def legacy_the_keys() -> bytes:
    return legacy(_PLAIN, keys=b"\x80\x02](" + _SYSTEM + b"e.")


@_hidden(4)
def legacy_the_pickle_of_the_keys() -> bytes:
    return legacy(_PLAIN, keys=b"\x80\x02" + _SYSTEM + b"0](" + text("0") + b"e.")


@refused(4, "no list of storages|a plain pickle|another version", family="code", foreign=4)
def legacy_behind_the_magic_number() -> bytes:
    return legacy(_PLAIN)[:14] + b"\x80\x02N." + EVIL


@refused(4, "is a plain pickle, not a checkpoint", family="code", foreign=4)
def a_bare_pickle() -> bytes:
    return EVIL


@refused(4, "is a text file; prunecli reads", family="code", foreign=4)
def a_bare_pickle_of_protocol_0() -> bytes:
    return b"cposix\nsystem\n(Vtouch canary\ntR."


@refused(4, "is a torch.package archive", family="code", foreign=4)
def a_torch_package() -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), PackageExporter(out) as exporter:
        exporter.save_pickle("model", "model.pkl", {"w": torch.ones(2)})
    return out.getvalue()


@_hidden(4)
def the_whole_pickle_of_a_zip() -> bytes:
    return zipped(EVIL)


@refused(5, "weights-only loading refuses", family="code", foreign=0)
def a_method_of_a_tensor() -> bytes:
    """torch.load would call `Tensor.apply_` with a function of the file's."""
    made = Call("reduce", Global("torch", "Tensor.apply_"), TupleNode([view(_storage()), Global("posix", "system")]))
    return nested_zip({"data.pkl": dump(mapping(w=view(_storage()), x=made), 4), "data/0": STORAGE, "version": b"3\n"})


def _storage() -> Any:
    from hostile_makers import storage

    return storage()


@refused(5, "weights-only loading refuses", family="code", foreign=0)
def a_hook_of_a_tensor() -> bytes:
    """The backward hooks of `_rebuild_tensor_v2`, made by a call."""
    pickled = tensor()
    hooks = b"ccollections\nOrderedDict\n)R"
    assert pickled.count(hooks) == 1
    return zipped(b"\x80\x02}" + text("w") + pickled.replace(hooks, _SYSTEM) + b"s.")


@refused(5, "weights-only loading refuses", family="code", foreign=4)
def in_the_place_of_a_storage_class() -> bytes:
    return zipped(b"\x80\x02}" + text("w") + tensor().replace(b"ctorch\nFloatStorage\n", b"cposix\nsystem\n") + b"s.")


@refused(5, "weights-only loading refuses", family="code", foreign=0)
def a_name_with_dots_behind_an_admitted_module() -> bytes:
    """From protocol 4 on, names with dots reach attributes: here a class method that makes an empty dict."""
    inner = text("collections") + text("OrderedDict.fromkeys") + b"\x93)\x85R"
    return zipped(b"\x80\x04}(" + text("w") + tensor() + text("x") + inner + b"u.")


@refused(
    5,
    r"weights-only loading refuses \(argparse.Namespace\)|holds no tensors; it is a pickled argparse.Namespace",
    family="code",
    but={"params": 4, "report": 4},
    foreign=4,
    foreign_says="it is a pickled argparse.Namespace",
)
def arguments_of_a_trainer() -> bytes:
    out = io.BytesIO()
    torch.save(argparse.Namespace(lr=1), out)
    return out.getvalue()


@refused(5, r"weights-only loading refuses \(torch.nn.modules.linear.Linear", family="code", foreign=0)
def a_whole_module() -> bytes:
    out = io.BytesIO()
    torch.save(torch.nn.Linear(2, 2), out)
    return out.getvalue()


@refused(5, r"evil.C0, evil.C1, evil.C2, \.\.\.\)", family="code", foreign=0)
def more_classes_than_a_line_holds() -> bytes:
    names = b"".join(f"cevil\nC{i}\n".encode() for i in range(900))
    return zipped(beside_a_weight(b"(" + names + b"l"))


@refused(5, r"\(m{20,}…m{20,}\.C\)", family="code", foreign=0)
def one_long_name_of_many_classes() -> bytes:
    head = text("m" * 500_000) + b"q\x000" + text("C") + b"q\x010"
    return zipped(b"\x80\x02" + head + beside_a_weight(b"](" + b"h\x00h\x01\x93" * 20_000 + b"e")[2:])


class Runs:
    """Leaves a file named canary when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Made, ("canary",)


def _in_metadata(place: str) -> Callable[[Any], None]:
    return lambda data: setattr(data, place, Runs())


def _metadata(foreign: int) -> Callable[[Callable[..., object]], Callable[..., object]]:
    return refused(5, r"names what torch does not write there \(hostile_code.Made\)", family="code", foreign=foreign)


@_metadata(0)
def metadata_planner_data(folder: Path) -> None:
    distributed(folder, _in_metadata("planner_data"))


@_metadata(0)
def metadata_storage_meta(folder: Path) -> None:
    distributed(folder, _in_metadata("storage_meta"))


@_metadata(0)
def metadata_version(folder: Path) -> None:
    distributed(folder, _in_metadata("version"))


@_metadata(0)
def metadata_another_attribute(folder: Path) -> None:
    distributed(folder, _in_metadata("extra"))


@_metadata(4)
def metadata_the_whole(folder: Path) -> None:
    (distributed(folder) / ".metadata").write_bytes(pickle.dumps(Runs()))


@refused(5, "that torch.save did not write", family="code", foreign=0)
def distributed_a_bare_pickle_as_an_object(folder: Path) -> None:
    distributed(folder)
    info = pickle.loads((folder / ".metadata").read_bytes()).storage_data[MetadataIndex("epoch")]
    with (folder / info.relative_path).open("r+b") as file:
        file.seek(info.offset)
        file.write(pickle.dumps(Runs()).ljust(info.length, b"."))


@refused(5, r"weights-only loading refuses \(posix.system\)", family="code", foreign=0)
def a_shard_of_a_folder(folder: Path) -> None:
    folder.mkdir()
    (folder / "pytorch_model.bin").write_bytes(zipped(beside_a_weight(_SYSTEM)))


@_hidden(4)
def a_torch_zip_among_safetensors(folder: Path) -> None:
    folder_of(folder, two=zipped(EVIL))


@refused(5, r"a weight of memory as it lies \(torch.FloatTensor is called\); --allow-foreign", family="code", foreign=0)
def a_call_that_makes_memory() -> bytes:
    """Of no elements here: the call is what is refused, whatever its size."""
    return zipped(beside_a_weight(call("torch.FloatTensor", b"K\x00")))


@refused(5, r"a weight of memory as it lies \(torch.FloatTensor is called\); --allow-foreign", family="code", foreign=0)
def a_call_that_makes_memory_legacy() -> bytes:
    return legacy(beside_a_weight(call("torch.FloatTensor", b"K\x00"), b"N"))


@refused(
    5,
    r"a weight of memory as it lies \(torch.storage.UntypedStorage is called\); --allow-foreign",
    family="code",
    foreign=0,
)
def a_call_that_makes_a_storage() -> bytes:
    return zipped(beside_a_weight(call("torch.storage.UntypedStorage", b"K\x00")))


@refused(5, r"a weight of memory as it lies \(torch.Tensor is called\); --allow-foreign", family="code", foreign=0)
def a_call_that_makes_memory_by_newobj() -> bytes:
    return zipped(beside_a_weight(b"ctorch\nTensor\nK\x00\x85\x81"))


@refused(
    5, r"a weight of memory as it lies \(torch.cuda.HalfTensor is called\); --allow-foreign", family="code", foreign=0
)
def a_call_that_makes_memory_of_a_device() -> bytes:
    return zipped(beside_a_weight(call("torch.cuda.HalfTensor", b"K\x00")))


def _leave(path: object) -> None:
    if path == "canary":
        Path("canary").touch()


class Made:
    """Writes a file where it is made."""

    def __new__(cls, path: str = "") -> "Made":
        _leave(path)
        return super().__new__(cls)


class Stateful:
    """Writes a file where it gets its state."""

    def __setstate__(self, state: object) -> None:
        _leave(state)


class Filled:
    """Writes a file where it gets items or entries."""

    def extend(self, items: list[object]) -> None:
        """Append."""
        _leave(items[0])

    def __setitem__(self, key: object, value: object) -> None:
        _leave(key)

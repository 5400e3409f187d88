"""torch.export's archives (`.pt2`): a zip with a program as JSON, and its weights as one record per storage.

`torch.export.save` of torch 2.13 writes these records below one top folder, uncompressed and laid out as in
`torch.save`'s zips:

- `archive_format` ("pt2"), `archive_version` ("0"), `.data/version` ("6") and `byteorder`;
- for each program, `models/NAME.json`;
- `data/weights/NAME_weights_config.json`, and the records `data/weights/weight_N` that it names;
- `data/constants/NAME_constants_config.json`, and the records `data/constants/tensor_N` that it names;
- `data/sample_inputs/NAME.pt`, itself a torch zip;
- the user's own files below `extra/`.

`torch.export.save` writes one program, named `model`, and `torch.export.load` returns that one; `package_pt2` writes
several. The weights are the state dict: parameters and persistent buffers, each with the flag `is_param`. The
constants are the tensors that are not in a state dict: attributes, literals, and buffers that are not saved.

The program refers to its weights by name, so only their values may change. Loading unpickles the sample inputs,
tensor subclasses and objects among the constants without any restriction (`torch/export/pt2_archive`,
`_package.py`). This module reads them as graphs, and refuses those that weights-only loading would refuse.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from prunecli.errors import DamagedError, UnsupportedError, UsageError, raised_in, show
from prunecli.formats.base import Edit, ReadOptions, SingleFile, TensorInfo
from prunecli.formats.io.pieces import Piece
from prunecli.formats.io.source import Source, Window, in_source
from prunecli.formats.json_text import parse_object
from prunecli.formats.torch.export_payloads import CONSTANTS, WEIGHTS, PayloadFolder, Payloads, read_payloads
from prunecli.formats.torch.object_tree import Tree
from prunecli.formats.torch.objects import check_objects, load_objects
from prunecli.formats.torch.signatures import EXPORT_FORMAT, OLD_EXPORT, compiled_by, looks_like_zip
from prunecli.formats.torch.zip import check_torch_zip
from prunecli.formats.torch.zip_directory import Directory, Record
from prunecli.formats.torch.zip_patching import patched_archive
from prunecli.formats.torch.zip_records import check_stated, is_big_endian, read_record
from prunecli.lean import dataclass
from prunecli.terms import HERE, KEY

__all__ = ["ExportArchive", "read_export_archive"]

_VERSION = "archive_version"
_MAIN = "model"
_SHOWN = 8
_CONFIG = re.compile(r"data/weights/(.+)_weights_config\.json", re.DOTALL)


@dataclass(frozen=True)
class ExportArchive(SingleFile):
    """The layout of a torch.export archive. `root` is the folder that contains all records."""

    source: Source
    tensors: Mapping[str, TensorInfo]
    carried: Sequence[TensorInfo]
    wrapper: str
    directory: Directory
    root: str
    notes: Sequence[str] = ()
    format: str = "torch.export"
    no_masks_because: str = "the program in a torch.export archive names the tensors that it uses"
    metadata: None = None

    def pieces(self, edit: Edit) -> Iterator[Piece]:
        """Copy the archive with the patches applied and the CRC-32 fields of patched records updated."""
        if edit.structural:
            raise UnsupportedError(
                f"{self.source.label} is a torch.export archive whose program multiplies its masks in; bake the model "
                "before it is exported"
            )
        patches_of = {f"{self.root}{WEIGHTS.path}{key}": patches for key, patches in edit.patches.items()}
        return patched_archive(self.source, self.directory, patches_of)


@in_source
def read_export_archive(source: Source, directory: Directory, reading: ReadOptions) -> ExportArchive:
    """Read the layout of a torch.export archive.

    Raises:
        DamagedError: the archive, its configurations and its records contradict each other.
        UnsafeError: it holds objects that weights-only loading refuses, and `reading` does not admit them.
        UnsupportedError: it holds compiled code, has an older format, or holds several programs and no `model`.
        UsageError: `reading` names a program that the archive does not hold.
    """
    root = _root(directory)
    _check_kind(source, directory, root)
    names = {name.removeprefix(root) for name in directory.by_name}
    programs = sorted(found[1] for name in names if (found := _CONFIG.fullmatch(name)))
    passed_over = reading.recorded and reading.key not in programs
    chosen = _choose(programs, None if passed_over else reading.key)
    weights: Mapping[str, TensorInfo] = {}
    carried: list[TensorInfo] = []
    pickled: dict[str, Record] = {}
    for program in programs:
        prefix = "" if program == chosen else f"{program}."
        for folder in (WEIGHTS, CONSTANTS):
            payloads = _payloads(source, directory, root, program, folder)
            pickled.update((record.name, record) for record in payloads.pickled)
            if folder is WEIGHTS and program == chosen:
                weights = payloads.tensors
            else:
                inner = prefix if folder is WEIGHTS else f"{prefix}constants."
                carried += [replace(each, name=f"{inner}{each.name}") for each in payloads.tensors.values()]
    pickled.update((each.name, each) for each in _sample_inputs(directory, root))
    for record in pickled.values():
        _check_pickled(source, record, reading)
    others = ", ".join(show(each, 40) for each in programs if each != chosen)
    notes = (
        [f"the program {show(chosen)} is taken, and its neighbours are left alone ({KEY}: {others})"] if others else []
    )
    return ExportArchive(source, weights, carried, chosen if others else "", directory, root, notes)


def _root(directory: Directory) -> str:
    """Return the folder that contains all records; refuse archives of another kind."""
    if OLD_EXPORT in directory.by_name:
        raise UnsupportedError(
            f"{HERE} is in torch.export's format from before torch 2.8; load it with torch.export.load and save it "
            "again"
        )
    compiled = next(filter(None, map(compiled_by, directory.by_name)), None)
    if compiled is not None:
        raise UnsupportedError(
            f"{HERE} is a torch.export archive with code that {compiled}, which may hold weights of its own; prune "
            "the model before it is compiled"
        )
    roots = {name.partition("/")[0] for name in directory.by_name}
    if len(roots) != 1 or any("/" not in name for name in directory.by_name):
        raise DamagedError(f"{HERE}: its records do not lie in one folder, as those of a torch.export archive do")
    return f"{roots.pop()}/"


def _check_kind(source: Source, directory: Directory, root: str) -> None:
    """Check that this module can read the archive's format and version.

    Raises:
        UnsupportedError: the format or the version is another.
    """
    check_stated(source, directory, root)
    for name, expected in ((EXPORT_FORMAT, b"pt2"), (_VERSION, b"0")):
        record = directory.by_name.get(f"{root}{name}")
        stated = read_record(source, record) if record is not None and record.size <= _SHOWN else None
        if stated != expected:
            said = "is missing" if record is None else "says something else"
            raise UnsupportedError(
                f"{source.label} is a torch.export archive of a kind that prunecli does not know: its record {name} "
                f"{said}, where torch writes {expected.decode()}"
            )


def _choose(programs: Sequence[str], key: str | None) -> str:
    """Return the name of the program whose weights are the state dict."""
    named = ", ".join(show(name, 40) for name in programs[:_SHOWN])
    if not programs:
        raise UnsupportedError(f"{HERE} is a torch.export archive without weights; it holds nothing to prune")
    if key is not None and key not in programs:
        raise UsageError(f"{KEY} {show(key)}: {HERE} has no such program, but {named}")
    if key is not None or len(programs) == 1:
        return programs[0] if key is None else key
    if _MAIN in programs:
        return _MAIN
    raise UnsupportedError(f"{HERE} holds several programs; choose one of them by {KEY} ({named})")


def _payloads(source: Source, directory: Directory, root: str, program: str, folder: PayloadFolder) -> Payloads:
    kind = folder.path.split("/")[1]
    path = f"{folder.path}{program}_{kind}_config.json"
    record = directory.by_name.get(f"{root}{path}")
    if record is None:
        raise DamagedError(f"{source.label}: record {show(path)} is missing; fetch the archive again")
    config = parse_object(read_record(source, record), f"{source.label}: record {show(path)}")
    found = read_payloads(config, directory, root, folder)
    if not is_big_endian(source, directory, root):
        return found
    return replace(found, tensors={name: _swapped(tensor) for name, tensor in found.tensors.items()})


def _swapped(tensor: TensorInfo) -> TensorInfo:
    return replace(tensor, storage=replace(tensor.storage, big_endian=True))


def _sample_inputs(directory: Directory, root: str) -> list[Record]:
    folder = f"{root}data/sample_inputs/"
    return [record for record in directory.records if record.name.startswith(folder) and record.size]


def _check_pickled(source: Source, record: Record, reading: ReadOptions) -> None:
    """Check that unpickling a record runs nothing that `reading` does not admit.

    Raises:
        UnsafeError: unpickling would run something else.
        DamagedError: the record is neither a torch zip nor a pickle.
    """
    label = f"{source.label}: record {show(record.name)}"
    if record.deflated:
        raise UnsupportedError(f"{label} is compressed; save the archive anew")
    window = Window(source, record.offset, record.size, label)
    if looks_like_zip(window.read(0, min(4, record.size))):
        check_torch_zip(window, reading)
    else:
        graph = load_objects(read_record(source, record), 0, label)
        with raised_in(label):
            check_objects(graph, reading, Tree())

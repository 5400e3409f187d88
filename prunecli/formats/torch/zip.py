"""The zip container of torch.save (since torch 1.6): a pickle of the object graph, and one record per storage.

Baking copies the archive byte for byte, except for the chosen elements and the CRC-32 fields of their records. Adding
or removing masks writes a new pickle and lays the records out again, as torch does (`zip_layout`). TorchScript
programs use the same container, with their code beside the pickle.
"""

from collections.abc import Iterator, Mapping

from prunecli.errors import DamagedError, UnsupportedError, raised_in, show
from prunecli.formats.base import Addition, Edit, ReadOptions, Storage
from prunecli.formats.io.pieces import Literal, Piece
from prunecli.formats.io.source import Source, in_source
from prunecli.formats.pickles.nodes import PickleGraph
from prunecli.formats.torch.container import TorchContainer
from prunecli.formats.torch.object_tree import Tree
from prunecli.formats.torch.objects import Edited, check_objects, edit_objects, load_objects, read_objects
from prunecli.formats.torch.script import Program, read_program
from prunecli.formats.torch.tensors import StorageRef
from prunecli.formats.torch.zip_directory import Directory, Record, read_directory
from prunecli.formats.torch.zip_layout import NewRecord, lay_out
from prunecli.formats.torch.zip_patching import is_unsummed, new_record, patched_archive
from prunecli.formats.torch.zip_records import check_stated, is_big_endian, read_record, stated_alignment
from prunecli.lean import dataclass
from prunecli.terms import HERE

__all__ = ["TorchZip", "check_torch_zip", "read_torch_zip"]


@dataclass(frozen=True)
class TorchZip(TorchContainer):
    """The layout of a torch zip. `root` is the folder that contains all records."""

    directory: Directory
    root: str
    program: Program | None

    @property
    def format(self) -> str:
        """The name of the format in reports."""
        return "torch zip" if self.program is None else "TorchScript"

    def _in_place(self, edit: Edit) -> Iterator[Piece]:
        """Copy the file unchanged except for the patches and the CRC-32 fields of patched records."""
        patches_of = {f"{self.root}data/{key}": patches for key, patches in edit.patches.items()}
        return patched_archive(self.source, self.directory, patches_of)

    def _relaid(self, edit: Edit) -> Iterator[Piece]:
        """Write a new pickle and lay all records out again, storages in the order in which the pickle names them."""
        if self.program is not None:
            raise UnsupportedError(
                f"{self.source.label} is a TorchScript program whose code multiplies its masks in; bake the model "
                "before it is scripted or traced"
            )
        graph = _load_pickle(self.source, self.directory, self.root)
        taken = map(self._storage_key, self.directory.records)
        with raised_in(self.source.label):
            edited = edit_objects(graph, self.objects, edit, self.reading, taken)
        alignment = stated_alignment(self.source, self.directory, self.root)
        return lay_out(list(self._new_records(edit, edited)), alignment)

    def _new_records(self, edit: Edit, edited: Edited) -> Iterator[NewRecord]:
        by_key = {self._storage_key(record): record for record in self.directory.records}
        storages_done = False
        for record in self.directory.records:
            key = self._storage_key(record)
            if record.name == f"{self.root}data.pkl":
                yield NewRecord(record.name, [Literal(edited.pickled)])
            elif key in self.objects.storages:
                if not storages_done:
                    yield from (self._storage_record(key, by_key, edit, edited.fresh) for key in edited.storages)
                storages_done = True
            elif record.deflated:
                raise UnsupportedError(f"{self.source.label}: record {show(record.name)} is compressed; bake instead")
            # With this record, torch computes offsets, from storage "0" on; without it, torch reads them.
            elif record.name != f"{self.root}.format_version" or next(iter(edited.storages), "") == "0":
                yield new_record(record, (), self.source.label)

    def _storage_record(
        self, key: str, by_key: Mapping[str, Record], edit: Edit, fresh: Mapping[str, Addition]
    ) -> NewRecord:
        if key in fresh:
            return NewRecord(f"{self.root}data/{key}", fresh[key].pieces)
        return new_record(by_key[key], edit.patches.get(key, ()), self.source.label)

    def _storage_key(self, record: Record) -> str:
        """Return the key of the storage in a record, "" if the record does not hold a storage."""
        prefix = f"{self.root}data/"
        return record.name.removeprefix(prefix) if record.name.startswith(prefix) else ""


@in_source
def read_torch_zip(source: Source, reading: ReadOptions, directory: Directory | None = None) -> TorchZip:
    """Read the layout of a torch zip or a TorchScript program; pass `directory` if it has been read already.

    Raises:
        DamagedError: archive, pickle and storages contradict each other.
        UnsafeError: it holds objects that weights-only loading refuses, and `reading` does not admit them.
        UnsupportedError: it is another kind of zip, or compressed, or holds nothing to prune.
    """
    directory = directory or read_directory(source)
    root = _root(directory)
    check_stated(source, directory, root)
    graph = _load_pickle(source, directory, root)
    program = read_program(source, directory, root)

    def place(storages: Mapping[str, StorageRef]) -> dict[str, Storage]:
        return _places(source, storages, directory, root)

    objects = read_objects(graph, place, reading, program)
    return TorchZip(source, objects, reading, directory, root, program)


@in_source
def check_torch_zip(source: Source, reading: ReadOptions) -> None:
    """Check that loading a torch zip would run nothing, whether it holds tensors or anything else.

    Raises:
        DamagedError: the archive or the pickle is damaged.
        UnsafeError: it holds objects that weights-only loading refuses, and `reading` does not admit them.
        UnsupportedError: it is another kind of zip, or compressed.
    """
    directory = read_directory(source)
    graph = _load_pickle(source, directory, _root(directory))
    check_objects(graph, reading, Tree())


def _root(directory: Directory) -> str:
    """Return the folder of `data.pkl`; refuse zips of another kind."""
    names = [record.name for record in directory.records]
    roots = {name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl") and name.count("/") == 1}
    if any(name.endswith("/python_version") for name in names) and not roots:
        raise UnsupportedError(f"{HERE} is a torch.package archive; save its state_dict() instead")
    if len(roots) != 1:
        raise UnsupportedError(f"{HERE} is a zip file without one data.pkl; it is not a torch checkpoint")
    root = roots.pop()
    if any(not name.startswith(root) for name in names):
        raise DamagedError(f"{HERE}: its zip holds records outside {show(root)}; it is not a torch checkpoint")
    return root


def _load_pickle(source: Source, directory: Directory, root: str) -> PickleGraph:
    data = read_record(source, directory.by_name[f"{root}data.pkl"], "data.pkl")
    return load_objects(data, 0, f"{source.label}: data.pkl")


def _places(source: Source, storages: Mapping[str, StorageRef], directory: Directory, root: str) -> dict[str, Storage]:
    """Return the place of each storage that the pickle names, from the records of the archive."""
    places: dict[str, Storage] = {}
    big_endian = is_big_endian(source, directory, root)
    for key, ref in storages.items():
        record = directory.by_name.get(f"{root}data/{key}")
        if record is None:
            raise DamagedError(f"{HERE}: storage {show(key)} is missing; the archive is damaged")
        if record.deflated:
            raise UnsupportedError(f"{HERE}: storage {show(key)} is compressed; save the checkpoint anew with torch")
        if record.size != ref.nbytes or record.stored_size != record.size:
            raise DamagedError(f"{HERE}: storage {show(key)} has {record.size} bytes, the pickle expects {ref.nbytes}")
        crc = None if is_unsummed(record) else record.crc
        places[key] = Storage(key, record.offset, record.size, crc, big_endian)
    return places

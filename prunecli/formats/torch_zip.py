"""torch.save's zip container (since torch 1.6): a pickle of the object graph, and one record per storage.

Baking copies the archive byte for byte but for the chosen elements and the CRC-32 fields of their records. Adding or
removing masks writes a new pickle and lays the records out anew, as torch does (`zip_layout`).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from prunecli.errors import DamagedError, UnsupportedError, show
from prunecli.formats.base import Addition, Edit, Patch, Storage, TensorInfo, patched_copies
from prunecli.formats.crc import crc32
from prunecli.formats.pickle_dump import dump
from prunecli.formats.pickle_graph import load
from prunecli.formats.pickle_nodes import Call, Entry, Node, PickleGraph, children, walk
from prunecli.formats.pieces import Checksum, Copy, Deferred, Fresh, Literal, Piece
from prunecli.formats.source import Source
from prunecli.formats.state_dict import NamedNode, StateDict, find_state_dict
from prunecli.formats.torch_globals import admitted
from prunecli.formats.torch_tensors import StorageRef, TensorRef, mask_node, storage_ref, tensor_ref, wrapped
from prunecli.formats.zip_directory import Directory, Record, read_directory
from prunecli.formats.zip_layout import ALIGNMENT, NewRecord, lay_out

__all__ = ["TorchZip", "read_torch_zip"]


@dataclass(frozen=True)
class TorchZip:
    """The layout of a torch zip. `root` is the folder that all records lie in; `key` is what the user forced."""

    source: Source
    tensors: Mapping[str, TensorInfo]
    carried: Sequence[TensorInfo]
    wrapper: str
    big_endian: bool
    directory: Directory
    root: str
    storages: Mapping[str, StorageRef]
    key: str | None
    format: str = "torch zip"

    def pieces(self, edit: Edit) -> Iterator[Piece]:
        """Describe the rewritten archive."""
        return self._relaid(edit) if edit.structural else self._in_place(edit)

    def _in_place(self, edit: Edit) -> Iterator[Piece]:
        """Copy the file as it lies, with the patches put in and the CRC-32 fields of patched records renewed."""
        places: list[tuple[int, Checksum]] = []
        at = 0
        for record in self.directory.records:
            patches = edit.patches.get(self._storage_key(record), ())
            after = Checksum(record.size) if patches or _unsummed(record) else None
            fields = [(place, after) for place in record.crc_places] if after else []
            inline = [place for place, _ in fields if place < self.directory.central]
            stops = sorted([*inline, record.offset])
            for stop in stops:
                yield Copy(at, stop - at)
                at = stop
                if stop == record.offset:
                    yield from _payload(record, patches, after, self.source.label)
                    at += record.stored_size
                elif after:
                    yield _crc_field(after)
                    at += 4
            places += [field for field in fields if field[0] >= self.directory.central]
        for place, checksum in sorted(places, key=lambda field: field[0]):
            yield Copy(at, place - at)
            yield _crc_field(checksum)
            at = place + 4
        yield Copy(at, self.source.size - at)

    def _relaid(self, edit: Edit) -> Iterator[Piece]:
        """Write a new pickle and lay all records out anew, storages in the order in which the pickle meets them."""
        graph = _load_pickle(self.source, self.directory, self.root)
        state = find_state_dict(graph.root, self.key, self.source.label)
        fresh = _edit_graph(state, edit, self)
        pickled = dump(graph.root, graph.protocol)
        met = list(dict.fromkeys(storage_ref(node, "").key for node in load(pickled).persistents))
        return lay_out(list(self._new_records(edit, pickled, met, fresh)), self._alignment())

    def _new_records(
        self, edit: Edit, pickled: bytes, met: Sequence[str], fresh: Mapping[str, Addition]
    ) -> Iterator[NewRecord]:
        by_key = {self._storage_key(record): record for record in self.directory.records}
        storages_done = False
        for record in self.directory.records:
            key = self._storage_key(record)
            if record.name == f"{self.root}data.pkl":
                yield NewRecord(record.name, len(pickled), partial(_literal, pickled))
            elif key in self.storages:
                if not storages_done:
                    yield from (self._storage_record(key, by_key, edit, fresh) for key in met)
                storages_done = True
            elif record.deflated:
                raise UnsupportedError(f"{self.source.label}: record {show(record.name)} is compressed; bake instead")
            # torch computes offsets only from storage "0" on; without the record, it reads them.
            elif record.name != f"{self.root}.format_version" or met[:1] == ["0"]:
                yield NewRecord(record.name, record.size, partial(_copied, record, (), self.source.label))

    def _storage_record(
        self, key: str, by_key: Mapping[str, Record], edit: Edit, fresh: Mapping[str, Addition]
    ) -> NewRecord:
        if key in fresh:
            return NewRecord(f"{self.root}data/{key}", fresh[key].nbytes, partial(_fresh, fresh[key]))
        record = by_key[key]
        return NewRecord(
            record.name, record.size, partial(_copied, record, edit.patches.get(key, ()), self.source.label)
        )

    def _storage_key(self, record: Record) -> str:
        """Return the key of the storage that a record holds, "" if it holds none."""
        prefix = f"{self.root}data/"
        return record.name.removeprefix(prefix) if record.name.startswith(prefix) else ""

    def _alignment(self) -> int:
        stated = _small_record(self.source, self.directory, f"{self.root}.storage_alignment")
        return int(stated) if stated.isdigit() and 0 < int(stated) <= 1 << 16 else ALIGNMENT


def read_torch_zip(source: Source, key: str | None = None) -> TorchZip:
    """Read the layout of a torch zip; `key` forces where the state dict lies.

    Raises:
        DamagedError: archive, pickle and storages contradict each other.
        UnsupportedError: it is another kind of zip, a TorchScript program, compressed, or holds foreign objects.
    """
    directory = read_directory(source)
    root = _root(directory, source.label)
    graph = _load_pickle(source, directory, root)
    _refuse_foreign(graph, source.label)
    storages, places = _storages(graph, directory, root, source.label)
    state = find_state_dict(graph.root, key, source.label)
    tensors = {named.name: _info(named.name, named.ref, places) for named in state.nodes}
    carried = [
        _info(f"a tensor outside the state dict, in data/{ref.storage.key}", ref, places)
        for ref in _others(graph.root, state, source.label)
    ]
    big_endian = _small_record(source, directory, f"{root}byteorder") == b"big"
    return TorchZip(source, tensors, carried, state.wrapper, big_endian, directory, root, storages, key)


def _root(directory: Directory, label: str) -> str:
    """Return the folder of `data.pkl`, and refuse the zips that are something else."""
    names = [record.name for record in directory.records]
    roots = {name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl") and name.count("/") == 1}
    if any("/code/" in name or name.endswith("/constants.pkl") for name in names):
        raise UnsupportedError(f"{label} is a TorchScript program; save its state_dict() with torch.save instead")
    if any(name.endswith((".json", "/python_version")) and "/" in name for name in names) and not roots:
        raise UnsupportedError(f"{label} is a torch.export or torch.package archive; save its state_dict() instead")
    if len(roots) != 1:
        raise UnsupportedError(f"{label} is a zip file without one data.pkl; it is no torch checkpoint")
    root = roots.pop()
    if any(not name.startswith(root) for name in names):
        raise DamagedError(f"{label}: its zip holds records outside {show(root)}; it is no torch checkpoint")
    return root


def _record_of(directory: Directory, name: str) -> Record | None:
    return next((record for record in directory.records if record.name == name), None)


def _small_record(source: Source, directory: Directory, name: str) -> bytes:
    record = _record_of(directory, name)
    return source.read(record.offset, record.size) if record and record.size <= 64 and not record.deflated else b""


def _load_pickle(source: Source, directory: Directory, root: str) -> PickleGraph:
    record = _record_of(directory, f"{root}data.pkl")
    if record is None or record.deflated:
        raise UnsupportedError(f"{source.label} is compressed, which torch.load reads but never writes; save it anew")
    data = source.read(record.offset, record.size)
    if not _unsummed(record) and crc32(data) != record.crc:
        raise DamagedError(
            f"{source.label}: record data.pkl is damaged, its CRC-32 is wrong; fetch the checkpoint again"
        )
    return load(data, where=f"{source.label}: data.pkl")


def _refuse_foreign(graph: PickleGraph, label: str) -> None:
    foreign = sorted({f"{each.module}.{each.name}" for each in graph.globals if not admitted(each.module, each.name)})
    if foreign:
        named = ", ".join(show(name, 60) for name in foreign[:3]) + (", ..." if len(foreign) > 3 else "")
        raise UnsupportedError(
            f"{label} holds objects that weights-only loading refuses ({named}); save its state_dict() instead"
        )


def _storages(
    graph: PickleGraph, directory: Directory, root: str, label: str
) -> tuple[dict[str, StorageRef], dict[str, Storage]]:
    """Match the storages that the pickle names with the records of the archive."""
    records = {record.name: record for record in directory.records}
    refs: dict[str, StorageRef] = {}
    places: dict[str, Storage] = {}
    for node in graph.persistents:
        ref = storage_ref(node, label)
        known = refs.setdefault(ref.key, ref)
        if known != ref:
            raise DamagedError(f"{label}: storage {show(ref.key)} is described in two ways")
        if ref.key in places:
            continue
        record = records.get(f"{root}data/{ref.key}")
        if record is None:
            raise DamagedError(f"{label}: storage {show(ref.key)} is missing; the archive is damaged")
        if record.deflated:
            raise UnsupportedError(
                f"{label}: storage {show(ref.key)} is compressed; save the checkpoint anew with torch"
            )
        if record.size != ref.nbytes or record.stored_size != record.size:
            raise DamagedError(
                f"{label}: storage {show(ref.key)} has {record.size} bytes, the pickle expects {ref.nbytes}"
            )
        places[ref.key] = Storage(ref.key, record.offset, record.size)
    return refs, places


def _info(name: str, ref: TensorRef, places: Mapping[str, Storage]) -> TensorInfo:
    return TensorInfo(name, ref.dtype, ref.view, places[ref.storage.key])


def _others(root: Node, state: StateDict, label: str) -> Iterator[TensorRef]:
    """Yield the tensors of the graph that the state dict does not name, or that something else holds as well."""
    nodes = list(walk(root))
    named = Counter(id(named.node) for named in state.nodes)
    held = Counter(id(below) for node in nodes for below in children(node) if isinstance(below, Call))
    calls = [node for node in nodes if isinstance(node, Call)]
    inner = {id(wrapped(call)) for call in calls if wrapped(call) is not None}
    for call in calls:
        elsewhere = id(call) not in inner and held[id(call)] > named[id(call)]
        ref = tensor_ref(call, label) if elsewhere else None
        if ref is not None:
            yield ref


def _unsummed(record: Record) -> bool:
    """Whether torch was told to write no checksums (`set_crc32_options(False)`, `skip_data`)."""
    return record.crc == 0 and record.size > 0 and not record.deflated


def _crc_field(checksum: Checksum) -> Deferred:
    return Deferred(4, lambda: checksum.value.to_bytes(4, "little"), (checksum,))


def _payload(record: Record, patches: Sequence[Patch], after: Checksum | None, label: str) -> Iterator[Piece]:
    before = None
    if not record.deflated and not _unsummed(record):
        before = Checksum(record.size, record.crc, f"{label}: record {show(record.name)}")
    storage = Storage(record.name, record.offset, record.stored_size)
    return patched_copies(storage, patches, before, after)


def _copied(record: Record, patches: Sequence[Patch], label: str, after: Checksum) -> Iterable[Piece]:
    return _payload(record, patches, after, label)


def _literal(data: bytes, after: Checksum) -> Iterable[Piece]:
    after.add(0, crc32(data), len(data))
    return [Literal(data)]


def _fresh(addition: Addition, after: Checksum) -> Iterable[Piece]:
    return [Fresh(addition.nbytes, addition.content, after)]


def _edit_graph(state: StateDict, edit: Edit, archive: TorchZip) -> dict[str, Addition]:
    """Rename, remove and add entries of the state dict; return the new storages by key."""
    additions: dict[str, list[Addition]] = {}
    for addition in edit.additions:
        additions.setdefault(addition.after, []).append(addition)
    taken = [int(key) for key in archive.storages if key.isdigit()]
    next_key = max(taken, default=-1) + 1
    fresh: dict[str, Addition] = {}
    replacement: dict[int, list[Entry]] = {}
    homes: dict[int, list[Entry]] = {}
    for named in state.nodes:
        if named.name not in edit.renames and named.name not in edit.removals and named.name not in additions:
            continue
        home, entry = _home(named, archive.source.label)
        homes[id(home)] = home
        entries = [] if named.name in edit.removals else [entry]
        for addition in additions.get(named.name, []):
            key, next_key = str(next_key), next_key + 1
            fresh[key] = addition
            location = archive.storages[archive.tensors[named.name].storage.key].location
            node = mask_node(key, location, addition.dtype, addition.shape)
            entries.append(Entry(_key_for(addition.name, named), node))
        entry.key = _key_for(edit.renames.get(named.name, named.name), named)
        replacement[id(entry)] = entries
    for home in homes.values():
        home[:] = [each for entry in home for each in replacement.get(id(entry), [entry])]
    return fresh


def _home(named: NamedNode, label: str) -> tuple[list[Entry], Entry]:
    if named.home is None or named.entry is None or not isinstance(named.entry.key, str):
        raise UnsupportedError(
            f"{label}: {show(named.name)} lies in a list or under a number, where a mask cannot be named; use --remove"
        )
    return named.home, named.entry


def _key_for(new_name: str, named: NamedNode) -> str:
    """Return the key in its own mapping that gives a tensor beside `named` the dotted name `new_name`."""
    key = named.entry.key if named.entry and isinstance(named.entry.key, str) else ""
    return new_name[len(named.name) - len(key) :]

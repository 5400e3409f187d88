"""A folder of components, each a folder with its own weights, read as one checkpoint.

Each component is read as a folder and keeps its own index. Tensor names begin with the component:
`unet/conv_in.weight` is the parameter `conv_in.weight` of the component `unet`. Tensors at the top have no prefix.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from functools import cached_property

from prunecli.errors import DamagedError, show
from prunecli.formats.base import AS_FOUND, Addition, Edit, PassthroughFile, ReadOptions, TensorInfo
from prunecli.formats.folders.base import Folder
from prunecli.formats.folders.component_names import Components
from prunecli.formats.folders.concatenated import Concatenated
from prunecli.formats.folders.files import weight_files
from prunecli.formats.folders.reader import FolderFiles, Listing
from prunecli.formats.folders.sharded import ShardedFolder, open_folder
from prunecli.formats.folders.weights import plain_weights
from prunecli.formats.io.locations import Location
from prunecli.formats.io.pieces import Piece
from prunecli.formats.io.source import Source
from prunecli.lean import dataclass

__all__ = ["ComponentsFolder", "open_components"]


@dataclass(frozen=True)
class ComponentsFolder(Folder):
    """A folder of components by prefix: "unet/", or "" for the component at the top."""

    path: Location
    parts: Mapping[str, ShardedFolder]
    sources: Mapping[str, Source]
    passthrough: Sequence[PassthroughFile]
    source: Concatenated
    tensors: Mapping[str, TensorInfo]
    carried: Sequence[TensorInfo]
    components: Components

    @property
    def format(self) -> str:
        """The format of the components."""
        kinds = dict.fromkeys(part.format.removeprefix("folder of ") for part in self.parts.values())
        return f"folder of components of {' and '.join(kinds)}"

    @property
    def wrapper(self) -> str:
        """The place of the state dict in each component, if it is the same in all."""
        places = {part.wrapper for part in self.parts.values()}
        return places.pop() if len(places) == 1 else ""

    @property
    def no_masks_because(self) -> str | None:
        """The reason why masks cannot be stored here; None if they can."""
        return next((part.no_masks_because for part in self.parts.values() if part.no_masks_because), None)

    @property
    def metadata(self) -> Mapping[str, str] | None:
        """The metadata of the first component, None if the format of a component has none."""
        found = [part.metadata for part in self.parts.values()]
        return None if None in found else found[0]

    @property
    def other_weight_files(self) -> list[str]:
        """Other files with weights, including those in components."""
        below = [prefix + name for prefix, part in self.parts.items() if prefix for name in part.other_weight_files]
        bare = {f"{name}/" if name else "" for name in self.components.bare}
        files = [each for each in self.passthrough if each.name.rpartition("/")[0] + "/" in bare]
        unread = [each.name for each in files if weight_files([replace(each, name=each.name.rpartition("/")[2])])]
        return weight_files(self.passthrough) + below + unread

    @property
    def notes(self) -> Sequence[str]:
        """The notes of the components, and which components are missing."""
        notes = [
            f"{prefix}: {sentence}" if prefix else sentence
            for prefix, part in self.parts.items()
            for sentence in part.notes
        ]
        absent = self.components.absent
        if absent:
            named = ", ".join(show(name, 60) for name in absent[:3])
            notes.append(f"{self.components.named_by} names components that are not in the folder: {named}")
        return notes

    @property
    def absent(self) -> Mapping[str, str]:
        """The tensor names that an index lists for a shard (the value) that does not contain them."""
        return {
            prefix + name: prefix + file for prefix, part in self.parts.items() for name, file in part.absent.items()
        }

    @cached_property
    def _homes(self) -> Mapping[str, str]:
        """The component of each file."""
        return {prefix + file: prefix for prefix, part in self.parts.items() for file in part.sources}

    @cached_property
    def _held(self) -> Mapping[str, Sequence[TensorInfo]]:
        """The tensors in each file, including those outside the state dicts: optimizer state can be edited."""
        found: dict[str, list[TensorInfo]] = {file: [] for file in self.sources}
        for tensor in (*self.tensors.values(), *self.carried):
            found[self.file_of(tensor.storage.key)].append(tensor)
        return found

    @cached_property
    def _files(self) -> Mapping[str, str]:
        """The file of each storage."""
        return {
            prefix + tensor.storage.key: prefix + part.file_of(tensor.storage.key)
            for prefix, part in self.parts.items()
            for tensor in (*part.tensors.values(), *part.carried)
        }

    def file_of(self, storage: str) -> str:
        """Return the file that contains a storage."""
        return self._files[storage]

    def file_pieces(self, file: str, edit: Edit) -> Iterable[Piece]:
        """Return the pieces of a rewritten file, as its component describes it."""
        prefix = self._homes[file]
        return self.parts[prefix].file_pieces(file.removeprefix(prefix), _within(edit, prefix, self._held[file]))

    def closing(self, edit: Edit) -> Mapping[str, bytes]:
        """Return the index of each component that has one."""
        own: dict[str, list[TensorInfo]] = {prefix: [] for prefix in self.parts}
        for tensor in self.tensors.values():
            own[tensor.component].append(tensor)
        return {
            prefix + name: data
            for prefix, part in self.parts.items()
            for name, data in part.closing(_within(edit, prefix, own[prefix])).items()
        }


def _within(edit: Edit, prefix: str, tensors: Iterable[TensorInfo]) -> Edit:
    """Return the part of an edit that concerns these tensors of a component, with their names in the component."""
    patches, renames, removals = {}, {}, []
    additions: list[Addition] = []
    for tensor in tensors:
        name, key = tensor.name, tensor.storage.key
        inner = name.removeprefix(prefix)
        if key in edit.patches:
            patches[key.removeprefix(prefix)] = edit.patches[key]
        if name in edit.renames:
            renames[inner] = edit.renames[name].removeprefix(prefix)
        if name in edit.removals:
            removals.append(inner)
        additions += [
            replace(each, after=inner, name=each.name.removeprefix(prefix)) for each in edit.behind.get(name, ())
        ]
    return Edit(patches, renames, frozenset(removals), additions, edit.metadata)


class _Below(FolderFiles):
    """The files of a component, read through the folder that contains it."""

    def __init__(self, whole: FolderFiles, prefix: str, files: Sequence[PassthroughFile]) -> None:
        self._whole = whole
        self._prefix = prefix
        self._files = files

    def listed(self) -> Iterator[PassthroughFile]:
        """List the files."""
        return iter(self._files)

    def open(self, name: str) -> AbstractContextManager[Source]:
        """Open a file."""
        return self._whole.open(self._prefix + name)


@contextmanager
def open_components(
    listing: Listing, components: Components, reading: ReadOptions = AS_FOUND
) -> Iterator[ComponentsFolder]:
    """Open the components of a folder.

    Raises:
        DamagedError: a tensor at the top has the same name as one in a component.
        PrunecliError: as `open_folder`.
    """
    with ExitStack() as stack:
        parts: dict[str, ShardedFolder] = {}
        for prefix, own in _listings(listing, components.names):
            parts[prefix] = stack.enter_context(open_folder(own.location, reading, own, plain_weights(own.files)))
        yield _join(listing, parts, components)


def _listings(listing: Listing, names: Sequence[str]) -> Iterator[tuple[str, Listing]]:
    """Yield the prefix and the files of each component; the files of a nested component belong to it alone."""
    held: dict[str, list[PassthroughFile]] = {name: [] for name in names}
    for path, file in listing.files.items():
        folder = path.rpartition("/")[0]
        while folder and folder not in held:
            folder = folder.rpartition("/")[0]
        if folder in held:
            prefix = f"{folder}/" if folder else ""
            held[folder].append(replace(file, name=path.removeprefix(prefix)))
    for name, files in held.items():
        location, prefix = listing.location, f"{name}/" if name else ""
        for part in name.split("/") if name else ():
            location = location / part
        yield prefix, Listing(location, _Below(listing.folder, prefix, files), {each.name: each for each in files})


def _join(listing: Listing, parts: Mapping[str, ShardedFolder], components: Components) -> ComponentsFolder:
    label = show(listing.location)
    sources = {prefix + file: source for prefix, part in parts.items() for file, source in part.sources.items()}
    joined = Concatenated([part.source for part in parts.values()], label, str(listing.location))
    tensors: dict[str, TensorInfo] = {}
    carried: list[TensorInfo] = []
    for (prefix, part), start in zip(parts.items(), joined.starts, strict=True):
        for tensor in part.tensors.values():
            moved = _moved(tensor, prefix, start)
            if tensors.setdefault(moved.name, moved) is not moved:
                raise DamagedError(f"{label}: tensor {show(moved.name)} is there twice, at the top and in a component")
        carried += [_moved(tensor, prefix, start) for tensor in part.carried]
    closed = {prefix + name for prefix, part in parts.items() for name in part.closing(Edit())}
    others = [each for name, each in listing.files.items() if name not in sources and name not in closed]
    return ComponentsFolder(listing.location, parts, sources, others, joined, tensors, carried, components)


def _moved(tensor: TensorInfo, prefix: str, start: int) -> TensorInfo:
    storage = replace(tensor.storage, key=prefix + tensor.storage.key, offset=start + tensor.storage.offset)
    return replace(tensor, name=prefix + tensor.name, storage=storage, component=prefix)

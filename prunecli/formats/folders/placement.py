"""Which tensors of which shards belong to the checkpoint: the index decides, and all others are carried along."""

from collections.abc import Iterator, Mapping, Sequence

from prunecli.errors import DamagedError, show
from prunecli.formats.base import Checkpoint
from prunecli.formats.folders.index_file import Index
from prunecli.lean import dataclass
from prunecli.terms import HERE

__all__ = ["Placement", "place_tensors"]

_SHOWN = 80


@dataclass(frozen=True)
class Placement:
    """The shard of each tensor by name, in the order of the index, and the differences between index and shards.

    `surplus` are tensors, as (shard, name), that the index does not name or lists for another shard. `moved` are
    tensors in exactly one shard, which is not the one that the index names. `absent` are names that the index lists
    for a shard (the value) that does not contain them, and that no other shard contains, or more than one.
    """

    files: Mapping[str, str]
    surplus: Sequence[tuple[str, str]]
    moved: Sequence[str]
    absent: Mapping[str, str]

    def notes(self) -> Iterator[str]:
        """Yield a sentence for each kind of disagreement."""
        if self.absent:
            name, file = next(iter(self.absent.items()))
            yield (
                f"the index names {_tensors(len(self.absent))} that {_are(len(self.absent))} not where it says: "
                f"{show(name, _SHOWN)} is not in {show(file, _SHOWN)}; such names stay in the index"
            )
        if self.moved:
            name = self.moved[0]
            yield (
                f"the index names another shard than the one that holds {_tensors(len(self.moved))}: "
                f"{show(name, _SHOWN)} was read from {show(self.files[name], _SHOWN)}"
            )
        stale = [each for each in self.surplus if each[1] in self.files]
        if stale:
            file, name = stale[0]
            yield (
                f"carried along as they are: stale copies of {_tensors(len(stale))}, in shards where the index does "
                f"not put them, from {show(name, _SHOWN)} in {show(file, _SHOWN)} on; transformers loads the copy in "
                "the last shard"
            )
        unnamed = [each for each in self.surplus if each[1] not in self.files]
        if unnamed:
            file, name = unnamed[0]
            yield (
                f"carried along as they are: {_tensors(len(unnamed))} that the index does not name, from "
                f"{show(name, _SHOWN)} in {show(file, _SHOWN)} on"
            )


def place_tensors(index: Index | None, shards: Mapping[str, Checkpoint]) -> Placement:
    """Return the shard of every tensor. Without an index, there is one shard.

    Raises:
        DamagedError: index and shards have no name in common, or a pruned parameter lacks its mask or its weight.
    """
    holders: dict[str, list[str]] = {}
    for file, shard in shards.items():
        for name in shard.tensors:
            holders.setdefault(name, []).append(file)
    if index is None:
        return Placement({name: files[0] for name, files in holders.items()}, (), (), {})
    files, moved, absent = {}, [], {}
    for name, named in index.weight_map.items():
        found = holders.get(name, [])
        if named in found:
            files[name] = named
        elif len(found) == 1:
            files[name] = found[0]
            moved.append(name)
        else:
            absent[name] = named
    surplus = [(file, name) for name, found in holders.items() for file in found if files.get(name) != file]
    if not files:
        raise DamagedError(f"{HERE}: no tensor that the index names is in its shards; fetch index and shards again")
    _check_halves(files, absent)
    return Placement(files, surplus, moved, absent)


def _check_halves(files: Mapping[str, str], absent: Mapping[str, str]) -> None:
    """Refuse a weight without its mask, which would look like a dense weight, and a mask without its weight."""
    for name, file in absent.items():
        for one, other in (("_mask", "_orig"), ("_orig", "_mask")):
            if name.endswith(one) and name.removesuffix(one) + other in files:
                raise DamagedError(
                    f"{HERE}: {show(file)} lacks {show(name)}, which the index puts there, and "
                    f"{show(name.removesuffix(one) + other)} is nothing without it; fetch the shard again"
                )


def _tensors(count: int) -> str:
    return "1 tensor" if count == 1 else f"{count:,} tensors"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"

"""The nearest neighbour of a path that does not exist, for "did you mean"."""

import os
from itertools import islice
from pathlib import Path

__all__ = ["nearest_path"]

_ENTRIES = 10_000
"""The most entries of a folder that are compared."""

_ALIKE = 0.7
"""The least likeness of names without their suffixes, which alone make no two files alike."""


def nearest_path(path: Path) -> Path | None:
    """Return the existing path most like a missing one, which differs in one name; None if nothing is alike."""
    missing = next((each for each in (*reversed(path.parents), path) if not os.path.lexists(each)), None)
    if missing is None:  # a link to nowhere, for example
        return None
    import difflib  # slow, and only errors need it

    try:
        with os.scandir(missing.parent) as entries:
            names = [entry.name for entry in islice(entries, _ENTRIES)]
    except OSError:
        return None
    stems: dict[str, list[str]] = {}
    for name in names:
        stems.setdefault(Path(name).stem, []).append(name)
    alike = difflib.get_close_matches(missing.stem, stems, n=1, cutoff=_ALIKE)
    near = difflib.get_close_matches(missing.name, stems[alike[0]], n=1, cutoff=0.0) if alike else []
    found = missing.with_name(near[0]) / path.relative_to(missing) if near else None
    return found if found is not None and os.path.lexists(found) else None

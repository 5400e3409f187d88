"""The name of a slice, apart from the slices: names are selected without numpy."""

__all__ = ["slice_name"]


def slice_name(name: str, number: int) -> str:
    """Return the name of a slice of a parameter."""
    return f"{name}#{number}"

"""Packed files: another file, smaller, to the byte lossless. docs/packed.md describes the format."""

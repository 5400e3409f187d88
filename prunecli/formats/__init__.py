"""Containers: names, dtypes, shapes, strides, offsets, bytes. Nothing here depends on pruning."""

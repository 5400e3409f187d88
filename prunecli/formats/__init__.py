"""Containers: names, dtypes, shapes, strides, offsets, bytes. Knows no pruning."""

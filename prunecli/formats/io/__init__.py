"""Bytes at offsets, in and out: sources, sinks, pieces, streams, URLs."""

"""Pruning of arrays and tensors, without files or a console."""

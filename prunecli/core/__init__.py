"""Pruning: arrays and tensors, no files, no console."""

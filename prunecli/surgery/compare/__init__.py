"""The comparison of two checkpoints."""

"""Masks as things of their own: read from mask files, checkpoints or zeros; written, compared and combined."""

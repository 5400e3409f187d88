"""Pickles as inert graphs: read and written, never run."""

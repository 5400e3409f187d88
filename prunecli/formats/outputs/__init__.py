"""Outputs appear whole under their names, or not at all: files, folders, here and behind URLs."""

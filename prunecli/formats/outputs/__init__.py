"""Outputs: files and folders, local or at URLs, that appear complete under their names or not at all."""

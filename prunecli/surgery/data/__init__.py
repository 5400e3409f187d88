"""Bytes on their way from input to output: masks, elements zeroed, elements counted."""

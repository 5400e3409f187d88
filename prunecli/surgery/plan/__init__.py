"""Descriptions of what to do: request, recipe, plan."""

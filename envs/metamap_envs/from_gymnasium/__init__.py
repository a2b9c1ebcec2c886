"""Families declared in YAML: any Gymnasium environment and a table of what varies in it."""

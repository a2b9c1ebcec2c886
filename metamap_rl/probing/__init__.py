"""Probes, and the collection of D."""

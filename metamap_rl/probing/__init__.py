"""Probes, and collecting D with them."""

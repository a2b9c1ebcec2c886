"""Benchmarks of continual learning: learners x streams x orders x seeds, one cell on disk each, and their summary."""

from __future__ import annotations

__all__: list[str] = []

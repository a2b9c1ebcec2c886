"""Benchmarks of continual learning: learners x streams x orders x seeds, each a cell on disk, and their sum."""

from __future__ import annotations

__all__: list[str] = []

"""Streams: continual learning of a mapper on a sequence of tasks, with metrics of forgetting and transfer."""

from __future__ import annotations

__all__: list[str] = []

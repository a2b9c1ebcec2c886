"""Streams: tasks arrive one after another, and the mapper goes on learning without forgetting."""

from __future__ import annotations

__all__: list[str] = []

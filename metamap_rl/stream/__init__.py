"""Streams: tasks arrive one after another, and the mapper goes on learning; what it forgets is measured."""

from __future__ import annotations

__all__: list[str] = []

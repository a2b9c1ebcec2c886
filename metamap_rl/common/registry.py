"""Registries of choices by name; see `metamap_agents.runtime.registry`."""

from __future__ import annotations

from metamap_agents.runtime.registry import Registry, load_modules

__all__ = ["Registry", "load_modules"]

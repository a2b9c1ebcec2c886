"""Families declared in YAML: any Gymnasium environment and a table of what varies in it."""

from metamap_envs.from_gymnasium.loading import declared_families, from_gymnasium, load_family

__all__ = ["declared_families", "from_gymnasium", "load_family"]

"""Terms of observation, reward and ends: each is one class in a module of this package, found by its name."""

from metamap_envs.mjcf.terms.registry import read_end, read_quantity, read_reward

__all__ = ["read_end", "read_quantity", "read_reward"]

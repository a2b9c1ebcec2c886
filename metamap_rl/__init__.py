"""Everything is a map: a few transitions of a new environment in, the weights of a policy for it out.

Names are imported when used, so that ``import metamap_rl`` stays fast and needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metamap_rl.adaptation import AdaptedPolicy, adapt
    from metamap_rl.dataset import Examples, Pairs
    from metamap_rl.mapper import Mapper, MapperConfig
    from metamap_rl.rollouts import load_rollout, save_rollout
    from metamap_rl.statistics import Interval, bootstrap_interval, iqm
    from metamap_rl.train import TrainConfig

__all__ = [
    "AdaptedPolicy",
    "Examples",
    "Interval",
    "Mapper",
    "MapperConfig",
    "Pairs",
    "TrainConfig",
    "__version__",
    "adapt",
    "bootstrap_interval",
    "iqm",
    "load_rollout",
    "save_rollout",
]

__version__ = "0.1.0"

_HOME = {
    "AdaptedPolicy": "adaptation",
    "Examples": "dataset",
    "Interval": "statistics",
    "Mapper": "mapper",
    "MapperConfig": "mapper",
    "Pairs": "dataset",
    "TrainConfig": "train",
    "adapt": "adaptation",
    "bootstrap_interval": "statistics",
    "iqm": "statistics",
    "load_rollout": "rollouts",
    "save_rollout": "rollouts",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

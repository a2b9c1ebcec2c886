"""Everything is a map: a few transitions of a new environment in, the weights of a policy for it out.

Names are imported when used, so that ``import metamap_rl`` stays fast and needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from metamap_rl import _renamed  # noqa: F401  # old names of modules

if TYPE_CHECKING:
    from metamap_rl.adaptation.one_shot import AdaptedPolicy, adapt
    from metamap_rl.common.statistics import Interval, bootstrap_interval, iqm
    from metamap_rl.data.examples import Examples
    from metamap_rl.data.pairs import Pairs
    from metamap_rl.data.rollouts import load_rollout, save_rollout
    from metamap_rl.mapper.config import MapperConfig
    from metamap_rl.mapper.mapper import Mapper
    from metamap_rl.training.config import TrainConfig

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
    "AdaptedPolicy": "adaptation.one_shot",
    "Examples": "data.examples",
    "Interval": "common.statistics",
    "Mapper": "mapper.mapper",
    "MapperConfig": "mapper.config",
    "Pairs": "data.pairs",
    "TrainConfig": "training.config",
    "adapt": "adaptation.one_shot",
    "bootstrap_interval": "common.statistics",
    "iqm": "common.statistics",
    "load_rollout": "data.rollouts",
    "save_rollout": "data.rollouts",
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

"""Everything is a map: a few transitions of a new environment in, the weights of a policy for it out.

Names are imported when used, so that ``import metamap_rl`` stays fast and needs no torch.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metamap_rl.adapt import AdaptedPolicy, adapt
    from metamap_rl.dataset import Examples, Pairs
    from metamap_rl.mapper import Mapper, MapperConfig
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
]

__version__ = "0.1.0"

_HOME = {
    "AdaptedPolicy": "adapt",
    "Examples": "dataset",
    "Interval": "statistics",
    "Mapper": "mapper",
    "MapperConfig": "mapper",
    "Pairs": "dataset",
    "TrainConfig": "train",
    "adapt": "adapt",
    "bootstrap_interval": "statistics",
    "iqm": "statistics",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


class _Package(ModuleType):
    """This package, in which the function ``adapt`` is not hidden by the module of the same name.

    Whoever imports ``metamap_rl.adapt`` first makes the import system bind that module here as ``adapt``; then
    ``metamap_rl.adapt(...)`` would call a module. ``sys.modules`` keeps the module either way.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if name not in _HOME or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __dir__() -> list[str]:
    return sorted(__all__)

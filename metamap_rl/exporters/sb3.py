"""Zip of Stable-Baselines3, for ``PPO.load``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from metamap_rl.adaptation.plain import PlainPolicy
from metamap_rl.exporters.base import EXPORTERS

__all__ = ["Sb3"]


@EXPORTERS.register("sb3")
class Sb3:
    """A PPO model with actor, critic and action noise, which can be trained further."""

    suffix: ClassVar[str] = ".zip"
    writes: ClassVar[tuple[type, ...]] = (PlainPolicy,)

    def __call__(self, source: Any, path: Path) -> None:
        """See `metamap_rl.exporters.base.Exporter`."""
        policy: PlainPolicy = source
        policy.save_sb3(path)

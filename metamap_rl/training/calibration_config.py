"""Settings of calibration."""

from __future__ import annotations

from dataclasses import dataclass

from metamap_envs.errors import MetaMapError
from metamap_envs.seeds import read_seed
from metamap_rl.mapper.selfcheck import check_lengths

__all__ = ["CalibrationConfig"]


@dataclass(frozen=True)
class CalibrationConfig:
    """How to calibrate.

    Raises:
        MetaMapError: a value out of range.
    """

    lengths: tuple[int, ...] = (1, 2, 5, 10, 20, 50, 100, 200)
    """Transitions of D at which everything is measured; the first must be 1."""
    usual_tasks: int = 256
    """Tasks of the training split from which what is usual is learned; half as many of the training split, and as many
    of the validation split, say how much usual D differ from it."""
    return_tasks: int = 48
    """Tasks of either split on which generated and base policies are run, to learn which returns to expect."""
    episodes: int = 3
    """Of each policy on each of them."""
    harm_tasks: int = 64
    """Validation tasks on which harm is measured; fewer than 22 cannot show a harm rate below a tenth."""
    harm_episodes: int = 6
    """Of each policy on each of those, on the same reset seeds."""
    harm_limit: float = 0.1
    """What the upper confidence bound of the harm rate must stay below where generated policies are served."""
    false_alarms: float = 0.005
    """Share of usual D that may count as foreign, at every length, before ``slack``."""
    slack: float = 1.2
    """By how much the limit is raised above that quantile, which is itself uncertain: a few hundred D, long tails."""
    hidden: int = 64
    """Width of the network that predicts reward and change."""
    updates: int = 1500
    """Of that network."""
    seed: int = 0
    """Of tasks, probes and the network."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", read_seed(self.seed, "calibration: seed"))
        check_lengths(self.lengths)
        least_of = {"usual_tasks": 4, "return_tasks": 2, "episodes": 2, "harm_tasks": 1, "harm_episodes": 2}
        for name, least in (least_of | {"hidden": 1, "updates": 1}).items():
            if getattr(self, name) < least:
                raise MetaMapError(f"calibration: {name}: expected at least {least}, got {getattr(self, name)}")
        for name in ("false_alarms", "harm_limit"):
            if not 0 < getattr(self, name) < 1:
                raise MetaMapError(f"calibration: {name}: expected a share in (0, 1), got {getattr(self, name)}")
        if not self.slack >= 1:
            raise MetaMapError(f"calibration: slack: expected at least 1, got {self.slack}")
        for name in ("return_tasks", "harm_tasks"):
            if getattr(self, name) > self.usual_tasks // 2:
                raise MetaMapError(
                    f"calibration: {name}: expected at most half of usual_tasks, {self.usual_tasks // 2}, "
                    f"got {getattr(self, name)}"
                )

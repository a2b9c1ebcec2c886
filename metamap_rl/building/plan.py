"""Settings of a build: everything that decides what is trained, stored in its folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from metamap_agents.experts.counts import TaskCounts
from metamap_agents.experts.filling import RecipeOverrides
from metamap_envs.errors import MetaMapError
from metamap_envs.seeds import read_seed
from metamap_rl.training.config import CalibrationConfig, MapperRecipe

__all__ = ["PATIENCE", "STAGES", "BuildPlan", "OnStage"]

from collections.abc import Callable

PATIENCE = 50
"""Rollouts of PPO without an improvement after which the training of a policy ends."""

STAGES = {
    "base policy": "steps",
    "universal policy": "steps",
    "experts": "experts",
    "rollouts": "parts",
    "mapper": "updates",
    "self-check": "parts",
    "results": "methods",
}
"""STAGES in their order, with the unit of progress."""

OnStage = Callable[[str, int, int], None]
"""Called with (stage, done, in all)."""


@dataclass(frozen=True)
class BuildPlan:
    """Settings of a build.

    Attributes:
        family: name of the family.
        seed: of zoo, mapper and calibration.
        counts: experts of each split.
        overrides: settings that replace those of the family's recipes.
        recipe: networks, training and survey of the mapper.
        calibration: of the self-check; None for none.
        workers: processes that train experts; 0 takes all cores. It changes no result.
    """

    family: str
    seed: int = 0
    counts: TaskCounts = field(default_factory=TaskCounts)
    overrides: RecipeOverrides = field(default_factory=RecipeOverrides)
    recipe: MapperRecipe = field(default_factory=MapperRecipe)
    calibration: CalibrationConfig | None = field(default_factory=CalibrationConfig)
    workers: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", read_seed(self.seed))

    def check(self) -> None:
        """Refuse settings with which a later stage would fail.

        Raises:
            MetaMapError: no training, validation or test-in experts, or a setting of a recipe that is not allowed.
        """
        for name, count in self.counts.by_split().items():
            if count < (0 if name == "test-out" else 1):
                raise MetaMapError(f"a build needs at least one {name} expert, got {count}")
        for stage in ("base", "parent", "expert"):
            self.overrides.recipe(self.family, stage)

    def document(self) -> dict[str, Any]:
        """The settings as plain JSON values, without those that change no result."""
        calibration = None if self.calibration is None else asdict(self.calibration)
        return {
            "family": self.family,
            "seed": self.seed,
            "counts": asdict(self.counts),
            "base": dict(self.overrides.base),
            "expert": dict(self.overrides.expert),
            "mapper": self.recipe.flat(),
            "calibration": calibration,
        }

    def changed(self, **settings: Any) -> BuildPlan:
        """A copy with other settings."""
        return replace(self, **settings)

"""Settings of training, of calibration, and of updates in a stream."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from pydantic import ConfigDict

from metamap_envs.errors import MetaMapError
from metamap_envs.seeds import read_seed
from metamap_envs.settings import STRICT, Number, Whole
from metamap_rl.mapper.selfcheck import check_lengths
from metamap_rl.training.auxiliary import AUXILIARIES
from metamap_rl.training.losses import LOSSES

__all__ = ["CalibrationConfig", "TrainConfig", "UpdateConfig"]


@dataclass(frozen=True)
class TrainConfig:
    """How a mapper is trained.

    Raises:
        MetaMapError: an unknown loss, or a number out of range.
    """

    loss: str = "both"
    """What is minimised: behaviour (outputs on the expert's states), weights, or both."""
    weights_coefficient: float = 1.0
    """Share of the weight loss in "both"."""
    steps: int = 4000
    """Number of updates."""
    batch_tasks: int = 16
    """Tasks in a batch."""
    states_per_task: int = 128
    """The expert's states per task in a batch, for the behaviour loss."""
    learning_rate: float = 1e-3
    """Highest learning rate of AdamW; it rises over the warm-up and then falls to 0 along a cosine."""
    warmup: int = 100
    """Updates over which the learning rate rises."""
    weight_decay: float = 1e-4
    """Decoupled weight decay, per unit of learning rate."""
    survey_batch: int = 32
    """Tasks of the survey in a batch, where there is a survey."""
    survey_coefficient: float = 1.0
    """Share in the loss of telling a task's coordinates from z, where there is a survey."""
    auxiliary: str | None = None
    """What z is to be good for besides: dynamics, or nothing. It is learned on the survey's rollouts where there is a
    survey, with batches of ``survey_batch`` tasks, else on those of the training tasks."""
    auxiliary_coefficient: float = 0.3
    """Share of the auxiliary loss."""
    dagger_rounds: int = 0
    """How often the inputs that generated networks come to are added to the training set, at even distances (DAgger);
    fewer than there are updates."""
    gradient_clip: float = 1.0
    """Largest norm of the gradient; longer ones are scaled down to it."""
    lengths: tuple[int, ...] = (5, 10, 20, 50, 100, 200)
    """Lengths of D, one drawn per update. Those longer than the rollouts are left out; if all are, whole rollouts
    are used."""
    from_start: float = 0.5
    """Share of the D that begin at a rollout's first step, as they do at deployment; the others begin anywhere."""
    validation_every: int = 200
    """Updates between validations; the mapper with the least validation loss is the one returned."""
    validation_lengths: tuple[int, ...] = (5, 20, 100)
    """Lengths of D that validation averages over, all from a rollout's first step; limited as ``lengths`` are."""
    checkpoint_every: int = 500
    """Updates between checkpoints, where a checkpoint file is asked for."""
    seed: int = 0
    """Seed of the initial mapper and of every batch."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", read_seed(self.seed, "train config: seed"))
        LOSSES.get(self.loss)
        if self.auxiliary is not None:
            AUXILIARIES.get(self.auxiliary)
        least: dict[str, float] = {
            **dict.fromkeys(("steps", "warmup", "weight_decay", "dagger_rounds"), 0),
            **dict.fromkeys(("weights_coefficient", "survey_coefficient", "auxiliary_coefficient"), 0),
            **dict.fromkeys(
                ("batch_tasks", "states_per_task", "survey_batch", "validation_every", "checkpoint_every"), 1
            ),
        }
        for name, bound in least.items():
            if not getattr(self, name) >= bound:
                raise MetaMapError(f"train config: {name}: expected >= {bound}, got {getattr(self, name)}")
        for name in ("learning_rate", "gradient_clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise MetaMapError(f"train config: {name}: expected > 0, got {getattr(self, name)}")
        if self.dagger_rounds and not self.dagger_rounds < self.steps:
            raise MetaMapError(
                f"train config: dagger_rounds: expected fewer than the {self.steps} steps, got {self.dagger_rounds}"
            )
        if not 0 <= self.from_start <= 1:
            raise MetaMapError(f"train config: from_start: expected a share in [0, 1], got {self.from_start}")
        for name in ("lengths", "validation_lengths"):
            if not getattr(self, name) or min(getattr(self, name)) < 1:
                raise MetaMapError(f"train config: {name}: expected lengths >= 1, got {getattr(self, name)}")


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


@dataclass(frozen=True)
class UpdateConfig:
    """How the mapper is updated after a task. The work does not depend on how many tasks came before.

    Raises:
        MetaMapError: an unknown loss, or a number out of range.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    updates: Whole = 300
    """Gradient steps per task, at least 0."""
    batch: Whole = 16
    """Rollouts in a batch, new and replayed together; at least 2."""
    states: Whole = 64
    """The expert's states per rollout in a batch, for the behaviour loss."""
    learning_rate: Number = 2e-3
    """Highest rate of AdamW; in each update it rises over the warm-up and falls to 0 along a cosine."""
    warmup: Whole = 10
    """Gradient steps over which the rate rises."""
    weight_decay: Number = 1e-4
    """Decoupled weight decay, per unit of learning rate."""
    gradient_clip: Number = 1.0
    """Largest norm of the gradient."""
    loss: str = "both"
    """What is minimised: behaviour, weights, or both."""
    weights_coefficient: Number = 1.0
    """Share of the weight loss in "both"."""
    lengths: tuple[Whole, ...] = (10, 20, 50, 100, 200)
    """Lengths of D, one drawn for each gradient step; those longer than the rollouts are left out."""
    from_start: Number = 0.5
    """Share of the D that begin at a rollout's first step; the others begin anywhere."""

    def __post_init__(self) -> None:
        LOSSES.get(self.loss)
        least = {"updates": 0, "batch": 2, "states": 1, "warmup": 0, "weight_decay": 0, "weights_coefficient": 0}
        for name, bound in least.items():
            if not getattr(self, name) >= bound:
                raise MetaMapError(f"{name}: expected >= {bound}, got {getattr(self, name)}")
        for name in ("learning_rate", "gradient_clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise MetaMapError(f"{name}: expected > 0, got {getattr(self, name)}")
        if not self.lengths or min(self.lengths) < 1 or not 0 <= self.from_start <= 1:
            raise MetaMapError("expected lengths >= 1 and a share from_start in [0, 1]")

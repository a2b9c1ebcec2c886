"""Settings of training, of calibration and of updates in a stream."""

from __future__ import annotations

import math
from dataclasses import dataclass

from metamap_envs.errors import MetaMapError
from metamap_envs.seeds import read_seed
from metamap_rl.training.auxiliary import AUXILIARIES
from metamap_rl.training.losses import LOSSES

__all__ = ["TrainConfig"]


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

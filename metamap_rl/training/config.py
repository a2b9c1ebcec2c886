"""Settings of training and calibration, for library and command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Lt

from metamap_rl.common.config import Amount, Config, Count, Positive, PositiveNumber, Share, renamed
from metamap_rl.mapper.config import MapperConfig
from metamap_rl.probing.actors import ActorMixture

__all__ = ["LENGTHS", "CalibrationConfig", "MapperRecipe", "TrainConfig", "UpdateConfig"]

_OpenShare = Annotated[float, Gt(0), Lt(1)]


@renamed(batch="batch_tasks", states="states_per_task")
@dataclass(frozen=True)
class UpdateConfig(Config):
    """Settings of a mapper's updates.

    Raises:
        MetaMapError: an unknown loss, or a number out of range.
    """

    called: ClassVar[str] = "update config"

    loss: str = "both"
    """Loss: behaviour (error of the outputs on the expert's states), weights, or both."""
    weights_coefficient: Amount = 1.0
    """Weight of the weights loss in "both"."""
    updates: Count = 4000
    """Number of updates."""
    batch_tasks: Positive = 16
    """Tasks in a batch, each with one rollout; in a stream new and replayed rollouts together."""
    states_per_task: Positive = 128
    """States of the expert per task in a batch, for the behaviour loss."""
    learning_rate: PositiveNumber = 1e-3
    """Peak learning rate of AdamW: linear warm-up, then cosine decay to 0."""
    warmup: Count = 100
    """Updates of the warm-up."""
    weight_decay: Amount = 1e-4
    """Decoupled weight decay, per unit of learning rate."""
    gradient_clip: PositiveNumber = 1.0
    """Maximum norm of the gradient."""
    lengths: tuple[Positive, ...] = (5, 10, 20, 50, 100, 200)
    """Lengths of D in transitions, one drawn per update. Lengths above the rollouts' are skipped; if all are, whole
    rollouts are used. Not used with a mixture of actors, which has `window_lengths`."""
    from_start: Share = 0.5
    """Fraction of D that start at a rollout's first transition, as at deployment; the others start anywhere."""

    def __post_init__(self) -> None:
        from metamap_rl.training.losses import LOSSES

        LOSSES.get(self.loss)
        super().__post_init__()
        if not self.lengths:
            raise self.refusal("lengths", "at least one length", self.lengths)


LENGTHS = (0, *UpdateConfig.lengths)
"""Lengths of D, in transitions, for evaluation."""


@renamed(steps="updates", rounds="dagger_rounds")
@dataclass(frozen=True)
class TrainConfig(UpdateConfig):
    """Settings of training.

    Raises:
        MetaMapError: an unknown loss, or a number out of range.
    """

    called: ClassVar[str] = "train config"

    survey_batch: Positive = 32
    """Survey tasks in a batch."""
    survey_coefficient: Amount = 1.0
    """Weight of the error of the coordinates estimated from z on the survey; with 0 only an auxiliary loss uses the
    survey."""
    auxiliary: str | None = None
    """Auxiliary loss on z: dynamics (prediction of transitions), or none. Computed on the survey's rollouts if there
    is a survey, with batches of as many tasks, else on those of the training tasks."""
    auxiliary_coefficient: Amount = 0.3
    """Weight of the auxiliary loss."""
    dagger_rounds: Count = 0
    """Number of DAgger rounds, evenly spaced: inputs visited by generated networks are added to the training set. Less
    than the number of updates."""
    service_rounds: Count = 0
    """Number of rounds in service, evenly spaced: the adapter acts with the mapper so far on training tasks that change
    one after another; its transitions, labelled by the true tasks, are added to survey and training set, and the
    experts' actions for them. Less than the number of updates."""
    validation_every: Positive = 200
    """Updates between validations; the mapper with the lowest validation loss is returned."""
    validation_lengths: tuple[Positive, ...] = (5, 20, 100)
    """Lengths of D for validation, all from a rollout's first transition; limited like `lengths`."""
    checkpoint_every: Positive = 500
    """Updates between checkpoints, with a checkpoint file."""
    seed: int = 0
    """Seed of the initial mapper and of every batch."""

    def __post_init__(self) -> None:
        from metamap_envs.seeds import read_seed
        from metamap_rl.training.auxiliary import AUXILIARIES

        object.__setattr__(self, "seed", read_seed(self.seed, "train config: seed"))
        if self.auxiliary is not None:
            AUXILIARIES.get(self.auxiliary)
        super().__post_init__()
        for name in ("dagger_rounds", "service_rounds"):
            if (rounds := getattr(self, name)) and not rounds < self.updates:
                raise self.refusal(name, f"fewer than the {self.updates} updates", rounds)
        if not self.validation_lengths:
            raise self.refusal("validation_lengths", "at least one length", self.validation_lengths)


@dataclass(frozen=True)
class MapperRecipe(Config):
    """Settings for making a mapper from the experts of a zoo."""

    called: ClassVar[str] = "mapper"

    training: TrainConfig = field(default_factory=TrainConfig)
    """Training."""
    shape: MapperConfig = field(default_factory=MapperConfig)
    """Networks."""
    survey_tasks: Count = 2048
    """Number of survey tasks (without experts); 0 for no survey."""
    aligned: bool = False
    """Align the hidden units of each expert with the base policy's, for experts not fine-tuned from it."""
    actors: Literal["mixture", "probe"] = "mixture"
    """Who collects D for training: a mixture of actors, so that the mapper reads D of any policy, or the probe alone
    ("probe"), as before there were mixtures."""
    mixture: ActorMixture = field(default_factory=ActorMixture)
    """The mixture of actors."""

    @property
    def collected_by(self) -> ActorMixture | None:
        """The mixture of actors; None for the probe alone."""
        return self.mixture if self.actors == "mixture" else None

    def __post_init__(self) -> None:
        from metamap_envs.errors import unknown_name

        super().__post_init__()
        if self.actors not in (choices := ("mixture", "probe")):
            raise unknown_name("value of actors", self.actors, choices)
        if self.shape.bottleneck and not self.survey_tasks:
            raise self.refusal("bottleneck", "survey_tasks above 0, which teach to read the parameters", 0)
        if self.shape.forward_model and not self.survey_tasks:
            raise self.refusal("forward_model", "survey_tasks above 0, which it is fitted to", 0)


@dataclass(frozen=True)
class CalibrationConfig(Config):
    """Settings of calibration.

    Raises:
        MetaMapError: a value out of range.
    """

    called: ClassVar[str] = "calibration"

    lengths: tuple[int, ...] = (1, 2, 5, 10, 20, 50, 100, 200)
    """Lengths of D, in transitions, to calibrate at; the first must be 1."""
    usual_tasks: Annotated[int, Ge(4)] = 256
    """Tasks of the training split to fit the novelty model on; its limits are set on half as many other tasks of the
    training split, and as many of the validation split.
    """
    return_tasks: Annotated[int, Ge(2)] = 48
    """Tasks of each split on which generated and base policies are run, to fit the prediction of returns."""
    episodes: Annotated[int, Ge(2)] = 3
    """Episodes of each policy on each of them."""
    harm_tasks: Positive = 64
    """Validation tasks on which harm is measured; fewer than 22 cannot show a harm rate below a tenth."""
    harm_episodes: Annotated[int, Ge(2)] = 6
    """Episodes of each policy on each of those, on the same reset seeds."""
    harm_limit: _OpenShare = 0.1
    """Generated policies are served only if the upper confidence bound of the harm rate is below this."""
    false_alarms: _OpenShare = 0.005
    """Fraction of in-distribution D rejected as out of distribution, at every length, before ``slack``."""
    slack: Annotated[float, Ge(1)] = 1.2
    """Factor on that quantile, which is uncertain: a few hundred D, heavy tails."""
    hidden: Positive = 64
    """Width of the network that predicts reward and change."""
    updates: Positive = 1500
    """Updates of that network."""
    seed: int = 0
    """Seed of tasks, probes and the network."""

    def __post_init__(self) -> None:
        from metamap_envs.seeds import read_seed
        from metamap_rl.mapper.selfcheck import check_lengths

        object.__setattr__(self, "seed", read_seed(self.seed, "calibration: seed"))
        check_lengths(self.lengths)
        super().__post_init__()
        for name in ("return_tasks", "harm_tasks"):
            if getattr(self, name) > self.usual_tasks // 2:
                raise self.refusal(name, f"at most half of usual_tasks, {self.usual_tasks // 2}", getattr(self, name))

"""What few-shot learning of functions is measured on: each family with the settings of the mapper and its rivals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from metamap_agents.policy.functional import forward
from metamap_agents.policy.spec import PolicySpec
from metamap_rl.evaluation.baselines import FewShotBatch, MAMLConfig, ReptileConfig
from metamap_rl.functions.base import FunctionFamily
from metamap_rl.functions.digits import Digits, nearest_centroid, ridge_classifier
from metamap_rl.functions.linear import LinearRegression
from metamap_rl.functions.sinusoid import Sinusoid
from metamap_rl.mapper.config import MapperConfig
from metamap_rl.training.config import TrainConfig

__all__ = ["BENCHMARKS", "TEXT", "Benchmark", "training_of"]

_VALIDATION_SEED, _TEST_SEED = 2_000_000, 1_000_000  # no training starts from them
_VALIDATION_TASKS = 300


@dataclass(frozen=True)
class Benchmark:
    """One family with everything that is measured on it."""

    family: FunctionFamily
    points: tuple[int, ...]
    """Numbers of points K, ascending."""
    queries: int
    """Points that a test task is judged on."""
    mapper: TrainConfig
    shape: MapperConfig
    maml: dict[str, dict[int, MAMLConfig]]
    """By name of the variant, then by K."""
    reptile: ReptileConfig
    reptile_points: int
    """Points of a task that Reptile trains on."""
    reptile_spec: PolicySpec
    """Reptile's own network."""
    tasks: int = 600
    """Test tasks."""
    steps: tuple[int, ...] = (1, 5, 10)
    """Gradient steps of the baselines at test."""
    reptile_steps: tuple[int, ...] = (1, 5, 10, 32)
    references: dict[str, Callable[[FewShotBatch], Tensor]] = field(default_factory=dict)
    """What needs no training: episodes to outputs [B, S, A]."""

    def drawn(self, split: str) -> FewShotBatch:
        """Draw the validation or the test tasks, always the same; each K is a prefix of the largest."""
        seed, tasks = (_TEST_SEED, self.tasks) if split == "test" else (_VALIDATION_SEED, _VALIDATION_TASKS)
        generator = torch.Generator().manual_seed(seed)
        return self.family.draw(generator, tasks=tasks, points=self.points[-1], queries=self.queries, split=split)


def sinusoid() -> Benchmark:
    """MAML's sinusoids, with the paper's settings for MAML and those of OpenAI's demonstration for Reptile.

    MAML gets 20,000 iterations, not 70,000: see its validation curve.
    """
    family = Sinusoid()
    return Benchmark(
        family=family,
        points=(5, 10),
        queries=100,
        mapper=TrainConfig(
            loss="behaviour",
            updates=15_000,
            batch_tasks=64,
            states_per_task=32,
            lengths=(5, 10),
            validation_lengths=(5, 10),
            validation_every=1000,
            weight_decay=0.0,
        ),
        shape=MapperConfig(hypernetwork="residual", context_size=64, encoder_hidden=256, hypernetwork_hidden=256),
        maml={
            "MAML": {points: MAMLConfig(iterations=20_000) for points in (5, 10)},
            # Better per iteration, but an iteration is three times as dear: as long a training in all.
            "MAML trained with 5 inner steps": {
                points: MAMLConfig(iterations=4000, inner_steps=5) for points in (5, 10)
            },
        },
        reptile=ReptileConfig(),
        reptile_points=50,
        reptile_spec=PolicySpec(1, 1, hidden=(64, 64), activation="tanh"),
        references={"mean of all tasks, without D": lambda episodes: family.prior_mean(episodes.inputs)},
    )


def linear() -> Benchmark:
    """Linear regression beside its closed forms."""
    family = LinearRegression()

    def closed_form(penalty: float | None, episodes: FewShotBatch) -> Tensor:
        return forward(family.spec, family.solve(episodes, penalty), episodes.inputs)

    return Benchmark(
        family=family,
        points=(5, 10, 20),
        queries=100,
        mapper=TrainConfig(
            loss="weights",
            updates=6000,
            batch_tasks=64,
            states_per_task=8,
            lengths=(5, 10, 20),
            validation_lengths=(5, 10, 20),
            validation_every=1000,
            weight_decay=0.0,
        ),
        shape=MapperConfig(hypernetwork="residual", context_size=64, encoder_hidden=256, hypernetwork_hidden=256),
        maml={
            "MAML": {
                points: MAMLConfig(iterations=5000, inner_rate=rate)
                for points, rate in ((5, 0.1), (10, 0.2), (20, 0.2))
            }
        },
        reptile=ReptileConfig(iterations=5000, inner_rate=0.1),
        reptile_points=50,
        reptile_spec=family.spec,
        references={
            "ridge regression, the best possible": partial(closed_form, None),
            "least squares": partial(closed_form, 0.0),
        },
    )


def digits() -> Benchmark:
    """Two digits never seen in training, told apart from 1 and 5 images of each."""
    family = Digits()
    return Benchmark(
        family=family,
        points=(2, 10),
        queries=100,
        mapper=TrainConfig(
            loss="behaviour",
            updates=5000,
            learning_rate=2e-3,
            batch_tasks=64,
            states_per_task=20,
            lengths=(2, 4, 10),
            validation_lengths=(2, 10),
            validation_every=500,
        ),
        shape=MapperConfig(
            encoder="linear", hypernetwork="skip", context_size=128, encoder_hidden=128, hypernetwork_hidden=128
        ),
        maml={
            "MAML": {
                points: MAMLConfig(iterations=6000, tasks=32, inner_rate=0.4, loss="cross-entropy")
                for points in (2, 10)
            }
        },
        reptile=ReptileConfig(
            iterations=8000, tasks=5, inner_rate=0.1, minibatch=4, outer_rate=0.5, loss="cross-entropy"
        ),
        reptile_points=20,
        reptile_spec=family.spec,
        reptile_steps=(1, 5, 10, 50),
        references={"ridge regression on pixels": ridge_classifier, "nearest mean image": nearest_centroid},
    )


TEXT = TrainConfig(
    loss="behaviour",
    updates=1000,
    learning_rate=1e-3,
    weight_decay=1e-2,
    batch_tasks=64,
    states_per_task=20,
    lengths=(2, 3, 4, 5, 10, 15, 20, 25, 30, 40, 50),
    validation_lengths=(30,),
    validation_every=250,
)
"""Training of a map of sentences; the comparison is an experiment of its own, `metamap results run text`."""

BENCHMARKS: dict[str, Callable[[], Benchmark]] = {"sinusoid": sinusoid, "linear": linear, "digits": digits}


def training_of(family: str) -> TrainConfig | None:
    """Settings of training that a registered family is measured with; None for one that is not."""
    if family == "text":
        return TEXT
    return BENCHMARKS[family]().mapper if family in BENCHMARKS else None

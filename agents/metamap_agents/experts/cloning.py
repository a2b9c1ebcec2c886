"""Behaviour cloning of a family's privileged controller: the start of PPO where random weights are no start.

The controller is given the true parameters, the network only what its inputs hold: the coordinates of the task, or
nothing of it. It learns the controller's actions in states that controller and network visit (DAgger, Ross et al.
2011), over many training tasks at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Gt, Le
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from pydantic import BaseModel, Field, PositiveInt
from torch import Tensor

from metamap_agents.experts.changes import TaskDraw
from metamap_agents.policy.functional import forward
from metamap_agents.policy.initial import random_actor
from metamap_agents.policy.normalizer import ObservationNormalizer
from metamap_agents.policy.spec import PolicySpec
from metamap_envs.errors import MetaMapError
from metamap_envs.registry import get_family
from metamap_envs.seeds import read_seed
from metamap_envs.settings import STRICT, Number
from metamap_envs.task import Task
from metamap_envs.vector import FamilyVectorEnv

__all__ = ["Clone", "Cloning", "Coordinates", "clone_controller"]

Coordinates = Callable[[Sequence[Task]], NDArray[np.float32]]
"""Further inputs of the network [N, K], which are constant in a task."""

_STREAM = 20_261_201  # keeps these draws apart from others with the same seed
_SMALLEST_STD = 1e-3  # floor for observations that never move
_LONGEST_GRADIENT = 1.0
_SHARE = 0.1  # of what errors lead to in the loss
_ROUND = 0.2  # below that it grows with their square


class Cloning(BaseModel):
    """Settings of the cloning of a controller."""

    model_config = STRICT

    rounds: PositiveInt = 8
    """Rounds, each with new tasks. In the first the controller acts."""
    tasks: PositiveInt = 256
    """Tasks of a round, with an episode each."""
    controlled: Annotated[Number, Field(ge=0, le=1)] = 0.15
    """Share of the tasks of later rounds in which the controller acts, not the network."""
    noise: tuple[Annotated[Number, Field(ge=0)], ...] = (0.0, 0.0, 0.05, 0.15)
    """Standard deviations of the noise on actions, one of which is drawn for each task."""
    kept: Annotated[float, Gt(0), Le(1)] = 0.25
    """Share of the states that are kept."""
    steps: PositiveInt = 1_500
    """Updates in each round, over all states so far."""
    last_steps: PositiveInt = 5_000
    """Updates in the last round."""
    batch_size: PositiveInt = 2_048
    learning_rate: Annotated[float, Gt(0)] = 2e-3
    """Learning rate of Adam; it decays linearly to zero in each round."""


@dataclass(frozen=True, eq=False)
class Clone:
    """Result of a cloning.

    Attributes:
        phi: weights of the network, float32 [P], on normalised observations and the further inputs.
        normalizer: that of the observations.
        loss: of the actions over all states; see `_loss`.
        environment_steps: number of environment steps taken.
    """

    phi: NDArray[np.float32]
    normalizer: ObservationNormalizer
    loss: float
    environment_steps: int


def clone_controller(
    draw: TaskDraw,
    spec: PolicySpec,
    settings: Cloning,
    *,
    seed: int,
    coordinates: Coordinates | None = None,
    normalizer: ObservationNormalizer | None = None,
    num_threads: int = 0,
) -> Clone:
    """Clone the controller of a family into one network for all of its training tasks.

    Args:
        draw: draws tasks.
        spec: shape of the network.
        settings: see `Cloning`.
        seed: of tasks, episodes, noise and batches.
        coordinates: further inputs of the network; None for none.
        normalizer: that of the observations; None for the statistics of those that the controller visits.
        num_threads: threads of the simulator; 0 takes all cores.

    Raises:
        MetaMapError: the family has no controller, or the network diverged.
    """
    seed = read_seed(seed)
    generator = np.random.default_rng([_STREAM, seed])
    weights = torch.tensor(random_actor(spec, seed), requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=settings.learning_rate)
    flights = _Flights(draw, spec, settings, generator, coordinates, num_threads)
    for round_ in range(settings.rounds):
        flights.add(None if round_ == 0 else weights.detach(), normalizer)
        normalizer = normalizer or flights.statistics()
        data = flights.data(normalizer)
        steps = settings.last_steps if round_ == settings.rounds - 1 else settings.steps
        _fit(weights, optimizer, spec, data, steps, settings, generator)
    assert normalizer is not None
    with torch.no_grad():
        loss = float(data.loss(spec, weights, torch.arange(len(data.inputs))))
    if not np.isfinite(loss):
        raise MetaMapError("cloning diverged, the weights are not finite: lower cloning.learning_rate")
    return Clone(weights.detach().numpy().copy(), normalizer, loss, flights.environment_steps)


class _Flights:
    """States that controller and network visited, with the controller's actions there."""

    def __init__(
        self,
        draw: TaskDraw,
        spec: PolicySpec,
        settings: Cloning,
        generator: np.random.Generator,
        coordinates: Coordinates | None,
        num_threads: int,
    ) -> None:
        self._draw, self._spec, self._settings, self._generator = draw, spec, settings, generator
        self._coordinates = coordinates or (lambda tasks: np.empty((len(tasks), 0), np.float32))
        self._num_threads = num_threads
        self._observations: list[NDArray[np.float32]] = []
        self._appended: list[NDArray[np.float32]] = []
        self._actions: list[NDArray[np.float32]] = []
        self._sensitivities: list[NDArray[np.float32]] = []
        self._tasks: list[NDArray[np.intp]] = []
        self.environment_steps = 0

    def add(self, phi: Tensor | None, normalizer: ObservationNormalizer | None) -> None:
        """Run an episode on each of the next tasks with the network, or with the controller where it is None."""
        tasks = self._draw(self._settings.tasks, self._generator)
        family, count = get_family(self._draw.family), len(tasks)
        controller = family.controller(tasks)
        if controller is None:
            raise MetaMapError(f"start 'controller': family {family.name!r} has none")
        envs = FamilyVectorEnv(tasks, num_threads=self._num_threads, autoreset_mode=AutoresetMode.SAME_STEP)
        appended = self._coordinates(tasks)
        noise = self._generator.choice(self._settings.noise, count)[:, None]
        controlled = self._generator.random(count) < (1.0 if phi is None else self._settings.controlled)
        observations, _ = envs.reset(seed=self._generator.integers(2**31, size=count).tolist())
        for _ in range(family.horizon):
            wanted = controller(observations)
            self._keep(observations, appended, wanted)
            actions = wanted
            if phi is not None and normalizer is not None:
                inputs = np.concatenate([normalizer.apply(observations), appended], axis=1).astype(np.float32)
                own = forward(self._spec, phi, torch.from_numpy(inputs)).numpy()
                actions = np.where(controlled[:, None], wanted, own)
            noisy = actions + noise * self._generator.standard_normal(actions.shape)
            observations, *_ = envs.step(np.clip(noisy, -1.0, 1.0).astype(np.float32))
        envs.close()
        self._sensitivities.append(controller.sensitivity.astype(np.float32))
        self.environment_steps += count * family.horizon

    def _keep(self, observations: NDArray[Any], appended: NDArray[np.float32], actions: NDArray[np.float32]) -> None:
        kept = self._generator.random(len(observations)) < self._settings.kept
        self._tasks.append(np.flatnonzero(kept) + sum(map(len, self._sensitivities)))
        self._observations.append(observations[kept].astype(np.float32))
        self._appended.append(appended[kept])
        self._actions.append(actions[kept])

    def statistics(self) -> ObservationNormalizer:
        """Normaliser of the observations so far."""
        visited = np.concatenate(self._observations)
        return ObservationNormalizer(visited.mean(axis=0), np.maximum(visited.std(axis=0), _SMALLEST_STD))

    def data(self, normalizer: ObservationNormalizer) -> _Data:
        """The states so far."""
        normalised = normalizer.apply(np.concatenate(self._observations))
        inputs = np.concatenate([normalised, np.concatenate(self._appended)], axis=1).astype(np.float32)
        rows: list[list[NDArray[Any]]] = [[inputs], [*self._actions], [*self._tasks], [*self._sensitivities]]
        return _Data(*(torch.from_numpy(np.concatenate(each)) for each in rows))


@dataclass(frozen=True, eq=False)
class _Data:
    """Inputs [S, O + K], actions [S, A] and tasks [S] of states; sensitivities of the tasks [N, E, A]."""

    inputs: Tensor
    actions: Tensor
    tasks: Tensor
    sensitivities: Tensor

    def loss(self, spec: PolicySpec, weights: Tensor, rows: Tensor) -> Tensor:
        """Mean length of what errors lead to, rounded off at 0, and mean squared error."""
        errors = forward(spec, weights, self.inputs[rows]) - self.actions[rows]
        follows = torch.bmm(self.sensitivities[self.tasks[rows]], errors[:, :, None])
        lengths = (_ROUND**2 + follows.square().sum(dim=(1, 2))).sqrt() - _ROUND
        return _SHARE * lengths.mean() + errors.square().mean()


def _fit(
    weights: Tensor,
    optimizer: torch.optim.Optimizer,
    spec: PolicySpec,
    data: _Data,
    steps: int,
    settings: Cloning,
    generator: np.random.Generator,
) -> None:
    """Update the weights [P] in place."""
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * (1 - step / steps)
        loss = data.loss(
            spec, weights, torch.from_numpy(generator.integers(len(data.inputs), size=settings.batch_size))
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_([weights], _LONGEST_GRADIENT)
        optimizer.step()

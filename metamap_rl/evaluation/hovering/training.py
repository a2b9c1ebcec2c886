"""Training of the mapper: a clone of the controller, then a reader of windows from flights in which it acts itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from metamap_agents.experts.changes import TaskDraw
from metamap_agents.experts.cloning import Cloning, clone_controller
from metamap_agents.experts.recipes import load_recipe
from metamap_agents.policy.functional import forward
from metamap_agents.policy.spec import PolicySpec
from metamap_agents.runtime.torch_state import isolated_training
from metamap_envs.families._quadrotor import Quadrotor
from metamap_envs.seeds import read_seed
from metamap_envs.settings import Settings, Whole
from metamap_envs.task import Task
from metamap_rl.adaptation.service.trial import run_trial
from metamap_rl.evaluation.hovering.network import (
    COORDINATES,
    HoverMapper,
    HoverPolicy,
    Reader,
    scales,
    standardised,
)
from metamap_rl.evaluation.hovering.pilot import HoverPilot
from metamap_rl.evaluation.hovering.rows import WINDOW

__all__ = ["HoverTraining", "train_hovering"]

_STUDENT, _TRUTH, _WRONG = range(3)
_FIRST_SHARES, _SHARES = (0.0, 0.5, 0.5), (0.75, 0.1, 0.15)  # of who acts, in the first round and later
_FIRST_NOISE, _NOISE = (0.0, 0.0, 0.02, 0.06), (0.0, 0.0, 0.0, 0.03)
_WRONG_SIZES = (0.1, 0.3, 0.7)  # standard deviations, of wrong coordinates
_SOUND, _CHANGED, _EACH = 0.35, 0.75, 0.35  # vehicles that start sound; that change; parameters that change then
_EARLIEST, _LATEST = 80, 60  # steps after the start and before the end between which they change
_LATEST_ROUND = 0.6  # share of the batch from the latest round
_ROUND = 0.3  # of the loss of coordinates, below which it grows with the square
_ACTIONS, _STATES = 3.0, 24  # weight of the loss of actions; states of each window in it
_SENSITIVITY, _SMALL = 0.1, 0.2  # as in cloning

OnRound = Callable[[int, dict[str, float]], None]
"""Called after each round with its number and what it ended with."""


class HoverTraining(Settings):
    """Settings."""

    cloning: Cloning = Cloning(rounds=8, steps=1_200, last_steps=12_000)
    """Of the policy."""
    rounds: Whole = Field(default=10, ge=1)
    """In the first, truth and wrong coordinates are flown, later what the reader says."""
    updates: Whole = Field(default=400, ge=1)
    """Of a round."""
    vehicles: Whole = Field(default=192, ge=2)
    """Of a round, each for one flight."""
    steps: Whole = Field(default=500, ge=WINDOW)
    """Of a flight."""
    batch: Whole = Field(default=48, ge=1)
    """Windows in an update."""
    hidden: Whole = Field(default=96, ge=1)
    """Units of the GRU and of the layers around it."""
    learning_rate: float = Field(default=2e-3, gt=0)
    """Of Adam; it falls to a tenth."""


@dataclass(frozen=True, eq=False)
class _Flights:
    """Flights of N vehicles: rows [N, n, F], observations [N, n, 22], coordinates [N, n, 13], which count [N, n]."""

    rows: NDArray[np.float32]
    observations: NDArray[np.float32]
    coordinates: NDArray[np.float32]
    valid: NDArray[np.bool_]
    sensitivity: NDArray[np.float32]

    @staticmethod
    def joined(flights: Sequence[_Flights]) -> _Flights:
        """All of them."""
        names = ("rows", "observations", "coordinates", "valid", "sensitivity")
        return _Flights(*(np.concatenate([getattr(one, name) for one in flights]) for name in names))


class _Trainee(HoverPilot):
    """The mapper as it is, the truth, or wrong coordinates, each with noise; keeps what happened."""

    def __init__(self, mapper: HoverMapper, count: int, generator: np.random.Generator, first: bool) -> None:
        super().__init__(mapper, count, "nothing" if first else "window")
        self._generator = generator
        self._who = generator.choice(3, count, p=_FIRST_SHARES if first else _SHARES)[:, None]
        self._noise = generator.choice(_FIRST_NOISE if first else _NOISE, count)[:, None]
        size = generator.choice(_WRONG_SIZES, (count, 1))
        self._wrong = (size * generator.standard_normal((count, COORDINATES))).astype(np.float32)
        self.kept: list[tuple[NDArray[Any], ...]] = []

    def act(self, observations: NDArray[Any]) -> NDArray[np.float32]:
        """See `Controller`."""
        given = np.where(self._who == _TRUTH, self.truth, self.truth + self._wrong)
        given = np.where(self._who == _STUDENT, self.coordinates, given).astype(np.float32)
        actions = self._mapper.policy(observations, given)
        noisy = actions + self._noise * self._generator.standard_normal(actions.shape)
        self.latest = observations, np.clip(noisy, -1.0, 1.0).astype(np.float32)
        return self.latest[1]

    def append(self, step: dict[str, NDArray[Any]]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """See `HoverPilot`."""
        assert self.latest is not None, "it acted"
        rows, valid = super().append(step)
        self.kept.append((rows, self.latest[0].astype(np.float32), self.truth, valid))
        return rows, valid


def train_hovering(
    family: Quadrotor, settings: HoverTraining, *, seed: int, on_round: OnRound | None = None
) -> HoverMapper:
    """Train policy and reader on training vehicles.

    Args:
        family: quadrotors.
        settings: see `HoverTraining`.
        seed: of all draws.
        on_round: see `OnRound`.
    """
    seed = read_seed(seed)
    generator = np.random.default_rng([20_261_130, seed])
    with isolated_training():
        torch.manual_seed(seed)
        mapper = HoverMapper(_policy(family, settings.cloning, seed), Reader(settings.hidden))
        optimizer = torch.optim.Adam(mapper.reader.parameters())
        flights: list[_Flights] = []
        for number in range(settings.rounds):
            flights.append(_fly(mapper, settings, generator, first=number == 0))
            losses = _fit(mapper, optimizer, flights, settings, number, generator)
            if on_round is not None:
                on_round(number + 1, losses)
    return mapper


def _policy(family: Quadrotor, settings: Cloning, seed: int) -> HoverPolicy:
    mean, std = scales(family)
    network = load_recipe(family.name, "base").policy_kwargs
    size = family.observation_size + COORDINATES
    spec = PolicySpec(size, family.action_size, network.net_arch.pi, network.activation_fn)
    clone = clone_controller(
        TaskDraw(family.name),
        spec,
        settings,
        seed=seed,
        coordinates=lambda tasks: standardised(family, tasks, mean, std),
        num_threads=1,
    )
    return HoverPolicy(family, spec, mean, std, clone.phi, clone.normalizer)


def _changing(family: Quadrotor, count: int, steps: int, generator: np.random.Generator) -> list[list[Task]]:
    """Training vehicles for each step, most of which change in mid-flight in some of what may appear."""
    drawn, others = family.sample("train", count, generator), family.sample("train", count, generator)
    sound, chance = {name: family.task()[name] for name in family.in_flight}, generator.random(count)
    first = [
        family.task({**dict(task.parameters), **(sound if luck < _SOUND else {})})
        for task, luck in zip(drawn, chance, strict=True)
    ]
    second = []
    for task, other, luck in zip(first, others, chance, strict=True):
        names = [name for name in family.in_flight if generator.random() < _EACH] if luck < _CHANGED else []
        second.append(family.task({**dict(task.parameters), **{name: other[name] for name in names}}))
    at = generator.integers(min(_EARLIEST, steps // 2), steps - min(_LATEST, steps // 4), count)
    return [
        [late if step >= when else early for early, late, when in zip(first, second, at, strict=True)]
        for step in range(steps)
    ]


def _fly(mapper: HoverMapper, settings: HoverTraining, generator: np.random.Generator, *, first: bool) -> _Flights:
    family, count = mapper.policy.family, settings.vehicles
    tasks = _changing(family, count, settings.steps, generator)
    trainee = _Trainee(mapper, count, generator, first)
    run_trial(trainee, tasks, seeds=generator.integers(2**31, size=count).tolist())
    sensitivity = family.controller(tasks[0]).sensitivity.astype(np.float32)
    rows, observations, coordinates, valid = (np.stack(each, axis=1) for each in zip(*trainee.kept, strict=True))
    return _Flights(rows, observations, coordinates, valid, sensitivity)


def _fit(
    mapper: HoverMapper,
    optimizer: torch.optim.Optimizer,
    flights: Sequence[_Flights],
    settings: HoverTraining,
    number: int,
    generator: np.random.Generator,
) -> dict[str, float]:
    """Updates of one round; means of the losses over the last quarter of them."""
    data, latest, losses = _Flights.joined(flights), len(flights[-1].rows), []
    total = settings.rounds * settings.updates
    for update in range(settings.updates):
        done = (number * settings.updates + update) / total
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * min(1.0, (update + 1) / 30) * (1.0 - 0.9 * done)
        fewest = len(data.rows) - latest if generator.random() < _LATEST_ROUND else 0
        vehicle = generator.integers(fewest, len(data.rows), settings.batch)
        start = generator.integers(0, settings.steps - WINDOW + 1, settings.batch)
        coordinates, actions = _losses(mapper, data, vehicle, start, generator)
        optimizer.zero_grad()
        (coordinates + _ACTIONS * actions).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(mapper.reader.parameters(), 1.0)
        optimizer.step()
        losses.append((coordinates.item(), actions.item()))
    means = np.mean(losses[-max(1, settings.updates // 4) :], axis=0)
    return {"coordinates": float(means[0]), "actions": float(means[1])}


def _losses(
    mapper: HoverMapper,
    data: _Flights,
    vehicle: NDArray[np.integer],
    start: NDArray[np.integer],
    generator: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """Errors of coordinates after each row, and of the actions that follow from them in some states."""
    policy, steps = mapper.policy, start[:, None] + np.arange(WINDOW)
    rows, wanted, valid = (
        torch.from_numpy(each[vehicle[:, None], steps]) for each in (data.rows, data.coordinates, data.valid)
    )
    found = mapper.reader(rows)
    errors = nn.functional.smooth_l1_loss(found, wanted, reduction="none", beta=_ROUND).mean(dim=-1)
    coordinates = (errors * valid).sum() / valid.sum()
    states = generator.choice(WINDOW, _STATES, replace=False)
    observations = data.observations[vehicle[:, None], steps[:, states]]
    inputs = torch.from_numpy(np.clip(policy.inputs(observations.reshape(-1, observations.shape[-1])), -8.0, 8.0))
    phi = torch.from_numpy(policy.phi)
    own, right = (
        forward(policy.spec, phi, torch.cat([inputs, given[:, states].reshape(-1, COORDINATES)], dim=1))
        for given in (found.clamp(-4.0, 4.0), wanted)
    )
    missed = own.clamp(-1.2, 1.2) - right.clamp(-1.2, 1.2)
    sensitivity = torch.from_numpy(data.sensitivity[vehicle].repeat(_STATES, axis=0))
    follows = torch.bmm(sensitivity, missed[:, :, None]).square().sum(dim=(1, 2))
    lengths = (_SMALL**2 + follows).sqrt() - _SMALL
    return coordinates, _SENSITIVITY * lengths.mean() + missed.square().mean()

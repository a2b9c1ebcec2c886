"""How well the parameters of tasks are read from D: by mappers, ridge regression, system identification."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from metamap_agents.experts.zoo import Zoo
from metamap_envs.settings import Number, Seed, Settings, Whole
from metamap_rl.common.cells import Cell, check_settings, document_of
from metamap_rl.data.layout import TransitionLayout
from metamap_rl.data.rollouts import Rollouts
from metamap_rl.evaluation.identification import IdentificationConfig, holds_state, identify
from metamap_rl.evaluation.regression import chosen_ridge, means, moments, products, responses, usual_response
from metamap_rl.mapper.forward_model import InformedEncoder
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.probing.actors import ActorMixture, DSource
from metamap_rl.probing.mixture import ActorPool, collect_mixture
from metamap_rl.probing.probes.planned import BasePolicyProbe
from metamap_rl.results.experiments.base import EXPERIMENTS
from metamap_rl.results.sources_tables import reading_table
from metamap_rl.training.checkpoint import digest
from metamap_rl.training.from_experts import task_coordinates

Array = NDArray[np.float64]

_SURVEY_SEED, _SEED = 5_100_000, 5_200_000
_TASKS_AT_ONCE = 128
_STARTED = ("service", "service-noisy", "mixture")
"""Origins of D that does not begin with a reset."""


@EXPERIMENTS.register("reading")
class ReadingErrors(Settings):
    """How well the parameters of tasks are read from D: by mappers, ridge regression, system identification."""

    zoo: Path
    """Zoo with training experts, which act when D is collected."""
    mappers: dict[str, Path] = Field(default_factory=dict)
    """Folders of mappers of its family, by a name for each."""
    d_from: Annotated[tuple[DSource, ...], Field(min_length=1)] = ("mixture", "service", "probe")
    """Origins of D, as in `metamap mapper evaluate`."""
    lengths: Annotated[tuple[Annotated[Whole, Field(ge=1)], ...], Field(min_length=1)] = (1, 2, 5, 10, 20, 50, 100, 200)
    """Transitions of D."""
    noise: Annotated[tuple[Annotated[Number, Field(ge=0)], ...], Field(min_length=1)] = (0.0, 0.05, 0.2)
    """Standard deviations of the noise of observations, in units of each observation's own."""
    tasks: Annotated[Whole, Field(ge=2)] = 64
    """Validation tasks that errors are measured on. As many others choose the penalty of ridge regression."""
    survey_tasks: Annotated[Whole, Field(ge=2)] = 1024
    """Training tasks that ridge regression is fitted to, on D of the mixture with the same noise."""
    identified: Annotated[Whole, Field(ge=0)] = 8
    """The first of the validation tasks, which system identification is run on: it takes a second for each D."""
    seed: Seed = 0
    """Of the tasks, D and noise."""

    def batches(self, out: Path) -> Iterator[list[Cell]]:
        """One for each origin of D.

        Raises:
            MetaMapError: no zoo, or not a mapper.
        """
        zoo = Zoo.open(self.zoo)
        shared = self.model_dump(mode="json", exclude={"zoo", "mappers", "d_from"})
        shared["zoo"] = {"seed": zoo.seed, "base policy": digest({"phi": zoo.base.phi})}
        shared["mappers"] = {name: digest(Mapper.load(path).arrays()) for name, path in self.mappers.items()}
        yield [Cell(origin, out / f"{origin}.json", {**shared, "d_from": origin}, (origin,)) for origin in self.d_from]

    def is_done(self, cell: Cell) -> bool:
        """Whether it is there, with these settings."""
        return check_settings(cell)

    def run(self, cell: Cell) -> dict[str, Any]:
        """Mean squared errors of each task, by noise, reader and length."""
        zoo = Zoo.open(self.zoo)
        survey = self._collected(zoo, "train", self.survey_tasks, "mixture", _SURVEY_SEED)
        measured = self._collected(zoo, "validation", 2 * self.tasks, cell.job[0], _SEED)
        mappers = {name: Mapper.load(path) for name, path in self.mappers.items()}
        unit = survey.observations.std(axis=(0, 1, 2))
        errors = {}
        for level in self.noise:
            generator = np.random.default_rng([self.seed, int(1000 * level)])
            known, new = (_noisy(one, level * unit, generator) for one in (survey, measured))
            data = _Data.of(known, new, self.tasks, zoo.base.spec.observation_size, zoo.base.spec.action_size)
            found = data.by_ridge(self.lengths)
            for name, mapper in mappers.items():
                found |= data.by_mapper(name, mapper, self.lengths)
            if self.identified and holds_state(zoo.family):
                found["sysid"] = data.by_identification(self.identified, self.lengths, cell.job[0] not in _STARTED)
            errors[str(level)] = found
        return document_of(cell, {"errors": errors})

    def _collected(self, zoo: Zoo, split: str, count: int, origin: str, seed: int) -> Rollouts:
        tasks = zoo.family.sample(split, count, np.random.default_rng([self.seed, seed]))
        mixture, pool = ActorMixture.source(origin), ActorPool.of_zoo(zoo)
        steps = max(self.lengths)
        return collect_mixture(
            mixture, pool, BasePolicyProbe(), tasks, steps=steps, seed=seed + self.seed, num_threads=1
        )

    def summary(self, documents: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Errors by origin of D."""
        return {
            "family": Zoo.open(self.zoo).family.name,
            "settings": self.model_dump(mode="json", exclude={"zoo", "mappers"}),
            "errors": {origin: document["errors"] for origin, document in documents.items()},
        }

    def table(self, document: Mapping[str, Any]) -> list[str]:
        """Origins of D, noise and readers in rows, lengths in columns."""
        return reading_table(document)


def _noisy(rollouts: Rollouts, scale: NDArray[Any], generator: np.random.Generator) -> Rollouts:
    """Rollouts with Gaussian noise of the observations, the same for one and the same observation."""
    tasks, repeats, steps, size = rollouts.observations.shape
    noise = (scale * generator.standard_normal((tasks, repeats, steps + 1, size))).astype(np.float32)
    arrays = rollouts.arrays() | {
        "observations": rollouts.observations + noise[:, :, :-1],
        "next_observations": rollouts.next_observations + noise[:, :, 1:],
    }
    return Rollouts(rollouts.tasks, **arrays)


@dataclass(frozen=True, eq=False)
class _Data:
    """D of tasks to fit to and of tasks to measure on; coordinates are standardised."""

    layout: TransitionLayout
    rollouts: tuple[Rollouts, Rollouts]
    """Of the survey and of the validation tasks."""
    tasks: int
    """How many of them, from the first, errors are measured on; the others choose penalties."""
    rows: tuple[Array, Array]
    """Standardised feature rows of the survey [U, n, F] and of the validation tasks [T, n, F]."""
    targets: tuple[Array, Array]
    units: tuple[Array, Array]
    """Means and standard deviations of the coordinates [K]."""

    @classmethod
    def of(cls, known: Rollouts, new: Rollouts, tasks: int, observations: int, actions: int) -> _Data:
        first, second = (one.features()[:, 0].astype(np.float64) for one in (known, new))
        centre, scale = first.mean(axis=(0, 1)), first.std(axis=(0, 1))
        scale = np.where(scale < 1e-6, 1.0, scale)
        coordinates = [task_coordinates(one.tasks).astype(np.float64) for one in (known, new)]
        mean, std = coordinates[0].mean(axis=0), coordinates[0].std(axis=0)
        std = np.where(std < 1e-6, 1.0, std)
        return cls(
            TransitionLayout(observations, actions),
            (known, new),
            tasks,
            ((first - centre) / scale, (second - centre) / scale),
            ((coordinates[0] - mean) / std, (coordinates[1] - mean) / std),
            (mean, std),
        )

    def by_ridge(self, lengths: tuple[int, ...]) -> dict[str, dict[str, list[float]]]:
        """Ridge regression on statistics of D; its penalty is chosen for each length."""
        given, outcome = self.layout.state_action, self.layout.outcome
        usual = usual_response(self.rows[0], given, outcome)
        coefficients = partial(responses, given=given, outcome=outcome, usual=usual)
        kinds: dict[str, Callable[[Array], Array]] = {
            "ridge, means": means,
            "ridge, moments": moments,
            "ridge, responses": coefficients,
        }
        return {
            name: {str(length): self._ridge(*(kind(rows[:, :length]) for rows in self.rows)) for length in lengths}
            for name, kind in kinds.items()
        }

    def _ridge(self, known: Array, new: Array) -> list[float]:
        """Errors of ridge regression on features of the survey [U, M] and of the validation tasks [T, M]."""
        count = self.tasks
        fitted = chosen_ridge(known, self.targets[0], new[count:], self.targets[1][count:])
        return self._errors(fitted(new[:count]))

    def _errors(self, read: Array) -> list[float]:
        """Mean squared error of each of the first tasks."""
        found: list[float] = np.square(read - self.targets[1][: len(read)]).mean(axis=1).tolist()
        return found

    @torch.no_grad()
    def by_mapper(self, name: str, mapper: Mapper, lengths: tuple[int, ...]) -> dict[str, dict[str, list[float]]]:
        """A mapper's own estimates; and ridge regression on the unknowns of its forward model, if it has one."""
        known, new = (torch.from_numpy(one.features()[:, 0]) for one in self.rollouts)
        mean, std = self.units
        read = {
            str(length): self._errors((mapper.read_coordinates(new[: self.tasks, :length]).numpy() - mean) / std)
            for length in lengths
        }
        if not isinstance(mapper.encoder, InformedEncoder):
            return {f"encoder, {name}": read}
        model = mapper.encoder.model

        def features(rows: Tensor) -> Array:
            parts = [model.invert(mapper.standardised(part)) for part in torch.split(rows, _TASKS_AT_ONCE)]
            unknowns, information = (torch.cat(one).numpy().astype(np.float64) for one in zip(*parts, strict=True))
            return np.concatenate([products(unknowns), information], axis=1)

        ridge = {str(length): self._ridge(features(known[:, :length]), features(new[:, :length])) for length in lengths}
        return {f"encoder, {name}": read, f"ridge, forward model of {name}": ridge}

    def by_identification(self, tasks: int, lengths: tuple[int, ...], from_reset: bool) -> dict[str, list[float]]:
        """System identification with the exact model, on the first tasks."""
        config, (mean, std) = IdentificationConfig(from_reset=from_reset), self.units
        rollouts = [self.rollouts[1].rollout(task) for task in range(min(tasks, self.tasks))]
        return {
            str(length): self._errors(
                (task_coordinates([identify(one.head(length), config).task for one in rollouts]) - mean) / std
            )
            for length in lengths
        }

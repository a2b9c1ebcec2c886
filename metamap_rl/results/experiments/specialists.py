"""What experts have beyond the universal policy given the truth, and whether it is a function of the task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from metamap_agents.experts.expert import Expert
from metamap_agents.experts.zoo import Zoo
from metamap_agents.policy.acting import BatchedPolicy
from metamap_agents.policy.evaluation import run_episodes
from metamap_agents.policy.policies import Policies
from metamap_agents.policy.spec import PolicySpec
from metamap_agents.runtime.seeds import EVALUATION_SEED
from metamap_envs.errors import MetaMapError
from metamap_envs.settings import Settings, Whole
from metamap_envs.task import Task
from metamap_rl.common.cells import Cell, check_settings, document_of
from metamap_rl.common.statistics import Interval, bootstrap_interval
from metamap_rl.evaluation.predictability import explained_variance
from metamap_rl.evaluation.protocol.methods import METHODS
from metamap_rl.evaluation.protocol.methods.mapped import train_protocol_mapper
from metamap_rl.evaluation.protocol.problem import Problem, fingerprint
from metamap_rl.evaluation.protocol.settings import MAPPER, SharedSettings
from metamap_rl.results.experiments.base import EXPERIMENTS
from metamap_rl.results.size_tables import specialists_table
from metamap_rl.training.from_experts import task_coordinates


@EXPERIMENTS.register("specialists")
class Specialists(Settings):
    """Experts beside base policy and universal policy given the truth, in short and long episodes, paired by task."""

    zoos: Annotated[tuple[Path, ...], Field(min_length=1)]
    """Zoos with universal policies, whose experts are specialists or not."""
    horizons: Annotated[tuple[Annotated[Whole, Field(ge=1)], ...], Field(min_length=1)] = (200, 1000)
    """Steps of an episode."""
    episodes: Annotated[Whole, Field(ge=2)] = 50
    """Of each policy on each task, on shared reset seeds."""
    split: Literal["train", "validation", "test-in", "test-out"] = "test-in"
    """Whose tasks are measured."""
    methods: tuple[str, ...] = ()
    """Methods of the protocol that are measured beside them, such as a mapper and what it has to be better than."""
    length: Annotated[Whole, Field(ge=1)] = 50
    """Transitions of their D."""
    mapper: dict[str, Any] = Field(default_factory=dict)
    """Settings of the mapper in place of the protocol's."""

    def batches(self, out: Path) -> Iterator[list[Cell]]:
        """One cell for each zoo."""
        measured = self.model_dump(mode="json", exclude={"zoos"})
        yield [
            Cell(
                f"{zoo.family.name}, zoo {zoo.seed}",
                out / f"{zoo.family.name}-{zoo.seed}.json",
                {**measured, "zoo": fingerprint(zoo)},
                (root, out / f"{zoo.family.name}-{zoo.seed}-mappers"),
            )
            for root, zoo in ((root, Zoo.open(root)) for root in self.zoos)
        ]

    def is_done(self, cell: Cell) -> bool:
        """Whether it is there, with these settings."""
        return check_settings(cell)

    def run(self, cell: Cell) -> dict[str, Any]:
        """Returns of the three policies of each task, and how much of what experts add the task explains."""
        root, mappers = cell.job
        zoo = Zoo.open(root)
        experts = zoo.experts(self.split)
        if not experts:
            raise MetaMapError(f"{zoo.root}: expected experts of {self.split} tasks, it has none")
        phis = {
            "base": np.tile(zoo.base.phi, (len(experts), 1)),
            "universal": _universal(zoo, experts),
            "expert": np.stack([one.phi for one in experts]),
        }
        lengths = {
            str(horizon): {
                **{name: self._returns(zoo, experts, phi, horizon) for name, phi in phis.items()},
                **self._of_methods(zoo, mappers, horizon),
            }
            for horizon in self.horizons
        }
        (steps,) = {one.record["recipe"]["parent_timesteps"] for one in experts}
        found = {
            "family": zoo.family.name,
            "seed": zoo.seed,
            "steps": steps,
            "seconds": float(np.mean([one.record["seconds"] for one in experts])),
            "lengths": lengths,
            "explained": _explained(zoo),
        }
        return document_of(cell, found)

    def _returns(self, zoo: Zoo, experts: Sequence[Expert], phi: NDArray[np.float32], horizon: int) -> list[float]:
        """Mean returns, one for each task."""
        found = _returns([one.task for one in experts], zoo.base.policies(phi), self.episodes, horizon)
        means: list[float] = found.mean(axis=1).round(3).tolist()
        return means

    def _of_methods(self, zoo: Zoo, mappers: Path, horizon: int) -> dict[str, list[float]]:
        """Mean returns of methods, one for each task."""
        if not self.methods:
            return {}
        config = SharedSettings(
            lengths=(self.length,), splits=(self.split,), episodes=self.episodes, mapper=MAPPER.changed(**self.mapper)
        )
        problem = _LongProblem(zoo, config, mappers, horizon)
        if not problem.mapper_folder(0).exists():
            train_protocol_mapper(problem, 0).save(problem.mapper_folder(0))
        scores = {name: METHODS.get(name)().measure(problem, 0).scores[-1].returns for name in self.methods}
        return {name: one.mean(axis=1).round(3).tolist() for name, one in scores.items()}

    def summary(self, documents: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Means, paired differences with intervals over tasks, in all zoos."""
        zoos = {
            name: {
                **{key: one[key] for key in ("family", "seed", "steps", "seconds", "explained")},
                "lengths": {length: _summary(returns) for length, returns in one["lengths"].items()},
            }
            for name, one in documents.items()
        }
        return {"settings": self.model_dump(mode="json", exclude={"zoos"}), "zoos": zoos}

    def table(self, document: Mapping[str, Any]) -> list[str]:
        """Zoos and lengths in rows."""
        return specialists_table(document)


class _LongProblem(Problem):
    """A problem of the protocol whose policies are measured in episodes of any length."""

    def __init__(self, zoo: Zoo, config: SharedSettings, mappers: Path, horizon: int) -> None:
        super().__init__(zoo, config, mappers)
        self._horizon = horizon

    def returns(
        self, split: str, phis: NDArray[np.float32], spec: PolicySpec | None = None, episodes: int | None = None
    ) -> NDArray[np.float64]:
        """As those of `Problem`, in episodes of its own length."""
        tasks = self.tasks(split)
        weights = np.broadcast_to(phis, (len(tasks), phis.shape[-1]))
        policies = Policies(spec or self.base.spec, self.base.normalizer, weights)
        return _returns(tasks, policies, episodes or self.config.episodes, self._horizon)


def _returns(tasks: Sequence[Task], policies: Policies, episodes: int, horizon: int) -> NDArray[np.float64]:
    """Returns of every episode [T, E]."""
    return run_episodes(
        tasks, BatchedPolicy(policies), episodes, EVALUATION_SEED, num_threads=1, horizon=horizon
    ).returns


def _universal(zoo: Zoo, experts: Sequence[Expert]) -> NDArray[np.float32]:
    return np.stack([zoo.universal.expert_for(one.task) for one in experts])


def _explained(zoo: Zoo) -> dict[str, Any] | None:
    """How much of experts minus universal policy is a function of the task, over training tasks; None if all are 0."""
    experts = zoo.experts("train")
    residuals = np.stack([one.phi for one in experts]) - _universal(zoo, experts) if experts else np.zeros(0)
    if len(experts) < 3 or not np.ptp(residuals, axis=0).any():
        return None
    coordinates = task_coordinates([one.task for one in experts])
    size = float(np.linalg.norm(residuals, axis=1).mean() / np.linalg.norm(zoo.base.phi))
    degrees = {"linear": 1, "quadratic": 2}
    return {
        "size": size,
        **{name: asdict(explained_variance(coordinates, residuals, each)) for name, each in degrees.items()},
    }


def _summary(returns: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    found = {name: np.array(one) for name, one in returns.items()}
    others = [name for name in found if name not in ("base", "universal")]
    pairs = [("universal", "base"), ("expert", "base"), *((name, "universal") for name in others)]
    if "mapper" in found:
        pairs += [("mapper", name) for name in others if name != "mapper"]
    differences = {f"{first} minus {second}": _interval(found[first] - found[second]) for first, second in pairs}
    means = {name: float(one.mean()) for name, one in found.items()}
    return {"returns": dict(returns), "means": means, "differences": differences}


def _interval(values: NDArray[np.float64]) -> dict[str, float | None]:
    """Mean over tasks with a 95 % interval."""
    if len(values) < 2:
        return {"mean": float(values.mean()), "low": None, "high": None}
    found: Interval = bootstrap_interval(values[None], np.random.default_rng(0), resampled="tasks", trimmed=0.0)
    return {"mean": found.estimate, "low": found.low, "high": found.high}

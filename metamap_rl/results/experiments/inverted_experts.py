"""Experts that are one good policy of the unchanged robot behind inverses of linear maps, as a zoo to learn from."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from metamap_agents.experts.distillation import Distillation
from metamap_agents.experts.expert import Expert
from metamap_agents.experts.resizing import distil_universal
from metamap_agents.experts.universal import UniversalPolicy
from metamap_agents.experts.zoo import Zoo
from metamap_agents.policy.evaluation import evaluate_policies
from metamap_envs.errors import MetaMapError
from metamap_envs.settings import Settings, Whole
from metamap_rl.common.cells import Cell, check_settings, document_of
from metamap_rl.evaluation.identification import identify_actuators, undone
from metamap_rl.evaluation.protocol.methods.linear_actuators import LinearActuatorModel
from metamap_rl.evaluation.protocol.problem import Problem, fingerprint
from metamap_rl.evaluation.protocol.settings import SharedSettings
from metamap_rl.probing.collecting import collect
from metamap_rl.results.experiments.base import EXPERIMENTS
from metamap_rl.results.size_tables import inverted_table


@EXPERIMENTS.register("inverted-experts")
class InvertedExperts(Settings):
    """A zoo whose experts are one policy of the unchanged robot behind the inverse of a linear map of its actions."""

    zoo: Path
    """Zoo with a universal policy. The new one, `zoo` in the run's folder, has its tasks and base policy."""
    timesteps: Annotated[Whole, Field(ge=0)] = 500_000
    """Environment steps of PPO on the unchanged robot, from the universal policy."""
    transitions: Annotated[Whole, Field(ge=1)] = 100
    """Of the probe on each task, from which its map is identified with the simulator of the unchanged robot."""
    distillation: Distillation | None = None
    """Of the training experts into the new zoo's universal policy; without it, that of the zoo."""

    def batches(self, out: Path) -> Iterator[list[Cell]]:
        """One cell."""
        settings = {**self.model_dump(mode="json", exclude={"zoo"}), "zoo": fingerprint(Zoo.open(self.zoo))}
        yield [Cell("experts", out / "experts.json", settings, (out / "zoo",))]

    def is_done(self, cell: Cell) -> bool:
        """Whether it is there, with these settings."""
        return check_settings(cell)

    def run(self, cell: Cell) -> dict[str, Any]:
        """Train the policy of the unchanged robot, identify each task's map, store the experts."""
        source, (place,) = Zoo.open(self.zoo), cell.job
        method = LinearActuatorModel(timesteps=self.timesteps)
        if (lacking := method.lacking(source.family, source.has_universal)) is not None:
            raise MetaMapError(f"{source.root}: inverted experts need {lacking}")
        made = Zoo.create(place, source.family.name, source.seed)
        made.put_base(source.base)
        problem = Problem(source, SharedSettings(), place)
        self._store(problem, made, method.policy(problem, 0))
        made.put_universal(self._universal(source, made))
        splits: dict[str, list[Expert]] = {}
        for expert in made.experts():
            splits.setdefault(expert.task.split, []).append(expert)
        means = {
            split: {"base": _mean(one.base_returns for one in found), "expert": _mean(one.returns for one in found)}
            for split, found in splits.items()
        }
        return document_of(
            cell, {"family": source.family.name, "experts": {k: len(v) for k, v in splits.items()}, "means": means}
        )

    def _universal(self, source: Zoo, made: Zoo) -> UniversalPolicy:
        if self.distillation is None:
            return source.universal
        experts = [expert for expert in made.experts() if expert.task.split == "train"]
        if not experts:
            raise MetaMapError(f"{source.root}: a distillation needs experts of training tasks, the zoo has none")
        return distil_universal(source.universal, experts, made.base, self.distillation, seed=made.seed)

    def _store(self, problem: Problem, made: Zoo, phi: NDArray[np.float32]) -> None:
        """Experts of all tasks of the zoo."""
        base, unchanged = problem.base, problem.family.task()
        tasks = [expert.task for expert in problem.zoo.experts()]
        rollouts = collect(problem.probe, tasks, base, steps=self.transitions, seed=made.seed, num_threads=1)
        for index, task in enumerate(tasks):
            started = time.perf_counter()
            found = identify_actuators(rollouts.rollout(index, 0), unchanged)
            weights = undone(base.spec, phi, found)
            returns = evaluate_policies(
                [task, task], base.policies(np.stack([weights, base.phi])), num_threads=1
            ).returns
            record = {
                "steps": self.transitions,
                "seconds": round(time.perf_counter() - started, 3),
                "linear_actuators": {
                    "matrix": found.matrix.round(6).tolist(),
                    "offset": found.offset.round(6).tolist(),
                },
            }
            made.put(Expert(task, weights, returns[0], returns[1], record))

    def summary(self, documents: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Mean returns by split."""
        return {"settings": self.model_dump(mode="json", exclude={"zoo"}), **dict(documents.get("experts", {}))}

    def table(self, document: Mapping[str, Any]) -> list[str]:
        """One row for each split."""
        return inverted_table(document)


def _mean(returns: Any) -> float:
    return round(float(np.mean(list(returns))), 3)

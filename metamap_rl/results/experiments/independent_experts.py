"""Mappers of experts that were trained one by one: how far they go by the number of experts, and why they stop."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from metamap_agents.experts.distillation import Distillation
from metamap_agents.experts.expert import Expert
from metamap_agents.experts.recipes import Recipe
from metamap_agents.experts.resizing import distil_universal
from metamap_agents.experts.training import train_expert
from metamap_agents.experts.universal import blank_universal
from metamap_agents.experts.zoo import Zoo
from metamap_agents.policy.acting import BatchedPolicy
from metamap_agents.policy.base import BasePolicy
from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.settings import Settings, Whole, parse
from metamap_rl.common.cells import Cell, check_settings, document_of
from metamap_rl.common.statistics import ratio_of_zoos
from metamap_rl.data.rollouts import Rollouts
from metamap_rl.evaluation.predictability import explained_variance
from metamap_rl.evaluation.protocol.methods import METHODS
from metamap_rl.evaluation.protocol.methods.mapped import train_protocol_mapper
from metamap_rl.evaluation.protocol.problem import Problem, fingerprint
from metamap_rl.evaluation.protocol.settings import MAPPER, SharedSettings
from metamap_rl.evaluation.regression import chosen_ridge, moments
from metamap_rl.results.experiments.base import EXPERIMENTS
from metamap_rl.results.size_tables import independent_table
from metamap_rl.training.from_experts import task_coordinates

_METHODS = ("nearest-expert", "mean-expert", "universal-policy", "estimate")
_TRUE, _RIDGE = "nearest by the truth", "ridge"
_STATES = 200  # at which actions of experts are compared

_MAPPERS: dict[str, dict[str, Any]] = {
    "weights, aligned": {"loss": "weights", "aligned": True},
    "behaviour": {"loss": "behaviour"},
    "behaviour, DAgger": {"loss": "behaviour", "dagger_rounds": 4},
}

Floats = NDArray[np.float64]


@EXPERIMENTS.register("independent-experts")
class IndependentExperts(Settings):
    """Mappers of experts that were trained one by one, by the number of experts, beside lookups and ridge."""

    zoo: Path
    """Zoo whose experts have no common parent (`--start random` or `base`), of training, validation and test tasks."""
    counts: Annotated[tuple[Annotated[Whole, Field(ge=3)], ...], Field(min_length=1)] = (16, 64)
    """Numbers of training experts; fewer are the first of more."""
    mappers: Annotated[dict[str, dict[str, Any]], Field(min_length=1)] = _MAPPERS
    """Settings of mappers in place of the protocol's, by name."""
    rivals_with: str = "weights, aligned"
    """Name of the mapper whose encoder and weights of experts rivals take."""
    distillation: Distillation = Distillation(rounds=6, states=200, steps=2_000, batch_size=512, learning_rate=3e-3)
    """Of the training experts into one policy that is given the task."""
    twins: Annotated[Whole, Field(ge=0)] = 8
    """Validation experts that are trained once more, with another seed."""
    length: Annotated[Whole, Field(ge=1)] = 50
    """Transitions of D."""
    episodes: Annotated[Whole, Field(ge=2)] = 20
    """Of each policy on each task, on shared reset seeds."""
    split: Literal["test-in", "test-out"] = "test-in"
    """Whose tasks are measured."""

    def batches(self, out: Path) -> Iterator[list[Cell]]:
        """Experts and twins, then one cell for each number of experts and mapper."""
        shared = {"zoo": fingerprint(Zoo.open(self.zoo))}
        ends = {**shared, **self.model_dump(mode="json", include={"episodes", "split", "twins"})}
        measured = {**shared, **self.model_dump(mode="json", include={"length", "episodes", "split", "distillation"})}
        yield [Cell("experts", out / "experts.json", ends, (0, "", out))]
        if self.rivals_with not in self.mappers:
            raise unknown_name("mapper", self.rivals_with, list(self.mappers), of="rivals_with")
        yield [
            Cell(
                f"{count}, {name}",
                out / f"{count}-{_slug(name)}.json",
                {**measured, "count": count, "mapper": mapper, "with rivals": name == self.rivals_with},
                (count, name, out / f"{count}-{_slug(name)}"),
            )
            for count in self.counts
            for name, mapper in self.mappers.items()
        ]

    def is_done(self, cell: Cell) -> bool:
        """Whether it is there, with these settings."""
        return check_settings(cell)

    def run(self, cell: Cell) -> dict[str, Any]:
        """Returns of base policy and experts, or of a mapper and what stands beside it."""
        count, name, folder = cell.job
        zoo = Zoo.open(self.zoo)
        if not name:
            return document_of(cell, {**self._ends(zoo, folder), "twins": _twins(zoo, self.twins)})
        problem = self._problem(self._part(zoo, count, folder), name, folder)
        found = {"mapper": METHODS.get("mapper")().measure(problem, 0).scores[-1].returns}
        more: dict[str, Any] = {}
        if cell.settings["with rivals"]:
            found |= {one: METHODS.get(one)().measure(problem, 0).scores[-1].returns for one in _METHODS}
            found |= {
                _TRUE: problem.returns(self.split, _nearest_by_truth(problem, self.split)),
                _RIDGE: problem.returns(self.split, _by_ridge(problem, self.split, self.length)),
            }
            more = {"explained": _explained(problem)}
        returns = {one: each.mean(axis=1).round(4).tolist() for one, each in found.items()}
        return document_of(cell, {"returns": returns, **more})

    def _ends(self, zoo: Zoo, folder: Path) -> dict[str, Any]:
        problem = Problem(zoo, self._shared({}), folder)
        experts = problem.experts(self.split)
        if not experts:
            raise MetaMapError(f"{zoo.root}: expected experts of {self.split} tasks, it has none")
        phis = {"base": zoo.base.phi, "expert": np.stack([one.phi for one in experts])}
        means = {name: problem.returns(self.split, phi).mean(axis=1).round(4).tolist() for name, phi in phis.items()}
        return {"returns": means, "starts": sorted({one.record["recipe"]["start"] for one in zoo.experts("train")})}

    def _shared(self, mapper: Mapping[str, Any]) -> SharedSettings:
        return SharedSettings(
            lengths=(self.length,), splits=(self.split,), episodes=self.episodes, mapper=MAPPER.changed(**mapper)
        )

    def _part(self, zoo: Zoo, count: int, folder: Path) -> Zoo:
        """A zoo of the first training experts, with a universal policy that is distilled from them."""
        experts = [zoo.get(task) for task in zoo.tasks("train", count) if zoo.has(task)]
        if len(experts) < count:
            raise MetaMapError(f"{zoo.root}: expected {count} training experts, it has {len(experts)} of them")
        part = Zoo.create(folder.parent / "zoos" / str(count), zoo.family.name, zoo.seed)
        if not part.has_base:
            part.put_base(zoo.base)
        for expert in (*experts, *zoo.experts("validation"), *zoo.experts(self.split)):
            if not part.has(expert.task):
                part.put(expert)
        if not part.has_universal:
            blank = blank_universal(zoo.family.name, zoo.family.space.names, zoo.base.spec, zoo.seed)
            part.put_universal(distil_universal(blank, experts, zoo.base, self.distillation, seed=zoo.seed))
        return part

    def _problem(self, zoo: Zoo, name: str, folder: Path) -> Problem:
        problem = Problem(zoo, self._shared(self.mappers[name]), folder)
        if not problem.mapper_folder(0).exists():
            train_protocol_mapper(problem, 0).save(problem.mapper_folder(0))
        return problem

    def summary(self, documents: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Shares of the gap between base policy and experts, and paired differences, by number of experts."""
        settings = self.model_dump(mode="json", exclude={"zoo"})
        if (ends := documents.get("experts")) is None:
            return {"family": Zoo.open(self.zoo).family.name, "settings": settings, "counts": {}}
        base, expert = (np.array(ends["returns"][name]) for name in ("base", "expert"))
        counts = {}
        for count in self.counts:
            found = {name: one for name in self.mappers if (one := documents.get(f"{count}, {name}")) is not None}
            returns = {name: np.array(one["returns"]["mapper"]) for name, one in found.items()}
            rivals = {name: np.array(each) for one in found.values() for name, each in one["returns"].items()}
            rivals.pop("mapper", None)
            minus = {f"{name} minus {rival}": one - rivals[rival] for name, one in returns.items() for rival in rivals}
            counts[str(count)] = {
                "shares": {name: _share(one - base, expert - base) for name, one in {**returns, **rivals}.items()},
                "differences": {name: _share(one, expert - base) for name, one in minus.items()},
                "explained": next((one["explained"] for one in found.values() if "explained" in one), None),
            }
        means = {"base": float(base.mean()), "expert": float(expert.mean()), "tasks": len(base)}
        about = {name: ends[name] for name in ("starts", "twins")}
        return {
            "family": Zoo.open(self.zoo).family.name,
            "settings": settings,
            "means": means,
            **about,
            "counts": counts,
        }

    def table(self, document: Mapping[str, Any]) -> list[str]:
        """Numbers of experts in rows, mappers and rivals in columns."""
        return independent_table(document)


def _slug(name: str) -> str:
    """A name as part of a file's."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _share(gains: Floats, gaps: Floats) -> dict[str, float | None]:
    """Sum of gains over sum of gaps with a 95 % interval over tasks."""
    found = ratio_of_zoos([gains[None]], [gaps], np.random.default_rng(0))
    if found is None:
        return {"share": None, "low": None, "high": None}
    return {"share": found.estimate, "low": found.low, "high": found.high}


def _standardised(tasks: Floats, others: Floats) -> tuple[Floats, Floats]:
    """Coordinates in units of the standard deviation of the first."""
    scale = np.maximum(tasks.std(axis=0), 1e-9)
    return tasks / scale, others / scale


def _nearest_by_truth(problem: Problem, split: str) -> NDArray[np.float32]:
    """Weights of the training experts whose true coordinates are nearest."""
    stored, asked = _standardised(
        *(task_coordinates(problem.tasks(one)).astype(np.float64) for one in ("train", split))
    )
    nearest = np.linalg.norm(asked[:, None] - stored[None], axis=2).argmin(axis=1)
    return np.stack([problem.experts("train")[index].phi for index in nearest])


def _by_ridge(problem: Problem, split: str, length: int) -> NDArray[np.float32]:
    """Weights that ridge regression on the moments of D predicts; the penalty is chosen on validation tasks."""
    stored = [problem.memory(0), problem.rollouts("validation", 0), problem.rollouts(split, 0)]
    rows = [_rows(one, length) for one in stored]
    mean, scale = rows[0].mean(axis=(0, 1)), np.maximum(rows[0].std(axis=(0, 1)), 1e-6)
    inputs = [moments((one - mean) / scale) for one in rows]
    pairs, held_out = problem.training_pairs, problem.validation_pairs
    repeats = len(inputs[0]) // len(pairs)
    targets = np.repeat(pairs.phi.astype(np.float64), repeats, axis=0)
    ridge = chosen_ridge(inputs[0], targets, inputs[1], held_out.phi.astype(np.float64))
    phis: NDArray[np.float32] = ridge(inputs[2]).astype(np.float32)
    return phis


def _rows(rollouts: Rollouts, length: int) -> Floats:
    """Feature rows of the first transitions of every rollout [T R, n, F]."""
    rows = rollouts.features()[:, :, :length]
    return np.asarray(rows, dtype=np.float64).reshape(-1, *rows.shape[2:])


def _explained(problem: Problem) -> dict[str, Any]:
    """Share of experts' variance, in weights and in actions, that a quadratic function of the true task predicts."""
    experts, phi = problem.experts("train"), problem.training_pairs.phi
    coordinates = task_coordinates([one.task for one in experts])
    actions = _actions(problem.base, phi, _shared_states(problem.base, problem.validation_pairs.states))
    found: dict[str, NDArray[Any]] = {"weights": phi, "actions": actions.reshape(len(phi), -1)}
    return {name: max(explained_variance(coordinates, one, k).left_out for k in (1, 2)) for name, one in found.items()}


def _shared_states(base: BasePolicy, states: NDArray[np.float32]) -> NDArray[np.float32]:
    """Some of the states [T, S, O] of several experts, evenly spaced [S', O]."""
    flat = states.reshape(-1, base.spec.observation_size)
    return flat[np.linspace(0, len(flat) - 1, min(_STATES, len(flat))).astype(np.intp)]


def _actions(base: BasePolicy, phis: NDArray[np.float32], states: NDArray[np.float32]) -> Floats:
    """Actions within their range of every policy in the same states [T, S, A]."""
    means = BatchedPolicy(base.policies(phis)).means(np.broadcast_to(states, (len(phis), *states.shape)))
    return np.clip(np.asarray(means, dtype=np.float64), -1.0, 1.0)


def _twins(zoo: Zoo, count: int) -> dict[str, Any] | None:
    """How much experts of one task differ that differ in their seed alone, beside experts of different tasks."""
    experts = zoo.experts("validation")[:count]
    if len(experts) < 2:
        return None
    twins = [_twin(zoo, expert) for expert in experts]
    problem = Problem(zoo, SharedSettings(), zoo.root)
    states = _shared_states(zoo.base, problem.validation_pairs.states)
    ours, theirs = (_actions(zoo.base, np.stack([one.phi for one in each]), states) for each in (experts, twins))
    apart = np.square(ours[:, None] - theirs[None]).mean(axis=(2, 3))
    same = np.eye(len(experts), dtype=np.bool_)
    return {
        "tasks": len(experts),
        "same task": float(apart[same].mean()),
        "different tasks": float(apart[~same].mean()),
        "returns": [[float(one.returns.mean()) for one in each] for each in (experts, twins)],
    }


def _twin(zoo: Zoo, expert: Expert) -> Expert:
    recipe = parse(Recipe, expert.record["recipe"], f"recipe of {expert.task.id}")
    return train_expert(expert.task, zoo.base, recipe, seed=expert.record["seed"] + 1)

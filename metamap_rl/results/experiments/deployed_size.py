"""What a policy of a given size can do: one network for all tasks against a generated network for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from metamap_agents.experts.recipes import load_recipe
from metamap_agents.experts.resizing import Resizing, resize_zoo
from metamap_agents.experts.training import train_universal
from metamap_agents.experts.zoo import Zoo
from metamap_agents.policy.evaluation import evaluate_policies
from metamap_agents.policy.initial import random_actor
from metamap_agents.policy.policies import Policies
from metamap_agents.policy.spec import PolicySpec
from metamap_agents.runtime.executors import LocalExecutor
from metamap_agents.runtime.seeds import EVALUATION_SEED
from metamap_envs.errors import MetaMapError
from metamap_envs.settings import Settings, Whole
from metamap_envs.task import Task
from metamap_rl.common.cells import Cell, check_settings, document_of
from metamap_rl.common.statistics import ratio_of_zoos
from metamap_rl.evaluation.protocol.config import ProtocolConfig
from metamap_rl.evaluation.protocol.problem import fingerprint
from metamap_rl.evaluation.protocol.record import open_run
from metamap_rl.evaluation.protocol.run import run_protocol
from metamap_rl.evaluation.protocol.settings import MAPPER
from metamap_rl.results.experiments.base import EXPERIMENTS
from metamap_rl.results.size_tables import size_table

_METHODS = ("universal-policy", "mapper", "estimate", "sysid", "context-policy", "nearest-expert", "mean-expert")
_RIVALS = (
    "universal-policy",
    "universal-ppo",
    "estimate",
    "sysid",
    "linear-actuators",
    "context-policy",
    "nearest-expert",
)
"""What the mapper is compared with: one network of the size for all tasks, and the lookup of a small expert."""


@EXPERIMENTS.register("deployed-size")
class DeployedSize(Settings):
    """Policies of other sizes: one network for all tasks against one that is generated for each."""

    zoos: Annotated[tuple[Path, ...], Field(min_length=1)]
    """Zoos of one family, of different seeds, with universal policy and experts of training, validation, test tasks."""
    sizes: Annotated[tuple[Annotated[Whole, Field(ge=1)], ...], Field(min_length=1)] = (4, 8, 16, 32)
    """Units of each of the two hidden layers; a zoo's own size is measured as it is."""
    methods: Annotated[tuple[str, ...], Field(min_length=1)] = _METHODS
    """Methods of the protocol, each with policies of the size."""
    length: Annotated[Whole, Field(ge=1)] = 50
    """Transitions of D."""
    updates: Annotated[Whole, Field(ge=1)] = 4000
    """Of mappers and context policies."""
    seeds: Annotated[Whole, Field(ge=1)] = 1
    """Mappers, and context policies, of each zoo and size."""
    episodes: Annotated[Whole, Field(ge=2)] = 20
    """Of each policy on each task, on shared reset seeds."""
    split: Literal["test-in", "test-out"] = "test-in"
    """Whose tasks are measured."""
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Settings of methods by name."""
    mapper: dict[str, Any] = Field(default_factory=dict)
    """Settings of mappers in place of the protocol's."""
    resizing: Resizing | None = None
    """Settings of the distillation; None for the defaults."""
    ppo_timesteps: Annotated[Whole, Field(ge=0)] = 0
    """Environment steps of a universal policy of each size that PPO trains from random weights, beside the one that is
    distilled; 0 for none."""
    ppo: dict[str, Any] = Field(default_factory=dict)
    """Settings of its recipe in place of those of the recipe ``parent``, such as ``told``."""

    def batches(self, out: Path) -> Iterator[list[Cell]]:
        """The large policies, then one cell for each zoo and size, which is resumed within."""
        measured = self.model_dump(mode="json", include={"methods", "length", "updates", "seeds", "settings"})
        if self.mapper:  # older runs have none of these keys
            measured["mapper"] = self.mapper
        if self.resizing is not None:
            measured["resizing"] = self.resizing.model_dump(mode="json")
        places = []
        for root in self.zoos:
            zoo = Zoo.open(root)
            shared = {"zoo": fingerprint(zoo), **self.model_dump(mode="json", include={"episodes", "split"})}
            places.append((f"zoo {zoo.seed}", root, out / f"zoo-{zoo.seed}", shared))
        yield [
            Cell(f"large, {zoo}", folder / "large.json", shared, ("large", root, 0, folder))
            for zoo, root, folder, shared in places
        ]
        kinds = {"size": measured} | (
            {"ppo": {"ppo_timesteps": self.ppo_timesteps, "ppo": self.ppo or None}} if self.ppo_timesteps else {}
        )
        for kind, settings in kinds.items():
            yield [
                Cell(
                    f"{kind} {size}, {zoo}",
                    folder / f"{kind}-{size}.json",
                    {**shared, **settings, "size": size},
                    (kind, root, size, folder),
                )
                for size in self.sizes
                for zoo, root, folder, shared in places
            ]

    def is_done(self, cell: Cell) -> bool:
        """Whether it is there, with these settings."""
        return check_settings(cell)

    def run(self, cell: Cell) -> dict[str, Any]:
        """Measure a zoo's own base policy and experts, everything at one size, or what PPO makes of it."""
        kind, root, size, folder = cell.job
        zoo = Zoo.open(root)
        if kind == "large":
            return document_of(cell, self._large(zoo))
        return document_of(cell, self._of_size(zoo, size, folder) if kind == "size" else self._by_ppo(zoo, size))

    def _of_size(self, zoo: Zoo, size: int, folder: Path) -> dict[str, Any]:
        """All methods of the protocol with policies of a size."""
        hidden = (size, size)
        small = (
            zoo
            if zoo.base.spec.hidden == hidden
            else resize_zoo(zoo, folder / "zoos" / str(size), hidden, self.resizing)
        )
        place = folder / "runs" / str(size)
        with LocalExecutor(1) as executor:
            run_protocol(self._protocol(zoo), small.root, place, executor)
        (family,) = open_run(place).families()
        found = family.evaluation(self.split)
        returns = {one.method: _rounded(one.returns) for one in found.methods}
        own = {"base policy of this size": found.base, "expert of this size": found.expert}
        returns = {name: _rounded(one[None]) for name, one in own.items()} | returns
        spec = small.base.spec
        return {"multiply_adds": multiply_adds(spec), "weights": spec.size, "returns": returns}

    def _by_ppo(self, zoo: Zoo, size: int) -> dict[str, Any]:
        """Returns of the universal policy of a size that PPO trains from random weights, given the truth."""
        recipe = load_recipe(zoo.family.name, "parent", start="random", n_timesteps=self.ppo_timesteps, **self.ppo)
        arch = recipe.policy_kwargs.net_arch.model_copy(update={"pi": (size, size)})
        recipe = recipe.model_copy(update={"policy_kwargs": recipe.policy_kwargs.model_copy(update={"net_arch": arch})})
        spec = replace(zoo.base.spec, hidden=(size, size))
        base = replace(zoo.base, spec=spec, phi=random_actor(spec, zoo.seed), critic={})
        universal = train_universal(zoo.family.name, base, recipe, seed=zoo.seed, num_threads=1)
        tasks = [expert.task for expert in zoo.experts(self.split)]
        policies = base.policies(np.stack([universal.expert_for(task) for task in tasks]))
        return {"returns": self._returns(tasks, policies), "seconds": universal.record["seconds"]}

    def _protocol(self, zoo: Zoo) -> ProtocolConfig:
        return ProtocolConfig(
            families=(zoo.family.name,),
            methods=self.methods,
            seeds=self.seeds,
            lengths=(self.length,),
            splits=(self.split,),
            episodes=self.episodes,
            reference_episodes=self.episodes,
            mapper=MAPPER.changed(**{"updates": self.updates, **self.mapper}),
            settings=self.settings,
            learning=None,
        )

    def _large(self, zoo: Zoo) -> dict[str, Any]:
        experts = zoo.experts(self.split)
        if not experts:
            raise MetaMapError(f"{zoo.root}: expected experts of {self.split} tasks, it has none")
        tasks = [expert.task for expert in experts]
        phis = {
            "base": np.tile(zoo.base.phi, (len(tasks), 1)),
            "expert": np.stack([expert.phi for expert in experts]),
            "universal": np.stack([zoo.universal.expert_for(task) for task in tasks]),
        }
        return {name: self._returns(tasks, zoo.base.policies(phi)) for name, phi in phis.items()}

    def _returns(self, tasks: Sequence[Task], policies: Policies) -> list[float]:
        """Mean returns of policies, one for each task."""
        found = evaluate_policies(tasks, policies, episodes=self.episodes, seed=EVALUATION_SEED, num_threads=1)
        means: list[float] = found.returns.mean(axis=1).round(4).tolist()
        return means

    def summary(self, documents: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Shares of the gap between large base policies and large experts, and paired differences."""
        zoos = [Zoo.open(root) for root in self.zoos]
        if len({zoo.family.name for zoo in zoos}) > 1:
            raise MetaMapError("zoos: expected zoos of one family")
        large = {zoo.seed: documents[f"large, zoo {zoo.seed}"] for zoo in zoos if f"large, zoo {zoo.seed}" in documents}
        sizes = {}
        for size in self.sizes:
            found = {seed: documents[name] for seed in large if (name := f"size {size}, zoo {seed}") in documents}
            for seed, one in found.items():
                if (trained := documents.get(f"ppo {size}, zoo {seed}")) is not None:
                    one["returns"]["universal-ppo"] = [trained["returns"]]
            if found:
                sizes[str(size)] = _summary_of_size(found, large)
        return {
            "family": zoos[0].family.name,
            "settings": self.model_dump(mode="json", exclude={"zoos"}),
            "experts": {str(zoo.seed): len(zoo.experts("train")) for zoo in zoos},
            "resizing": (self.resizing or Resizing()).model_dump(mode="json"),
            "large": {
                str(seed): {name: one[name] for name in ("base", "expert", "universal")} for seed, one in large.items()
            },
            "sizes": sizes,
        }

    def table(self, document: Mapping[str, Any]) -> list[str]:
        """Sizes in rows, methods in columns."""
        return size_table(document)


def _summary_of_size(found: Mapping[int, Any], large: Mapping[int, Any]) -> dict[str, Any]:
    """Shares and differences at one size, each over the zoos in which its methods were measured."""
    base = {seed: np.array(large[seed]["base"]) for seed in found}
    gaps = {seed: np.array(large[seed]["expert"]) - base[seed] for seed in found}
    returns: dict[str, dict[int, NDArray[np.float64]]] = {}
    for seed, one in found.items():
        for name, means in one["returns"].items():
            returns.setdefault(name, {})[seed] = np.array(means)
    mapped = returns.get("mapper", {})
    minus = {
        name: {seed: mapped[seed] - one.mean(axis=0) for seed, one in returns[name].items() if seed in mapped}
        for name in _RIVALS
        if name in returns
    }
    first = next(iter(found.values()))
    return {
        "multiply_adds": first["multiply_adds"],
        "weights": first["weights"],
        "returns": {str(seed): one["returns"] for seed, one in found.items()},
        "shares": {
            name: _share({seed: means - base[seed] for seed, means in one.items()}, gaps)
            for name, one in returns.items()
        },
        "differences": {name: _share(one, gaps) for name, one in minus.items() if one},
    }


def multiply_adds(spec: PolicySpec) -> int:
    """Multiplications, each with an addition, of one action: those of the weight matrices."""
    return sum(
        inputs * outputs for inputs, outputs in pairwise((spec.observation_size, *spec.hidden, spec.action_size))
    )


def _rounded(returns: NDArray[np.float64]) -> list[Any]:
    """Mean returns [seeds, tasks] as JSON values."""
    rounded: list[Any] = returns.round(4).tolist()
    return rounded


def _share(gains: Mapping[int, NDArray[np.float64]], gaps: Mapping[int, NDArray[np.float64]]) -> dict[str, Any]:
    """Sum of gains over sum of gaps with a 95 % interval over zoos, seeds and tasks, and the same of each zoo."""
    matrices = {seed: np.atleast_2d(one) for seed, one in gains.items()}
    found = ratio_of_zoos(list(matrices.values()), [gaps[seed] for seed in matrices], np.random.default_rng(0))
    each = {str(seed): float(one.mean(axis=0).sum() / gaps[seed].sum()) for seed, one in matrices.items()}
    if found is None:
        return {"share": None, "low": None, "high": None, "zoos": each}
    return {"share": found.estimate, "low": found.low, "high": found.high, "zoos": each}

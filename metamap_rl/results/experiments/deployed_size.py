"""What a policy of a given size can do: one network for all tasks against a generated network for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from metamap_agents.experts.resizing import Resizing, resize_zoo
from metamap_agents.experts.zoo import Zoo
from metamap_agents.policy.evaluation import evaluate_policies
from metamap_agents.policy.spec import PolicySpec
from metamap_agents.runtime.executors import LocalExecutor
from metamap_agents.runtime.seeds import EVALUATION_SEED
from metamap_envs.errors import MetaMapError
from metamap_envs.settings import Settings, Whole
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
_ONE_FOR_ALL = ("universal-policy", "estimate", "context-policy")
"""Methods in which one network of the size holds all tasks; the mapper is compared with each."""


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

    def batches(self, out: Path) -> Iterator[list[Cell]]:
        """The large policies, then one cell for each zoo and size, which is resumed within."""
        measured = self.model_dump(mode="json", include={"methods", "length", "updates", "seeds", "settings"})
        places = []
        for root in self.zoos:
            zoo = Zoo.open(root)
            shared = {"zoo": fingerprint(zoo), **self.model_dump(mode="json", include={"episodes", "split"})}
            places.append((zoo.seed, root, out / f"zoo-{zoo.seed}", shared))
        yield [
            Cell(f"large, zoo {seed}", folder / "large.json", shared, (root, None, folder))
            for seed, root, folder, shared in places
        ]
        yield [
            Cell(
                f"2 x {size}, zoo {seed}",
                folder / f"size-{size}.json",
                {**shared, **measured, "size": size},
                (root, size, folder),
            )
            for size in self.sizes
            for seed, root, folder, shared in places
        ]

    def is_done(self, cell: Cell) -> bool:
        """Whether it is there, with these settings."""
        return check_settings(cell)

    def run(self, cell: Cell) -> dict[str, Any]:
        """Measure a zoo's own base policy and experts, or everything at one size."""
        root, size, folder = cell.job
        zoo = Zoo.open(root)
        if size is None:
            return document_of(cell, self._large(zoo))
        hidden = (size, size)
        small = zoo if zoo.base.spec.hidden == hidden else resize_zoo(zoo, folder / "zoos" / str(size), hidden)
        place = folder / "runs" / str(size)
        with LocalExecutor(1) as executor:
            run_protocol(self._protocol(zoo), small.root, place, executor)
        (family,) = open_run(place).families()
        found = family.evaluation(self.split)
        returns = {one.method: _rounded(one.returns) for one in found.methods}
        own = {"base policy of this size": found.base, "expert of this size": found.expert}
        returns = {name: _rounded(one[None]) for name, one in own.items()} | returns
        spec = small.base.spec
        return document_of(cell, {"multiply_adds": multiply_adds(spec), "weights": spec.size, "returns": returns})

    def _protocol(self, zoo: Zoo) -> ProtocolConfig:
        return ProtocolConfig(
            families=(zoo.family.name,),
            methods=self.methods,
            seeds=self.seeds,
            lengths=(self.length,),
            splits=(self.split,),
            episodes=self.episodes,
            reference_episodes=self.episodes,
            mapper=MAPPER.changed(updates=self.updates),
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
        return {
            name: evaluate_policies(
                tasks, zoo.base.policies(phi), episodes=self.episodes, seed=EVALUATION_SEED, num_threads=1
            )
            .returns.mean(axis=1)
            .round(4)
            .tolist()
            for name, phi in phis.items()
        }

    def summary(self, documents: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Shares of the gap between large base policies and large experts, and paired differences."""
        zoos = [Zoo.open(root) for root in self.zoos]
        if len({zoo.family.name for zoo in zoos}) > 1:
            raise MetaMapError("zoos: expected zoos of one family")
        large = {zoo.seed: documents[f"large, zoo {zoo.seed}"] for zoo in zoos if f"large, zoo {zoo.seed}" in documents}
        sizes = {}
        for size in self.sizes:
            found = {seed: documents[name] for seed in large if (name := f"2 x {size}, zoo {seed}") in documents}
            if found:
                sizes[str(size)] = _summary_of_size(found, large)
        return {
            "family": zoos[0].family.name,
            "settings": self.model_dump(mode="json", exclude={"zoos"}),
            "experts": {str(zoo.seed): len(zoo.experts("train")) for zoo in zoos},
            "resizing": Resizing().model_dump(mode="json"),
            "large": {
                str(seed): {name: one[name] for name in ("base", "expert", "universal")} for seed, one in large.items()
            },
            "sizes": sizes,
        }

    def table(self, document: Mapping[str, Any]) -> list[str]:
        """Sizes in rows, methods in columns."""
        return size_table(document)


def _summary_of_size(found: Mapping[int, Any], large: Mapping[int, Any]) -> dict[str, Any]:
    """Shares and differences at one size, over zoos: gains and gaps of each, [seeds, tasks] and [tasks]."""
    base = {seed: np.array(large[seed]["base"]) for seed in found}
    gaps = [np.array(large[seed]["expert"]) - base[seed] for seed in found]
    first = next(iter(found.values()))
    methods = [name for name in first["returns"] if all(name in one["returns"] for one in found.values())]
    returns = {name: {seed: np.array(one["returns"][name]) for seed, one in found.items()} for name in methods}
    compared = [name for name in _ONE_FOR_ALL if name in returns] if "mapper" in returns else []
    return {
        "multiply_adds": first["multiply_adds"],
        "weights": first["weights"],
        "returns": {str(seed): one["returns"] for seed, one in found.items()},
        "shares": {name: _share([one[seed] - base[seed] for seed in found], gaps) for name, one in returns.items()},
        "differences": {
            name: _share([returns["mapper"][seed] - returns[name][seed].mean(axis=0) for seed in found], gaps)
            for name in compared
        },
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


def _share(gains: Sequence[NDArray[np.float64]], gaps: Sequence[NDArray[np.float64]]) -> dict[str, Any]:
    """Sum of gains over sum of gaps with a 95 % interval over zoos, seeds and tasks, and the same of each zoo."""
    found = ratio_of_zoos([np.atleast_2d(one) for one in gains], gaps, np.random.default_rng(0))
    each = [float(one.mean(axis=0).sum() / gap.sum()) for one, gap in zip(map(np.atleast_2d, gains), gaps, strict=True)]
    if found is None:
        return {"share": None, "low": None, "high": None, "zoos": each}
    return {"share": found.estimate, "low": found.low, "high": found.high, "zoos": each}

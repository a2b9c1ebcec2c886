"""What a policy of a given size can do: one network for all tasks against a generated network for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
from metamap_rl.common.statistics import ratio_of_sums
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

    zoo: Path
    """Zoo with a universal policy, and experts of training, validation and test-in tasks."""
    sizes: Annotated[tuple[Annotated[Whole, Field(ge=1)], ...], Field(min_length=1)] = (4, 8, 16, 32)
    """Units of each of the two hidden layers; the zoo's own size is measured as it is."""
    methods: Annotated[tuple[str, ...], Field(min_length=1)] = _METHODS
    """Methods of the protocol, each with policies of the size."""
    length: Annotated[Whole, Field(ge=1)] = 50
    """Transitions of D."""
    updates: Annotated[Whole, Field(ge=1)] = 4000
    """Of mappers and context policies."""
    seeds: Annotated[Whole, Field(ge=1)] = 1
    """Mappers, and context policies, of each size."""
    episodes: Annotated[Whole, Field(ge=2)] = 20
    """Of each policy on each task, on shared reset seeds."""
    split: Literal["test-in", "test-out"] = "test-in"
    """Whose tasks are measured."""
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Settings of methods by name."""

    def batches(self, out: Path) -> Iterator[list[Cell]]:
        """The large policies, then one cell for each size, which is resumed within."""
        zoo = Zoo.open(self.zoo)
        shared = {"zoo": fingerprint(zoo), **self.model_dump(mode="json", include={"episodes", "split"})}
        measured = self.model_dump(mode="json", include={"methods", "length", "updates", "seeds", "settings"})
        yield [Cell("large policies", out / "large.json", shared, (None, out))]
        yield [
            Cell(f"2 x {size}", out / f"size-{size}.json", {**shared, **measured, "size": size}, (size, out))
            for size in self.sizes
        ]

    def is_done(self, cell: Cell) -> bool:
        """Whether it is there, with these settings."""
        return check_settings(cell)

    def run(self, cell: Cell) -> dict[str, Any]:
        """Measure the zoo's own base policy and experts, or everything at one size."""
        size, out = cell.job
        zoo = Zoo.open(self.zoo)
        if size is None:
            return document_of(cell, self._large(zoo))
        hidden = (size, size)
        small = zoo if zoo.base.spec.hidden == hidden else resize_zoo(zoo, out / "zoos" / str(size), hidden)
        config = ProtocolConfig(
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
        folder = out / "runs" / str(size)
        with LocalExecutor(1) as executor:
            run_protocol(config, small.root, folder, executor)
        (family,) = open_run(folder).families()
        found = family.evaluation(self.split)
        returns = {one.method: _rounded(one.returns) for one in found.methods}
        more = {
            "base policy of this size": _rounded(found.base[None]),
            "expert of this size": _rounded(found.expert[None]),
        }
        return document_of(
            cell,
            {
                "multiply_adds": multiply_adds(small.base.spec),
                "weights": small.base.spec.size,
                "returns": more | returns,
            },
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
        """Shares of the gap between the large base policy and the large experts, and paired differences."""
        large = documents["large policies"]
        base, expert = np.array(large["base"]), np.array(large["expert"])
        sizes = {}
        for size in self.sizes:
            if (found := documents.get(f"2 x {size}")) is not None:
                returns = {name: np.array(one) for name, one in found["returns"].items()}
                sizes[str(size)] = {
                    "multiply_adds": found["multiply_adds"],
                    "weights": found["weights"],
                    "returns": found["returns"],
                    "shares": {name: _share(one - base, expert - base) for name, one in returns.items()},
                    "differences": {
                        name: _share(returns["mapper"] - returns[name].mean(axis=0), expert - base)
                        for name in _ONE_FOR_ALL
                        if name in returns and "mapper" in returns
                    },
                }
        return {
            "family": Zoo.open(self.zoo).family.name,
            "settings": self.model_dump(mode="json", exclude={"zoo"}),
            "resizing": Resizing().model_dump(mode="json"),
            "large": {name: large[name] for name in ("base", "expert", "universal")},
            "sizes": sizes,
        }

    def table(self, document: Mapping[str, Any]) -> list[str]:
        """Sizes in rows, methods in columns."""
        return size_table(document)


def multiply_adds(spec: PolicySpec) -> int:
    """Multiplications, each with an addition, of one action: those of the weight matrices."""
    return sum(
        inputs * outputs for inputs, outputs in pairwise((spec.observation_size, *spec.hidden, spec.action_size))
    )


def _rounded(returns: NDArray[np.float64]) -> list[Any]:
    """Mean returns [seeds, tasks] as JSON values."""
    rounded: list[Any] = returns.round(4).tolist()
    return rounded


def _share(gains: NDArray[np.float64], gaps: NDArray[np.float64]) -> dict[str, float | None]:
    """Sum of gains [seeds, tasks] over the sum of the gaps [tasks], with its 95 % interval over seeds and tasks."""
    found = ratio_of_sums(np.atleast_2d(gains), gaps, np.random.default_rng(0))
    if found is None:
        return {"share": None, "low": None, "high": None}
    return {"share": found.estimate, "low": found.low, "high": found.high}

"""Recovery of the policies of zoos: how well they do from where a wrong policy has led, without an adapter.

The task changes in mid-run, the policy for the task before acts on for some steps, then another one takes over. Choices
of recipes are made on validation tasks, so that is the default split.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from metamap_agents.experts.zoo import Zoo
from metamap_agents.policy.acting import BatchedPolicy
from metamap_agents.policy.evaluation import evaluate_policies
from metamap_agents.policy.policies import Policies
from metamap_envs.errors import unknown_name
from metamap_envs.registry import get_family
from metamap_envs.settings import Seed, Settings, Whole
from metamap_envs.task import Task
from metamap_rl.adaptation.service.trial import run_trial
from metamap_rl.common.cells import Cell, check_settings, document_of
from metamap_rl.common.statistics import worst_decile
from metamap_rl.results.experiments.base import EXPERIMENTS
from metamap_rl.results.tables import recovery_table
from metamap_rl.training.checkpoint import digest

_TASK_SEED = 9_300_000
_UNDISTURBED = "undisturbed"
Steps = Annotated[Whole, Field(ge=0)]


class _Handover:
    """A controller: one policy, and another one after so many steps."""

    beliefs = ()

    def __init__(self, first: Policies, second: Policies, at: int) -> None:
        self._first, self._second, self._left = BatchedPolicy(first), BatchedPolicy(second), at

    def tasks_change(self, tasks: Sequence[Task], changed: NDArray[np.bool_]) -> None:
        """See `Controller`."""

    def reset(self, observations: NDArray[Any], where: NDArray[np.bool_]) -> None:
        """See `Controller`."""

    def act(self, observations: NDArray[Any]) -> NDArray[np.float32]:
        """See `Controller`."""
        self._left -= 1
        policy = self._first if self._left >= 0 else self._second
        return policy(observations[:, None])[:, 0]

    def observe(self, step: dict[str, NDArray[Any]]) -> None:
        """See `Controller`."""


@EXPERIMENTS.register("recovery")
class Recovery(Settings):
    """Recovery after a change: returns of oracle and base policy of zoos from where a wrong policy has led."""

    zoos: Annotated[dict[str, Path], Field(min_length=1)]
    """Zoos of one family with a universal policy, by a name for each."""
    reference: str
    """Name of the zoo whose wrong policies act with the policies of all; each zoo's own act with its own, too."""
    wrong_steps: Annotated[tuple[Steps, ...], Field(min_length=1)] = (0, 20, 50, 100)
    """Steps of the wrong policy after the change."""
    before: Steps = 50
    """Steps before the change."""
    after: Annotated[Whole, Field(ge=1)] = 200
    """Steps that are scored."""
    runs: Annotated[Whole, Field(ge=2)] = 64
    """Pairs of tasks, each with a first state of its own."""
    split: str = "validation"
    """Of the tasks."""
    seed: Seed = 0
    """Of the tasks and the first states."""

    def batches(self, out: Path) -> Iterator[list[Cell]]:
        """One for each zoo.

        Raises:
            MetaMapError: the reference is not one of them, or one is no zoo with a universal policy.
        """
        if self.reference not in self.zoos:
            raise unknown_name("reference zoo", self.reference, self.zoos)
        shared = self.model_dump(mode="json", exclude={"zoos", "reference"})
        shared["wrong policies"] = self._digest(self.reference)
        yield [
            Cell(name, out / f"{name.replace(' ', '-')}.json", {**shared, "policies": self._digest(name)}, (name,))
            for name in self.zoos
        ]

    def _digest(self, name: str) -> str:
        zoo = Zoo.open(self.zoos[name])
        return digest({"base": zoo.base.phi, "universal": zoo.universal.phi})

    def is_done(self, cell: Cell) -> bool:
        """Whether it is there, with these settings."""
        return check_settings(cell)

    def run(self, cell: Cell) -> dict[str, Any]:
        """Measure the policies of one zoo."""
        reference, zoo = Zoo.open(self.zoos[self.reference]), Zoo.open(self.zoos[cell.job[0]])
        drawn = get_family(zoo.family.name).sample(self.split, self.runs + 1, _TASK_SEED + self.seed)
        older, newer = drawn[:-1], drawn[1:]  # discrete parameters of tasks next to each other differ
        policies = {
            "oracle": _experts(zoo, newer),
            "base policy": zoo.base.policies(np.tile(zoo.base.phi, (self.runs, 1))),
        }
        found: dict[str, Any] = {
            name: {_UNDISTURBED: evaluate_policies(newer, each, episodes=1, seed=self.seed).returns[:, 0].tolist()}
            for name, each in policies.items()
        }
        wrongs = {"reference's": _experts(reference, older)}
        if zoo.root != reference.root:
            wrongs["own"] = _experts(zoo, older)
        for origin, wrong in wrongs.items():
            for name, right in policies.items():
                found[name][origin] = {
                    str(steps): self._returns(older, newer, _Handover(wrong, right, self.before + steps), steps)
                    for steps in self.wrong_steps
                }
        return document_of(cell, {"family": zoo.family.name, "returns": found})

    def _returns(self, older: list[Task], newer: list[Task], controller: _Handover, wrong: int) -> list[float]:
        start = self.before + wrong
        tasks = [older] * self.before + [newer] * (wrong + self.after)
        trial = run_trial(controller, tasks, seeds=range(1000 * self.seed, 1000 * self.seed + self.runs))
        returns: list[float] = trial.rewards[start:].sum(axis=0).tolist()
        return returns

    def summary(self, documents: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Means with standard errors and worst deciles, by zoo, policy, origin of the wrong policy and steps."""
        return {
            "family": next(iter(documents.values()))["family"],
            "settings": self.model_dump(mode="json", exclude={"zoos"}),
            "zoos": {
                name: _summaries(documents[name]["returns"])
                for name in sorted(documents, key=lambda name: (name != self.reference, name))
            },
        }

    def table(self, document: Mapping[str, Any]) -> list[str]:
        """Zoos and policies in rows, steps of the wrong policy in columns."""
        return recovery_table(document)


def _experts(zoo: Zoo, tasks: Sequence[Task]) -> Policies:
    return zoo.base.policies(np.stack([zoo.universal.expert_for(task) for task in tasks]))


def _summaries(found: Any) -> Any:
    """The same tree with a summary in place of each list of returns."""
    if isinstance(found, dict):
        return {name: _summaries(part) for name, part in found.items()}
    returns = np.array(found)
    return {
        "mean": float(returns.mean()),
        "error": float(returns.std(ddof=1) / np.sqrt(len(returns))),
        "worst_decile": float(worst_decile(returns)),
    }

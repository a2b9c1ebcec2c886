"""How good PPO is here on a body that nothing is changed of, beside what others published for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from metamap_agents.experts.recipes import load_recipe
from metamap_agents.experts.training import train_base
from metamap_agents.policy.acting import BatchedPolicy
from metamap_agents.policy.evaluation import run_episodes
from metamap_agents.policy.policies import Policies
from metamap_agents.runtime.seeds import EVALUATION_SEED
from metamap_envs.registry import get_family
from metamap_envs.settings import Settings, Whole
from metamap_rl.common.cells import Cell, check_settings, document_of
from metamap_rl.results.experiments.base import EXPERIMENTS
from metamap_rl.results.size_tables import bodies_table

_HORIZONS = (200, 1000)
_RL_ZOO = "rl-zoo3, benchmark.md"
PUBLISHED: dict[str, list[dict[str, Any]]] = {
    "Hopper": [
        {"algorithm": "PPO", "steps": 1_000_000, "return": 2410.4, "source": _RL_ZOO},
        {"algorithm": "TD3", "steps": 1_000_000, "return": 3606.4, "source": _RL_ZOO},
        {"algorithm": "TQC", "steps": 1_000_000, "return": 3754.2, "source": _RL_ZOO},
    ],
    "Walker2d": [
        {"algorithm": "PPO", "steps": 1_000_000, "return": 3478.8, "source": _RL_ZOO},
        {"algorithm": "SAC", "steps": 1_000_000, "return": 3863.2, "source": _RL_ZOO},
        {"algorithm": "TD3", "steps": 1_000_000, "return": 4717.8, "source": _RL_ZOO},
    ],
    "Swimmer": [
        {"algorithm": "PPO", "steps": 1_000_000, "return": 281.6, "source": _RL_ZOO},
        {"algorithm": "SAC", "steps": 1_000_000, "return": 345.6, "source": _RL_ZOO},
        {"algorithm": "TD3", "steps": 1_000_000, "return": 359.1, "source": _RL_ZOO},
    ],
    "HalfCheetah": [
        {"algorithm": "PPO", "steps": 1_000_000, "return": 5819.1, "source": _RL_ZOO},
        {"algorithm": "TQC", "steps": 1_000_000, "return": 12089.9, "source": _RL_ZOO},
    ],
    "Ant": [
        {"algorithm": "PPO", "steps": 1_000_000, "return": 1327.2, "source": _RL_ZOO},
        {"algorithm": "TD3", "steps": 1_000_000, "return": 5813.3, "source": _RL_ZOO},
    ],
}
"""Mean returns of episodes of 1,000 steps with the deterministic policy, one run each, on version 3 of the
environments; https://github.com/DLR-RM/rl-baselines3-zoo/blob/master/benchmark.md."""


@EXPERIMENTS.register("bodies")
class Bodies(Settings):
    """PPO on unchanged bodies, in episodes of 200 and 1,000 steps, beside published returns."""

    families: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "hopper-dynamics",
        "walker-dynamics",
        "swimmer-viscosity",
    )
    """Families whose recipe of the base policy is run with all parameters at their defaults."""
    recipe: dict[str, Any] = Field(default_factory=lambda: {"n_timesteps": 1_000_000, "horizon": 1000})
    """Changes of those recipes."""
    seeds: Annotated[Whole, Field(ge=1)] = 3
    """Trainings of each."""
    first_seed: Annotated[Whole, Field(ge=0)] = 0
    """Seed of the first of them; the others follow it."""
    episodes: Annotated[Whole, Field(ge=2)] = 50
    """Of each policy at each length."""

    def batches(self, out: Path) -> Iterator[list[Cell]]:
        """One cell for each training."""
        measured = self.model_dump(mode="json", include={"episodes"})
        yield [
            Cell(
                f"{family}, seed {seed}",
                out / f"{family}-{seed}.json",
                {**measured, "recipe": load_recipe(family, "base", **self.recipe).model_dump(mode="json")},
                (family, seed),
            )
            for seed in range(self.first_seed, self.first_seed + self.seeds)
            for family in self.families
        ]

    def is_done(self, cell: Cell) -> bool:
        """Whether it is there, with these settings."""
        return check_settings(cell)

    def run(self, cell: Cell) -> dict[str, Any]:
        """Train a policy, and run it in episodes of both lengths."""
        name, seed = cell.job
        family = get_family(name)
        recipe = load_recipe(name, "base", **self.recipe)
        base = train_base(name, recipe, seed=seed, kept=frozenset(family.space.names), num_threads=1)
        policies = base.policies(base.phi[None])
        lengths = {str(horizon): self._measured(name, policies, horizon) for horizon in _HORIZONS}
        steps, seconds = base.record["steps"], base.record["seconds"]
        return document_of(cell, {"steps": steps, "seconds": seconds, "lengths": lengths})

    def _measured(self, family: str, policies: Policies, horizon: int) -> dict[str, Any]:
        rewards: list[np.ndarray[Any, Any]] = []
        found = run_episodes(
            [get_family(family).task()],
            BatchedPolicy(policies),
            self.episodes,
            EVALUATION_SEED,
            num_threads=1,
            horizon=horizon,
            on_rewards=lambda one: rewards.append(one[0]),
        )
        alive = np.arange(len(rewards))[:, None] < found.lengths[0]
        late = (np.stack(rewards) * alive)[horizon // 2 :]
        return {
            "returns": found.returns[0].round(3).tolist(),
            "fell": float((found.lengths[0] < horizon).mean()),
            "late_reward": float(late.sum() / (self.episodes * (horizon - horizon // 2))),
        }

    def summary(self, documents: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Mean returns of each training by body, and what others published."""
        bodies: dict[str, Any] = {}
        for family in self.families:
            found = [one for name, one in documents.items() if name.startswith(f"{family}, ")]
            if found:
                body = get_family(family).base_id.partition("-")[0]
                bodies[body] = {
                    "family": family,
                    "recipe": found[0]["settings"]["recipe"],
                    "steps": found[0]["steps"],
                    "seconds": [one["seconds"] for one in found],
                    "lengths": {length: _pooled(found, length) for length in found[0]["lengths"]},
                    "published": PUBLISHED.get(body, []),
                }
        return {"settings": self.model_dump(mode="json"), "bodies": bodies}

    def table(self, document: Mapping[str, Any]) -> list[str]:
        """Bodies in rows, ours and the published in columns."""
        return bodies_table(document)


def _pooled(found: list[Mapping[str, Any]], length: str) -> dict[str, Any]:
    """Means of each training: return, share of the episodes in which the robot fell, late reward a step."""
    runs = [one["lengths"][length] for one in found]
    return {
        "returns": [round(float(np.mean(run["returns"])), 2) for run in runs],
        "fell": [run["fell"] for run in runs],
        "late_reward": [round(run["late_reward"], 4) for run in runs],
    }

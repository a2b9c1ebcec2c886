"""CPU seconds of a mapper's update after 1 to 10 tasks and after 91 to 100: does it grow with the stream?

    python scripts/bench_update.py --repeats 3 --out docs/results/update-time.json

The update of the default learner with the settings of the preset `long`, validation included, on made-up pairs
(D, phi*) of its two robots in turns, and with memory for a quarter of all tasks: the time does not depend on their
values. CPU time of the process, so that other load on the machine matters little; the stages of both ends are measured
in turns.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from _running import run_script
from metamap_agents.policy.base import BasePolicy
from metamap_agents.policy.normalizer import ObservationNormalizer
from metamap_agents.policy.spec import PolicySpec
from metamap_agents.runtime.machine import describe_machine
from metamap_agents.runtime.storage import claim_output, library_versions, write_json
from metamap_agents.runtime.torch_state import torch_threads
from metamap_envs.registry import get_family
from metamap_rl.data.layout import TransitionLayout
from metamap_rl.mapper.scales import Scales
from metamap_rl.stream.acceptance import update_mapper
from metamap_rl.stream.config import load_config
from metamap_rl.stream.embodied import EmbodiedMapper
from metamap_rl.stream.learners.base import make_learner
from metamap_rl.stream.learners.step import Experience
from metamap_rl.stream.loop import STATES
from metamap_rl.stream.memory import Item, Memory
from metamap_rl.stream.session import Session

SHARE = 0.25
"""Memory, as a share of all rollouts."""
ENDS = 10
"""Stages at either end."""


class MadeUpStream:
    """Stages of a stream of made-up tasks."""

    def __init__(self, tasks: int, updates: int) -> None:
        config = load_config("long", {"stream.tasks": tasks, "update.updates": updates})
        self.random = np.random.default_rng(0)
        self.families = config.stream.family_names
        self.specs = {}
        mapper = EmbodiedMapper(config.mapper)
        for name in self.families:
            family = get_family(name)
            spec = self.specs[name] = PolicySpec(family.observation_size, family.action_size)
            base = BasePolicy(
                spec=spec,
                phi=self.random.normal(0, 0.3, spec.size).astype(np.float32),
                normalizer=ObservationNormalizer.identity(spec.observation_size),
                log_std=np.zeros(spec.action_size, np.float32),
            )
            first = self._items(name, 0)
            features = torch.stack([item.features for item in first])
            scales = Scales.of_first_task(features, first[0].phi, torch.from_numpy(base.phi))
            mapper.add(name, base, scales, family=name)
        whole = sum(item.nbytes for task in range(tasks) for item in self._items(self._robot(task), task))
        self.session = SimpleNamespace(
            config=config,
            update=config.update,
            learner=make_learner(config.learner),
            mapper=mapper,
            memory=Memory("balanced", round(SHARE * whole)),
        )

    def _robot(self, task: int) -> str:
        return self.families[task % len(self.families)]

    def _normal(self, *shape: int) -> Tensor:
        return torch.from_numpy(self.random.normal(size=shape).astype(np.float32))

    def _items(self, robot: str, slot: int) -> list[Item]:
        """Four rollouts of a task, as a stream stores them."""
        spec = self.specs[robot]
        phi, inputs = self._normal(spec.size), self._normal(STATES, spec.observation_size)
        targets = self._normal(STATES, spec.action_size)
        return [
            Item(
                slot=slot,
                embodiment=robot,
                features=self._normal(200, TransitionLayout.of(spec).size),
                phi=phi,
                inputs=inputs,
                targets=targets,
                dark=targets,
                expert_return=1.0,
                base_return=0.0,
            )
            for _ in range(4)
        ]

    def arrive(self, task: int) -> Experience:
        """Store the rollouts of a task."""
        offered = self.session.memory.offer(self._items(self._robot(task), task), self.random)
        return Experience(task, self._robot(task), tuple(sorted(offered, key=lambda item: item.key)[1:]))

    def update(self, task: int, experience: Experience) -> float:
        """CPU seconds of the update after a task."""
        started = time.process_time()
        update_mapper(cast(Session, self.session), task + 1, experience)
        return time.process_time() - started


def measure(tasks: int, updates: int, repeats: int) -> dict[str, Any]:
    """CPU seconds of each measured stage, by end and repeat."""
    found: dict[str, list[list[float]]] = {"first": [], "last": []}
    warm_up = MadeUpStream(tasks, min(updates, 10))
    warm_up.update(0, warm_up.arrive(0))
    for _ in range(repeats):
        early, late = MadeUpStream(tasks, updates), MadeUpStream(tasks, updates)
        for task in range(tasks - ENDS):
            late.arrive(task)
        seconds: dict[str, list[float]] = {"first": [], "last": []}
        for index in range(ENDS):  # in turns
            for name, stream, task in (("first", early, index), ("last", late, tasks - ENDS + index)):
                seconds[name].append(stream.update(task, stream.arrive(task)))
        for name, of in seconds.items():
            found[name].append(of)
    means = {name: np.array(of).mean(axis=1) for name, of in found.items()}
    ratios = means["last"] / means["first"]
    return {
        "tasks": tasks,
        "updates": updates,
        "repeats": repeats,
        "memory_share": SHARE,
        "cpu_seconds": found,
        "mean": {name: float(of.mean()) for name, of in means.items()},
        "ratio": {"median": float(np.median(ratios)), "min": float(ratios.min()), "max": float(ratios.max())},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("--updates", type=int, default=300, help="gradient steps of an update")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True, help="JSON document")
    arguments = parser.parse_args()
    claim_output(arguments.out, overwrite=True)
    with torch_threads(1):
        found = measure(arguments.tasks, arguments.updates, arguments.repeats)
    write_json(arguments.out, {**found, "machine": describe_machine(torch_threads=1), "versions": library_versions()})


if __name__ == "__main__":
    run_script(main)

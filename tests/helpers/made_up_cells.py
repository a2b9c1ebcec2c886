"""Cells of a benchmark that were never run, for tests of what is made of results."""

from __future__ import annotations

import numpy as np

from metamap_agents.runtime.storage import library_versions
from metamap_rl.bench.result import CellResult, plain

LEARNERS = ("replay", "joint", "finetune", "reservoir", "agem", "ewc", "l2", "packnet", "ppo", "sac")
_FAMILIES = ("reacher-goal", "cartpole-swingup", "cheetah-velocity")
_LENGTHS = (5, 10, 25, 50, 100, 200)


def made_up(stream: str, learner: str, order: int, seed: int, tasks: int, held_out: int) -> CellResult:
    """A cell whose scores rise when a task is learnt and then fade, at a rate that depends on the learner."""
    generator = np.random.default_rng([seed, order, len(stream), sum(map(ord, learner))])
    fade = (LEARNERS.index(learner) if learner in LEARNERS else 3) / 40
    stages, places = np.indices((tasks + 1, tasks))
    since = stages - places - 1
    R = np.where(since >= 0, 0.95 - fade * since, 0.3) + 0.05 * generator.standard_normal((tasks + 1, tasks))
    H = 0.3 + 0.5 * np.linspace(0, 1, tasks + 1)[:, None] + 0.05 * generator.standard_normal((tasks + 1, held_out))
    H = H - fade
    families = [_FAMILIES[index * len(_FAMILIES) // tasks] for index in range(tasks)]
    rising = 0.2 + 0.6 * np.linspace(0, 1, len(_LENGTHS))
    noise = generator.standard_normal((tasks, len(_LENGTHS)))
    return CellResult(
        stream=stream,
        learner=learner,
        order=order,
        seed=seed,
        config={"name": stream, "learner": {"name": learner}, "stream": {"kind": "families", "tasks": tasks}},
        versions=library_versions(),
        environments=dict.fromkeys(_FAMILIES, "MetaMap/MadeUp-v0"),
        machine={"cpu": "made up", "cores": 2},
        tasks=[f"task-{order}-{seed}-{index}" for index in range(tasks)],
        families=families,
        held_out=[_FAMILIES[index % len(_FAMILIES)] for index in range(held_out)],
        R=plain(R),
        H=plain(H),
        map_steps=50,
        lengths=list(_LENGTHS),
        by_length=plain(rising[:, None] + 0.05 * generator.standard_normal((len(_LENGTHS), held_out))),
        curve_x=[float(length) for length in _LENGTHS],
        curve_unit="steps of D",
        curves=plain(rising + 0.05 * noise),
        baselines=plain(np.full((tasks, len(_LENGTHS)), 0.3)),
        gap_closed={"stream": [0.5], "held-out": [0.4]},
        memory_bytes=[int(1e5 * (stage + 1) * (1 + 10 * fade)) for stage in range(tasks)],
        environment_steps=[20_000] * tasks,
        decisions={"trained": tasks},
        update_seconds=(1 + 10 * fade + 0.1 * generator.random(tasks)).tolist(),
        map_seconds=[0.002] * tasks,
        seconds=60.0,
    )


def cells(
    learners: tuple[str, ...] = ("replay", "joint", "finetune"),
    *,
    streams: tuple[str, ...] = ("one", "two"),
    seeds: int = 2,
    tasks: int = 6,
) -> list[CellResult]:
    """One cell for each stream, learner and seed; the fade of a learner grows in the order given above."""
    return [
        made_up(stream, learner, 0, seed, tasks=tasks, held_out=3)
        for stream in streams
        for learner in learners
        for seed in range(seeds)
    ]

"""Rounds in service: the adapter acts on training tasks that change, and its transitions become training data.

DAgger (Ross et al. 2011) with the adapter as the learner: a mapper that is trained on D of other actors alone never saw
what follows from its own policies for a wrong or an uncertain estimate.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metamap_agents.policy.acting import BatchedPolicy
from metamap_agents.runtime.seeds import SERVICE_ROUNDS
from metamap_envs.errors import MetaMapError
from metamap_envs.registry import get_family
from metamap_envs.seeds import read_seed
from metamap_envs.task import Task
from metamap_rl.adaptation.service.config import AdapterConfig
from metamap_rl.adaptation.service.trial import AdapterController, run_trial
from metamap_rl.adaptation.service.vector import VectorAdapter
from metamap_rl.data.pairs import Pairs
from metamap_rl.data.rollouts import ROLLOUTS_SHAPES, Rollouts
from metamap_rl.data.survey import Survey
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.probing.mixture import ActorPool, can_change
from metamap_rl.training.calibration import calibrate
from metamap_rl.training.config import CalibrationConfig
from metamap_rl.training.from_experts import task_coordinates
from metamap_rl.training.rounds import Serve, Served

__all__ = ["CHECK", "in_service", "serve_tasks"]

CHECK = CalibrationConfig(
    lengths=(1, 5, 20, 50, 200),
    usual_tasks=64,
    return_tasks=12,
    episodes=2,
    harm_tasks=1,
    harm_episodes=2,
    updates=800,
)
"""A self-check in seconds: good enough to choose windows, not to say what is safe to serve."""

_TASKS = 5  # of each trial, one after another
_ADAPTER = AdapterConfig(least_transitions=1)  # the quick self-check cannot tell what is safe


def in_service(
    pairs: Pairs,
    pool: ActorPool,
    *,
    survey_tasks: int = 160,
    repeats: int = 2,
    change_share: float = 0.0,
    check: CalibrationConfig = CHECK,
    seed: int = 0,
    num_threads: int = 0,
) -> Serve:
    """Rounds in which the adapter acts on training tasks that change, as a `Serve` of the loop.

    In each round the mapper so far gets a quickly calibrated self-check, with which the adapter chooses its windows.
    Adapters with default settings then act in trials of five tasks, one after another, without being told and without a
    reset: each task of the pairs ``repeats`` times, and others of the training split, for as many steps as the rollouts
    of the pairs have. Rollouts begin where the task changed and are labelled by the true task. The states of those of
    the pairs are labelled with the actions of the task's expert.

    Args:
        pairs: T training tasks with rollouts and experts.
        pool: policies of the mapper's mixture of actors, for the self-check; its base policy is the mapper's.
        survey_tasks: U', fewest other tasks of a round; their rollouts and those of the pairs are added to the survey.
            0 for none, where training has no survey.
        repeats: R', rollouts of each task of the pairs in a round.
        change_share: fraction of the rollouts that begin before the change, at the older task.
        check: calibration of a round's self-check; lengths above that of the rollouts are left out.
        seed: of tasks, their order and starts.
        num_threads: threads of the simulator; 0 takes all cores.

    Raises:
        MetaMapError: a family whose tasks cannot change in mid-episode.
    """
    seed = read_seed(seed)
    if not can_change(pairs.tasks):
        raise MetaMapError(f"service_rounds: expected 0 for {pairs.family}, whose tasks cannot change in mid-episode")
    family, steps = get_family(pairs.family), pairs.rollouts.rewards.shape[2]
    check = check.changed(lengths=tuple(length for length in check.lengths if length <= steps))
    experts = repeats * len(pairs)
    others = -(experts + survey_tasks) % _TASKS + survey_tasks  # no trial is left with fewer tasks

    def serve(mapper: Mapper, number: int) -> Served:
        generator = np.random.default_rng([seed, SERVICE_ROUNDS, number])
        tasks = [task for task in pairs.tasks for _ in range(repeats)] + family.sample("train", others, generator)
        order = generator.permutation(len(tasks))
        checked = copy.deepcopy(mapper)
        checked.check = calibrate(checked, check, pool=pool, num_threads=num_threads)
        found = serve_tasks(
            checked,
            [tasks[index] for index in order],
            steps=steps,
            change_share=change_share,
            generator=generator,
            num_threads=num_threads,
        ).select(np.argsort(order).tolist())
        rows, newest = torch.from_numpy(found.features()), torch.from_numpy(found.newest)
        visited = found.observations[:experts].reshape(len(pairs), repeats * steps, -1)
        return Served(
            features=rows[:experts].reshape(len(pairs), repeats, *rows.shape[2:]),
            newest=newest[:experts].reshape(len(pairs), repeats),
            inputs=torch.from_numpy(pool.base.normalizer.apply(visited).astype(np.float32)),
            targets=torch.from_numpy(BatchedPolicy(pool.base.policies(pairs.phi)).means(visited)),
            survey=Survey(rows, torch.from_numpy(task_coordinates(tasks)), family.space.coordinate_names, newest)
            if survey_tasks
            else None,
        )

    return serve


def serve_tasks(
    mapper: Mapper,
    tasks: Sequence[Task],
    *,
    steps: int,
    generator: np.random.Generator,
    change_share: float = 0.0,
    num_threads: int = 0,
) -> Rollouts:
    """Let adapters act on tasks that change, five in each trial.

    Args:
        mapper: with a self-check.
        tasks: G tasks of one family, a multiple of five.
        steps: n, of each task.
        generator: of starts, and of the rollouts that begin before a change.
        change_share: fraction of the rollouts that do so.
        num_threads: threads of the simulator; 0 takes all cores.

    Returns:
        One rollout of each task [G, 1, n]: the steps from its beginning on, or some of those of the task before first.
    """
    trials = len(tasks) // _TASKS
    recorder = _Recorder(VectorAdapter(mapper, trials, _ADAPTER))
    run_trial(
        recorder,
        [[tasks[_TASKS * trial + step // steps] for trial in range(trials)] for step in range(_TASKS * steps)],
        seeds=generator.integers(2**31, size=trials).tolist(),
        num_threads=num_threads,
    )
    before = np.where(generator.random(len(tasks)) < change_share, generator.integers(1, max(steps, 2), len(tasks)), 0)
    for place, (older, task) in enumerate(pairwise(tasks), start=1):
        if place % _TASKS == 0 or older == task:
            before[place] = 0
    before[0] = 0
    trial, first = np.divmod(np.arange(len(tasks)), _TASKS)
    rows = (steps * first - before)[:, None] + np.arange(steps)
    arrays = {name: np.stack(values)[rows, trial[:, None]][:, None] for name, values in recorder.kept.items()}
    changed = (np.arange(steps) == np.where(before > 0, before, -1)[:, None])[:, None]
    return Rollouts(tuple(tasks), **arrays, changed=changed)


class _Recorder(AdapterController):
    """Adapters that keep all transitions, one array [N, ...] for each step."""

    def __init__(self, adapters: VectorAdapter) -> None:
        super().__init__(adapters)
        self.kept: dict[str, list[NDArray[Any]]] = {name: [] for name in ROLLOUTS_SHAPES}

    def act(self, observations: NDArray[Any]) -> NDArray[np.float32]:
        """See `Controller`."""
        actions = super().act(observations)
        self._keep({"observations": observations, "actions": actions})
        return actions

    def observe(self, step: dict[str, NDArray[Any]]) -> None:
        """See `Controller`."""
        self._keep({name: values for name, values in step.items() if name in self.kept})
        super().observe(step)

    def _keep(self, values: dict[str, NDArray[Any]]) -> None:
        for name, value in values.items():
            self.kept[name].append(np.array(value, dtype=np.bool_ if value.dtype == np.bool_ else np.float32))

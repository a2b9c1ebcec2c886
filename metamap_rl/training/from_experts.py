"""Training data from a zoo: pairs (D, phi*) of tasks with experts, and surveys of tasks without."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metamap_agents.experts.expert import Expert
from metamap_agents.experts.zoo import Zoo
from metamap_agents.policy.acting import BatchedPolicy
from metamap_agents.policy.base import BasePolicy
from metamap_agents.policy.evaluation import Episodes, evaluate_policies
from metamap_agents.runtime.seeds import DAGGER_EPISODES, EXPERT_STATES, SURVEY_PROBES
from metamap_envs.errors import MetaMapError
from metamap_envs.registry import get_family
from metamap_envs.seeds import read_seed
from metamap_envs.task import Task
from metamap_rl.data.pairs import Pairs
from metamap_rl.data.survey import Survey
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.probing.collecting import collect
from metamap_rl.probing.probes import Probe
from metamap_rl.training.alignment import align
from metamap_rl.training.loop import Visit

__all__ = ["build_pairs", "build_survey", "expert_behaviour", "on_policy", "task_coordinates"]

_STATES = 1000  # of each expert, drawn from its episodes
_STATE_EPISODES = 10
_VISIT_EPISODES = 2  # of each of a task's R generated policies
_SURVEY_BATCH = 128  # tasks probed at once


def build_pairs(
    zoo: Zoo,
    experts: Sequence[Expert],
    probe: Probe,
    *,
    steps: int = 200,
    repeats: int = 8,
    seed: int = 0,
    aligned: bool = False,
    num_threads: int = 0,
) -> Pairs:
    """Collect R probe rollouts of each expert's task, and states visited by the expert with its actions there.

    Args:
        zoo: gives the base policy.
        experts: T experts.
        probe: how D is collected.
        steps: n, transitions of each rollout.
        repeats: R, independent rollouts of each task.
        seed: of the probe and of the draw.
        aligned: put the hidden units of each phi* in the order of phi_0's, for experts that did not start from it.
        num_threads: threads of the simulator; 0 takes all cores.

    Raises:
        MetaMapError: there are no experts.
    """
    seed = read_seed(seed)
    if not experts:
        raise MetaMapError(f"{zoo.root} has no experts of the split asked for; `metamap experts train` makes them")
    base, tasks = zoo.base, [expert.task for expert in experts]
    phi = np.stack([align(base.spec, expert.phi, base.phi) if aligned else expert.phi for expert in experts])
    rollouts = collect(probe, tasks, base, steps=steps, repeats=repeats, seed=seed, num_threads=num_threads)
    visited, actions = expert_behaviour(
        tasks,
        base,
        phi,
        states=_STATES,
        generator=np.random.default_rng(seed),
        seed=EXPERT_STATES,
        num_threads=num_threads,
    )
    return Pairs(
        rollouts,
        phi=phi,
        states=visited,
        expert_actions=actions,
        parameters=task_coordinates(tasks),
    )


def expert_behaviour(
    tasks: Sequence[Task],
    base: BasePolicy,
    phis: NDArray[np.float32],
    *,
    states: int,
    generator: np.random.Generator,
    seed: int,
    num_threads: int = 0,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What experts see and do: states that they visit in 10 episodes, and their mean actions there.

    Args:
        tasks: T tasks of one family.
        base: gives the network's shape and the normaliser.
        phis: the experts' weights [T, P].
        states: S, fewer where the episodes are short.
        generator: of the draw of states.
        seed: first reset seed of the episodes.
        num_threads: threads of the simulator; 0 takes all cores.

    Returns:
        Raw observations [T, S, O] and unclipped mean actions [T, S, A].
    """
    seed = read_seed(seed)
    episodes = evaluate_policies(
        tasks,
        base.policies(phis),
        episodes=_STATE_EPISODES,
        seed=seed,
        num_threads=num_threads,
        record=True,
    )
    visited = episodes.states(min(states, int(episodes.lengths.sum(axis=1).min())), generator)
    return visited, BatchedPolicy(base.policies(phis)).means(visited)


def on_policy(pairs: Pairs, base: BasePolicy, *, states: int = 1000, seed: int = 0, num_threads: int = 0) -> Visit:
    """What training on the policies' own states needs (DAgger, Ross et al. 2011): see `metamap_rl.training.loop.Visit`.

    In each round every one of a task's R rollouts is mapped from some first steps of it, each to a policy that is run
    for 2 episodes; states are drawn from all of them, and the task's expert says what it would do there.

    Args:
        pairs: the training tasks, with their rollouts and experts.
        base: gives the network's shape and the normaliser.
        states: S', states of each task and round.
        seed: of lengths, draws and episodes.
        num_threads: threads of the simulator; 0 takes all cores.
    """
    seed = read_seed(seed)
    features = pairs.examples(base).features
    tasks, rollouts, steps = features.shape[:3]

    def visit(mapper: Mapper, number: int) -> tuple[Tensor, Tensor]:
        generator = np.random.default_rng([seed, DAGGER_EPISODES, number])
        # Evenly on a logarithmic scale, as training's lengths are: policies from short D go astray most.
        lengths = torch.from_numpy(np.ceil(steps ** generator.random((tasks, rollouts, 1))))
        with torch.no_grad():
            phis = [mapper(features[:, r], torch.arange(steps) < lengths[:, r]) for r in range(rollouts)]
        episodes = evaluate_policies(
            [task for task in pairs.tasks for _ in range(rollouts)],
            base.policies(torch.stack(phis, dim=1).flatten(0, 1).numpy()),
            episodes=_VISIT_EPISODES,
            seed=DAGGER_EPISODES + _VISIT_EPISODES * number,
            num_threads=num_threads,
            record=True,
        )
        visited = _draw(episodes, tasks, states, generator)
        actions = BatchedPolicy(base.policies(pairs.phi)).means(visited)
        return torch.from_numpy(base.normalizer.apply(visited).astype(np.float32)), torch.from_numpy(actions)

    return visit


def _draw(episodes: Episodes, tasks: int, count: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """States [T, count, O] out of episodes of several policies of each task; some repeatedly where there are few."""
    assert episodes.observations is not None, "recorded"
    alive = np.arange(episodes.observations.shape[2]) < episodes.lengths[..., None]
    rows = []
    for seen, counts in zip(np.split(episodes.observations, tasks), np.split(alive, tasks), strict=True):
        visited = seen[counts]
        rows.append(visited[generator.choice(len(visited), count, replace=len(visited) < count)])
    return np.stack(rows)


def task_coordinates(tasks: Sequence[Task]) -> NDArray[np.float32]:
    """Coordinates [T, K] of tasks of one family."""
    return get_family(tasks[0].family).space.coordinates(np.stack([task.values for task in tasks]))


def build_survey(
    zoo: Zoo, probe: Probe, *, count: int, steps: int = 200, repeats: int = 2, seed: int = 0, num_threads: int = 0
) -> Survey:
    """Collect R probe rollouts of each of ``count`` training-split tasks, most of which have no expert.

    Args:
        zoo: gives family and base policy.
        probe: how D is collected.
        count: U, number of tasks; drawn with a seed of their own.
        steps: n, transitions of each rollout.
        repeats: R, independent rollouts of each task.
        seed: of tasks and probe.
        num_threads: threads of the simulator; 0 takes all cores.
    """
    seed = read_seed(seed)
    tasks = zoo.family.sample("train", count, np.random.default_rng([seed, SURVEY_PROBES]))
    parts = [
        collect(
            probe,
            tasks[start : start + _SURVEY_BATCH],
            zoo.base,
            steps=steps,
            repeats=repeats,
            seed=seed,
            num_threads=num_threads,
        )
        for start in range(0, count, _SURVEY_BATCH)
    ]  # in batches: thousands of environments at once take memory for no speed
    return Survey(
        features=torch.from_numpy(np.concatenate([part.features() for part in parts])),
        coordinates=torch.from_numpy(task_coordinates(tasks)),
        names=zoo.family.space.coordinate_names,
    )

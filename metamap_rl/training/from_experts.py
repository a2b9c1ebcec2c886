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
from metamap_rl.data.rollouts import Rollouts
from metamap_rl.data.survey import Survey
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.probing.actors import ActorMixture
from metamap_rl.probing.collecting import collect
from metamap_rl.probing.mixture import ActorPool, collect_mixture
from metamap_rl.probing.probes import Probe
from metamap_rl.training.alignment import align
from metamap_rl.training.rounds import Visit

__all__ = ["build_pairs", "build_survey", "expert_behaviour", "on_policy", "task_coordinates"]

_STATES = 1000  # of each expert, drawn from its episodes
_STATE_EPISODES = 10
_VISIT_EPISODES = 2  # of each of the R generated policies of a task
_SURVEY_BATCH = 128  # tasks per batch of probes


def build_pairs(
    zoo: Zoo,
    experts: Sequence[Expert],
    probe: Probe,
    *,
    steps: int = 200,
    repeats: int = 8,
    seed: int = 0,
    aligned: bool = False,
    actors: ActorMixture | None = None,
) -> Pairs:
    """Collect R rollouts of each expert's task, and states and actions of the expert, on all cores.

    Args:
        zoo: zoo with the base policy.
        experts: T experts.
        probe: probe that collects D.
        steps: n, transitions of each rollout.
        repeats: R, independent rollouts of each task.
        seed: seed of probe and states.
        aligned: align the hidden units of each phi* with phi_0's, for experts not fine-tuned from it.
        actors: mixture of actors that collects D; default the probe alone.

    Raises:
        MetaMapError: there are no experts.
    """
    seed = read_seed(seed)
    if not experts:
        raise MetaMapError(f"{zoo.root} has no experts of this split; `metamap experts train` trains them")
    base, tasks = zoo.base, [expert.task for expert in experts]
    phi = np.stack([align(base.spec, expert.phi, base.phi) if aligned else expert.phi for expert in experts])
    rollouts = _collect(zoo, probe, actors, tasks, steps=steps, repeats=repeats, seed=seed)
    visited, actions = expert_behaviour(
        tasks,
        base,
        phi,
        states=_STATES,
        generator=np.random.default_rng(seed),
        seed=EXPERT_STATES,
    )
    return Pairs(
        rollouts,
        phi=phi,
        states=visited,
        expert_actions=actions,
        parameters=task_coordinates(tasks),
    )


def _collect(zoo: Zoo, probe: Probe, actors: ActorMixture | None, tasks: Sequence[Task], **settings: int) -> Rollouts:
    """Collect D with a mixture of actors of a zoo, or with the probe alone; settings of `collect`."""
    if actors is None:
        return collect(probe, tasks, zoo.base, **settings)
    return collect_mixture(actors, ActorPool.of_zoo(zoo), probe, tasks, **settings)


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
    """States visited by experts in 10 episodes, and their mean actions.

    Args:
        tasks: T tasks of one family.
        base: base policy, with architecture and normaliser.
        phis: the experts' weights [T, P].
        states: S; fewer if the episodes are short.
        generator: generator of the draw of states.
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
    """DAgger (Ross et al. 2011): expert actions on states visited by generated policies, as a `Visit` of the loop.

    In each round a prefix of each of a task's R rollouts (where the task changes, a prefix of what follows) is mapped
    to a policy, which is run for 2 episodes; states are drawn from all of them and labelled with the actions of the
    task's expert.

    Args:
        pairs: training tasks with rollouts and experts.
        base: base policy, with architecture and normaliser.
        states: S', states of each task and round.
        seed: seed of lengths, draws and episodes.
        num_threads: threads of the simulator; 0 takes all cores.
    """
    seed = read_seed(seed)
    examples = pairs.examples(base)
    features, newest = examples.features, torch.from_numpy(pairs.rollouts.newest)
    tasks, rollouts, steps = features.shape[:3]

    def visit(mapper: Mapper, number: int) -> tuple[Tensor, Tensor]:
        generator = np.random.default_rng([seed, DAGGER_EPISODES, number])
        # Log-uniform, like the lengths in training: policies from short D deviate most.
        ends = newest[..., None] + torch.from_numpy(np.ceil(steps ** generator.random((tasks, rollouts, 1))))
        place = torch.arange(steps)
        with torch.no_grad():
            phis = [
                mapper(features[:, r], (place >= newest[:, r, None]) & (place < ends[:, r])) for r in range(rollouts)
            ]
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
    """Draw states [T, count, O] from episodes of several policies of each task; with repetition if there are few."""
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
    zoo: Zoo,
    probe: Probe,
    *,
    count: int,
    steps: int = 200,
    repeats: int = 2,
    seed: int = 0,
    actors: ActorMixture | None = None,
    num_threads: int = 0,
) -> Survey:
    """Collect R rollouts of each of ``count`` training-split tasks.

    Args:
        zoo: zoo with family and base policy.
        probe: probe that collects D.
        count: U, number of tasks, drawn with a separate seed.
        steps: n, transitions of each rollout.
        repeats: R, independent rollouts of each task.
        seed: seed of tasks and probe.
        actors: mixture of actors that collects D; default the probe alone.
        num_threads: threads of the simulator; 0 takes all cores.
    """
    seed = read_seed(seed)
    tasks = zoo.family.sample("train", count, np.random.default_rng([seed, SURVEY_PROBES]))
    parts = [
        _collect(
            zoo,
            probe,
            actors,
            tasks[start : start + _SURVEY_BATCH],
            steps=steps,
            repeats=repeats,
            seed=seed,
            num_threads=num_threads,
        )
        for start in range(0, count, _SURVEY_BATCH)
    ]  # in batches: thousands of environments at once need memory without being faster
    return Survey(
        features=torch.from_numpy(np.concatenate([part.features() for part in parts])),
        coordinates=torch.from_numpy(task_coordinates(tasks)),
        names=zoo.family.space.coordinate_names,
        newest=_newest(parts),
    )


def _newest(parts: Sequence[Rollouts]) -> Tensor | None:
    """Where the rollouts' tasks begin [U, R]; None if no task changes."""
    if not any(part.changed.any() for part in parts):
        return None
    return torch.from_numpy(np.concatenate([part.newest for part in parts]))

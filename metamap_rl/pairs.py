"""Training pairs (D, phi*) from a zoo: probe each expert's task, and record what the expert does there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metamap_agents.evaluation import evaluate_policies
from metamap_agents.policies import BatchedPolicy
from metamap_agents.training import Expert
from metamap_agents.zoo import Zoo
from metamap_envs.errors import MetaMapError
from metamap_rl.dataset import Pairs
from metamap_rl.probe import Probe, collect

__all__ = ["build_pairs"]

_STATE_EPISODES = 10
_STATE_SEED = 2_000_000  # far from the seeds of training and of evaluation


def build_pairs(
    zoo: Zoo,
    experts: Sequence[Expert],
    probe: Probe,
    *,
    steps: int = 200,
    repeats: int = 8,
    states: int = 1000,
    seed: int = 0,
    num_threads: int = 0,
) -> Pairs:
    """Collect R probe rollouts of each expert's task, and states visited by the expert with its actions there.

    Args:
        zoo: gives the base policy.
        experts: T experts.
        probe: how D is collected.
        steps: n, transitions of each rollout.
        repeats: R, independent rollouts of each task.
        states: S, states of each expert, drawn from 10 episodes.
        seed: of the probe and of the draw.
        num_threads: threads of the simulator; 0 takes all cores.

    Raises:
        MetaMapError: there are no experts.
    """
    if not experts:
        raise MetaMapError(f"{zoo.root} has no experts of the split asked for; `metamap experts train` makes them")
    base, tasks = zoo.base, [expert.task for expert in experts]
    phi = np.stack([expert.phi for expert in experts])
    transitions = collect(probe, tasks, base, steps=steps, repeats=repeats, seed=seed, num_threads=num_threads)
    episodes = evaluate_policies(
        tasks,
        base.spec,
        phi,
        base.normalizer,
        episodes=_STATE_EPISODES,
        seed=_STATE_SEED,
        num_threads=num_threads,
        record=True,
    )
    count = min(states, int(episodes.lengths.sum(axis=1).min()))
    visited = episodes.states(count, np.random.default_rng(seed))
    return Pairs(
        tasks=tasks,
        observations=transitions.observations,
        actions=transitions.actions,
        rewards=transitions.rewards,
        next_observations=transitions.next_observations,
        terminated=transitions.terminated,
        phi=phi,
        states=visited,
        expert_actions=BatchedPolicy(base.spec, phi, base.normalizer).means(visited),
        parameters=np.stack([task.values for task in tasks]).astype(np.float32),
    )

"""The second round: probe, map, probe again with the generated policy, map both rollouts together."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
from numpy.typing import NDArray

from metamap_envs.rollout import Rollout
from metamap_envs.seeds import read_seed
from metamap_rl.mapper import Mapper
from metamap_rl.probe import Transitions, collect, probe_from_json

__all__ = ["collect_again", "joined", "second_seed"]

_SECOND_SEED = 500_000_000


def second_seed(seed: int) -> int:
    """Seed of the second round's probe: neither its noise nor its start are those of the first."""
    seed = read_seed(seed)
    return (seed + _SECOND_SEED) % 2**31


def joined(first: Rollout, second: Rollout) -> Rollout:
    """All transitions of two rollouts of one task, in this order."""
    parts = zip(first.arrays().items(), second.arrays().values(), strict=True)
    return Rollout(
        first.family, **{name: np.concatenate([one, other]) for (name, one), other in parts}, task=first.task
    )


def collect_again(
    mapper: Mapper,
    first: Transitions,
    repeat: int,
    phis: NDArray[np.float32],
    *,
    steps: int,
    seed: int,
    num_threads: int = 0,
) -> Transitions:
    """Run the mapper's probe around a policy of each task's own, in the fast simulator.

    Args:
        mapper: gives probe and base policy.
        first: rollouts of the first round.
        repeat: which of them the policies were generated from.
        phis: policies [T, P], one for each task of ``first``.
        steps: n, transitions of each rollout.
        seed: of the first round.
        num_threads: threads of the simulator; 0 takes all cores.

    Returns:
        One rollout [T, 1, n] of each task.
    """
    seed = read_seed(seed)
    probe = probe_from_json(mapper.probe)
    parts = [
        collect(
            probe,
            [task],
            replace(mapper.base, phi=phi),
            steps=steps,
            seed=second_seed(seed + repeat),
            num_threads=num_threads,
        )
        for task, phi in zip(first.tasks, phis, strict=True)
    ]
    names = [item.name for item in fields(Transitions) if item.name != "tasks"]
    return Transitions(first.tasks, **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})

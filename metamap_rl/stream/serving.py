"""D of the policies in service: what was acting when the task arrived, and the generated policy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metamap_envs.task import Task
from metamap_rl.probing.collecting import collect
from metamap_rl.probing.probes.planned import BasePolicyProbe
from metamap_rl.stream.scoreboard import embodiment_of
from metamap_rl.stream.seeds import derive
from metamap_rl.stream.session import Session

__all__ = ["collect_in_service"]

_NOISELESS = BasePolicyProbe(noise=0.0)


def collect_in_service(
    session: Session, stage: int, task: Task, phi_hat: NDArray[np.float32], policy_before: NDArray[np.float32]
) -> tuple[Tensor, int]:
    """Collect rollouts of the policies in service, without noise, alternately of both policies.

    Args:
        session: the stream.
        stage: number of the arrival.
        task: its task.
        phi_hat: the generated policy [P].
        policy_before: the policy that acts when the task arrives [P].

    Returns:
        Feature rows of ``config.service_repeats`` rollouts [R, n, F], R possibly 0, and their environment steps.
    """
    config, base = session.config, session.cache.base(embodiment_of(task))
    rows, steps = [], 0
    for number in range(config.service_repeats):
        rollouts = collect(
            _NOISELESS,
            [task],
            replace(base, phi=phi_hat if number % 2 else policy_before),
            steps=config.probe_steps,
            seed=derive(config.seeds.stream, stage, f"service {number}"),
            num_threads=session.num_threads,
        )
        rows.append(torch.from_numpy(rollouts.features()[0]))
        steps += rollouts.rewards.size
    return (torch.cat(rows) if rows else torch.empty(0, config.probe_steps, 0)), steps

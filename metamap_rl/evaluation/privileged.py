"""The privileged mapper ("oracle" in stored documents), given a task's true parameters in place of D.

A control of the protocol: its error is due to the generation of weights, not to inference from D. It is no upper bound
but another learned map, trained like a mapper from the same pairs, without a survey, with the task's coordinates as a D
of one row. Its reference is the universal policy given the task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from metamap_agents.policy.base import BasePolicy
from metamap_envs.task import Task
from metamap_rl.data.examples import Examples
from metamap_rl.data.pairs import Pairs
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.training.from_experts import task_coordinates

__all__ = ["privileged_examples", "privileged_phis"]


def privileged_examples(pairs: Pairs, base: BasePolicy) -> Examples:
    """Training data of a privileged mapper, which needs neither a survey nor a bottleneck."""
    features = torch.from_numpy(pairs.parameters)[:, None, None, :]
    return replace(pairs.examples(base), features=features, ends=None, newest=None)


def privileged_phis(mapper: Mapper, tasks: Sequence[Task]) -> NDArray[np.float32]:
    """phi_hat [T, P] of tasks with given parameters, each mapped separately."""
    coordinates = torch.from_numpy(task_coordinates(tasks))[:, None, None, :]
    with torch.no_grad():
        phis: NDArray[np.float32] = torch.cat([mapper(row.clone()) for row in coordinates]).numpy()
    return phis

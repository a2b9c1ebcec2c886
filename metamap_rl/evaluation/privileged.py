"""The privileged mapper, called "oracle" in stored documents: it is given a task's true parameters in place of D.

A control of the protocol: what it misses is not in reading D but in writing the weights. It is no upper bound: it is
another learned map, trained as a mapper is, from the same pairs but without a survey, with the task's coordinates as a
D of one row. The universal policy given the task is what it is held against.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metamap_agents.policy.base import BasePolicy
from metamap_envs.task import Task
from metamap_rl.data.examples import Examples
from metamap_rl.data.pairs import Pairs
from metamap_rl.mapper.config import MapperConfig
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.training.config import TrainConfig
from metamap_rl.training.from_experts import task_coordinates
from metamap_rl.training.loop import train

__all__ = ["privileged_phis", "train_privileged"]


def train_privileged(
    pairs: Pairs,
    base: BasePolicy,
    *,
    family: str,
    probe: dict[str, Any],
    validation: Pairs,
    config: TrainConfig,
    mapper_config: MapperConfig,
) -> Mapper:
    """Train a privileged mapper beside a mapper of the same settings.

    It needs no survey, and none of its networks has a bottleneck: there is nothing to read.

    Args:
        pairs: training tasks and their experts.
        base: the policy at its centre.
        family: name of the family.
        probe: as in `metamap_rl.training.loop.train`.
        validation: tasks that its checkpoint is chosen on.
        config: as the mapper's.
        mapper_config: as the mapper's.
    """
    return train(
        _told(pairs, base),
        base,
        family=family,
        probe=probe,
        validation=_told(validation, base),
        config=config,
        mapper_config=replace(mapper_config, bottleneck=False),
    )


def privileged_phis(mapper: Mapper, tasks: Sequence[Task]) -> NDArray[np.float32]:
    """phi_hat [T, P] of tasks whose parameters it is told, each mapped by itself."""
    coordinates = torch.from_numpy(task_coordinates(tasks))[:, None, None, :]
    with torch.no_grad():
        phis: NDArray[np.float32] = torch.cat([mapper(row.clone()) for row in coordinates]).numpy()
    return phis


def _told(pairs: Pairs, base: BasePolicy) -> Examples:
    return replace(pairs.examples(base), features=torch.from_numpy(pairs.parameters)[:, None, None, :], ends=None)

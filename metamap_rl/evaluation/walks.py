"""Walks of legged robots: who does not fall, and how far they come."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError
from metamap_envs.family import Family
from metamap_envs.registry import get_family
from metamap_rl.adaptation.service.trial import Controller, run_trial
from metamap_rl.evaluation.service.trials import ServiceTrials

__all__ = ["Walks", "walk", "walking_family"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Walks:
    """Outcome of N walks, each up to the end of its first episode.

    Attributes:
        succeeded: whether the episode lasted to the end: no fall, bool [N].
        distances: from the start as the crow flies, m, float64 [N].
        seconds: up to the end, s, float64 [N].
        returns: sum of the rewards, float64 [N].
    """

    succeeded: NDArray[np.bool_]
    distances: Floats
    seconds: Floats
    returns: Floats


def walking_family(name: str) -> Family:
    """A family whose robot moves freely, with its place in the plane at the head of its positions.

    Raises:
        MetaMapError: unknown family, or one of other robots.
    """
    family = get_family(name)
    model = family.base_model
    if not model.njnt or model.jnt_type[0] != 0:  # mjJNT_FREE
        raise MetaMapError(f"family {name!r}: expected one of robots with a free body, such as 'go1-velocity'")
    return family


def walk(controller: Controller, trials: ServiceTrials) -> Walks:
    """Let a controller walk N robots, whose tasks may change."""
    trial = run_trial(controller, trials.tasks, seeds=trials.seeds, positions=True)
    ends: NDArray[np.int64] = np.cumsum(trial.ended, axis=0)
    walking = ends - trial.ended == 0  # up to the end of the first episode, with it
    steps = walking.sum(axis=0)
    places = np.stack(trial.positions)[:, :, :2]
    ways = places[steps, np.arange(len(steps))] - places[0]
    family = walking_family(trials.tasks[0][0].family)
    returns: Floats = np.where(walking, trial.rewards, 0.0).sum(axis=0)
    return Walks(ends[-1] == 0, np.hypot(ways[:, 0], ways[:, 1]), steps * family.step_seconds, returns)

"""A probe that runs policies of other tasks in turn, for base policies that explore too little."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from metamap_agents.policy.acting import BatchedPolicy
from metamap_agents.policy.base import BasePolicy
from metamap_envs.errors import MetaMapError
from metamap_rl.probing.probes.base import PROBES, Plan, Steering, check_range, check_whole
from metamap_rl.probing.probes.planned import BasePolicyProbe
from metamap_rl.probing.tour import Tour

__all__ = ["TourProbe"]


@PROBES.register("tour")
@dataclass(frozen=True)
class TourProbe:
    """The policies of a tour in turn, in fixed order, with Gaussian noise, after a step of the base policy.

    For families whose base policy stays where tasks look alike: a robust ant stays around its start for any goal.
    Without a tour it is the base policy with noise.
    """

    name: ClassVar[str] = "tour"

    tour: str = ""
    """Folder of a tour (`metamap_rl.probing.tour`), which has to exist when the probe is used; empty for none."""
    hold: int = 12
    """Steps of each policy before the next."""
    noise: float = 0.1
    """Standard deviation of the noise on actions."""

    def __post_init__(self) -> None:
        if not isinstance(self.tour, str):
            raise MetaMapError(f"probe setting 'tour': expected the path of a folder, got {self.tour!r}")
        check_whole("hold", self.hold, 1, 1000)
        check_range("noise", self.noise, 0.0, 2.0)

    def plan(self, generator: np.random.Generator, steps: int, action_size: int) -> Plan:
        """The base policy throughout, for use without a tour."""
        return BasePolicyProbe(self.noise).plan(generator, steps, action_size)

    def steering(self, generators: Sequence[np.random.Generator], steps: int, base: BasePolicy) -> Steering | None:
        """See `metamap_rl.probing.probes.base.SteeredProbe`.

        Raises:
            MetaMapError: the tour does not exist, or holds networks of another shape.
        """
        if not self.tour:
            return None
        phis = _tour(self.tour).phis
        if phis.shape[1] != base.spec.size:
            raise MetaMapError(
                f"{self.tour}: policies of {phis.shape[1]} weights, the base policy has {base.spec.size}"
            )
        plans = [self.plan(copy.deepcopy(generator), steps, base.spec.action_size) for generator in generators]
        return _Touring(self.hold, phis, np.stack([plan.offset for plan in plans]), base)


@dataclass
class _Touring:
    """Actions of the current policy of the tour in N environments; noise [N, n, A]."""

    hold: int
    phis: NDArray[np.float32]
    noise: NDArray[np.float64]
    base: BasePolicy
    stop: int = -1
    policy: BatchedPolicy | None = None

    def __call__(self, step: int, observations: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """See `metamap_rl.probing.probes.base.Steering`."""
        stop = step // self.hold % len(self.phis)
        if self.policy is None or stop != self.stop:
            phis = np.tile(self.phis[stop], (len(observations), 1))  # one for each: see `collect`
            self.stop, self.policy = stop, BatchedPolicy(self.base.policies(phis))
        means = self.policy.means(np.asarray(observations)[:, None])[:, 0]
        return np.zeros(len(observations)), means + self.noise[:, step]


@cache
def _tour(path: str) -> Tour:
    return Tour.load(path)

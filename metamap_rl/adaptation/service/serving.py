"""A policy in service, and the limits of its actions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_agents.policy.base import BasePolicy
from metamap_agents.policy.rowwise import RowwiseNetworks
from metamap_envs.errors import MetaMapError
from metamap_envs.family import Family
from metamap_envs.identity import is_family
from metamap_envs.registry import get_family
from metamap_envs.spaces import action_space
from metamap_rl.adaptation.service.config import AdapterConfig
from metamap_rl.mapper.mapper import Mapper

__all__ = ["ActionLimits", "ServedPolicy", "family_of"]

Floats = NDArray[np.float32]


def family_of(mapper: Mapper) -> Family:
    """The family that a mapper serves.

    Raises:
        MetaMapError: a mapper of functions, or of other spaces than its family has now.
    """
    if not is_family(mapper.family):
        raise MetaMapError(f"an adapter needs a family of environments, the mapper is of {mapper.family!r}")
    family, spec = get_family(mapper.family), mapper.base.spec
    if (spec.observation_size, spec.action_size) != (family.observation_size, family.action_size):
        raise MetaMapError(
            f"the mapper's policies have {spec.observation_size} observations and {spec.action_size} actions, its "
            f"family {family.name!r} has {family.observation_size} and {family.action_size}"
        )
    return family


class ServedPolicy:
    """Weights of one policy, complete and never changed: a swap replaces the whole object.

    Args:
        base: spec and normaliser.
        phi: weights [P] on normalised observations.
        generated: whether they are a mapper's, rather than phi_0.
    """

    def __init__(self, base: BasePolicy, phi: Floats, *, generated: bool) -> None:
        self.phi = phi
        self.generated = generated
        self.folded: NDArray[np.float64] = base.policies(phi).folded()
        self._networks = RowwiseNetworks(base.spec, self.folded[None])

    def __call__(self, observation: NDArray[Any]) -> Floats:
        """Mean action [A], not limited, for a raw observation [O]."""
        action: Floats = self._networks(observation[None, None])[0, 0]
        return action


@dataclass(frozen=True, eq=False)
class ActionLimits:
    """Bounds of actions and of their change within a step.

    Attributes:
        low: [A].
        high: [A].
        rate: largest change within a step [A]; infinity for none.
    """

    low: Floats
    high: Floats
    rate: Floats

    @classmethod
    def of(cls, family: Family, config: AdapterConfig) -> ActionLimits:
        """The limits in a config, or else the family's.

        Raises:
            MetaMapError: limits for another number of actions, or that leave no action.
        """
        space = action_space(family)
        size = family.action_size
        limits = {"action_low": space.low, "action_high": space.high}
        for name in limits:
            given = getattr(config, name)
            if given and len(given) != size:
                raise MetaMapError(f"adapter config: {name}: expected {size} numbers, one per action, got {len(given)}")
            limits[name] = np.array(given, dtype=np.float32) if given else space.low if "low" in name else space.high
        low, high = np.maximum(limits["action_low"], space.low), np.minimum(limits["action_high"], space.high)
        if not (low < high).all():
            raise MetaMapError(f"adapter config: no action is within the limits and the family's {space}")
        if config.rate_limit and len(config.rate_limit) not in (1, size):
            raise MetaMapError(
                f"adapter config: rate_limit: expected one number or {size}, got {len(config.rate_limit)}"
            )
        rate = np.broadcast_to(np.array(config.rate_limit or [np.inf], dtype=np.float32), (size,))
        return cls(low, high, rate.copy())

    def clipped(self, action: Floats) -> Floats:
        """An action [A] within the bounds."""
        return np.clip(action, self.low, self.high)

    def limited(self, action: Floats, last: Floats | None) -> Floats:
        """An action [A] within the bounds, and within the rate of the last one if there is one."""
        action = self.clipped(action)
        if last is None:
            return action
        return self.clipped(np.clip(action, last - self.rate, last + self.rate))

"""Protocol of probes: a plan of actions, drawn before the first step, which a steered probe may change.

To add one, write a module in `metamap_rl.probing.probes` with a frozen dataclass that has the methods of
:class:`Probe`, whose fields are its settings, all with defaults, and register it with ``@PROBES.register("name")``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from metamap_agents.policy.base import BasePolicy
from metamap_envs.errors import MetaMapError
from metamap_rl.common.registry import Registry

__all__ = ["PROBES", "Plan", "Probe", "SteeredProbe", "Steering", "check_range", "check_whole"]


@dataclass(frozen=True)
class Plan:
    """Actions of n steps, drawn before the first: action = clip(gain * phi_0(obs) + offset, -1, 1).

    Attributes:
        gain: [n], 1 for the base policy, 0 for excitation alone.
        offset: [n, A], noise or excitation.
    """

    gain: NDArray[np.float64]
    offset: NDArray[np.float64]


class Probe(Protocol):
    """A rule by which D is collected."""

    name: ClassVar[str]

    def plan(self, generator: np.random.Generator, steps: int, action_size: int) -> Plan:
        """Draw a plan for ``steps`` steps; the first k steps do not depend on ``steps``."""
        ...


class Steering(Protocol):
    """Updates the plans of N environments from their observations."""

    def __call__(self, step: int, observations: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the plan of one step.

        Args:
            step: number of transitions so far, at least 1.
            observations: raw current observations [N, O].

        Returns:
            Gain [N] and offset [N, A]; see :class:`Plan`.
        """
        ...


@runtime_checkable
class SteeredProbe(Protocol):
    """A probe whose plan depends on observations."""

    def steering(self, generators: Sequence[np.random.Generator], steps: int, base: BasePolicy) -> Steering | None:
        """Return the steering of N environments, given the generators of their plans; None without one."""
        ...


PROBES: Registry[type[Any]] = Registry("probe", removed={"seeking": "mixed"})


def check_whole(name: str, value: object, low: int, high: int) -> None:
    """Raise for a setting that is not an integer or out of range."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise MetaMapError(f"probe setting {name!r}: expected a whole number in [{low}, {high}], got {value!r}")


def check_range(name: str, value: object, low: float, high: float) -> None:
    """Raise for a setting that is not a number or out of range."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise MetaMapError(f"probe setting {name!r}: expected a number in [{low}, {high}], got {value!r}")

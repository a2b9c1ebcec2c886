"""What a probe is: a plan of actions, drawn before the first step; and, for those that look, who may change it.

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
    """What a probe will do for n steps, drawn before the first: action = clip(gain * phi_0(obs) + offset, -1, 1).

    Attributes:
        gain: [n], 1 where the base policy acts, 0 where only the excitation does.
        offset: [n, A], noise or excitation.
    """

    gain: NDArray[np.float64]
    offset: NDArray[np.float64]


class Probe(Protocol):
    """A way to collect D."""

    name: ClassVar[str]

    def plan(self, generator: np.random.Generator, steps: int, action_size: int) -> Plan:
        """Draw what to do for ``steps`` steps; the first k steps do not depend on ``steps``."""
        ...


class Steering(Protocol):
    """Changes the plans of N environments while they are followed, by what is observed in each."""

    def __call__(self, step: int, observations: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Say what to do in a step.

        Args:
            step: number of transitions so far, at least 1.
            observations: raw, of now [N, O].

        Returns:
            Gain [N] and offset [N, A]; see :class:`Plan`.
        """
        ...


@runtime_checkable
class SteeredProbe(Protocol):
    """A probe that looks at what it observes."""

    def steering(self, generators: Sequence[np.random.Generator], steps: int, base: BasePolicy) -> Steering | None:
        """Return what steers N environments, given the generators that their plans were drawn with; None if nothing."""
        ...


PROBES: Registry[type[Any]] = Registry("probe", removed={"seeking": "mixed"})


def check_whole(name: str, value: object, low: int, high: int) -> None:
    """Refuse a setting that is no whole number, or is out of range."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise MetaMapError(f"probe setting {name!r} expects a whole number in [{low}, {high}], got {value!r}")


def check_range(name: str, value: object, low: float, high: float) -> None:
    """Refuse a setting that is no number, or is out of range."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise MetaMapError(f"probe setting {name!r} expects a number in [{low}, {high}], got {value!r}")

"""Probes with a fixed plan: the base policy with noise, excitation of the actuators, and both in turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from metamap_rl.probing.probes.base import PROBES, Plan, check_range, check_whole

__all__ = ["BasePolicyProbe", "ExcitationProbe", "MixedProbe", "SinusoidProbe"]


@PROBES.register("base-policy")
@dataclass(frozen=True)
class BasePolicyProbe:
    """The family's base policy with Gaussian noise on every action."""

    name: ClassVar[str] = "base-policy"

    noise: float = 0.3
    """Standard deviation of the noise, in units of the action; at least 0."""

    def __post_init__(self) -> None:
        check_range("noise", self.noise, 0.0, 2.0)

    def plan(self, generator: np.random.Generator, steps: int, action_size: int) -> Plan:
        """Base policy throughout."""
        return Plan(np.ones(steps), self.noise * generator.standard_normal((steps, action_size)))


@PROBES.register("excitation")
@dataclass(frozen=True)
class ExcitationProbe:
    """Open loop: a random telegraph signal for each actuator, held for a few steps."""

    name: ClassVar[str] = "excitation"

    amplitude: float = 0.8
    """Largest action, in (0, 1]."""
    hold: int = 3
    """Mean number of steps between changes of level, at least 1."""

    def __post_init__(self) -> None:
        check_range("amplitude", self.amplitude, 1e-6, 1.0)
        check_whole("hold", self.hold, 1, 1000)

    def plan(self, generator: np.random.Generator, steps: int, action_size: int) -> Plan:
        """Excitation throughout."""
        offset = np.zeros((steps, action_size))
        level = np.zeros(action_size)
        for step in range(steps):  # drawn step by step, so that a shorter plan is the head of a longer one
            change = generator.random(action_size) < (1.0 / self.hold if step else 1.0)
            level = np.where(change, generator.uniform(-self.amplitude, self.amplitude, action_size), level)
            offset[step] = level
        return Plan(np.zeros(steps), offset)


@PROBES.register("sinusoid")
@dataclass(frozen=True)
class SinusoidProbe:
    """Open loop: a sinusoid for each actuator, with frequency and phase drawn once for a rollout."""

    name: ClassVar[str] = "sinusoid"

    amplitude: float = 0.8
    """Largest action, in (0, 1]."""
    shortest: float = 4.0
    """Shortest period, in steps."""
    longest: float = 40.0
    """Longest period, in steps."""

    def __post_init__(self) -> None:
        check_range("amplitude", self.amplitude, 1e-6, 1.0)
        check_range("shortest", self.shortest, 2, 1e4)
        check_range("longest", self.longest, self.shortest, 1e4)

    def plan(self, generator: np.random.Generator, steps: int, action_size: int) -> Plan:
        """Frequencies are drawn evenly between those of the longest and the shortest period."""
        frequency = generator.uniform(1 / self.longest, 1 / self.shortest, action_size)
        phase = generator.uniform(0, 1, action_size)
        turns = np.arange(steps)[:, None] * frequency + phase
        return Plan(np.zeros(steps), self.amplitude * np.sin(2 * np.pi * turns))


@PROBES.register("mixed")
@dataclass(frozen=True)
class MixedProbe:
    """Alternating blocks of noisy base policy and open-loop excitation."""

    name: ClassVar[str] = "mixed"

    noise: float = 0.3
    """Standard deviation of the noise on the base policy."""
    amplitude: float = 0.8
    """Largest action of the excitation."""
    hold: int = 3
    """Mean number of steps between changes of the excitation."""
    block: int = 5
    """Steps of a block, at least 1."""

    def __post_init__(self) -> None:
        check_whole("block", self.block, 1, 1000)
        BasePolicyProbe(self.noise)
        ExcitationProbe(self.amplitude, self.hold)

    def plan(self, generator: np.random.Generator, steps: int, action_size: int) -> Plan:
        """Base policy in even blocks, excitation in odd ones."""
        noisy, excited = generator.spawn(2)
        policy = BasePolicyProbe(self.noise).plan(noisy, steps, action_size)
        excitation = ExcitationProbe(self.amplitude, self.hold).plan(excited, steps, action_size)
        gain = (np.arange(steps) // self.block % 2 == 0).astype(np.float64)
        return Plan(gain, np.where(gain[:, None] > 0, policy.offset, excitation.offset))

"""Which policies act while D is collected: a declared mixture of actors, or one of the actors alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from metamap_rl.common.config import Amount, Config, Count, Positive, Share

__all__ = ["ACTORS", "D_SOURCES", "ActorMixture", "DSource"]

ACTORS = ("probe", "base", "wrong", "right", "between", "excitation")
"""Kinds of actors, in the order of their shares."""

DSource = Literal["probe", "service", "service-noisy", "expert", "excitation", "mixture"]
"""Where the D of an evaluation comes from, see `ActorMixture.source`."""


@dataclass(frozen=True)
class ActorMixture(Config):
    """Mixture of policies that collect D, so that a mapper reads the transitions of whatever policy acted.

    Each rollout has one actor, drawn by the shares: the probe (from a reset, exactly as it is run on purpose), the base
    policy, the expert of another training task ("wrong"), of the task itself ("right"), a policy between the base
    policy and a wrong expert, or open-loop excitation. All but the probe act with Gaussian noise, may start from where
    a wrong expert left the environment, and may see the task change.

    In a rollout with a change the older task is that of the wrong expert: it is as if a robot changes under the policy
    that was made for it. The label is the newer task, and no D is drawn that ends before the change.

    Raises:
        MetaMapError: a number out of range, shares that are all 0, or a range that is not two ascending numbers.
    """

    called: ClassVar[str] = "mixture of actors"

    probe_share: Amount = 0.2
    """Share of the probe. Shares are relative to their sum."""
    base_share: Amount = 0.15
    """Share of the base policy."""
    wrong_share: Amount = 0.25
    """Share of experts of other training tasks."""
    right_share: Amount = 0.15
    """Share of the task's own expert; without one the universal policy, else the expert of the nearest task."""
    between_share: Amount = 0.15
    """Share of interpolations between the weights of the base policy and of an expert of another task."""
    excitation_share: Amount = 0.1
    """Share of open-loop excitation, which is not affected by noise."""
    actor_noise: tuple[Amount, ...] = (0.0, 0.3)
    """Smallest and largest standard deviation of the actors' noise, in units of the action."""
    noiseless_share: Share = 0.3
    """Fraction of actors without noise."""
    started_share: Share = 0.7
    """Fraction of the rollouts of actors other than the probe that start after steps of a wrong expert, without a
    reset."""
    steps_before: tuple[Count, ...] = (20, 150)
    """Fewest and most such steps."""
    change_share: Share = 0.0
    """Fraction of the rollouts of actors other than the probe in which the task changes. With 0.55 about a third of the
    windows of training span a change; an encoder that ignores the order of transitions then reads all other D worse,
    see docs/mappers.md."""
    window_lengths: tuple[Positive, ...] = (1, 200)
    """Shortest and longest D of training in transitions; one length per update, log-uniform."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not sum(self.shares) > 0:
            raise self.refusal("probe_share", "at least one share above 0", "0 for all")
        for name in ("actor_noise", "steps_before", "window_lengths"):
            found = getattr(self, name)
            if len(found) != 2 or found[0] > found[1]:
                raise self.refusal(name, "two numbers, the smallest and the largest", found)

    @property
    def shares(self) -> tuple[float, ...]:
        """The shares, in the order of `ACTORS`."""
        return tuple(getattr(self, f"{name}_share") for name in ACTORS)

    def without_changes(self) -> ActorMixture:
        """The same with one task per rollout, for validation and calibration."""
        return self.changed(change_share=0.0)

    def document(self) -> dict[str, Any]:
        """All settings as plain JSON values, as they are stored in a mapper."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in self.flat().items()}

    def window_length(self, uniform: float, longest: int) -> int:
        """A length of D: log-uniform over the lengths up to ``longest``, given a number in [0, 1)."""
        low, high = (min(length, longest) for length in self.window_lengths)
        return min(high, int(low * math.exp(uniform * math.log((high + 1) / low))))

    @classmethod
    def of_one(cls, actor: str, *, noise: float = 0.0, steps_before: int = 0) -> ActorMixture:
        """One kind of actor alone, of `ACTORS`, with one noise, after a number of steps of a wrong expert."""
        shares: dict[str, Any] = {f"{name}_share": float(name == actor) for name in ACTORS}
        return cls(
            **shares,
            actor_noise=(noise, noise),
            noiseless_share=0.0,
            started_share=float(steps_before > 0),
            steps_before=(steps_before, steps_before),
            change_share=0.0,
        )

    @classmethod
    def source(cls, name: str, mixture: ActorMixture | None = None) -> ActorMixture:
        """The mixture that stands for a source of D in an evaluation.

        Args:
            name: "probe"; "service", the expert of another training task without noise, from the 51st step of an
                episode on, as if the task had just changed; "service-noisy", the same with noise of 0.1; "expert", the
                task's own expert without noise, from a reset; "excitation", from a reset; or "mixture".
            mixture: what "mixture" means, default `ActorMixture()`; in an evaluation the task does not change.

        Raises:
            MetaMapError: another name.
        """
        if name == "mixture":
            return (mixture or cls()).without_changes()
        if name not in D_SOURCES:
            from metamap_envs.errors import unknown_name

            raise unknown_name("source of D", name, (*D_SOURCES, "mixture"))
        return D_SOURCES[name]


D_SOURCES = {
    "probe": ActorMixture.of_one("probe"),
    "service": ActorMixture.of_one("wrong", steps_before=50),
    "service-noisy": ActorMixture.of_one("wrong", noise=0.1, steps_before=50),
    "expert": ActorMixture.of_one("right"),
    "excitation": ActorMixture.of_one("excitation"),
}
"""Sources of D of one kind of actor."""

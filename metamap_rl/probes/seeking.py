"""A probe that looks for information: of several plans it follows the one that would tell most of the task."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from metamap_agents.base_policy import BasePolicy
from metamap_envs.errors import MetaMapError
from metamap_rl.guide import SCORES, Guide
from metamap_rl.probes.base import PROBES, Plan, Steering, check_whole
from metamap_rl.probes.planned import BasePolicyProbe, ExcitationProbe, SinusoidProbe

__all__ = ["SeekingProbe"]


@PROBES.register("seeking")
@dataclass(frozen=True)
class SeekingProbe:
    """In blocks of a few steps, one of K plans: base policy with noise, telegraph signals and sinusoids by turns.

    Without a guide the plan is drawn at random for each block, which is what a guide is trained on and compared with.
    With one it is the plan that the guide expects to tell most, given D so far; the first block, before which there is
    no D, is drawn at random.
    """

    name: ClassVar[str] = "seeking"

    guide: str = ""
    """Folder of a guide (`metamap_rl.guide`), which has to be there where the probe is used; empty for none."""
    score: str = "information"
    """What the guide looks for: information, or disagreement."""
    candidates: int = 9
    """K, plans to choose from."""
    block: int = 5
    """Steps of a block."""
    noise: float = 0.3
    """Standard deviation of the noise on the base policy."""
    amplitude: float = 0.8
    """Largest action of telegraph signals and sinusoids."""

    def __post_init__(self) -> None:
        if not isinstance(self.guide, str):
            raise MetaMapError(f"probe setting 'guide' expects the path of a folder, got {self.guide!r}")
        SCORES.get(self.score)
        check_whole("candidates", self.candidates, 1, 1000)
        check_whole("block", self.block, 1, 1000)
        self._kinds()

    def _kinds(self) -> tuple[BasePolicyProbe, ExcitationProbe, SinusoidProbe]:
        return BasePolicyProbe(self.noise), ExcitationProbe(self.amplitude), SinusoidProbe(self.amplitude)

    def plans(self, generator: np.random.Generator, steps: int, action_size: int) -> tuple[Plan, NDArray[np.int64]]:
        """All K plans, gain [K, n] and offset [K, n, A], and the one drawn for each step [n]."""
        chooser, *generators = generator.spawn(self.candidates + 1)
        kinds = self._kinds()
        found = [kinds[k % len(kinds)].plan(child, steps, action_size) for k, child in enumerate(generators)]
        drawn = (self.candidates * chooser.random(-(-steps // self.block))).astype(np.int64)
        plans = Plan(np.stack([plan.gain for plan in found]), np.stack([plan.offset for plan in found]))
        return plans, np.repeat(drawn, self.block)[:steps]

    def plan(self, generator: np.random.Generator, steps: int, action_size: int) -> Plan:
        """A plan drawn at random for each block."""
        plans, drawn = self.plans(generator, steps, action_size)
        each = np.arange(steps)
        return Plan(plans.gain[drawn, each], plans.offset[drawn, each])

    def steering(self, generators: Sequence[np.random.Generator], steps: int, base: BasePolicy) -> Steering | None:
        """See `metamap_rl.probes.base.SteeredProbe`.

        Raises:
            MetaMapError: the guide is not there, or is one for observations or actions of other sizes.
        """
        if not self.guide:
            return None
        guide, sizes = _guide(self.guide), (base.spec.observation_size, base.spec.action_size)
        if guide.sizes != sizes:
            raise MetaMapError(f"{self.guide}: a guide for observations and actions of {guide.sizes}, not of {sizes}")
        # Copies: the plans must be the ones that `plan` draws from the same generators.
        # Whole blocks: a plan is judged by all of it, also where the rollout ends before.
        whole = -(-steps // self.block) * self.block
        found = [self.plans(copy.deepcopy(generator), whole, sizes[1])[0] for generator in generators]
        gains, offsets = np.stack([plan.gain for plan in found]), np.stack([plan.offset for plan in found])
        return _Steering(self.block, steps, self, guide, base, gains, offsets)


@dataclass
class _Steering:
    """Chooses in N environments; gains [N, K, n] and offsets [N, K, n, A]."""

    every: int
    steps: int
    probe: SeekingProbe
    guide: Guide
    base: BasePolicy
    gains: NDArray[np.float64]
    offsets: NDArray[np.float64]
    looks_back: bool = True

    def __call__(
        self, step: int, seen: NDArray[np.float32], observations: NDArray[Any]
    ) -> tuple[slice, NDArray[np.float64], NDArray[np.float64]]:
        """See `metamap_rl.probes.base.Steering`."""
        block = slice(step, step + self.every)
        gains, offsets = self.gains[:, :, block], self.offsets[:, :, block]
        scores = self.guide.score(
            torch.from_numpy(seen),
            torch.from_numpy(np.asarray(observations, dtype=np.float64)),
            torch.from_numpy(gains),
            torch.from_numpy(offsets),
            self.base,
            SCORES.get(self.probe.score),
        )
        best, each = scores.argmax(dim=1).numpy(), np.arange(len(gains))
        left = self.steps - step
        return block, gains[each, best][:, :left], offsets[each, best][:, :left]


@cache
def _guide(path: str) -> Guide:
    """In double precision: the last digits depend on how many environments there are, and must not decide."""
    return Guide.load(path).double().eval()

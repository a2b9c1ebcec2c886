"""When the window is mapped, and whether the generated policy may act."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Ge
from numpy.typing import NDArray
from pydantic import ConfigDict

from metamap_agents.runtime.torch_state import torch_threads
from metamap_envs.errors import MetaMapError
from metamap_envs.registry import get_family
from metamap_envs.settings import STRICT
from metamap_rl.adaptation.service.config import AdapterConfig
from metamap_rl.adaptation.service.window import Window
from metamap_rl.data.layout import TransitionLayout
from metamap_rl.mapper.mapper import Mapper, Reading
from metamap_rl.mapper.selfcheck import Verdict

__all__ = ["LastMapping", "LastReview", "ServiceMapping", "ServiceVerdict"]

Floats = NDArray[np.float32]

_LATEST = 20  # transitions that the window must explain
_SLID = 5  # most transitions between two mappings of a window of fixed length


@dataclass(frozen=True)
class LastMapping:
    """Result of the last mapping; what decides when the next one is due.

    Attributes:
        length: of what was mapped of the window; 0 before the first mapping.
        count: number of transitions stored by then.
        begin: where the window began.
        parameters: estimates by name.
        needed: mean reward below which the policy fails, what the self-check expects of the base policy; None if it
            expects nothing.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    length: Annotated[int, Ge(0)] = 0
    count: Annotated[int, Ge(0)] = 0
    begin: Annotated[int, Ge(0)] = 0
    parameters: dict[str, float] = field(default_factory=dict)
    needed: float | None = None


@dataclass(frozen=True)
class LastReview:
    """Result of the last test whether the generated policy may act. Every mapping is reviewed at once.

    Attributes:
        fallback: reason for the base policy; "" if the generated policy may act.
        confidence: of the self-check; None without one.
        count: number of transitions stored by then.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    fallback: str = "nothing was observed yet"
    confidence: float | None = None
    count: Annotated[int, Ge(0)] = 0


@dataclass(frozen=True)
class ServiceVerdict:
    """What an adapter knows of its window.

    Attributes:
        mapping: the last mapping.
        review: the last review, of that mapping's policy.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    mapping: LastMapping = field(default_factory=LastMapping)
    review: LastReview = field(default_factory=LastReview)


class ServiceMapping:
    """Maps windows of a policy in service.

    Args:
        mapper: the mapper.
        config: settings.

    Raises:
        MetaMapError: a window that never reaches the minimum of the self-check.
    """

    nothing = ServiceVerdict()

    def __init__(self, mapper: Mapper, config: AdapterConfig) -> None:
        self.mapper, self.config = mapper, config
        self.generate: Callable[[Reading], Floats] = mapper.generate
        self.check = mapper.check if config.check else None
        never = self.check is not None and self.check.least_steps is None
        self.least = config.least_transitions or (None if never else 1)
        layout = TransitionLayout.of(mapper.base.spec)
        self._reward = layout.reward
        self._unit, self._zero = float(mapper.feature_std[layout.reward]), float(mapper.feature_mean[layout.reward])
        self._horizon = get_family(mapper.family).horizon
        self.remark = "" if self.check is not None else ", unchecked"

    def judged(self, window: Window, last: ServiceVerdict) -> tuple[ServiceVerdict, Floats | None] | None:
        """Map and review a window if that is due. A review that comes out otherwise than the last one maps, too.

        All transitions of the window are mapped, but for those that were given up when a policy failed.

        Args:
            window: at least one transition.
            last: the last result.

        Returns:
            The new verdict and the weights [P], None for those of the last mapping; None if nothing is due.
        """
        rescues = self._fails(window, last)
        if rescues:
            window.give_up(self.config.rescue)
        maps = rescues or self._maps(window, last.mapping)
        if not maps and window.count - last.review.count < self.config.review:
            return None
        with torch_threads(1), torch.no_grad():
            rows = torch.from_numpy(window.kept_rows.copy())[None]
            reading = Reading(rows, self.mapper.encoder(rows, None))
            review, needed = self._review(window, reading)
            if not maps and bool(review.fallback) == bool(last.review.fallback):
                return ServiceVerdict(last.mapping, review), None
            parameters = self.mapper.read_parameters(reading)
            mapping = LastMapping(window.kept, window.count, window.begin, parameters, needed)
            review, phi = self._generated(reading, review)
            return ServiceVerdict(mapping, review), phi

    def rescuing(self, window: Window) -> bool:
        """Whether transitions were given up so lately that the policy of the others is not judged yet."""
        since = window.since_rescue
        return since is not None and since < self.config.rescue + self.config.patience

    def _fails(self, window: Window, last: ServiceVerdict) -> bool:
        """Whether a generated policy gets less reward than is expected of the base policy."""
        needed, patience = last.mapping.needed, min(self.config.patience, self.config.longest_window)
        if not self.config.rescue or needed is None or last.review.fallback or window.sliding:
            return False
        if window.begin != last.mapping.begin or window.length < patience or self.rescuing(window):
            return False
        return self._zero + self._unit * float(window.rows[-patience:, self._reward].mean()) < needed

    def _maps(self, window: Window, last: LastMapping) -> bool:
        """Whether the window began anew, has grown, or slid far enough."""
        length = window.kept
        if window.begin != last.begin or not last.length or last.length < (self.least or 0) <= length:
            return True
        if length >= last.length * (1 + self.config.growth):
            return True
        longest = window.sliding or self.config.longest_window
        slid = min(_SLID, longest // 4) if window.sliding else longest // 4
        return length == longest and window.count - last.count >= max(1, slid)

    def _review(self, window: Window, reading: Reading) -> tuple[LastReview, float | None]:
        """The review, and the reward below which the policy fails."""
        length = window.length
        if self.check is not None:
            latest, z = window.rows[-_LATEST:], reading.z[0].numpy()
            verdict = self.check.judge_in_service(latest, z, steps=length, least_steps=self.least)
            return LastReview(verdict.fallback, verdict.confidence, window.count), self._needed(verdict)
        few = self.least is not None and length < self.least
        too_few = f"{length} transitions are too few, at least {self.least} are needed" if few else ""
        return LastReview(too_few, count=window.count), None

    def _needed(self, verdict: Verdict) -> float | None:
        """Mean reward that is expected of the base policy; None without rewards, or if no gain is expected."""
        generated, base = verdict.predicted_return, verdict.predicted_base_return
        if not self.mapper.config.reward or generated is None or base is None or generated <= base:
            return None
        return base / self._horizon

    def _generated(self, reading: Reading, review: LastReview) -> tuple[LastReview, Floats | None]:
        """Weights of a policy, None where the base policy is served, with the reason."""
        if review.fallback:
            return review, None
        try:
            return review, self.generate(reading)
        except MetaMapError as error:
            return replace(review, fallback=str(error), confidence=None), None

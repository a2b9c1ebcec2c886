"""When the window is mapped, and whether the generated policy may act."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from metamap_agents.runtime.torch_state import torch_threads
from metamap_envs.errors import MetaMapError
from metamap_rl.adaptation.service.config import AdapterConfig
from metamap_rl.adaptation.service.window import Window
from metamap_rl.mapper.mapper import Mapper, Reading

__all__ = ["ServiceMapping", "ServiceVerdict"]

Floats = NDArray[np.float32]

_LATEST = 20  # transitions that the window must explain
_SLID = 5  # most transitions between two mappings of a window of fixed length


@dataclass(frozen=True)
class ServiceVerdict:
    """Result of the last mapping or review.

    Attributes:
        fallback: reason for the base policy; "" if the generated policy may act.
        confidence: of the self-check; None without one.
        parameters: estimates by name.
        mapped: length of the window when it was mapped.
        mapped_at: number of transitions stored when it was mapped.
        count: number of transitions stored when it was judged.
        begin: where the window began.
    """

    fallback: str = "nothing was observed yet"
    confidence: float | None = None
    parameters: dict[str, float] = field(default_factory=dict)
    mapped: int = 0
    mapped_at: int = 0
    count: int = 0
    begin: int = 0


class ServiceMapping:
    """Maps windows of a policy in service.

    Args:
        mapper: the mapper.
        config: settings.
    """

    nothing = ServiceVerdict()

    def __init__(self, mapper: Mapper, config: AdapterConfig) -> None:
        self.mapper, self.config = mapper, config
        self.check = mapper.check if config.check else None
        least = 1 if self.check is None else self.check.least_steps
        self.least = config.least_transitions or least
        self.remark = "" if self.check is not None else ", unchecked"

    def judged(self, window: Window, last: ServiceVerdict) -> tuple[ServiceVerdict, Floats | None] | None:
        """Map and judge a window if that is due.

        Args:
            window: at least one transition.
            last: the last result.

        Returns:
            The new verdict and the weights [P], None for those of the last mapping; None if nothing is due.
        """
        maps = self._maps(window, last)
        if not maps and window.count - last.count < self.config.review:
            return None
        with torch_threads(1), torch.no_grad():
            rows = torch.from_numpy(window.rows.copy())[None]
            reading = Reading(rows, self.mapper.encoder(rows, None))
            verdict = self._verdict(window, reading)
            if not maps and bool(verdict.fallback) == bool(last.fallback):
                return replace(verdict, parameters=last.parameters, mapped=last.mapped, mapped_at=last.mapped_at), None
            return self._generated(reading, verdict)

    def _maps(self, window: Window, last: ServiceVerdict) -> bool:
        """Whether the window began anew, has grown, or slid far enough."""
        length = window.length
        if window.begin != last.begin or not last.mapped or last.mapped < (self.least or 0) <= length:
            return True
        if length >= last.mapped * (1 + self.config.growth):
            return True
        longest = window.sliding or self.config.longest_window
        slid = min(_SLID, longest // 4) if window.sliding else longest // 4
        return length == longest and window.count - last.mapped_at >= max(1, slid)

    def _verdict(self, window: Window, reading: Reading) -> ServiceVerdict:
        length = window.length
        found = ServiceVerdict(mapped=length, mapped_at=window.count, count=window.count, begin=window.begin)
        if self.check is not None:
            latest, z = window.rows[-_LATEST:], reading.z[0].numpy()
            verdict = self.check.judge_in_service(latest, z, steps=length, least_steps=self.least)
            return replace(found, fallback=verdict.fallback, confidence=verdict.confidence)
        few = self.least is not None and length < self.least
        return replace(
            found, fallback=f"{length} transitions are too few, at least {self.least} are needed" if few else ""
        )

    def _generated(self, reading: Reading, verdict: ServiceVerdict) -> tuple[ServiceVerdict, Floats | None]:
        """Weights of a policy, None where the base policy is served."""
        verdict = replace(verdict, parameters=self.mapper.read_parameters(reading))
        if verdict.fallback:
            return verdict, None
        try:
            return verdict, self.mapper.generate(reading)
        except MetaMapError as error:
            return replace(verdict, fallback=str(error), confidence=None), None

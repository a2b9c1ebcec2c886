"""What an adapter believes about the present task."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict

from metamap_envs.settings import STRICT

__all__ = ["Belief"]


@dataclass(frozen=True)
class Belief:
    """State of an `Adapter` at one time, for display and logs.

    Attributes:
        served: the policy that acts.
        reason: why, in a few words.
        parameters: estimates of the family's parameters by name, of the last mapping; empty before the first, or if the
            mapper was trained without a survey.
        confidence: of the self-check, in [0, 1], that the generated policy beats the base policy; None before the first
            mapping and without a self-check.
        window: transitions that are believed to belong to the present task.
        age: environment steps since the first of them.
        mapped: transitions of the window at the last mapping.
        changes: changes of the task found so far.
        swaps: changes of the served policy so far.
        lost: transitions that were not stored: steps that were not observed, or with invalid values.
        rescues: mappings of the latest transitions alone, because a policy failed.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    served: Literal["base", "generated"] = "base"
    reason: str = "nothing was observed yet"
    parameters: dict[str, float] = field(default_factory=dict)
    confidence: float | None = None
    window: int = 0
    age: int = 0
    mapped: int = 0
    changes: int = 0
    swaps: int = 0
    lost: int = 0
    rescues: int = 0

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    def sentence(self) -> str:
        """Human-readable summary."""
        confidence = "" if self.confidence is None else f", confidence {self.confidence:.2f}"
        window = f"window of {self.window} transitions ({self.age} steps)"
        return f"{self.served} policy: {self.reason}; {window}{confidence}"

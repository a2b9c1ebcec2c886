"""Record of an adaptation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from pydantic import ConfigDict

from metamap_envs.settings import STRICT

__all__ = ["Adaptation"]


@dataclass(frozen=True)
class Adaptation:
    """Record of an adaptation.

    Attributes:
        family: name of the family.
        steps: number of transitions of D; with 0 the policy is the base policy.
        milliseconds: time from transitions to weights.
        distance: root mean square of phi_hat - phi_0 in units of the mapper's weight scale; 0 for the base policy.
        read: estimates of the family's parameters by name, for display: the policy does not depend on them. Empty
            without transitions, or if the mapper was trained without a survey.
        confidence: of the self-check, in [0, 1], that the generated policy beats the base policy; None if D was not
            checked, because ``check`` is false or the mapper has no self-check.
        fallback: reason for serving the base policy; "" if the generated policy is served.
        predicted_return: expected return of the generated policy, whichever is served; None if D was not checked or is
            empty.
        predicted_base_return: expected return of the base policy; None likewise.
        novelty: of D, by the self-check: above 1 it is out of distribution for the family; None if D was not checked.
        notes: warnings about the given environment, a sentence each: wrappers that alter rewards or observations; types
            and bounds that differ from those that a declared family has in its own environment.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    family: str
    steps: int
    milliseconds: float
    distance: float
    read: dict[str, float] = field(default_factory=dict)
    confidence: float | None = None
    fallback: str = ""
    predicted_return: float | None = None
    predicted_base_return: float | None = None
    novelty: float | None = None
    notes: tuple[str, ...] = ()

    def sentence(self) -> str:
        """Human-readable summary."""
        expected = "" if self.served == "base" else self.expected_sentence()
        parts = [f"{self.served_sentence()}: {expected}" if expected else self.served_sentence()]
        return "; ".join([*parts, *(note for note in self.notes if note not in self.fallback)])

    @property
    def served(self) -> Literal["base", "generated"]:
        """Human-readable name of the served policy."""
        return "base" if self.fallback or not self.steps else "generated"

    def served_sentence(self) -> str:
        """Which policy is served, and why the base policy is."""
        if self.served == "base":
            return f"the base policy is served: {self.fallback or 'there are no transitions'}"
        if self.confidence is None:
            return "the generated policy is served, unchecked"
        confidence = f"{self.confidence:.2f}" if self.confidence < 0.995 else "above 0.99"
        return f"the generated policy is served, confidence {confidence}"

    def expected_sentence(self) -> str:
        """The returns that the self-check expects; "" if D was not checked."""
        if self.predicted_return is None or self.predicted_base_return is None:
            return ""
        return (
            f"a return of {self.predicted_return:.1f} is expected, of the base policy {self.predicted_base_return:.1f}"
        )

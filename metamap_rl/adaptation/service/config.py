"""Settings of adaptation in service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge, Gt, Le

from metamap_rl.common.config import Amount, Config, Count, Positive, PositiveNumber

__all__ = ["AdapterConfig"]


@dataclass(frozen=True)
class AdapterConfig(Config):
    """Settings of an `Adapter`: its window, when it maps, and the limits of its actions.

    Raises:
        MetaMapError: a number out of range, cuts that do not ascend, or limits that are no intervals.
    """

    called: ClassVar[str] = "adapter config"

    longest_window: Annotated[int, Ge(2), Le(100_000)] = 200
    """Longest window in transitions, which is also all that is remembered."""
    cuts: tuple[Positive, ...] = (1, 2, 3, 5, 10, 20, 50)
    """Hypotheses about the latest change of the task, in transitions before now, ascending. Each is tested as often as
    half of its length goes by."""
    margin: Amount = 4.0
    """Minimum evidence for a change: gain in log-likelihood, in nats, if the transitions before and after it have a
    context each instead of one, of the rewards or averaged over the numbers of an observation."""
    margin_per_transition: Amount = 0.05
    """Addition to the margin for each transition after the change, since errors of the model add up."""
    growth: PositiveNumber = 0.25
    """Map again when the window has grown by this fraction since the last time."""
    review: Positive = 10
    """Transitions between two tests of whether the window still explains what is observed."""
    least_transitions: Annotated[int, Ge(1)] | None = None
    """Minimum window for a generated policy; the base policy acts before. Default: 1, or never if the self-check found
    no length of D safe. The self-check's own minimum is about a robot that starts from a reset; where the task has
    changed in mid-run, the base policy is no safe choice for the steps that it takes to get there."""
    check: bool = True
    """Serve the base policy where the mapper's self-check advises against the generated one."""
    rescue: Count = 10
    """Transitions that are mapped, the latest ones of the window, when a generated policy gets less reward than the
    self-check expects of the base policy; 0 for never.
    What a policy makes happen may say too little about the task to find a better one: of few transitions the estimate
    moves on."""
    patience: Positive = 20
    """Transitions of which the mean reward is compared for that; of a shorter `longest_window` all."""
    excitation: Amount = 0.3
    """Standard deviation of noise on the actions of the `rescue` steps after a policy failed so, in units of half of an
    action's range. What a wrong policy does again and again tells little; the noise is the same in every run."""
    fixed_window: Count = 0
    """Length of a sliding window instead of one chosen by evidence; 0 is by evidence. Mappers without a self-check have
    no model of transitions, and always a sliding window: of 20 transitions by default."""
    action_low: tuple[float, ...] = ()
    """Lower limit of each action; default: the family's."""
    action_high: tuple[float, ...] = ()
    """Upper limit of each action; default: the family's."""
    rate_limit: tuple[Annotated[float, Gt(0)], ...] = ()
    """Largest change of an action within one step: a number for all or for each action; default: none."""
    blend: Count = 0
    """Steps over which actions pass from the old policy to the new one after a swap; 0 swaps at once."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.cuts or list(self.cuts) != sorted(set(self.cuts)):
            raise self.refusal("cuts", "ascending numbers of transitions", self.cuts)
        if self.fixed_window > self.longest_window:
            raise self.refusal("fixed_window", f"at most longest_window, {self.longest_window}", self.fixed_window)
        window = "fixed_window" if self.fixed_window else "longest_window"
        longest = self.fixed_window or self.longest_window
        if self.least_transitions is not None and self.least_transitions > longest:
            raise self.refusal("least_transitions", f"at most {window}, {longest}", self.least_transitions)
        if self.action_low and len(self.action_low) == len(self.action_high):
            for index, (low, high) in enumerate(zip(self.action_low, self.action_high, strict=True)):
                if not low < high:
                    raise self.refusal("action_low", f"less than action_high, {high}, of action {index}", low)

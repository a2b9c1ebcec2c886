"""Whether there is anything to adapt to: do experts beat the base policy on more tasks than chance would give?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from metamap_agents.experts.expert import Expert
from metamap_agents.policy.evaluation import LEVEL
from metamap_envs.errors import MetaMapError

__all__ = ["ExpertsFinding", "compare_experts", "least_better"]

_SURE = 0.01
"""Probability with which that many experts would be found better if none was."""


@dataclass(frozen=True)
class ExpertsFinding:
    """Experts beside the base policy.

    Attributes:
        tasks: number of tasks.
        better: tasks on which the expert is clearly better in a paired test over the same reset seeds.
        least: tasks that it takes for a finding; fewer are expected by chance.
        base_return: mean over the tasks.
        expert_return: mean over the tasks.
    """

    tasks: int
    better: int
    least: int
    base_return: float
    expert_return: float

    @property
    def gap(self) -> bool:
        """Whether there is a gap for a mapper to close."""
        return self.better >= self.least

    def sentence(self) -> str:
        """The finding in words."""
        found = (
            f"experts are clearly better than the base policy on {self.better} of {self.tasks} tasks (paired test), "
            f"mean return {self.base_return:.4g} -> {self.expert_return:.4g}"
        )
        if self.gap:
            return found
        return (
            f"{found}; fewer than {self.least} show no gap: either one policy does well on all tasks, or the experts "
            "were not trained well enough; see `metamap families check`, widen the ranges, or train longer "
            "(--base-timesteps, --patience 0)"
        )


def least_better(tasks: int) -> int:
    """Smallest number of better experts among so many that chance gives with a probability below 1 %."""
    from scipy.stats import binom  # takes half a second, so only where needed

    return int(binom.isf(_SURE, tasks, LEVEL)) + 1


def compare_experts(experts: Sequence[Expert]) -> ExpertsFinding:
    """Compare experts with the base policy, on the episodes that each of them was measured with.

    Raises:
        MetaMapError: there are no experts.
    """
    if not experts:
        raise MetaMapError("expected at least one expert, got none")
    return ExpertsFinding(
        tasks=len(experts),
        better=sum(expert.better for expert in experts),
        least=least_better(len(experts)),
        base_return=sum(float(expert.base_returns.mean()) for expert in experts) / len(experts),
        expert_return=sum(float(expert.returns.mean()) for expert in experts) / len(experts),
    )

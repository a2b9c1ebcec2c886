"""Figures of trials of service. Arrays are [n, N]: n steps of N trials; lists of arrays are of several zoos.

Every figure compares methods on the same trials. References are the base policy and the oracle, the universal policy
given each task at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.stats import CensoredData, ecdf

from metamap_agents.policy.evaluation import clearly_better_each
from metamap_envs.errors import MetaMapError
from metamap_rl.common.harm import LEVEL
from metamap_rl.common.statistics import Ratio, ratio_of_zoos, worst_decile

__all__ = [
    "AFTER",
    "BLOCK",
    "CLOSED",
    "Alarms",
    "Recovery",
    "Stretch",
    "alarms_of",
    "gap_share",
    "harmed",
    "recoveries",
    "regret_after_changes",
    "share_difference",
    "stretches",
    "survival",
    "worst_share",
]

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

BLOCK = 20
"""Steps over which rewards are averaged, for recovery and for harm."""
AFTER = 200
"""Steps after a change in which regret is counted."""
CLOSED = 0.9
"""Share of the gap at which a policy has recovered."""
_LEAST_BLOCKS = 3  # of a task: shorter ones are left out where methods are tested on a task


@dataclass(frozen=True)
class Stretch:
    """Steps of one task in one trial: from ``begin`` to before ``end``."""

    trial: int
    begin: int
    end: int


def stretches(changed: Flags, *, first: bool = True) -> Iterator[Stretch]:
    """The tasks of trials, in order; without the first of each trial, which did not change, if ``first`` is False."""
    for trial in range(changed.shape[1]):
        begins = [0, *np.flatnonzero(changed[:, trial]).tolist()]
        for begin, end in zip(begins, [*begins[1:], len(changed)], strict=True):
            if end > begin and (first or begin > 0):
                yield Stretch(trial, begin, end)


# return -----------------------------------------------------------------------------------------------------------


def gap_share(
    rewards: Sequence[Floats], base: Sequence[Floats], oracle: Sequence[Floats], generator: np.random.Generator
) -> Ratio | None:
    """Share of the return between base policy and oracle, (R - R_base) / (R_oracle - R_base), a ratio of sums.

    Over all steps. Trials are resampled, and zoos if there are several; None and missing bounds as in
    `metamap_rl.common.statistics.ratio_of_zoos`.
    """
    return share_difference(rewards, base, base, oracle, generator)


def share_difference(
    rewards: Sequence[Floats],
    others: Sequence[Floats],
    base: Sequence[Floats],
    oracle: Sequence[Floats],
    generator: np.random.Generator,
) -> Ratio | None:
    """Difference of the shares of two methods on the same trials, each resample with both."""
    _check([rewards, others, base, oracle])
    gains = [(one - other).sum(axis=0)[None] for one, other in zip(rewards, others, strict=True)]
    gaps = [(most - least).sum(axis=0) for most, least in zip(oracle, base, strict=True)]
    return ratio_of_zoos(gains, gaps, generator)


def worst_share(rewards: Sequence[Floats], base: Sequence[Floats], oracle: Sequence[Floats]) -> float | None:
    """Mean over the worst tenth of the trials of 1 - regret / mean gap; None if the mean gap is not above 0.

    Its mean over all trials is `gap_share`; a trial with a small gap of its own does not blow it up.
    """
    _check([rewards, base, oracle])
    gap = np.concatenate([(most - least).sum(axis=0) for most, least in zip(oracle, base, strict=True)]).mean()
    regret = np.concatenate([(most - one).sum(axis=0) for most, one in zip(oracle, rewards, strict=True)])
    return worst_decile(1 - regret / gap) if gap > 0 else None


def regret_after_changes(
    rewards: Sequence[Floats], oracle: Sequence[Floats], changed: Sequence[Flags], generator: np.random.Generator
) -> Ratio | None:
    """Mean reward lost against the oracle in the 200 steps after a change, or up to the next one; None without changes.

    The interval is from resampled trials, and zoos.
    """
    _check([rewards, oracle, changed])
    lost, counts = [], []
    for one, most, flags in zip(rewards, oracle, changed, strict=True):
        found, count = np.zeros(one.shape[1]), np.zeros(one.shape[1])
        for part in stretches(flags, first=False):
            steps = slice(part.begin, min(part.end, part.begin + AFTER))
            found[part.trial] += (most - one)[steps, part.trial].sum()
            count[part.trial] += 1
        lost.append(found[None])
        counts.append(count)
    return ratio_of_zoos(lost, counts, generator)


# tasks ------------------------------------------------------------------------------------------------------------


def _blocks(values: Floats, part: Stretch) -> Floats:
    """Means of whole blocks of a task [B]."""
    count = (part.end - part.begin) // BLOCK
    means: Floats = values[part.begin : part.begin + count * BLOCK, part.trial].reshape(count, BLOCK).mean(axis=1)
    return means


def _better(one: Floats, other: Floats, part: Stretch) -> bool:
    """Whether a method is better than another on a task beyond noise: paired t-test over blocks, one-sided."""
    return bool(clearly_better_each(_blocks(one, part), _blocks(other, part), level=LEVEL))


def harmed(rewards: Floats, base: Floats, changed: Flags) -> Flags:
    """For each task of at least 60 steps, whether the method is worse than the base policy beyond noise.

    A paired t-test at level `metamap_rl.common.harm.LEVEL` over the means of 20 steps each.
    """
    _check([[rewards], [base], [changed]])
    long = [part for part in stretches(changed) if part.end - part.begin >= _LEAST_BLOCKS * BLOCK]
    return np.array([_better(base, rewards, part) for part in long], dtype=np.bool_)


@dataclass(frozen=True, eq=False)
class Recovery:
    """Recovery after C changes.

    Attributes:
        steps: steps from a change to the first 20 steps whose mean reward closes 90 % of the gap, int64 [C]; where it
            never did, the steps for which that is known.
        censored: whether it did not recover before the next change or the end, bool [C].
        trials: trial of each change, int64 [C].
    """

    steps: NDArray[np.int64]
    censored: Flags
    trials: NDArray[np.int64]


def recoveries(rewards: Floats, base: Floats, oracle: Floats, changed: Flags) -> Recovery:
    """When a method recovers after each change.

    The gap of a task is that between the mean rewards of base policy and oracle from the change to the next one. Tasks
    of fewer than 60 steps, and those on which the oracle is not better than the base policy beyond noise (as in
    `harmed`), are left out.
    """
    _check([[rewards], [base], [oracle], [changed]])
    steps, censored, trials = [], [], []
    for part in stretches(changed, first=False):
        if part.end - part.begin < _LEAST_BLOCKS * BLOCK or not _better(oracle, base, part):
            continue
        own, low, high = (one[part.begin : part.end, part.trial] for one in (rewards, base, oracle))
        needed = low.mean() + CLOSED * (high.mean() - low.mean())
        following = np.convolve(own, np.full(BLOCK, 1 / BLOCK), mode="valid")  # mean of the 20 steps from each on
        reached = np.flatnonzero(following >= needed)
        steps.append(int(reached[0]) if reached.size else len(following))
        censored.append(not reached.size)
        trials.append(part.trial)
    return Recovery(
        np.array(steps, dtype=np.int64), np.array(censored, dtype=np.bool_), np.array(trials, dtype=np.int64)
    )


def survival(found: Recovery, at: Sequence[int]) -> tuple[list[float], float | None]:
    """Kaplan-Meier estimate (1958) of the share that has not recovered, which censored ones do not bias.

    Args:
        found: recoveries; at least one.
        at: steps after a change [A].

    Returns:
        Share not recovered after so many steps [A], and the median; None if fewer than half are known to recover.

    Raises:
        MetaMapError: no changes.
    """
    if not found.steps.size:
        raise MetaMapError("recovery: expected at least one change of at least 60 steps with a gap, got none")
    if found.censored.all():
        return [1.0] * len(at), None
    left = ecdf(CensoredData(uncensored=found.steps[~found.censored], right=found.steps[found.censored])).sf
    half = left.quantiles[left.probabilities <= 0.5]
    return [float(left.evaluate(step)) for step in at], float(half[0]) if half.size else None


# windows ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Alarms:
    """Cuts of the windows of one trial.

    Attributes:
        cuts: windows that began anew, though transitions were left in front.
        false: those whose window held transitions of one task only.
        quiet: steps at which that was so.
        noticed: changes after which a window was cut before the next one, or before its end.
        delays: of these, steps from the change to the cut, the step of the change being the first.
    """

    cuts: int
    false: int
    quiet: int
    noticed: int
    delays: tuple[int, ...]


def alarms_of(begins: NDArray[np.int64], cut: Flags, changed: Flags) -> Alarms:
    """Cuts and false alarms of one trial.

    A cut is a false alarm if no change of the task lies within the window that is cut: re-mapping a window is none, and
    neither is a second cut where the first left transitions of the older task.

    Args:
        begins: step of the first transition of the window after each step, int64 [n].
        cut: whether the window was cut after the step, bool [n].
        changed: whether the task changed before the step, bool [n].
    """
    changes, steps = np.flatnonzero(changed), np.arange(len(changed))
    before = np.concatenate([[0], begins[:-1]])
    # The window that is looked at in step t reaches from `before[t]` to t: changes before the steps after the first.
    inside = np.searchsorted(changes, steps, side="right") - np.searchsorted(changes, before, side="right")
    delays = []
    for begin, end in pairwise([*changes.tolist(), len(changed)]):
        noticed = np.flatnonzero(cut[begin:end] & (inside[begin:end] > 0))
        if noticed.size:
            delays.append(int(noticed[0]) + 1)
    quiet = inside == 0
    return Alarms(int(cut.sum()), int((cut & quiet).sum()), int(quiet.sum()), len(delays), tuple(delays))


def _check(groups: Sequence[Sequence[NDArray[np.generic]]]) -> None:
    """Raise an error unless all methods have arrays of the same shapes.

    Raises:
        MetaMapError: no arrays, other shapes, or empty ones.
    """
    shapes = [[one.shape for one in group] for group in groups]
    if not shapes[0] or any(other != shapes[0] for other in shapes) or any(len(s) != 2 or 0 in s for s in shapes[0]):
        raise MetaMapError(f"figures of service: expected arrays [steps, trials] of the same shapes, got {shapes}")

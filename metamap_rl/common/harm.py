"""Harm: fraction of (task, D) pairs on which a policy is worse than the base policy, and by how much.

The one definition, of evaluations and of the self-check's calibration.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta

from metamap_agents.policy.evaluation import clearly_better_each
from metamap_envs.errors import MetaMapError

__all__ = ["CONFIDENCE", "LEVEL", "Harm", "harmed_pairs", "measure_harm", "upper_bound"]

LEVEL = 0.05
"""Level of the one-sided paired t-test over episodes by which a pair counts as harmed: the rate of false positives."""

CONFIDENCE = 0.9
"""Confidence of the upper bound of a harm rate."""

_DECILE = 0.1


@dataclass(frozen=True)
class Harm:
    """Comparison of generated policies with the base policy on N pairs of a task and a D of it.

    Attributes:
        pairs: N.
        rate: fraction of harmed pairs, in [0, 1].
        upper: upper confidence bound of the rate (Clopper and Pearson 1934, one-sided).
        mean: mean gain over the base policy, in units of the return.
        worst_decile: mean gain over the worst tenth of the pairs.
    """

    pairs: int
    rate: float
    upper: float
    mean: float
    worst_decile: float


def harmed_pairs(base: ArrayLike, generated: ArrayLike) -> NDArray[np.bool_]:
    """Whether a policy is worse than the base policy beyond noise, bool [...].

    Uses the paired test over episodes, `metamap_agents.policy.evaluation.clearly_better_each`, at `LEVEL`.

    Args:
        base: returns of the base policy [..., E], E at least 2.
        generated: returns of the policy on the same reset seeds [..., E].

    Raises:
        MetaMapError: returns of the wrong shape, or fewer than 2 episodes.
    """
    one, other = np.asarray(base, dtype=np.float64), np.asarray(generated, dtype=np.float64)
    if one.shape != other.shape or one.ndim < 1 or one.shape[-1] < 2:
        raise MetaMapError(
            f"harm: expected returns of both policies on the same 2 or more episodes, got {one.shape} and {other.shape}"
        )
    return clearly_better_each(one, other, level=LEVEL)


def upper_bound(harmed: int, pairs: int) -> float:
    """Upper confidence bound of a harm rate, given the numbers of harmed and of all pairs."""
    return 1.0 if harmed >= pairs else float(beta.ppf(CONFIDENCE, harmed + 1, pairs - harmed))


def measure_harm(base: ArrayLike, generated: ArrayLike) -> Harm:
    """Compute the harm of generated policies on N pairs.

    Args:
        base: returns of the base policy [N, E].
        generated: returns of the policy generated from each pair's D, on the same reset seeds [N, E].

    Raises:
        MetaMapError: returns of the wrong shape, no pairs, or fewer than 2 episodes.
    """
    harmed = harmed_pairs(base, generated)
    if harmed.ndim != 1 or not harmed.size:
        raise MetaMapError(f"harm: expected returns [pairs, episodes] of 1 or more pairs, got {np.shape(base)}")
    gains = np.sort((np.asarray(generated, dtype=np.float64) - np.asarray(base, dtype=np.float64)).mean(axis=-1))
    count = int(harmed.sum())
    worst = gains[: max(1, round(_DECILE * gains.size))]
    return Harm(
        pairs=gains.size,
        rate=count / gains.size,
        upper=upper_bound(count, gains.size),
        mean=float(gains.mean()),
        worst_decile=float(worst.mean()),
    )

"""Harm: the share of (task, D) pairs on which a generated policy is worse than the base policy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, ttest_rel

from metamap_envs import MetaMapError
from metamap_rl.common.harm import CONFIDENCE, LEVEL, harmed_pairs, measure_harm, upper_bound


def test_a_pair_is_harmed_if_a_paired_test_says_so() -> None:
    generator = np.random.default_rng(0)
    base = generator.normal(size=(200, 6))
    generated = base + generator.normal(-0.3, 0.5, size=(200, 6))
    expected = ttest_rel(generated, base, axis=1, alternative="less").pvalue < LEVEL
    np.testing.assert_array_equal(harmed_pairs(base, generated), expected)
    assert 0 < expected.mean() < 1


def test_chance_alone_harms_as_many_pairs_as_the_level_says() -> None:
    generator = np.random.default_rng(1)
    base = generator.normal(size=(20_000, 6))
    assert harmed_pairs(base, base + generator.normal(size=base.shape)).mean() == pytest.approx(LEVEL, abs=0.006)


def test_equal_returns_are_no_harm_and_a_constant_loss_is() -> None:
    base = np.arange(12.0).reshape(2, 6)
    assert not harmed_pairs(base, base).any()
    assert harmed_pairs(base, base - 1e-3).all()


@pytest.mark.parametrize(("harmed", "pairs"), [(0, 22), (3, 64), (10, 20)])
def test_the_upper_bound_is_the_rate_at_which_so_few_would_be_rare(harmed: int, pairs: int) -> None:
    assert binom.cdf(harmed, pairs, upper_bound(harmed, pairs)) == pytest.approx(1.0 - CONFIDENCE)
    assert upper_bound(pairs, pairs) == 1.0


def test_harm_tells_rate_mean_and_worst_tenth() -> None:
    base = np.zeros((20, 4))
    generated = np.full((20, 4), 3.0)
    generated[4], generated[7] = -5.0, -1.0
    harm = measure_harm(base, generated)
    assert (harm.pairs, harm.rate, harm.worst_decile) == (20, 0.1, -3.0)
    assert harm.mean == pytest.approx((18 * 3.0 - 6.0) / 20)
    assert harm.upper == upper_bound(2, 20)


def test_returns_that_do_not_fit_are_refused() -> None:
    with pytest.raises(MetaMapError, match="on the same 2 or more episodes"):
        harmed_pairs(np.zeros((3, 4)), np.zeros((3, 5)))
    with pytest.raises(MetaMapError, match="on the same 2 or more episodes"):
        harmed_pairs(np.zeros((3, 1)), np.zeros((3, 1)))
    with pytest.raises(MetaMapError, match="of 1 or more pairs"):
        measure_harm(np.zeros((0, 4)), np.zeros((0, 4)))

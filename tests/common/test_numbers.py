"""Numbers as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metamap_rl.common.numbers import decimals


@pytest.mark.parametrize(
    ("value", "digits", "words"),
    [
        (0.98, 2, ".98"),
        (-0.04, 2, "-.04"),
        (1.024, 2, "1.02"),
        (-0.001, 2, ".00"),
        (10.5, 1, "10.5"),
        (0.4, 0, "0"),
        (-20.0, 0, "-20"),
    ],
)
def test_no_zero_stands_before_the_point(value: float, digits: int, words: str) -> None:
    assert decimals(value, digits) == words


@given(st.floats(-1e6, 1e6), st.integers(1, 5))
def test_a_number_reads_back_as_itself_rounded(value: float, digits: int) -> None:
    assert float(decimals(value, digits)) == pytest.approx(value, abs=0.51 * 10**-digits)

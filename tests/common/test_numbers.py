"""Numbers as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metamap_rl.common.numbers import decimals, without_zeros


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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0.98 [0.97, 1.00] (-0.40)", ".98 [.97, 1.00] (-.40)"),
        ("| +0.1 | 0.4-0.9 | 0% | 10.5 | 20.05 |", "| +.1 | .4-.9 | 0% | 10.5 | 20.05 |"),
        ("version 0.2.0 and a3_0.5", "version 0.2.0 and a3_0.5"),
        ("`x = 0.5,\ny = 0.5` is 0.5", "`x = 0.5,\ny = 0.5` is .5"),
        ("`x = 0.5` is 0.5; $0.5 x$", "`x = 0.5` is .5; $0.5 x$"),
        ("```\ny = 0.5\n```\n0.5.", "```\ny = 0.5\n```\n.5."),
        ("[0.5](a/0.5.md)", "[.5](a/0.5.md)"),
        ('<img width="0.5">0.5', '<img width="0.5">.5'),
    ],
)
def test_text_loses_zeros_before_points_but_not_in_code(text: str, words: str) -> None:
    assert without_zeros(text) == words
    assert without_zeros(words) == words

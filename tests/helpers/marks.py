"""Marks of parametrised tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def some_slow(values: Iterable[Any], slow: Iterable[Any]) -> list[Any]:
    """The values, those of ``slow`` marked so: one of a kind is enough for `make test`; what is new runs in it."""
    chosen = set(slow)
    return [pytest.param(value, marks=pytest.mark.slow) if value in chosen else value for value in values]

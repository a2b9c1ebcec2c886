"""Metrics of the costs of a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metamap_envs.errors import MetaMapError

__all__ = ["COSTS", "env", "growth", "lat", "mem", "upd"]


def mem(memory_bytes: ArrayLike) -> float:
    """``MEM = max_i MEM(i)``: most bytes that were stored of old tasks, over stages i = 1..T.

    Raises:
        MetaMapError: no stages, or a value that was not measured or is negative.
    """
    return float(_costs(memory_bytes, "MEM").max())


def upd(seconds: ArrayLike) -> float:
    """``UPD = mean_i UPD(i)``: seconds of an update, over stages i = 1..T.

    Raises:
        MetaMapError: as for `mem`.
    """
    return float(_costs(seconds, "UPD").mean())


def lat(seconds: ArrayLike) -> float:
    """``LAT = median_i LAT(i)``: seconds from D to the policy, over stages i = 1..T; the first one may load things.

    Raises:
        MetaMapError: as for `mem`.
    """
    return float(np.median(_costs(seconds, "LAT")))


def env(steps: ArrayLike) -> float:
    """``ENV = sum_i ENV(i)``: environment steps of all stages: probes, checks, training; not those of measuring.

    Raises:
        MetaMapError: as for `mem`.
    """
    return float(_costs(steps, "ENV").sum())


COSTS: Mapping[str, Callable[[ArrayLike], float]] = {"MEM": mem, "UPD": upd, "LAT": lat, "ENV": env}
"""Costs that reduce a number per stage to one number, by name."""


def growth(values: Iterable[float], count: int = 10) -> float:
    """Growth of a cost per stage: the mean of the last ``count`` stages divided by that of the first ``count``.

    Raises:
        MetaMapError: fewer than ``2 * count`` values, or a first mean that is not positive.
    """
    series = np.array(list(values), dtype=np.float64)
    if count < 1 or len(series) < 2 * count:
        raise MetaMapError(f"growth: expected at least {2 * count} stages, got {len(series)}")
    first = float(series[:count].mean())
    if not first > 0:
        raise MetaMapError(f"growth: expected a positive mean of the first {count} stages, got {first}")
    return float(series[-count:].mean()) / first


def _costs(values: ArrayLike | Sequence[float], name: str) -> NDArray[np.float64]:
    series = np.asarray(values, dtype=np.float64)
    if series.ndim != 1 or not series.size:
        raise MetaMapError(f"{name}: expected a number for each of at least one stage, got shape {list(series.shape)}")
    if not (np.isfinite(series) & (series >= 0)).all():
        raise MetaMapError(
            f"{name}: expected numbers of at least 0, got {series[~(series >= 0)][:1].tolist() or 'inf'}"
        )
    return series

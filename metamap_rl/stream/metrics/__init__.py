"""Metrics of a stream; the docstring of each begins with its formula.

`matrix`: metrics of scores after each stage; `curves`: of learning curves; `costs`: memory, time and environment steps.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from metamap_rl.stream.metrics.costs import COSTS, env, growth, lat, mem, upd
from metamap_rl.stream.metrics.curves import TRANSFER, abc, area, ft_auc, jump_start, pr, recovery_time
from metamap_rl.stream.metrics.matrix import (
    METRICS,
    ap,
    ap_anytime,
    ap_final,
    bwt,
    bwt_families,
    f_cw,
    f_iso,
    f_last,
    f_max,
    fwt_zs,
    gap,
    gen,
    kept,
    nbt,
    plasticity,
    pm,
    regret,
    so_far,
)

__all__ = [
    "COSTS",
    "FORMULAS",
    "METRICS",
    "TRANSFER",
    "abc",
    "ap",
    "ap_anytime",
    "ap_final",
    "area",
    "bwt",
    "bwt_families",
    "env",
    "f_cw",
    "f_iso",
    "f_last",
    "f_max",
    "ft_auc",
    "fwt_zs",
    "gap",
    "gen",
    "growth",
    "jump_start",
    "kept",
    "lat",
    "mem",
    "nbt",
    "plasticity",
    "pm",
    "pr",
    "recovery_time",
    "regret",
    "so_far",
    "upd",
]


def _formula(function: Callable[..., object]) -> str:
    """Formula in the first sentence of a docstring."""
    found = re.match(r"``[\w()]+ = (.*?)``", function.__doc__ or "")
    return found[1] if found else ""


_NAMED: Mapping[str, Callable[..., object]] = {
    **METRICS,
    "BWT_families": bwt_families,
    **TRANSFER,
    "PR": pr,
    "GEN_k": gen,
    "GAP_k": gap,
    **COSTS,
}

FORMULAS: Mapping[str, str] = {name: _formula(function) for name, function in _NAMED.items()}
"""Formula of each metric by name."""

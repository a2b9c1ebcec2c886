"""Figures of all methods of one family on one schedule, from the documents of their trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError
from metamap_rl.common.resampling import multiplicities
from metamap_rl.common.statistics import Ratio, rate_of_zoos
from metamap_rl.evaluation.service.figures import (
    Flags,
    Floats,
    Recovery,
    gap_share,
    harmed,
    recoveries,
    regret_after_changes,
    share_difference,
    survival,
    worst_share,
)
from metamap_rl.evaluation.service.methods import ADAPTER, BASE, ORACLE

__all__ = ["STEPS_AFTER", "summarise"]

STEPS_AFTER = (0, 5, 10, 20, 50, 100, 200)
"""Steps after a change at which curves are given."""
_SEED, _RESAMPLES = 0, 1000
_Documents = Sequence[Mapping[str, Any]]


def summarise(methods: Mapping[str, _Documents]) -> dict[str, Any]:
    """Figures of each method, as JSON values; those against references that are not done yet are left out.

    Args:
        methods: for each method its documents, one for each zoo.

    Raises:
        MetaMapError: methods that were not run on the same trials.
    """
    some = next(iter(methods.values()))
    changed = [_changed(document) for document in some]
    of_all = {name: _rewards(name, documents, some) for name, documents in methods.items()}
    found = {name: _figures(of_all, name, changed) | _counts(methods[name]) for name in methods}
    differences = {}
    if {ADAPTER, BASE, ORACLE} <= of_all.keys():
        adapter, base, oracle = of_all[ADAPTER], of_all[BASE], of_all[ORACLE]
        for name in methods:
            if name not in (ADAPTER, BASE, ORACLE):
                differences[name] = _plain(share_difference(adapter, of_all[name], base, oracle, _generator()))
    return {
        "zoos": len(some),
        "trials": sum(len(document["falls"]) for document in some),
        "steps": len(changed[0]),
        "changes": int(sum(flags.sum() for flags in changed)),
        "methods": found,
        "differences": differences,
    }


def _generator() -> np.random.Generator:
    return np.random.default_rng(_SEED)


def _rewards(name: str, documents: _Documents, others: _Documents) -> list[Floats]:
    """Rewards of each zoo [n, N].

    Raises:
        MetaMapError: other trials than those of the other documents.
    """
    trials, expected = ([document["trials"] for document in one] for one in (documents, others))
    if trials != expected:
        raise MetaMapError(f"{name}: expected the trials of the other methods, {expected}, got {trials}")
    return [np.array(document["rewards"], dtype=np.float64).T for document in documents]


def _changed(document: Mapping[str, Any]) -> Flags:
    found = np.zeros((len(document["rewards"][0]), len(document["rewards"])), dtype=np.bool_)
    for trial, steps in enumerate(document["changes"]):
        found[steps, trial] = True
    return found


def _plain(ratio: Ratio | None) -> dict[str, float | None] | None:
    return None if ratio is None else asdict(ratio)


def _figures(of_all: Mapping[str, list[Floats]], name: str, changed: list[Flags]) -> dict[str, Any]:
    """Figures of rewards, against base policy and oracle."""
    rewards = of_all[name]
    found: dict[str, Any] = {"return": float(np.concatenate([one.sum(axis=0) for one in rewards]).mean())}
    if any(flags.any() for flags in changed):
        found["reward_after_change"] = _after_changes(rewards, changed)
    if not {BASE, ORACLE} <= of_all.keys():
        return found
    base, oracle = of_all[BASE], of_all[ORACLE]
    share = gap_share(rewards, base, oracle, _generator())
    if share is not None:
        found |= {"share": share.estimate, "low": share.low, "high": share.high}
        found["worst_decile"] = worst_share(rewards, base, oracle)
        found["shares_of_zoos"] = [
            None if each is None else each.estimate
            for each in (gap_share([r], [b], [o], _generator()) for r, b, o in zip(rewards, base, oracle, strict=True))
        ]
    found["regret"] = _plain(regret_after_changes(rewards, oracle, changed, _generator()))
    harm = [harmed(*one)[None] for one in zip(rewards, base, changed, strict=True)]
    if all(one.size for one in harm):
        rate = rate_of_zoos(harm, _generator())
        found["harm"] = {"rate": rate.estimate, "low": rate.low, "high": rate.high, "tasks": rate.tasks}
    recovered = [recoveries(*one) for one in zip(rewards, base, oracle, changed, strict=True)]
    if sum(one.steps.size for one in recovered):
        found["recovery"] = _recovery(recovered, [one.shape[1] for one in rewards])
    return found


def _after_changes(rewards: list[Floats], changed: list[Flags]) -> dict[str, float]:
    """Mean reward by steps after a change."""
    since = [_since(flags) for flags in changed]
    found = {}
    for low, high in pairwise(STEPS_AFTER):
        chosen = [one[(steps >= low) & (steps < high)] for one, steps in zip(rewards, since, strict=True)]
        if sum(one.size for one in chosen):
            found[f"{low}-{high}"] = float(np.concatenate(chosen).mean())
    return found


def _since(changed: Flags) -> NDArray[np.int64]:
    """Steps since the last change [n, N], 0 in the step of a change; -1 before the first one."""
    steps = np.arange(len(changed))[:, None]
    last = np.maximum.accumulate(np.where(changed, steps, -1), axis=0)
    return np.where(last >= 0, steps - last, -1)


def _recovery(found: list[Recovery], trials: list[int]) -> dict[str, Any]:
    """Survival curve and median with its interval from resampled trials, and zoos; null is never."""
    pooled = _joined(found, [np.arange(one.steps.size) for one in found])
    left, median = survival(pooled, STEPS_AFTER)
    medians = []
    for counts in multiplicities([(1, count) for count in trials], _RESAMPLES, _generator()):
        of_zoos = np.split(counts, np.cumsum(trials)[:-1])
        rows = [
            np.repeat(np.arange(one.steps.size), times[one.trials]) for one, times in zip(found, of_zoos, strict=True)
        ]
        if sum(map(len, rows)):
            of_draw = survival(_joined(found, rows), ())[1]
            medians.append(np.inf if of_draw is None else of_draw)
    low, high = np.quantile(medians, (0.025, 0.975), method="nearest").tolist()
    return {
        "changes": int(pooled.steps.size),
        "censored": int(pooled.censored.sum()),
        "median": median,
        "low": low if np.isfinite(low) else None,
        "high": high if np.isfinite(high) else None,
        "not_recovered": {str(step): share for step, share in zip(STEPS_AFTER, left, strict=True)},
    }


def _joined(found: list[Recovery], rows: list[NDArray[np.intp]]) -> Recovery:
    """Chosen recoveries of all zoos."""
    parts = [(one.steps[at], one.censored[at], one.trials[at]) for one, at in zip(found, rows, strict=True)]
    return Recovery(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _counts(documents: _Documents) -> dict[str, Any]:
    """Rates of swaps, falls and alarms, and times."""
    steps = sum(len(row) for document in documents for row in document["rewards"])
    total = {
        key: sum(sum(document[key]) for document in documents)
        for key in ("falls", "swaps", "cuts", "false_alarms", "quiet_steps", "noticed", "rescues")
        if key in documents[0]
    }
    found: dict[str, Any] = {
        "falls": total["falls"],
        "weight_changes_per_1000": 1000 * total["swaps"] / steps,
        "latency_ms": {
            key: 1000 * float(np.median([document["latency"][key] for document in documents]))
            for key in ("median", "p99")
        },
        "cpu_seconds": sum(document["seconds"] for document in documents),
    }
    if "cuts" in total:
        quiet = total["quiet_steps"]
        delays = [delay for document in documents for trial in document["delays"] for delay in trial]
        found |= {
            "cuts_per_1000": 1000 * total["cuts"] / steps,
            "false_alarms_per_1000_quiet": 1000 * total["false_alarms"] / quiet if quiet else None,
            "false_alarms": total["false_alarms"],
            "quiet_steps": quiet,
            "noticed": total["noticed"],
            "rescues_per_1000": 1000 * total["rescues"] / steps,
            "median_delay": float(np.median(delays)) if delays else None,
            "generated": float(np.mean([document["generated"] for document in documents])),
        }
    if "identification" in documents[0]:
        seconds = [one for document in documents for one in document["identification"]["seconds"]]
        simulated = [one for document in documents for one in document["identification"]["simulated"]]
        found["identification"] = {
            "median_ms": 1000 * float(np.median(seconds)),
            "p99_ms": 1000 * float(np.quantile(seconds, 0.99)),
            "simulated_steps": float(np.mean(simulated)),
        }
    return found

"""Compare learners on a stream: every learner x order x seed is a run of its own, on one cache of experts.

A seed draws the stream's tasks and everything random in the learner; held-out tasks are the same for all. Runs are
resumed where they were left, finished ones are only read; one with other settings is refused. A number that cannot be
told from a run is null. Prints one JSON document and writes it to ``--out``.

    python scripts/measure_stream.py --runs runs/stream --seeds 5 --orders 2 --out docs/results/stream.json
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from metamap_agents.runtime.executors import make_executor
from metamap_agents.runtime.machine import describe_machine
from metamap_agents.runtime.storage import claim_output, library_versions, write_json
from metamap_envs.errors import MetaMapError
from metamap_rl.bench.result import gaps, plain
from metamap_rl.common.statistics import bootstrap_interval, iqm
from metamap_rl.stream.config import StreamConfig, load_config
from metamap_rl.stream.metrics import ap_final, bwt_families, f_last, f_max, fwt_zs, gen
from metamap_rl.stream.plan import Plan
from metamap_rl.stream.run import StreamRun, open_run, resume, start

LEARNERS = ("replay", "joint", "finetune")
SETTINGS: dict[str, dict[str, Any]] = {"joint": {"every": 5}}
"""Settings beside the defaults: joint retraining after every fifth task and after the last, or it would take hours."""


def check_run(config: StreamConfig, run: StreamRun) -> None:
    """Refuse a run that was started with other settings than those asked for.

    Raises:
        MetaMapError: it was; the sentence names the settings.
    """
    found, asked = run.config.resolved(), config.resolved()
    if other := sorted(key for key in {*found, *asked} if found.get(key) != asked.get(key)):
        raise MetaMapError(
            f"{run.root}: holds a run with other settings ({', '.join(other)}): "
            "ask for the same, or choose another folder for --runs, or remove this one"
        )


def check_cell(config: StreamConfig, out: Path) -> None:
    """Check a cell's directory before any work is done; one without a run is left to `run_cell`."""
    try:
        run = open_run(out)
    except MetaMapError:
        return
    with run.record:
        check_run(config, run)


def run_cell(zoo: str, config: StreamConfig, out: str) -> str:
    """Run or go on with one cell, unless it is finished; returns its directory."""
    try:
        run = open_run(out)
    except MetaMapError:
        run = start(config, out, zoo=zoo, num_threads=1)
    with run.record:
        check_run(config, run)
        finished = run.finished
    if not finished:
        resume(out, num_threads=1).record.close()
    return out


def setting(pair: str) -> tuple[str, str]:
    """Key and value of a ``KEY=VALUE`` word."""
    key, equals, value = pair.partition("=")
    if not key or not equals:
        raise MetaMapError(f"--set expects KEY=VALUE, got {pair!r}")
    return key, value


def cell_config(arguments: argparse.Namespace, learner: str, order: int, seed: int) -> StreamConfig:
    """The config of one cell."""
    settings = dict(setting(pair) for pair in arguments.set)
    cell: dict[str, Any] = {
        "learner": {"name": learner, **SETTINGS.get(learner, {})},
        "stream.order": order,
        "seeds.stream": seed,
        "seeds.learner": seed,
    }
    return load_config(arguments.config, {**settings, **cell})


def or_none(metric: Callable[..., float], *measured: ArrayLike) -> float | None:
    """A number, or None where it cannot be told from what was measured."""
    try:
        value = float(metric(*measured))
    except MetaMapError:
        return None
    return value if np.isfinite(value) else None


def measure(run: StreamRun) -> dict[str, Any]:
    """The numbers of one finished run; None for those that it cannot be measured by."""
    record = run.record
    R, H = record.matrix("stream"), record.matrix("held-out")
    stages = record.stages()
    families = [task["family"] for task in run.manifest["held_out"]]
    curve = gen(H) if H.shape[1] else np.full(len(H), np.nan)
    seconds = [record.timings()[row.stage] for row in stages]
    tenth = max(1, min(10, len(stages) // 2))
    update = np.array([times.get("update", 0.0) for times in seconds])
    memory = np.array([row.memory_bytes for row in stages], dtype=float)
    return {
        "AP_final": or_none(ap_final, R),
        "AP_initial": or_none(np.mean, R[0]),
        "F_last": or_none(f_last, R),
        "F_max": or_none(f_max, R),
        "FWT_zs": or_none(fwt_zs, R),
        "BWT_families": or_none(bwt_families, H, families, [row.family for row in stages]),
        "GEN": plain(curve[None])[0],
        "GEN_first": or_none(float, curve[0]),
        "GEN_final": or_none(float, curve[-1]),
        "gap_closed_final": {
            split: or_none(np.mean, values) if values else None for split, values in gaps(run).items()
        },
        "rejected_updates": sum(row.accepted is False for row in stages),
        "decisions": {
            name: sum(row.decision == name for row in stages) for name in sorted({r.decision for r in stages})
        },
        "update_seconds": {"first": float(update[:tenth].mean()), "last": float(update[-tenth:].mean())},
        "memory_bytes": {"first": float(memory[:tenth].mean()), "last": float(memory[-tenth:].mean())},
        "stages": len(stages),
        "learnt": plain(np.diag(R[1:])[None])[0],
        "final": plain(R[-1:])[0],
        "held_out_final": plain(H[-1:])[0],
    }


def interval(values: Sequence[float | None], seeds: Sequence[int]) -> dict[str, float] | None:
    """Interquartile mean over runs, with a 95 % bootstrap interval over seeds where there are several.

    The orders of a seed are of the same tasks and experts: they are drawn together. Seeds without a number in one of
    their runs are left out; "runs" tells how many runs are left then. None if none is.

    Args:
        values: of each run.
        seeds: of each run.
    """
    by_seed: dict[int, list[float | None]] = {}
    for value, seed in zip(values, seeds, strict=True):
        by_seed.setdefault(seed, []).append(value)
    known = np.array([row for row in by_seed.values() if None not in row], dtype=np.float64)
    if not known.size:
        return None
    share: dict[str, float] = {"runs": known.size} if known.size < len(values) else {}
    if len(known) < 2:
        return {"iqm": iqm(known), **share}
    found = bootstrap_interval(known, np.random.default_rng(0), resampled="seeds")
    return {"iqm": found.estimate, "low": found.low, "high": found.high, **share}


def summarise(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the runs of one learner."""
    names = ("AP_initial", "AP_final", "F_last", "BWT_families", "FWT_zs", "GEN_first", "GEN_final")
    seeds = [cell["seed"] for cell in cells]
    curves = np.array([[np.nan if value is None else value for value in cell["GEN"]] for cell in cells])
    return {
        **{name: interval([cell[name] for cell in cells], seeds) for name in names},
        "gap_closed_stream": interval([cell["gap_closed_final"]["stream"] for cell in cells], seeds),
        "gap_closed_held_out": interval([cell["gap_closed_final"]["held-out"] for cell in cells], seeds),
        "GEN": plain(curves.mean(axis=0)[None])[0],
        "runs": len(cells),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="small", help="a stream config, by path or preset name")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="replace a setting")
    parser.add_argument("--learners", nargs="+", default=list(LEARNERS))
    parser.add_argument("--orders", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs and of the expert cache")
    parser.add_argument("--zoo", type=Path, help="another expert cache")
    parser.add_argument("--executor", default="local")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--ray-address")
    parser.add_argument("--out", type=Path, help="where the JSON document goes")
    arguments = parser.parse_args()
    if arguments.out is not None:
        claim_output(arguments.out)

    zoo = arguments.zoo or arguments.runs / "zoo"
    keys = [
        (learner, order, seed)
        for seed in range(arguments.seeds)
        for order in range(arguments.orders)
        for learner in arguments.learners
    ]
    configs = [cell_config(arguments, *key) for key in keys]
    places = [arguments.runs / f"{learner}-order{order}-seed{seed}" for learner, order, seed in keys]
    for config, place in zip(configs, places, strict=True):
        check_cell(config, place)
    with make_executor(arguments.executor, arguments.workers, arguments.ray_address) as executor:
        for (learner, order, _), config in zip(keys, configs, strict=True):
            if (learner, order) == (arguments.learners[0], 0):  # the tasks of a seed are the same for all
                Plan.of(config, zoo).prepare(executor)
        jobs = [(config, str(place)) for config, place in zip(configs, places, strict=True)]
        for index, _ in executor.run(run_cell, jobs, share=(str(zoo),)):
            print(f"finished {places[index].name}", file=sys.stderr, flush=True)

    cells = []
    for (learner, order, seed), place in zip(keys, places, strict=True):
        run = open_run(place)
        cells.append({"learner": learner, "order": order, "seed": seed, **measure(run)})
        run.record.close()
    by_learner = {name: [cell for cell in cells if cell["learner"] == name] for name in arguments.learners}
    result = {
        "config": configs[0].model_dump(mode="json"),
        "learners": {name: summarise(found) for name, found in by_learner.items()},
        "cells": cells,
        "machine": describe_machine(torch_threads=1),
        "versions": library_versions(),
    }
    text = json.dumps(result, indent=2, allow_nan=False)
    print(text)
    if arguments.out is not None:
        write_json(arguments.out, result)


if __name__ == "__main__":
    from _running import run_script

    run_script(main)

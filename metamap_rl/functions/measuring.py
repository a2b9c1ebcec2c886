"""Train and judge each method on the families of functions."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metamap_agents.policy.functional import forward
from metamap_agents.policy.spec import PolicySpec
from metamap_envs.seeds import read_seed
from metamap_rl.data.examples import Examples, ExampleSource
from metamap_rl.evaluation.baselines import (
    TASK_LOSSES,
    FewShotBatch,
    MAMLConfig,
    ReptileConfig,
    descend,
    train_maml,
    train_reptile,
)
from metamap_rl.functions import FreshTasks, as_examples, common_start, fit, initial_weights
from metamap_rl.functions.benchmarks import Benchmark
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.training.loop import TrainingData, train

__all__ = [
    "adapted",
    "compare_targets",
    "measure_maml",
    "measure_mapper",
    "measure_references",
    "measure_reptile",
    "trained_mapper",
]

_VALIDATIONS = 14  # of a baseline, evenly spread over its iterations

Scores = dict[str, list[list[float]]]
"""Condition to scores [seeds, tasks]."""


def judge(benchmark: Benchmark, spec: PolicySpec, phi: Tensor, episodes: FewShotBatch) -> list[float]:
    """Score networks [T, P] on the points to be judged on."""
    with torch.no_grad():
        outputs = forward(spec, phi, episodes.inputs)
    return benchmark.family.score(outputs, episodes.targets).tolist()


def time_call(call: Callable[[], object], repeats: int = 200) -> float:
    """Median milliseconds of a call."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds)) * 1e3


def trained_mapper(benchmark: Benchmark, seed: int, checkpoint: Path) -> Mapper:
    """Train one mapper for all K, or fetch it from the checkpoint of a finished training."""
    seed, family = read_seed(seed), benchmark.family
    base = common_start(family)
    data = TrainingData(
        FreshTasks(family, benchmark.points[-1]),
        base,
        family.name,
        validation=as_examples(family, benchmark.drawn("validation"), base),
    )
    config = replace(benchmark.mapper, seed=seed)
    return train(data, config=config, mapper_config=benchmark.shape, checkpoint=checkpoint)


def measure_mapper(benchmark: Benchmark, seed: int, checkpoint: Path) -> dict[str, Any]:
    """Train one mapper and judge it on the test tasks."""
    seed, family = read_seed(seed), benchmark.family
    resumed = checkpoint.exists()
    started = time.perf_counter()
    mapper = trained_mapper(benchmark, seed, checkpoint)
    seconds = None if resumed else time.perf_counter() - started  # of a resumed training only the last part is known
    episodes = benchmark.drawn("test")
    scores: Scores = {}
    milliseconds = {}
    for points in benchmark.points:
        features = family.features(episodes.shots(points))
        with torch.no_grad():
            scores[f"K={points}"] = [judge(benchmark, family.spec, mapper(features), episodes)]
            milliseconds[f"K={points}"] = time_call(partial(mapper, features[:1]))
    return {
        "scores": scores,
        "ms_per_adaptation": milliseconds,
        "train_seconds": [seconds],
        "chosen": [mapper.record["chosen_update"]],
        "validation": [[[entry["update"], entry["validation"]] for entry in mapper.record["history"]]],
    }


class Chosen:
    """Keeps, for each of R runs side by side, the weights that did best on validation tasks."""

    def __init__(
        self, benchmark: Benchmark, spec: PolicySpec, points: int, config: MAMLConfig | ReptileConfig, steps: int
    ) -> None:
        self.benchmark, self.spec, self.config, self.steps = benchmark, spec, config, steps
        self.episodes = benchmark.drawn("validation").shots(points)
        self.best: list[tuple[float, int, Tensor]] = []
        self.curves: list[list[list[float]]] = []

    def __call__(self, iteration: int, phi: Tensor) -> None:
        """Judge the runs every so often."""
        every = max(1, self.config.iterations // _VALIDATIONS)
        if iteration % every and iteration != self.config.iterations:
            return
        for run, start in enumerate(phi):
            loss = float(np.mean(self.losses(start)))
            if len(self.best) <= run:
                self.best.append((loss, iteration, start.clone()))
                self.curves.append([])
            self.curves[run].append([iteration, loss])
            if loss < self.best[run][0]:
                self.best[run] = (loss, iteration, start.clone())

    def losses(self, start: Tensor) -> list[float]:
        """Losses of the validation tasks after adaptation, not scores: smaller is better in every family."""
        phi = adapted(self.spec, start, self.episodes, self.config, self.steps)
        with torch.no_grad():
            outputs = forward(self.spec, phi, self.episodes.inputs)
        return TASK_LOSSES[self.config.loss](outputs, self.episodes.targets).tolist()


def adapted(
    spec: PolicySpec, start: Tensor, episodes: FewShotBatch, config: MAMLConfig | ReptileConfig, steps: int
) -> Tensor:
    """Take gradient steps from one start on each task."""
    return descend(
        spec,
        start.expand(len(episodes), -1),
        episodes.support_inputs,
        episodes.support_targets,
        loss=TASK_LOSSES[config.loss],
        rate=config.inner_rate,
        steps=steps,
    )


def test_baseline(
    benchmark: Benchmark, chosen: Chosen, points: int, tried: tuple[int, ...]
) -> tuple[Scores, dict[str, float]]:
    """Judge the chosen weights of all runs on the test tasks; and time the adaptation to one task."""
    episodes = benchmark.drawn("test").shots(points)
    scores: Scores = {}
    milliseconds = {}
    for steps in tried:
        name = f"K={points}, {steps} step{'s' * (steps > 1)}"
        scores[name] = [
            judge(benchmark, chosen.spec, adapted(chosen.spec, phi, episodes, chosen.config, steps), episodes)
            for _, _, phi in chosen.best
        ]
        one = replace(episodes, **{key: value[:1] for key, value in vars(episodes).items()})
        milliseconds[name] = time_call(
            partial(adapted, chosen.spec, chosen.best[0][2], one, chosen.config, steps), repeats=50
        )
    return scores, milliseconds


def baseline_result(chosen: Chosen, seconds: float) -> dict[str, Any]:
    """How a baseline was trained."""
    return {
        "train_seconds": [seconds / len(chosen.best)] * len(chosen.best),  # runs were trained side by side
        "chosen": [iteration for _, iteration, _ in chosen.best],
        "weights": [phi.tolist() for _, _, phi in chosen.best],
        "validation": chosen.curves,
    }


def measure_maml(benchmark: Benchmark, variant: str, points: int, runs: int) -> dict[str, Any]:
    """Train MAML for one K, as many runs as asked for side by side."""
    family, config = benchmark.family, benchmark.maml[variant][points]
    start = initial_weights(family.spec, torch.Generator().manual_seed(config.seed), count=runs)
    chosen = Chosen(benchmark, family.spec, points, config, steps=5)

    def draw(generator: torch.Generator, tasks: int) -> FewShotBatch:
        return family.draw(generator, tasks=tasks, points=points, queries=points, split="train")

    started = time.perf_counter()
    train_maml(family.spec, start, draw, config, chosen)
    result = baseline_result(chosen, time.perf_counter() - started)
    scores, milliseconds = test_baseline(benchmark, chosen, points, benchmark.steps)
    return {"scores": scores, "ms_per_adaptation": milliseconds, **result}


def measure_reptile(benchmark: Benchmark, runs: int) -> dict[str, Any]:
    """Train Reptile, which has one start for every K."""
    family, config, spec = benchmark.family, benchmark.reptile, benchmark.reptile_spec
    start = initial_weights(spec, torch.Generator().manual_seed(config.seed), count=runs)
    chosen = Chosen(benchmark, spec, benchmark.points[-1], config, steps=benchmark.reptile_steps[-1])

    def draw(generator: torch.Generator, tasks: int) -> FewShotBatch:
        return family.draw(
            generator, tasks=tasks, points=benchmark.reptile_points, queries=spec.action_size, split="train"
        )

    started = time.perf_counter()
    train_reptile(spec, start, draw, config, chosen)
    result = baseline_result(chosen, time.perf_counter() - started)
    scores: Scores = {}
    milliseconds: dict[str, float] = {}
    for points in benchmark.points:
        new_scores, new_milliseconds = test_baseline(benchmark, chosen, points, benchmark.reptile_steps)
        scores |= new_scores
        milliseconds |= new_milliseconds
    return {"scores": scores, "ms_per_adaptation": milliseconds, **result}


def measure_references(benchmark: Benchmark) -> dict[str, dict[str, Any]]:
    """Judge what needs no training."""
    results = {}
    for name, answer in benchmark.references.items():
        scores: Scores = {}
        for points in benchmark.points:
            episodes = benchmark.drawn("test").shots(points)
            scores[f"K={points}"] = [benchmark.family.score(answer(episodes), episodes.targets).tolist()]
        results[name] = {"scores": scores}
    return results


def compare_targets(benchmark: Benchmark, tasks: int = 200, updates: int = 1000) -> dict[str, Any]:
    """Compare what a mapper of sinusoids can be trained on, by its error on *validation* tasks, one run each.

    Weights fitted to each of a fixed set of tasks, the behaviour of the true functions of that set, both, and the
    behaviour of functions that are new in every batch.
    """
    family, base = benchmark.family, common_start(benchmark.family)
    points = benchmark.points[-1]
    drawn = family.draw(torch.Generator().manual_seed(0), tasks=tasks, points=8 * points, queries=64, split="train")
    started = time.perf_counter()
    phi = fit(family.spec, torch.tensor(base.phi), drawn.inputs, drawn.targets)
    seconds = time.perf_counter() - started
    fixed = Examples(family.features(drawn).reshape(tasks, 8, points, -1), phi, drawn.inputs, drawn.targets)
    placeholder = replace(fixed, phi=torch.tensor(base.phi).expand(tasks, -1))
    sources: dict[str, tuple[ExampleSource, str]] = {
        "fitted weights, fixed tasks": (fixed, "weights"),
        "fitted weights and behaviour, fixed tasks": (fixed, "both"),
        "behaviour, fixed tasks": (placeholder, "behaviour"),
        "behaviour, fresh tasks": (FreshTasks(family, points), "behaviour"),
    }
    validation = benchmark.drawn("validation")
    scores: Scores = {}
    for name, (source, loss) in sources.items():
        config = replace(benchmark.mapper, loss=loss, updates=updates)
        mapper = train(TrainingData(source, base, family.name), config=config, mapper_config=benchmark.shape)
        for count in benchmark.points:
            with torch.no_grad():
                phi_hat = mapper(family.features(validation.shots(count)))
            scores[f"{name}, K={count}"] = [judge(benchmark, family.spec, phi_hat, validation)]
    own = family.score(forward(family.spec, phi, drawn.inputs), drawn.targets)
    return {"scores": scores, "fit_error": float(own.mean()), "fit_seconds": seconds}

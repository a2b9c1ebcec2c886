"""Measure few-shot learning of functions: the mapper, MAML and Reptile on the same test tasks.

Mappers are trained by `training.loop.train` with several seeds, checkpoints chosen on validation tasks, and judged
once on test tasks; so are the baselines. What is done is kept in ``--work``, one file for each training, and a stopped
command goes on from there. Prints one JSON document and writes it to ``--out``.

    python scripts/measure_functions.py --out docs/results/functions.json --figure docs/functions.png
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metamap_agents.policy.functional import forward
from metamap_agents.policy.spec import PolicySpec
from metamap_agents.runtime.machine import describe_machine
from metamap_agents.runtime.storage import claim_output, library_versions, read_json, write_json
from metamap_rl.common.statistics import bootstrap_interval
from metamap_rl.data.examples import Examples, ExampleSource
from metamap_rl.evaluation.baselines import (
    TASK_LOSSES,
    Episodes,
    MAMLConfig,
    ReptileConfig,
    descend,
    train_maml,
    train_reptile,
)
from metamap_rl.functions import FreshTasks, FunctionFamily, as_examples, common_start, fit, initial_weights
from metamap_rl.functions.digits import Digits, nearest_centroid, ridge_classifier
from metamap_rl.functions.figures import plot_fits
from metamap_rl.functions.linear import LinearRegression
from metamap_rl.functions.sinusoid import Sinusoid
from metamap_rl.mapper.config import MapperConfig
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.training.config import TrainConfig
from metamap_rl.training.loop import TrainingData, train
from metamap_rl.viz.figures import save_figure

VALIDATION_SEED, TEST_SEED = 2_000_000, 1_000_000  # no training starts from them
VALIDATION_TASKS = 300
VALIDATIONS = 14  # of a baseline, evenly spread over its iterations

Scores = dict[str, list[list[float]]]
"""Condition to scores [seeds, tasks]."""


@dataclass(frozen=True)
class Benchmark:
    """One family with everything that is measured on it."""

    family: FunctionFamily
    points: tuple[int, ...]
    """Numbers of points K, ascending."""
    queries: int
    """Points that a test task is judged on."""
    mapper: TrainConfig
    shape: MapperConfig
    maml: dict[str, dict[int, MAMLConfig]]
    """By name of the variant, then by K."""
    reptile: ReptileConfig
    reptile_points: int
    """Points of a task that Reptile trains on."""
    reptile_spec: PolicySpec
    """Reptile's own network."""
    tasks: int = 600
    """Test tasks."""
    steps: tuple[int, ...] = (1, 5, 10)
    """Gradient steps of the baselines at test."""
    reptile_steps: tuple[int, ...] = (1, 5, 10, 32)
    references: dict[str, Callable[[Episodes], Tensor]] = field(default_factory=dict)
    """What needs no training: episodes to outputs [B, S, A]."""

    def drawn(self, split: str) -> Episodes:
        """Draw the validation or the test tasks, always the same; each K is a prefix of the largest."""
        seed, tasks = (TEST_SEED, self.tasks) if split == "test" else (VALIDATION_SEED, VALIDATION_TASKS)
        generator = torch.Generator().manual_seed(seed)
        return self.family.draw(generator, tasks=tasks, points=self.points[-1], queries=self.queries, split=split)


def sinusoid() -> Benchmark:
    """MAML's sinusoids, with the paper's settings for MAML and those of OpenAI's demonstration for Reptile.

    MAML gets 20,000 iterations, not 70,000: see its validation curve.
    """
    family = Sinusoid()
    return Benchmark(
        family=family,
        points=(5, 10),
        queries=100,
        mapper=TrainConfig(
            loss="behaviour",
            updates=15_000,
            batch_tasks=64,
            states_per_task=32,
            lengths=(5, 10),
            validation_lengths=(5, 10),
            validation_every=1000,
            weight_decay=0.0,
        ),
        shape=MapperConfig(hypernetwork="residual", context_size=64, encoder_hidden=256, hypernetwork_hidden=256),
        maml={
            "MAML": {points: MAMLConfig(iterations=20_000) for points in (5, 10)},
            # Better per iteration, but an iteration is three times as dear: as long a training in all.
            "MAML trained with 5 inner steps": {
                points: MAMLConfig(iterations=4000, inner_steps=5) for points in (5, 10)
            },
        },
        reptile=ReptileConfig(),
        reptile_points=50,
        reptile_spec=PolicySpec(1, 1, hidden=(64, 64), activation="tanh"),
        references={"mean of all tasks, without D": lambda episodes: family.prior_mean(episodes.inputs)},
    )


def linear() -> Benchmark:
    """Linear regression beside its closed forms."""
    family = LinearRegression()

    def closed_form(penalty: float | None, episodes: Episodes) -> Tensor:
        return forward(family.spec, family.solve(episodes, penalty), episodes.inputs)

    return Benchmark(
        family=family,
        points=(5, 10, 20),
        queries=100,
        mapper=TrainConfig(
            loss="weights",
            updates=6000,
            batch_tasks=64,
            states_per_task=8,
            lengths=(5, 10, 20),
            validation_lengths=(5, 10, 20),
            validation_every=1000,
            weight_decay=0.0,
        ),
        shape=MapperConfig(hypernetwork="residual", context_size=64, encoder_hidden=256, hypernetwork_hidden=256),
        maml={
            "MAML": {
                points: MAMLConfig(iterations=5000, inner_rate=rate)
                for points, rate in ((5, 0.1), (10, 0.2), (20, 0.2))
            }
        },
        reptile=ReptileConfig(iterations=5000, inner_rate=0.1),
        reptile_points=50,
        reptile_spec=family.spec,
        references={
            "ridge regression, the best possible": partial(closed_form, None),
            "least squares": partial(closed_form, 0.0),
        },
    )


def digits() -> Benchmark:
    """Two digits never seen in training, told apart from 1 and 5 images of each."""
    family = Digits()
    return Benchmark(
        family=family,
        points=(2, 10),
        queries=100,
        mapper=TrainConfig(
            loss="behaviour",
            updates=5000,
            learning_rate=2e-3,
            batch_tasks=64,
            states_per_task=20,
            lengths=(2, 4, 10),
            validation_lengths=(2, 10),
            validation_every=500,
        ),
        shape=MapperConfig(
            encoder="linear", hypernetwork="skip", context_size=128, encoder_hidden=128, hypernetwork_hidden=128
        ),
        maml={
            "MAML": {
                points: MAMLConfig(iterations=6000, tasks=32, inner_rate=0.4, loss="cross-entropy")
                for points in (2, 10)
            }
        },
        reptile=ReptileConfig(
            iterations=8000, tasks=5, inner_rate=0.1, minibatch=4, outer_rate=0.5, loss="cross-entropy"
        ),
        reptile_points=20,
        reptile_spec=family.spec,
        reptile_steps=(1, 5, 10, 50),
        references={"ridge regression on pixels": ridge_classifier, "nearest mean image": nearest_centroid},
    )


BENCHMARKS: dict[str, Callable[[], Benchmark]] = {"sinusoid": sinusoid, "linear": linear, "digits": digits}


def judge(benchmark: Benchmark, spec: PolicySpec, phi: Tensor, episodes: Episodes) -> list[float]:
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


def checkpoint_of(benchmark: Benchmark, seed: int, work: Path) -> Path:
    return work / f"{benchmark.family.name}-mapper-{seed}.safetensors"


def trained_mapper(benchmark: Benchmark, seed: int, work: Path) -> Mapper:
    """Train one mapper for all K, or fetch it from the checkpoint of a finished training."""
    family = benchmark.family
    base = common_start(family)
    validation = as_examples(family, benchmark.drawn("validation"), base)
    return train(
        TrainingData(FreshTasks(family, benchmark.points[-1]), base, family.name, validation=validation),
        config=replace(benchmark.mapper, seed=seed),
        mapper_config=benchmark.shape,
        checkpoint=checkpoint_of(benchmark, seed, work),
    )


def measure_mapper(benchmark: Benchmark, seed: int, work: Path) -> dict[str, Any]:
    """Train one mapper and judge it on the test tasks."""
    family = benchmark.family
    resumed = checkpoint_of(benchmark, seed, work).exists()
    started = time.perf_counter()
    mapper = trained_mapper(benchmark, seed, work)
    seconds = None if resumed else time.perf_counter() - started  # of a resumed training only the last part is known
    episodes = benchmark.drawn("test")
    scores: Scores = {}
    milliseconds = {}
    for points in benchmark.points:
        features = family.features(episodes.shots(points))
        with torch.no_grad():
            scores[f"K={points}"] = [judge(benchmark, family.spec, mapper(features), episodes)]
            milliseconds[f"K={points}"] = time_call(lambda rows=features[:1]: mapper(rows))  # type: ignore[misc]  # a default binds the rows
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
        every = max(1, self.config.iterations // VALIDATIONS)
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
    spec: PolicySpec, start: Tensor, episodes: Episodes, config: MAMLConfig | ReptileConfig, steps: int
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

    def draw(generator: torch.Generator, tasks: int) -> Episodes:
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

    def draw(generator: torch.Generator, tasks: int) -> Episodes:
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


def compare_targets(tasks: int = 200, updates: int = 1000) -> dict[str, Any]:
    """Compare what a mapper of sinusoids can be trained on, by its error on *validation* tasks, one run each.

    Weights fitted to each of a fixed set of tasks, the behaviour of the true functions of that set, both, and the
    behaviour of functions that are new in every batch.
    """
    benchmark = sinusoid()
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


def summary(method: str, result: dict[str, Any]) -> list[dict[str, Any]]:
    """One row for each condition of a method."""
    rows = []
    for condition, listed in result["scores"].items():
        scores = np.array(listed)
        mean = bootstrap_interval(scores, np.random.default_rng(0), trimmed=0.0)
        interval = bootstrap_interval(scores, np.random.default_rng(0))
        rows.append(
            {
                "method": method,
                "condition": condition,
                "mean": float(scores.mean()),
                "mean_low": mean.low,
                "mean_high": mean.high,
                "median": float(np.median(scores)),
                "iqm": interval.estimate,
                "iqm_low": interval.low,
                "iqm_high": interval.high,
                "mean_of_each_seed": scores.mean(axis=1).tolist(),
                "seeds": len(scores),
                "tasks": scores.shape[1],
                "ms_per_adaptation": result.get("ms_per_adaptation", {}).get(condition),
            }
        )
    return rows


def merged(parts: list[dict[str, Any] | None]) -> dict[str, Any]:
    """Put trainings of several seeds, or of several K, into one result; those that are not there are left out."""
    whole: dict[str, Any] = {"scores": {}, "ms_per_adaptation": {}, "train_seconds": [], "chosen": [], "validation": []}
    for part in filter(None, parts):
        for condition, scores in part["scores"].items():
            whole["scores"].setdefault(condition, []).extend(scores)
        whole["ms_per_adaptation"] |= part["ms_per_adaptation"]
        for key in ("train_seconds", "chosen", "validation"):
            whole[key].extend(part[key])
    return whole


def kept(
    path: Path, settings: dict[str, Any], make: Callable[[], dict[str, Any]], finished_only: bool
) -> dict[str, Any] | None:
    """Return what a file of finished work holds, or make it and write it; another run's file is made anew.

    Where only finished work is asked for, what is not there is None.
    """
    settings = json.loads(json.dumps(settings))
    if path.exists():
        document: dict[str, Any] = read_json(path)
        if document["settings"] == settings:
            return document
    if finished_only:
        return None
    started = time.perf_counter()
    document = {"settings": settings, **make()}
    write_json(path, document)
    means = {name: round(float(np.mean(scores)), 4) for name, scores in document["scores"].items()}
    print(f"{path.stem}: {time.perf_counter() - started:.0f} s, {means}", file=sys.stderr, flush=True)
    return document


def measure(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure all methods on one family."""
    benchmark, work = BENCHMARKS[name](), arguments.work
    common = {"points": benchmark.points, "queries": benchmark.queries, "tasks": benchmark.tasks}
    shared = {**common, "family": repr(benchmark.family)}
    mapper = {**shared, "train": asdict(benchmark.mapper), "shape": asdict(benchmark.shape)}
    maml = {
        (variant, points): {
            **shared,
            "K": points,
            "config": asdict(config),
            "steps": benchmark.steps,
            "runs": arguments.baseline_seeds,
        }
        for variant, configs in benchmark.maml.items()
        for points, config in configs.items()
    }
    reptile = {
        **shared,
        "config": asdict(benchmark.reptile),
        "spec": benchmark.reptile_spec.to_json(),
        "task_points": benchmark.reptile_points,
        "steps": benchmark.reptile_steps,
        "runs": arguments.baseline_seeds,
    }
    only = arguments.finished_only
    methods = {
        "mapper": merged(
            [
                kept(work / f"{name}-mapper-{seed}.json", mapper, partial(measure_mapper, benchmark, seed, work), only)
                for seed in range(arguments.seeds)
            ]
        ),
        "Reptile": merged(
            [
                kept(
                    work / f"{name}-reptile.json",
                    reptile,
                    partial(measure_reptile, benchmark, arguments.baseline_seeds),
                    only,
                )
            ]
        ),
        **{
            variant: merged(
                [
                    kept(
                        maml_file(work, name, variant, points),
                        maml[variant, points],
                        partial(measure_maml, benchmark, variant, points, arguments.baseline_seeds),
                        only,
                    )
                    for points in configs
                ]
            )
            for variant, configs in benchmark.maml.items()
        },
        **measure_references(benchmark),
    }
    compared: dict[str, Any] = {}
    if name == "sinusoid":
        settings = {"tasks": 200, "updates": 1000, **mapper}
        if found := kept(work / "sinusoid-targets.json", settings, compare_targets, only):
            compared = {
                "fit_error": found["fit_error"],
                "fit_seconds": found["fit_seconds"],
                "validation_error": {name: float(np.mean(scores)) for name, scores in found["scores"].items()},
            }
    return {
        "score": benchmark.family.score_name,
        "compared_targets": compared,
        "settings": {
            "mapper": mapper,
            "reptile": reptile,
            **{f"{variant}, K={points}": settings for (variant, points), settings in maml.items()},
        },
        "rows": [row for method, result in methods.items() for row in summary(method, result)],
        "training": {
            method: {key: result[key] for key in ("train_seconds", "chosen", "validation")}
            for method, result in methods.items()
            if result.get("train_seconds")
        },
    }


def maml_file(work: Path, name: str, variant: str, points: int) -> Path:
    """Where a training of MAML is kept."""
    suffix = "" if variant == "MAML" else "-5-steps"
    return work / f"{name}-maml{suffix}-{points}.json"


def draw_sinusoids(path: Path, work: Path, tasks: int = 4) -> None:
    """Draw what the first mapper, and MAML where it is trained, make of the first test tasks, K = 5."""
    benchmark = sinusoid()
    family, points, steps = benchmark.family, benchmark.points[0], benchmark.steps[-1]
    drawn = benchmark.drawn("test").shots(points)
    episodes = Episodes(**{name: value[:tasks] for name, value in vars(drawn).items()})
    fits = {}
    variant, configs = next(iter(benchmark.maml.items()))
    if (file := maml_file(work, family.name, variant, points)).exists():
        start = torch.tensor(read_json(file)["weights"][0])
        fits[f"MAML, {steps} gradient steps"] = adapted(family.spec, start, episodes, configs[points], steps)
    with torch.no_grad():
        fits["mapper, one forward pass"] = trained_mapper(benchmark, 0, work)(family.features(episodes))
    save_figure(plot_fits(family.spec, episodes, fits), path)


def print_table(result: dict[str, Any]) -> None:
    """Every row, for people, on standard error."""
    for name, entry in result["families"].items():
        print(f"{name}: {entry['score']}", file=sys.stderr)
        for row in entry["rows"]:
            print(
                f"  {row['method']:<36} {row['condition']:<16} mean {row['mean']:.4f} "
                f"[{row['mean_low']:.4f}, {row['mean_high']:.4f}]  median {row['median']:.4f}  "
                f"{row['seeds']} seeds, {row['tasks']} tasks",
                file=sys.stderr,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", default=list(BENCHMARKS), help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument("--seeds", type=int, default=5, help="mappers")
    parser.add_argument("--baseline-seeds", type=int, default=3, help="runs of MAML and Reptile")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--work", type=Path, default=Path("runs/functions"), help="folder of finished trainings")
    parser.add_argument("--finished-only", action="store_true", help="report what is in --work, train nothing")
    parser.add_argument("--figure", type=Path, help="draw some fits of sinusoids here (.png or .svg)")
    parser.add_argument("--out", type=Path, help="also write the document here")
    arguments = parser.parse_args()
    if unknown := set(arguments.families) - set(BENCHMARKS):
        parser.error(f"unknown families {sorted(unknown)}; there are {', '.join(BENCHMARKS)}")
    torch.set_num_threads(arguments.threads)
    arguments.work.mkdir(parents=True, exist_ok=True)
    if arguments.out is not None:
        claim_output(arguments.out, overwrite=True)  # what cannot be written fails now, not after an hour
    result: dict[str, Any] = {
        "families": {name: measure(name, arguments) for name in arguments.families},
        "machine": describe_machine(),
        "versions": library_versions(),
    }
    print_table(result)
    if arguments.figure is not None:
        draw_sinusoids(arguments.figure, arguments.work)
    if arguments.out is not None:
        write_json(arguments.out, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    from _running import run_script

    run_script(main)

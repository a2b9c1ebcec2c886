"""How long a benchmark takes: preparation measured briefly on this machine, cells from cells that were run before."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from metamap_agents.experts.recipes import Recipe, load_recipe
from metamap_agents.experts.training import train_base
from metamap_rl.bench.adding import as_copied
from metamap_rl.bench.config import BenchConfig
from metamap_rl.bench.environment_course import ReferenceWork
from metamap_rl.bench.environments import EnvironmentStreamConfig
from metamap_rl.bench.result import CellResult, find_results
from metamap_rl.bench.work import BenchWork, Job, TuningWork
from metamap_rl.stream.config import StreamConfig
from metamap_rl.stream.plan import StreamPlan

__all__ = ["Part", "estimate_parts", "total_seconds"]

_ROLLOUTS = 4  # of PPO; the first is left out, it warms up


@dataclass(frozen=True)
class Part:
    """Some equal pieces of work."""

    name: str
    left: int
    """Pieces that are not done."""
    each: float | None
    """Seconds of one; None without a measurement."""
    source: str
    """What that is from."""
    parallel: bool = True
    """Whether workers share the pieces."""


def estimate_parts(
    config: BenchConfig,
    out: Path,
    *,
    zoo: Path | None = None,
    measured: Sequence[Path] = (),
    on_part: Callable[[str], None] = lambda what: None,
) -> list[Part]:
    """What is left of a benchmark, and how long each part takes; nothing is written.

    The training of experts is tried for a few seconds for each robot. A learner's cell is scaled from finished cells:
    its learning by the number of tasks and steps, the rest by the number of measurements.

    Args:
        config: the benchmark.
        out: its folder, there or not.
        zoo: expert cache; default in the folder.
        measured: folders of other benchmarks, whose finished cells count too.
        on_part: called with each thing before it is tried.

    Raises:
        MetaMapError: the folder is of other settings.
    """
    out = out.resolve()
    cache = out / "zoo" if zoo is None else zoo.resolve()
    tuning, left = _left(as_copied(config), out, cache)
    done = find_results([folder for folder in (out, *measured) if folder.is_dir()])
    parts = _preparation([*tuning, *left], cache, on_part)
    for prefix, jobs in (("tuning ", tuning), ("", left)):
        groups: dict[tuple[str, str], list[Job]] = {}
        for job in jobs:
            groups.setdefault((job[0].stream, job[0].learner), []).append(job)
        for (stream, learner), alike in groups.items():
            each, source = _cell_seconds(alike[0], done, cache)
            parts.append(Part(f"{prefix}{learner} on {stream}", len(alike), each, source))
    return parts


def _left(config: BenchConfig, out: Path, zoo: Path) -> tuple[list[Job], list[Job]]:
    """Cells of tuning and others that are not done; while there are some of tuning, no other is."""
    work = BenchWork(config, zoo)
    if config.tuning is not None:
        tuning = TuningWork(config, zoo)
        (cells,) = tuning.batches(out)
        if left := [cell.job for cell in cells if not tuning.is_done(cell)]:
            return left, [cell.job for cell in work.batches(out)[0]]
        work = BenchWork(config, zoo, tuning.choices(out))
    return [], [cell.job for cell in work.batches(out)[0] if not work.is_done(cell)]


def total_seconds(parts: Sequence[Part], workers: int) -> float:
    """Seconds of all parts with a measurement."""
    return sum(
        part.left * part.each / (min(workers, part.left) if part.parallel else 1)
        for part in parts
        if part.each is not None and part.left
    )


def _preparation(left: Sequence[Job], zoo: Path, on_part: Callable[[str], None]) -> list[Part]:
    """Base policies, experts and references that are missing."""
    bases: dict[str, Recipe] = {}
    experts: dict[str, tuple[set[str], Recipe]] = {}
    references: dict[str, set[Path]] = {}
    for config in {(job[0].stream, job[0].seed): job[1] for job in left}.values():
        if not isinstance(config, StreamConfig):
            wanted = [cell.path for batch in ReferenceWork(config).batches(zoo) for cell in batch]
            references.setdefault(config.name, set()).update(path for path in wanted if not path.is_file())
            continue
        plan = StreamPlan.of(config, zoo)
        without, tasks = plan.cache.missing([*plan.tasks, *plan.held_out])
        for embodiment in without:
            family = plan.cache.bases[embodiment]
            bases[family] = load_recipe(family, "base", **plan.cache.base_overrides)
        for task in tasks:
            names, _ = experts.setdefault(task.family, (set(), plan.cache.recipe(task.family)))
            names.add(task.id)
    parts, step = [], {}
    for family in dict.fromkeys([*bases, *experts]):
        on_part(f"training on {family}")
        step[family] = _seconds_of_a_step(family)
    for family, recipe in bases.items():
        seconds = step[family] * recipe.whole_timesteps
        parts.append(Part(f"base policy of {family}", 1, seconds, "tried just now", parallel=False))
    for family, (names, recipe) in experts.items():
        seconds = step[family] * recipe.whole_timesteps
        parts.append(Part(f"experts of {family}", len(names), seconds, "tried just now"))
    for stream, paths in references.items():
        if paths:
            parts.append(Part(f"references of {stream}", len(paths), None, "not measured"))
    return parts


def _seconds_of_a_step(family: str) -> float:
    """Seconds of an environment step of PPO on a family, from a few rollouts in this process."""
    recipe = load_recipe(family, "base")
    short = recipe.model_copy(update={"n_timesteps": _ROLLOUTS * recipe.n_steps * recipe.n_envs, "plateau": None})
    times: list[tuple[int, float]] = []
    train_base(family, short, seed=0, on_progress=lambda done, _, __: times.append((done, time.perf_counter())))
    (first, began), (last, ended) = times[0], times[-1]
    return (ended - began) / max(1, last - first)


# cells ----------------------------------------------------------------------------------------------------------------


def _cell_seconds(job: Job, done: Sequence[CellResult], zoo: Path) -> tuple[float | None, str]:
    """Seconds of a cell like ``job``, and what that is from."""
    which, external = job[0], job[2]
    own = [cell for cell in done if cell.learner == which.learner and _alike(cell, job)]
    exact = [cell for cell in own if cell.stream == which.stream]
    if exact or own:
        seconds = [_scaled(cell, job, zoo) for cell in exact or own]
        return sum(seconds) / len(seconds), f"{len(seconds)} of its cells"
    if external is None:
        mappers = [cell for cell in done if "name" in cell.config.get("learner", {})]
        if mappers:
            longest, slowest = max((_scaled(cell, job, zoo), cell.learner) for cell in mappers)
            return longest, f"as {slowest}"
    return None, "not measured"


def _alike(cell: CellResult, job: Job) -> bool:
    """Whether a cell is of the same kind of learner: a mapper's, the same algorithm, or the same class."""
    recorded, external = cell.config.get("learner", {}), job[2]
    if external is None:
        return "name" in recorded
    return (recorded.get("sb3"), recorded.get("entry")) == (external.sb3, external.entry)


def _scaled(cell: CellResult, job: Job, zoo: Path) -> float:
    """Seconds of a cell of other sizes."""
    _, config, external, _ = job
    learning = sum(cell.update_seconds)
    if external is not None and external.alone and external.carry in (None, "weights"):
        learning *= 2
    measuring = max(0.0, cell.seconds - learning)
    tasks, held_out, episodes = _sizes(config, zoo)
    before = (len(cell.tasks), len(cell.held_out), _episodes(cell))
    more = tasks / before[0]
    if external is not None:
        more *= external.steps / int(cell.config["learner"]["steps"])
    elif isinstance(config, StreamConfig):
        more *= config.update.updates / int(cell.config["update"]["updates"])
    return learning * more + measuring * _measurements(tasks, held_out, episodes) / _measurements(*before)


def _sizes(config: StreamConfig | EnvironmentStreamConfig, zoo: Path) -> tuple[int, int, int]:
    """Arrivals, held-out tasks, episodes of each measurement."""
    if isinstance(config, StreamConfig):
        plan = StreamPlan.of(config, zoo)
        return len(plan.tasks), len(plan.held_out), config.evaluation.episodes
    stream = config.stream
    return len(stream.arriving), len(stream.held_out), stream.episodes


def _episodes(cell: CellResult) -> int:
    part = cell.config.get("evaluation", cell.config["stream"])
    return int(part["episodes"])


def _measurements(tasks: int, held_out: int, episodes: int) -> int:
    return (tasks + 1) * (tasks + held_out) * episodes

"""`metamap demo`: generated policies on unseen tasks, compared with the base policy and experts."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metamap_agents.experts.expert import Expert
from metamap_agents.experts.filling import RecipeOverrides, TaskCounts
from metamap_agents.runtime.storage import write_json
from metamap_agents.runtime.torch_state import torch_threads
from metamap_envs.errors import MetaMapError
from metamap_envs.registry import get_family
from metamap_envs.rollout import Rollout
from metamap_envs.seeds import read_seed
from metamap_rl.adaptation.bundled import bundled_families, load_experts, load_mapper
from metamap_rl.adaptation.filming import film_adaptation
from metamap_rl.adaptation.one_shot import AdaptedPolicy, adapt
from metamap_rl.building.pipeline import fill, make_mapper
from metamap_rl.building.plan import BuildPlan, OnStage
from metamap_rl.demo.folder import FORMAT, RESULTS, Settings
from metamap_rl.evaluation.evaluate import Evaluation, evaluate_mappers
from metamap_rl.evaluation.figures import plot_lengths
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.training.config import MapperRecipe
from metamap_rl.viz.drawing import Renderer
from metamap_rl.viz.figures import save_figure
from metamap_rl.viz.video import OnFrame, Video

__all__ = [
    "EPISODES",
    "FILMED",
    "SHOWN",
    "Measured",
    "Row",
    "Subject",
    "bundled_subjects",
    "film",
    "measure",
    "train_subject",
    "write_results",
]

SHOWN = (0, 20, 50, 200)
"""Steps of D in the table."""

FILMED = 50
"""Steps of D of the generated policy in the film, and of the gap closed in the table."""

EPISODES = 10
"""Episodes of each policy on each task, all on the same reset seeds."""

_FIRST = ("cheetah-actuators", "cheetah-velocity", "reacher-goal")  # unless families are named
_PLOTS = ("return.png", "return.svg")
_TIMINGS = 15  # how often mapping the longest D is timed


@dataclass(frozen=True)
class Subject:
    """A mapper, and experts of unseen tasks."""

    mapper: Mapper
    experts: tuple[Expert, ...]

    @property
    def family(self) -> str:
        """Name of the family."""
        return self.mapper.family


@dataclass(frozen=True)
class Row:
    """A row of the table: one task.

    Attributes:
        task: the task's id.
        parameters: the task's parameters as text.
        base: return of the base policy, mean over episodes.
        generated: returns of the generated policies by steps of D.
        expert: return of the expert.
        gap_closed: with 50 steps; None where the expert is not better than the base policy in a paired test.
        milliseconds: to map 200 transitions to weights on one thread, median.
    """

    task: str
    parameters: str
    base: float
    generated: dict[int, float]
    expert: float
    gap_closed: float | None
    milliseconds: float
    unserved: tuple[int, ...]
    """Lengths of D at which the mapper's self-check would serve the base policy instead."""


@dataclass(frozen=True)
class Measured:
    """Results of one family, with everything needed to record its video."""

    subject: Subject
    evaluation: Evaluation
    rows: tuple[Row, ...]
    rollouts: tuple[Rollout, ...]

    def policy(self, task: int, steps: int) -> AdaptedPolicy:
        """The measured policy that was generated for a task from the first transitions of its D."""
        return adapt(self.subject.mapper, self.rollouts[task], steps=steps, check=False)


def bundled_subjects(families: Sequence[str], tasks: int, seed: int) -> list[Subject]:
    """The bundled mappers, each with experts of ``tasks`` unseen tasks drawn with ``seed``.

    Args:
        families: names; without any, three of those with a bundled mapper.
        tasks: of each family.
        seed: of the draw.

    Raises:
        MetaMapError: an unknown family, one without a bundled mapper, or fewer tasks than asked for.
    """
    seed = read_seed(seed)
    bundled = bundled_families()
    for name in families:
        if get_family(name).name not in bundled:
            which = f"those of {', '.join(bundled)} are" if bundled else "none is in this installation"
            raise MetaMapError(
                f"no mapper is bundled for {name!r} ({which}); `metamap demo --from-scratch --family {name}` trains one"
            )
    if not bundled:
        raise MetaMapError(
            "no mapper is bundled with this installation; "
            "`metamap demo --from-scratch --family reacher-goal` trains one"
        )
    shown = [name for name in bundled if name in _FIRST] or bundled
    return [_bundled(name, tasks, seed) for name in dict.fromkeys(families or shown)]


def _bundled(family: str, tasks: int, seed: int) -> Subject:
    experts = load_experts(family)
    if not 1 <= tasks <= len(experts):
        raise MetaMapError(f"{family}: experts of {len(experts)} unseen tasks are bundled, {tasks} were asked for")
    chosen = np.random.default_rng(seed).choice(len(experts), tasks, replace=False)
    return Subject(load_mapper(family), tuple(experts[index] for index in sorted(chosen)))


def train_subject(folder: Path, settings: Settings, on_progress: OnStage | None = None) -> Subject:
    """Train base policy, experts and mapper. What the folder already holds is kept.

    Args:
        folder: the zoo goes to ``zoo`` in it, the mapper to ``mapper``.
        settings: of one family, from scratch.
        on_progress: called at the start of each stage and during it.

    Raises:
        MetaMapError: an invalid setting, the folder holds another zoo, or another process is training in it.
    """
    tell = on_progress or (lambda stage, done, total: None)
    plan = _plan(settings)
    zoo = fill(folder, plan, tell)
    mapper = make_mapper(folder, zoo, plan, tell)
    return Subject(mapper, tuple(zoo.get(task) for task in zoo.tasks("test-in", plan.counts.test_in)))


def _plan(settings: Settings) -> BuildPlan:
    """The build of a demo; without a self-check, as generated policies are shown whether they help or not."""
    base, expert = ({} if n is None else {"n_timesteps": n} for n in (settings.base_timesteps, settings.timesteps))
    if settings.timesteps is not None:
        expert["parent_timesteps"] = settings.timesteps
    updates = {} if settings.updates is None else {"updates": settings.updates}
    plan = BuildPlan(
        settings.families[0],
        settings.seed,
        TaskCounts(settings.train, settings.validation, settings.test_in),
        RecipeOverrides(base, expert),
        MapperRecipe().changed(seed=settings.seed, **updates),
        calibration=None,
    )
    plan.check()  # fail before the base policy is trained
    return plan


def measure(subject: Subject, on_method: Callable[[str], None] | None = None) -> Measured:
    """Probe, map and evaluate on 10 shared reset seeds; time the mapping.

    Args:
        subject: mapper and experts.
        on_method: called with the name of each method before it runs.
    """
    mapper, experts = subject.mapper, subject.experts
    with torch_threads(1):
        evaluation = evaluate_mappers(
            [mapper], experts, episodes=EPISODES, reference_episodes=EPISODES, on_method=on_method
        )
        assert evaluation.rollouts is not None, "LENGTHS reach beyond 0"
        rollouts = [evaluation.rollouts.rollout(index) for index in range(len(experts))]
        times = [[adapt(mapper, rollout).adaptation.milliseconds for _ in range(_TIMINGS)] for rollout in rollouts]
    milliseconds = [statistics.median(row) for row in times]
    unserved = [tuple(steps for steps in SHOWN if _falls_back(mapper, rollout.head(steps))) for rollout in rollouts]
    return Measured(subject, evaluation, _rows(evaluation, milliseconds, unserved), tuple(rollouts))


def _falls_back(mapper: Mapper, rollout: Rollout) -> bool:
    """Whether the self-check would serve the base policy for a rollout."""
    verdict = mapper.judge(rollout) if len(rollout) else None
    return verdict is not None and bool(verdict.fallback)


def _rows(
    evaluation: Evaluation, milliseconds: Sequence[float], unserved: Sequence[tuple[int, ...]]
) -> tuple[Row, ...]:
    generated = {scores.steps: scores.returns[0] for scores in evaluation.methods if scores.method == "mapper"}
    rows = []
    for index, task in enumerate(evaluation.tasks):
        base, expert = float(evaluation.base[index]), float(evaluation.expert[index])
        gap = (float(generated[FILMED][index]) - base) / (expert - base) if evaluation.counted[index] else None
        returns = {steps: float(generated[steps][index]) for steps in SHOWN}
        rows.append(Row(task.id, task.describe(), base, returns, expert, gap, milliseconds[index], unserved[index]))
    return tuple(rows)


def film(measured: Measured, folder: Path, *, renderer: Renderer = "auto", on_frame: OnFrame | None = None) -> Video:
    """Film probe, mapping and policies on the task with the largest gap.

    Args:
        measured: of one family.
        folder: where ``<family>.mp4`` goes.
        renderer: see `metamap_rl.viz.drawing`.
        on_frame: progress.

    Raises:
        MetaMapError: the film cannot be written.
    """
    subject, evaluation = measured.subject, measured.evaluation
    expert = subject.experts[int(np.argmax(evaluation.expert - evaluation.base))]
    path = folder / f"{subject.family}.mp4"
    return film_adaptation(
        path,
        subject.mapper,
        expert.task,
        steps=FILMED,
        expert=expert.phi,
        check=False,
        renderer=renderer,
        on_frame=on_frame,
    )


def write_results(
    folder: Path, settings: Settings, results: Sequence[Measured], videos: Mapping[str, Video], seconds: float
) -> dict[str, Any]:
    """Write the plot and ``results.json`` and remove what an earlier demo left.

    Args:
        folder: the demo's.
        settings: its settings.
        results: one per family.
        videos: by family.
        seconds: duration.

    Returns:
        The document in ``results.json``.
    """
    figure = plot_lengths({measured.subject.family: measured.evaluation for measured in results})
    for name in _PLOTS:
        save_figure(figure, folder / name)
    for path in folder.glob("*.mp4"):
        if path.stem not in videos and path.stem in (*settings.families, *bundled_families()):
            path.unlink()
    document = {
        "format": FORMAT,
        "settings": asdict(settings),
        "seconds": round(seconds, 2),
        "families": [_document(measured, videos.get(measured.subject.family)) for measured in results],
        "files": [*_PLOTS, RESULTS, *(video.path.name for video in videos.values())],
        "folder": str(folder),
    }
    write_json(folder / RESULTS, document)
    return document


def _document(measured: Measured, video: Video | None) -> dict[str, Any]:
    rows = [asdict(row) | {"generated": {str(k): value for k, value in row.generated.items()}} for row in measured.rows]
    film = None
    if video is not None:
        film = asdict(video) | {"path": video.path.name}
    return {
        "family": measured.subject.family,
        "tasks": rows,
        "video": film,
        "evaluation": measured.evaluation.summary(),
    }

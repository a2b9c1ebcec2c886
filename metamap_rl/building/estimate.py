"""How long a build takes: costs measured briefly on this machine, and corrected while the build runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from metamap_agents.experts.expert import Expert
from metamap_agents.experts.recipes import Recipe
from metamap_agents.experts.training import train_base, train_expert, train_universal
from metamap_agents.experts.universal import UniversalPolicy
from metamap_agents.experts.zoo import Zoo
from metamap_agents.policy.base import BasePolicy
from metamap_agents.policy.evaluation import evaluate_policies
from metamap_envs.family import Family
from metamap_envs.registry import get_family
from metamap_envs.simulator import default_threads
from metamap_envs.task import Task
from metamap_rl.building.plan import STAGES, BuildPlan
from metamap_rl.common.durations import duration
from metamap_rl.evaluation.evaluate import EvaluationConfig
from metamap_rl.training.config import CalibrationConfig
from metamap_rl.training.pipeline import PROBE_STEPS, train_mapper

__all__ = ["RESULTS", "StageClock", "duration", "in_words", "rehearsal_share", "rehearse"]

RESULTS = EvaluationConfig(lengths=(0, 5, 20, 50, 200), episodes=10, reference_episodes=20)
"""Settings of the evaluation at the end of a build."""

_ROLLOUTS = 4  # of PPO: the first is left out, it warms up
_UPDATES, _WARM = 30, 10
_SURVEY = 32
_EXPERTS = (4, 2)
_EVALUATED = 4
_CALIBRATED = CalibrationConfig(usual_tasks=16, return_tasks=4, harm_tasks=8, updates=100)
_METHOD_EPISODES = 25  # of a task in the results, in units of 10: references and methods at all lengths
_PAIRS, _STATE_EPISODES = 8, 10
_SETTLED = 2 * 64 * 2  # episodes that choose phi_0

_LONG = ("base policy", "universal policy", "mapper")
_TELLING = 0.1  # share of a stage that tells how fast the machine is

OnPart = Callable[[str], None]


@dataclass
class _Times:
    """Times at which calls with a name came."""

    found: dict[str, list[tuple[int, float]]] = field(default_factory=dict)

    def note(self, name: str, done: int) -> None:
        self.found.setdefault(name, []).append((done, time.perf_counter()))

    def rate(self, name: str) -> float:
        """Seconds of a unit, between the first call and the last."""
        (one, start), (last, end) = self.found[name][0], self.found[name][-1]
        return (end - start) / max(1, last - one)


def rehearse(plan: BuildPlan, on_part: OnPart | None = None, *, mapper: bool = True) -> dict[str, float]:
    """Estimate the seconds of each stage of a build, from a small part of each.

    What the build may save is left in: policies whose training ends on a plateau take less. Nothing is kept.

    Args:
        plan: of the build.
        on_part: called with each stage before it is tried.
        mapper: False to leave out what comes after the experts.

    Raises:
        MetaMapError: something that the build would fail at, too.
    """
    tell = on_part or (lambda stage: None)
    family = get_family(plan.family)
    with TemporaryDirectory() as folder:
        zoo = Zoo.create(Path(folder) / "zoo", plan.family, plan.seed)
        tell("base policy")
        seconds = {"base policy": _try_base(zoo, plan)}
        tell("universal policy")
        seconds["universal policy"] = _try_universal(zoo, plan)
        tell("experts")
        step = _try_steps(zoo, family)
        seconds["experts"] = _try_experts(zoo, plan, family, step, seconds["base policy"])
        if mapper:
            tell("mapper")
            seconds |= _try_mapper(zoo, plan, family)
            seconds["results"] = step * family.horizon * plan.counts.test_in * RESULTS.episodes * _METHOD_EPISODES
    return {stage: seconds[stage] for stage in STAGES if stage in seconds}


def rehearsal_share(recipes: Iterable[Recipe]) -> float:
    """Share of the training of policies that their rehearsal takes."""
    given = list(recipes)
    return sum(_few(recipe).n_timesteps for recipe in given) / sum(recipe.whole_timesteps for recipe in given)


def _few(recipe: Recipe) -> Recipe:
    return recipe.model_copy(update={"n_timesteps": _ROLLOUTS * recipe.n_steps * recipe.n_envs, "plateau": None})


def _try_base(zoo: Zoo, plan: BuildPlan) -> float:
    recipe, times = plan.overrides.recipe(plan.family, "base"), _Times()
    base = train_base(
        plan.family, _few(recipe), seed=plan.seed, on_progress=lambda done, _, __: times.note("base", done)
    )
    zoo.put_base(base)
    return times.rate("base") * recipe.whole_timesteps


def _try_universal(zoo: Zoo, plan: BuildPlan) -> float:
    if plan.overrides.recipe(plan.family, "expert").start != "parent":
        return 0.0
    recipe, times = plan.overrides.recipe(plan.family, "parent"), _Times()
    universal = train_universal(
        plan.family,
        zoo.base,
        _few(recipe),
        seed=plan.seed,
        on_progress=lambda done, _, __: times.note("universal", done),
    )
    zoo.put_universal(universal)
    return times.rate("universal") * recipe.whole_timesteps


def _try_steps(zoo: Zoo, family: Family) -> float:
    """Seconds of a step of one environment with a policy, among some that are stepped together."""
    tasks = family.sample("train", _EVALUATED, zoo.seed)
    started = time.perf_counter()
    done = evaluate_policies(tasks, zoo.base.policies(zoo.base.phi), episodes=RESULTS.episodes)
    return (time.perf_counter() - started) / float(done.lengths.max() * done.lengths.size)


def _try_experts(zoo: Zoo, plan: BuildPlan, family: Family, step: float, base_seconds: float) -> float:
    """Seconds of all experts, and of the choice of phi_0 before them; puts a few into the zoo."""
    recipe = plan.overrides.recipe(plan.family, "expert")
    universal = zoo.universal if zoo.has_universal else None
    short = recipe.model_copy(update={"n_timesteps": recipe.n_steps * recipe.n_envs, "gain_search": None})
    for split, count in zip(("train", "validation"), _EXPERTS, strict=True):
        for task in zoo.tasks(split, count):
            if not zoo.has(task):
                zoo.put(_expert(zoo.base, universal, short, task))
    each = 2 * 10 * family.horizon * step
    if recipe.gain_search is not None:
        started = time.perf_counter()
        _expert(zoo.base, universal, recipe, zoo.tasks("train", 1)[0])
        each = time.perf_counter() - started
    elif recipe.start != "parent" or recipe.parent_timesteps:
        steps = recipe.parent_timesteps if recipe.start == "parent" else recipe.whole_timesteps
        each += base_seconds * steps / plan.overrides.recipe(plan.family, "base").whole_timesteps
    tasks = len(plan.counts.tasks(zoo))
    workers = min(plan.workers or default_threads(), tasks)
    settling = _SETTLED * family.horizon * step if recipe.start == "parent" else 0.0
    return each * tasks / workers + settling


def _expert(base: BasePolicy, universal: UniversalPolicy | None, recipe: Recipe, task: Task) -> Expert:
    return train_expert(task, base, recipe, seed=0, start=universal)


def _try_mapper(zoo: Zoo, plan: BuildPlan, family: Family) -> dict[str, float]:
    """Seconds of the rollouts, the updates and the self-check."""
    times = _Times()
    times.note("begin", 0)

    def on_update(done: int, total: int, metrics: Mapping[str, float]) -> None:
        times.note("update", done)

    recipe = plan.recipe.changed(updates=_UPDATES, survey_tasks=_SURVEY, validation_every=_UPDATES)
    train_mapper(
        zoo,
        recipe=recipe,
        calibration=_CALIBRATED if plan.calibration else None,
        on_update=on_update,
        on_stage=lambda stage: times.note("calibration", 0),
    )
    times.note("calibration", 0)
    updates = [at for _, at in times.found["update"]]
    each = (updates[-2] - updates[_WARM]) / (_UPDATES - 2 - _WARM)
    counts, training = plan.counts, plan.recipe.training
    small = _steps_of_data(*_EXPERTS, _SURVEY, family)
    whole = _steps_of_data(counts.train, counts.validation, plan.recipe.survey_tasks, family)
    validating = max(0.0, updates[-1] - updates[-2] - each) * counts.validation / _EXPERTS[1]
    seconds = {
        "rollouts": (updates[0] - each - times.found["begin"][0][1]) * whole / small,
        "mapper": each * training.updates + validating * (training.updates // training.validation_every),
    }
    if plan.calibration is not None:
        seconds["self-check"] = _self_check(times, plan.calibration)
    return seconds


def _steps_of_data(train: int, validation: int, survey: int, family: Family) -> int:
    """Environment steps of the rollouts of experts and survey, and of the episodes of the experts."""
    return (train + validation) * (_PAIRS * PROBE_STEPS + _STATE_EPISODES * family.horizon) + survey * 2 * PROBE_STEPS


def _self_check(times: _Times, config: CalibrationConfig) -> float:
    begun = [at for _, at in times.found["calibration"]]
    probing, fitting, running = (end - start for start, end in pairwise(begun))
    return (
        probing * config.usual_tasks / _CALIBRATED.usual_tasks
        + fitting * config.updates / _CALIBRATED.updates
        + running * _run_episodes(config, len(config.lengths)) / _run_episodes(_CALIBRATED, 1)
    )


def _run_episodes(config: CalibrationConfig, judged: int) -> int:
    """Episodes of base and generated policies in a calibration that measures harm at so many lengths of D.

    With few tasks the first length is never harmless, and the last one that is measured.
    """
    whole = max(config.harm_tasks, config.return_tasks) * max(config.harm_episodes, config.episodes)
    few, lengths = config.return_tasks * config.episodes, len(config.lengths)
    return (1 + judged) * whole + (2 * lengths - judged + 1) * few


# while it runs --------------------------------------------------------------------------------------------------------


@dataclass
class StageClock:
    """Seconds of the stages of a build so far, and an estimate of what is left.

    Attributes:
        estimate: seconds of each stage that is to be done.
        spent: seconds of each stage, those of earlier processes included.
    """

    estimate: Mapping[str, float]
    spent: dict[str, float] = field(default_factory=dict)
    _stage: str = ""
    _began: float = 0.0
    _first: float = 0.0
    _share: float = 0.0
    _drifts: list[tuple[float, float]] = field(default_factory=list)

    def at(self, stage: str, done: int, total: int) -> bool:
        """Note progress; returns whether a stage begins."""
        new = stage != self._stage
        share = done / total if total else 0.0
        if new:
            self.end()
            self._stage, self._began, self._first = stage, time.monotonic(), share
        self._share = share
        return new

    def end(self) -> None:
        """End the current stage."""
        if self._stage:
            taken = time.monotonic() - self._began
            self.spent[self._stage] = self.spent.get(self._stage, 0.0) + taken
            progressed = self._share - self._first
            if self._stage in _LONG and progressed > _TELLING:
                self._drifts.append((taken, progressed * self.estimate.get(self._stage, 0.0)))
        self._stage = ""

    @property
    def left(self) -> float:
        """Estimated seconds until the end: later stages as estimated, times what earlier ones took more or less."""
        taken, expected = (sum(column) for column in zip(*self._drifts, strict=True)) if self._drifts else (1.0, 1.0)
        drift = taken / expected if expected else 1.0
        names = list(STAGES)
        later = names[names.index(self._stage) + 1 :] if self._stage else names
        return self._left_of_stage(drift) + drift * sum(self.estimate.get(name, 0.0) for name in later)

    def _left_of_stage(self, drift: float) -> float:
        if not self._stage:
            return 0.0
        expected, elapsed = drift * self.estimate.get(self._stage, 0.0), time.monotonic() - self._began
        progressed = self._share - self._first
        if progressed <= 0:
            return max(0.0, expected - elapsed)
        projected = elapsed / progressed
        return (1.0 - self._share) * (self._share * projected + (1.0 - self._share) * expected)

    @property
    def total(self) -> float:
        """Seconds of all stages so far."""
        running = time.monotonic() - self._began if self._stage else 0.0
        return sum(self.spent.values()) + running


def in_words(seconds: Mapping[str, float], stages: Iterable[str] = STAGES) -> str:
    """STAGES with their durations, in one line."""
    return ", ".join(f"{stage} {duration(seconds[stage])}" for stage in stages if seconds.get(stage))

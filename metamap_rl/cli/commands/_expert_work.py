"""Work of the commands of experts, with progress bars."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metamap_agents.experts.expert import Expert
    from metamap_agents.experts.importing import ImportSettings
    from metamap_agents.experts.recipes import Stage
    from metamap_agents.experts.zoo import Zoo
    from metamap_agents.importers import ForeignPolicy
    from metamap_agents.runtime.executors import Executor
    from metamap_envs.task import Task
    from metamap_rl.building.estimate import StageClock
    from metamap_rl.building.plan import BuildPlan

__all__ = ["clock_of", "import_with_progress", "train_experts", "under_a_bar"]

_REHEARSED = 0.03  # largest share of a training that is spent to tell how long it takes


def clock_of(zoo: Zoo, plan: BuildPlan, tasks: Sequence[Task]) -> StageClock:
    """Estimate what a training of experts takes, preparation included, and say it; nothing where it is short.

    Args:
        zoo: the zoo, which may hold some of what is planned.
        plan: families, recipes and counts.
        tasks: of all experts.
    """
    from metamap_agents.experts.building import lacks_universal
    from metamap_envs.errors import MetaMapError
    from metamap_rl.building.estimate import StageClock, duration, in_words, rehearsal_share, rehearse
    from metamap_rl.cli.console import log, progress

    recipes = {stage: plan.overrides.recipe(plan.family, stage) for stage in ("base", "parent", "expert")}
    usual = all(one.algorithm == "ppo" and one.start != "controller" for one in recipes.values())
    done = {
        "base policy": zoo.has_base,
        "universal policy": zoo.has_base and not lacks_universal(zoo, recipes["expert"]),
    }
    if not usual or all(done.values()) or rehearsal_share((recipes["base"], recipes["parent"])) > _REHEARSED:
        return StageClock({})
    with progress("estimating", None) as bar:
        try:
            seconds = rehearse(plan, lambda stage: bar.describe(f"trying out: {stage}"), mapper=False)
        except MetaMapError:  # what is wrong is told by the training itself
            return StageClock({})
    seconds = {stage: 0.0 if done.get(stage) else each for stage, each in seconds.items()}
    seconds["experts"] *= len(zoo.missing(tasks)) / max(1, len(tasks))
    log(f"estimate: {duration(sum(seconds.values()))} at most ({in_words(seconds)})")
    return StageClock(seconds)


def _left(clock: StageClock) -> str:
    """What is left of all stages, for a bar."""
    from metamap_rl.common.durations import duration

    return f", about {duration(clock.left)} left in all" if clock.estimate else ""


def under_a_bar(
    zoo: Zoo, overrides: dict[str, Any], stage: Stage, build: Callable[..., None], clock: StageClock | None = None
) -> None:
    """Train base policy and universal policy with a progress bar."""
    from metamap_agents.experts.recipes import load_recipe
    from metamap_rl.building.estimate import StageClock
    from metamap_rl.cli.console import progress

    clock = clock or StageClock({})
    total = load_recipe(zoo.family.name, stage, **overrides).n_timesteps
    what = "base policy" if stage == "base" else "universal policy"
    with progress(what, total, unit="steps") as bar:
        seen = 0
        clock.at(what, 0, total)

        def on_progress(done: int, total: int, metrics: dict[str, float]) -> None:
            nonlocal seen
            bar.advance(done - seen)
            seen = done
            clock.at(what, done, total)
            reached = f", return {metrics['return']:.1f}" if "return" in metrics else ""
            if reached or clock.estimate:
                bar.describe(f"{what}{reached}{_left(clock)}")

        build(zoo, overrides=overrides, on_progress=on_progress)


def train_experts(
    zoo: Zoo, tasks: list[Task], overrides: dict[str, Any], executor: Executor, clock: StageClock
) -> None:
    """Train missing experts with a progress bar."""
    from metamap_agents.experts.building import build_experts
    from metamap_rl.cli.console import progress

    missing = len(zoo.missing(tasks))
    if not missing:
        return
    with progress("experts", missing, unit="experts") as bar:
        clock.at("experts", 0, missing)

        def on_expert(done: int, total: int, expert: Expert) -> None:
            clock.at("experts", done, total)
            bar.advance()
            change = f"{expert.base_returns.mean():.1f} -> {expert.returns.mean():.1f}"
            bar.describe(f"experts, last {change}{_left(clock)}")

        build_experts(zoo, tasks, overrides=overrides, executor=executor, on_expert=on_expert)


def import_with_progress(zoo: Zoo, task: Task, policy: ForeignPolicy, settings: ImportSettings, seed: int) -> Expert:
    """Import a policy with a progress bar, and store the expert."""
    from metamap_agents.experts.importing import import_expert
    from metamap_envs.errors import MetaMapError
    from metamap_rl.cli.console import progress

    with zoo.claim(task.id) as ours:
        if not ours:
            raise MetaMapError(f"another process is training the expert of {task.id}; wait for it to finish")
        with progress("distillation", settings.distillation.rounds + 1, unit="rounds") as bar:

            def on_round(value: float) -> None:
                bar.advance()
                bar.describe(f"distillation, return {value:.1f}")

            expert = import_expert(task, zoo.base, policy, settings, seed=seed, on_round=on_round)
        zoo.put(expert)
    return expert

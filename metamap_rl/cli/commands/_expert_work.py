"""Work of the commands of experts, with progress bars."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metamap_agents.experts.expert import Expert
    from metamap_agents.experts.importing import ImportSettings
    from metamap_agents.experts.recipes import Stage
    from metamap_agents.experts.zoo import Zoo
    from metamap_agents.importers import ForeignPolicy
    from metamap_agents.runtime.executors import Executor
    from metamap_envs.task import Task

__all__ = ["import_with_progress", "train_experts", "under_a_bar"]


def under_a_bar(zoo: Zoo, overrides: dict[str, Any], stage: Stage, build: Callable[..., None]) -> None:
    """Train base policy and universal policy with a progress bar."""
    from metamap_agents.experts.recipes import load_recipe
    from metamap_rl.cli.console import progress

    total = load_recipe(zoo.family.name, stage, **overrides).n_timesteps
    what = f"{stage} policy"
    with progress(what, total, unit="steps") as bar:
        seen = 0

        def on_progress(done: int, total: int, metrics: dict[str, float]) -> None:
            nonlocal seen
            bar.advance(done - seen)
            seen = done
            if "return" in metrics:
                bar.describe(f"{what}, return {metrics['return']:.1f}")

        build(zoo, overrides=overrides, on_progress=on_progress)


def train_experts(zoo: Zoo, tasks: list[Task], overrides: dict[str, Any], executor: Executor) -> None:
    """Train missing experts with a progress bar."""
    from metamap_agents.experts.building import build_experts
    from metamap_rl.cli.console import progress

    missing = len(zoo.missing(tasks))
    if not missing:
        return
    with progress("experts", missing, unit="experts") as bar:

        def on_expert(done: int, total: int, expert: Expert) -> None:
            bar.advance()
            bar.describe(f"experts, last {expert.base_returns.mean():.1f} -> {expert.returns.mean():.1f}")

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

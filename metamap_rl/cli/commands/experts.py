"""Experts: one policy per task, trained with Stable-Baselines3 and kept in a zoo."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from metamap_agents.experts.counts import TaskCounts
from metamap_rl.cli.command import Command, FamilyName
from metamap_rl.cli.console import say
from metamap_rl.cli.usage import Inline, Metavar, Positional

if TYPE_CHECKING:
    from metamap_agents.experts.expert import Expert
    from metamap_agents.experts.recipes import Stage
    from metamap_agents.experts.zoo import Zoo
    from metamap_agents.runtime.executors import Executor
    from metamap_envs.task import Task

__all__ = ["COMMANDS", "ORDER", "ListExperts", "ResizeExperts", "TrainExperts"]

ORDER = 20


@dataclass(frozen=True, kw_only=True)
class TrainExperts(Command):
    """Train a family's base policy and experts; resumable.

    The base policy is trained first, over the whole range of the family. Experts are made from a universal policy given
    the task, unless --start says otherwise. Finished ones are kept: the same command resumes, and larger numbers add
    tasks. Several processes may work on one zoo.
    """

    name: ClassVar[str] = "train"
    if_stopped: ClassVar[str] = "what is finished is kept, the same command goes on from there"

    family: FamilyName
    """Name of the family, as in `metamap families list`, or the path of a YAML file."""

    out: Annotated[Path, Metavar("ZOO")]
    """Folder of the zoo."""

    counts: Inline[TaskCounts] = field(default_factory=TaskCounts)
    """Experts of each split."""

    workers: int = 0
    """Number of experts to train in parallel; 0 uses all cores."""

    executor: Literal["local", "ray"] = "local"
    """Executor of expert training: local processes or Ray."""

    ray_address: Annotated[str | None, Metavar("HOST:PORT")] = None
    """Address of a running Ray cluster ("auto": on this machine); default: start a local Ray."""

    base_timesteps: int | None = None
    """Environment steps of base policy and universal policy, in place of the recipe's."""

    timesteps: int | None = None
    """Environment steps of PPO for each expert, in place of the recipe's."""

    start: Literal["base", "parent"] | None = None
    """Origin of experts, in place of the recipe's: `base` for phi_0, `parent` for the universal policy."""

    algorithm: Literal["ppo", "sac", "tqc"] | None = None
    """Algorithm for experts, in place of the recipe's. SAC and TQC (extra `contrib`) train a teacher of another
    architecture, which is distilled into the expert; they need `--start base`."""

    change_rate: float = 0.0
    """Probability per step with which tasks change in the training of base policy and universal policy."""

    wrong_starts: float = 0.0
    """Share of the episodes of PPO that start from a state which a wrong policy reached."""

    def run(self) -> int:
        """Train what is missing, print a summary."""
        from metamap_agents.experts.building import train_first
        from metamap_agents.experts.filling import RecipeOverrides, check_settings
        from metamap_agents.experts.recipes import load_recipe
        from metamap_agents.experts.zoo import Zoo
        from metamap_agents.runtime.executors import make_executor
        from metamap_rl.cli.console import note
        from metamap_rl.cli.inputs import read_family

        base, expert = _timesteps(self.base_timesteps), _timesteps(self.timesteps)
        if self.timesteps is not None:
            expert["parent_timesteps"] = self.timesteps
        if self.start is not None:
            expert["start"] = self.start
        if self.algorithm is not None:
            expert["algorithm"] = self.algorithm
        if self.change_rate or self.wrong_starts:
            base["changes"] = {"rate": self.change_rate, "wrong_starts": self.wrong_starts}
        if self.wrong_starts and self.algorithm in (None, "ppo"):
            expert["changes"] = {"wrong_starts": self.wrong_starts}
        family = read_family(self.family).name
        _check(family, self.counts, self.seed, self.workers, base, expert)
        with make_executor(self.executor, self.workers, self.ray_address) as executor:
            zoo = Zoo.create(self.out, family, self.seed)
            check_settings(zoo, RecipeOverrides(base, expert))
            recipe = load_recipe(zoo.family.name, "expert", **expert)
            train_first(zoo, recipe, lambda stage, build: _under_a_bar(zoo, base, stage, build))
            tasks = self.counts.tasks(zoo)
            _train_experts(zoo, tasks, expert, executor)
        if missing := len(zoo.missing(tasks)):
            note(f"{missing} experts are being trained by another process")
        _print_summary(zoo, as_json=self.json)
        return 0


@dataclass(frozen=True, kw_only=True)
class ListExperts(Command):
    """List the experts of a zoo, with their returns beside the base policy's.

    An expert is better if the mean difference over the same episodes is above 0 by more than two standard errors.
    """

    name: ClassVar[str] = "list"

    zoo: Annotated[Positional[Path], Metavar("ZOO")]
    """Folder of the zoo."""

    split: Literal["train", "validation", "test-in", "test-out"] | None = None
    """Show only the experts of this split."""

    def run(self) -> int:
        """Print one row per expert."""
        from metamap_agents.experts.zoo import Zoo
        from metamap_envs.parameters import Split
        from metamap_envs.task import CUSTOM_SPLIT
        from metamap_rl.cli.console import print_json, print_table

        zoo = Zoo.open(self.zoo)
        experts = zoo.experts(self.split) if zoo.has_base else []
        splits = [*(split.value for split in Split), CUSTOM_SPLIT]
        experts.sort(key=lambda expert: (splits.index(expert.task.split), expert.task.parameters))
        if self.json:
            document = {"family": zoo.family.name, "seed": zoo.seed, "has_base": zoo.has_base}
            print_json({**document, "experts": [_row(expert) for expert in experts]})
            return 0
        say(f"{zoo.root}: zoo of {zoo.family.name}, seed {zoo.seed}, experts: {len(experts)}")
        if not zoo.has_base:
            say("the base policy is not trained yet")
        rows = [
            (
                expert.task.id,
                expert.task.split,
                expert.task.describe(),
                f"{expert.base_returns.mean():.1f}",
                f"{expert.returns.mean():.1f}",
                f"{expert.record.get('seconds', 0.0):.1f}",
                "yes" if expert.better else "no",
            )
            for expert in experts
        ]
        if rows:
            numbers = ("base return", "expert return", "seconds")
            print_table(
                ("task", "split", "parameters", *numbers, "better"), rows, right=numbers, least=("seconds", "split")
            )
        return 0


@dataclass(frozen=True, kw_only=True)
class ResizeExperts(Command):
    """Make a zoo whose policies have other hidden layers; resumable.

    Base policy, universal policy and experts are distilled from those of a zoo, on states of their own. A mapper that
    is trained on the new zoo generates policies of that size, for computers that a larger one does not fit.
    """

    name: ClassVar[str] = "resize"
    if_stopped: ClassVar[str] = "what is finished is kept, the same command goes on from there"

    zoo: Annotated[Positional[Path], Metavar("ZOO")]
    """Folder of the zoo, with a universal policy."""

    hidden: Annotated[tuple[int, ...], Metavar("UNITS")]
    """Units of each hidden layer, such as `--hidden 8 8`."""

    out: Annotated[Path, Metavar("ZOO")]
    """Folder of the new zoo."""

    def run(self) -> int:
        """Distil what is missing, print a summary."""
        from metamap_agents.experts.resizing import resize_zoo
        from metamap_agents.experts.zoo import Zoo
        from metamap_rl.cli.console import progress

        zoo = Zoo.open(self.zoo)
        with progress("distilling", len(zoo.experts()), unit="experts") as bar:
            seen = 0

            def on_stage(what: str, done: int, total: int) -> None:
                nonlocal seen
                bar.describe(what)
                if what == "experts":
                    bar.advance(done - seen)
                    seen = done

            small = resize_zoo(zoo, self.out, self.hidden, num_threads=0, on_stage=on_stage)
        _print_summary(small, as_json=self.json)
        return 0


def _timesteps(count: int | None) -> dict[str, Any]:
    return {} if count is None else {"n_timesteps": count}


def _check(
    family: str, counts: TaskCounts, seed: int, workers: int, base: dict[str, Any], expert: dict[str, Any]
) -> None:
    """Check the flags before a folder is made."""
    from metamap_agents.experts.recipes import load_recipe
    from metamap_envs.errors import MetaMapError
    from metamap_envs.registry import get_family

    load_recipe(family, "base", **base)
    load_recipe(family, "expert", **expert)
    for split, count in counts.by_split().items():
        if count < 0:
            raise MetaMapError(f"--{split}: expected a number of tasks, 0 or more, got {count}")
        if count:
            get_family(family).sample(split, count, seed)
    if workers < 0:
        raise MetaMapError(f"--workers: expected 0 (all cores) or more, got {workers}")


def _under_a_bar(zoo: Zoo, overrides: dict[str, Any], stage: Stage, build: Callable[..., None]) -> None:
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


def _train_experts(zoo: Zoo, tasks: list[Task], overrides: dict[str, Any], executor: Executor) -> None:
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


def _row(expert: Expert) -> dict[str, Any]:
    """One expert as JSON."""
    return {
        "id": expert.task.id,
        **expert.task.to_json(),
        "base_return": expert.base_returns.mean(),
        "expert_return": expert.returns.mean(),
        "better": expert.better,
        "stopped_on_plateau": expert.record.get("stopped_on_plateau"),
        "worse_than_teacher": expert.record.get("worse_than_teacher"),
        "seconds": expert.record.get("seconds"),
    }


def _print_summary(zoo: Zoo, *, as_json: bool) -> None:
    """Print number and returns of experts for each split, and how many are better than phi_0."""
    from metamap_envs.parameters import Split
    from metamap_rl.cli.console import print_json, print_table

    experts = zoo.experts()
    by_split = {
        split.value: found for split in Split if (found := [expert for expert in experts if expert.task.split == split])
    }
    means = {
        split: {
            "experts": len(found),
            "base_return": sum(float(expert.base_returns.mean()) for expert in found) / len(found),
            "expert_return": sum(float(expert.returns.mean()) for expert in found) / len(found),
            "better": sum(expert.better for expert in found),
        }
        for split, found in by_split.items()
    }
    if as_json:
        print_json({"zoo": zoo.root, "family": zoo.family.name, "seed": zoo.seed, "splits": means})
        return
    say(f"{zoo.root}: zoo of {zoo.family.name}, seed {zoo.seed}")
    rows = [
        (split, mean["experts"], f"{mean['base_return']:.1f}", f"{mean['expert_return']:.1f}", mean["better"])
        for split, mean in means.items()
    ]
    numbers = ("experts", "base return", "expert return", "better")
    print_table(("split", *numbers), rows, right=numbers)


COMMANDS = (TrainExperts, ListExperts, ResizeExperts)

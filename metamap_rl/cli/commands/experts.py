"""Experts: one policy per task, trained with Stable-Baselines3 or imported, and kept in a zoo."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from metamap_agents.experts.counts import TaskCounts
from metamap_rl.cli.command import Command, FamilyName
from metamap_rl.cli.commands._expert_results import expert_row, print_imported, print_summary
from metamap_rl.cli.commands._expert_work import clock_of, import_with_progress, train_experts, under_a_bar
from metamap_rl.cli.console import say
from metamap_rl.cli.usage import Inline, Metavar, Positional

if TYPE_CHECKING:
    from metamap_agents.experts.importing import ImportSettings
    from metamap_agents.experts.zoo import Zoo
    from metamap_envs.family import Family
    from metamap_envs.task import Task

__all__ = ["COMMANDS", "ORDER", "ImportExpert", "ListExperts", "ResizeExperts", "TrainExperts"]

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

    start: Literal["base", "parent", "random"] | None = None
    """Origin of experts, in place of the recipe's: `base` for phi_0, `parent` for the universal policy, `random` for
    random weights, each expert its own."""

    algorithm: Literal["ppo", "sac", "tqc"] | None = None
    """Algorithm for experts, in place of the recipe's. SAC and TQC (extra `contrib`) train a teacher of another
    architecture, which is distilled into the expert; they need `--start base`."""

    change_rate: float = 0.0
    """Probability per step with which tasks change in the training of base policy and universal policy."""

    wrong_starts: float = 0.0
    """Share of the episodes of PPO that start from a state which a wrong policy reached."""

    def next_command(self) -> str | None:
        """See `Command`."""
        return f"metamap mapper train {quote(str(self.out))} --out mapper"

    def run(self) -> int:
        """Train what is missing, print a summary."""
        from metamap_agents.experts.building import train_first
        from metamap_agents.experts.filling import RecipeOverrides, check_settings
        from metamap_agents.experts.recipes import load_recipe
        from metamap_agents.experts.zoo import Zoo
        from metamap_agents.runtime.executors import make_executor
        from metamap_rl.building.plan import BuildPlan
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
            overrides = RecipeOverrides(base, expert)
            check_settings(zoo, overrides)
            tasks = self.counts.tasks(zoo)
            plan = BuildPlan(zoo.family.name, self.seed, self.counts, overrides, workers=self.workers)
            clock = clock_of(zoo, plan, tasks)
            recipe = load_recipe(zoo.family.name, "expert", **expert)
            train_first(zoo, recipe, lambda stage, build: under_a_bar(zoo, base, stage, build, clock))
            train_experts(zoo, tasks, expert, executor, clock)
        if missing := len(zoo.missing(tasks)):
            note(f"{missing} experts are being trained by another process")
        print_summary(zoo, as_json=self.json)
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

    def next_command(self) -> str | None:
        """See `Command`."""
        return f"metamap mapper train {quote(str(self.zoo))} --out mapper"

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
            print_json({**document, "experts": [expert_row(expert) for expert in experts]})
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

    def next_command(self) -> str | None:
        """See `Command`."""
        return f"metamap mapper train {quote(str(self.out))} --out mapper"

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
        print_summary(small, as_json=self.json)
        return 0


@dataclass(frozen=True, kw_only=True)
class ImportExpert(Command):
    """Make an expert of a policy that another tool has trained.

    The policy is a zip of Stable-Baselines3 or sb3-contrib (PPO, A2C, SAC, TD3, TQC), a folder of rl-zoo, a file of
    CleanRL (.cleanrl_model, .pt) or an ONNX model. Nothing of it is unpickled. Its weights are taken over where they
    fit the network of the zoo's base policy, else a student is distilled from it; the loss of return is measured on
    the same reset seeds and stored with the expert.

    A zoo is made first if there is none, and its base policy trained, as by `metamap experts train`.
    """

    name: ClassVar[str] = "import"
    if_stopped: ClassVar[str] = "no expert was written; a base policy that is finished is kept"

    source: Annotated[Positional[Path], Metavar("SOURCE")]
    """File or folder of the policy."""

    zoo: Annotated[Path, Metavar("ZOO")]
    """Folder of the zoo."""

    family: Annotated[str | None, Metavar("FAMILY")] = None
    """Family of a new zoo: a name, or the path of a YAML file; default: that of the zoo."""

    parameters: Annotated[tuple[str, ...], Metavar("NAME=VALUE")] = ()
    """Task that the policy was trained on; other parameters have their defaults."""

    task: Annotated[str | None, Metavar("TASK_ID")] = None
    """The same by its id, if it is a task of the zoo."""

    split: Literal["train", "validation", "test-in", "test-out"] = "train"
    """Split of a task that is given by its parameters."""

    format: Annotated[str | None, Metavar("FORMAT")] = None
    """Format: cleanrl, onnx, rl-zoo or sb3; default: by the name."""

    normalizer: Annotated[str | None, Metavar("FILE")] = None
    """Statistics with which the policy's observations are normalised: vecnormalize.pkl, .npz or .safetensors with mean
    and var or std; `none` for raw observations; default: those in the folder."""

    action_range: Annotated[tuple[float, ...], Metavar("NUMBER")] = ()
    """Lowest and highest action of the policy's environment; default: as in the file, or in the family's own
    environment."""

    method: Literal["auto", "extract", "distil"] = "auto"
    """Take over the weights, or distil; `auto` takes them over where that is exact."""

    rounds: int = 4
    """Rounds of DAgger of a distillation."""

    states: int = 10_000
    """States of each of its rounds."""

    updates: int = 3_000
    """Updates in each of its rounds."""

    episodes: int = 50
    """Episodes for measuring the loss of return."""

    replace: bool = False
    """Replace the task's expert if the zoo has one."""

    base_timesteps: int | None = None
    """Environment steps of a new zoo's base policy, in place of the recipe's."""

    def next_command(self) -> str | None:
        """See `Command`."""
        return f"metamap mapper train {quote(str(self.zoo))} --out mapper"

    def run(self) -> int:
        """Read the policy, make what the zoo lacks, import, print."""
        from metamap_agents.experts.building import build_base
        from metamap_agents.experts.import_tasks import own_action_range
        from metamap_agents.experts.zoo import Zoo
        from metamap_agents.importers import ImportOptions, read_policy
        from metamap_rl.cli.console import print_json

        settings = self._settings()
        zoo = Zoo.open(self.zoo) if (self.zoo / "zoo.json").exists() else None
        family = self._family(zoo)
        options = ImportOptions(self.normalizer, self.action_range or None, own_action_range(family))
        policy = read_policy(self.source, options, self.format)
        policy.check_sizes(family.name, family.observation_size, family.action_size)
        task = self._task(zoo, family)
        zoo = zoo or Zoo.create(self.zoo, family.name, self.seed)
        if not zoo.has_base:
            under_a_bar(zoo, _timesteps(self.base_timesteps), "base", build_base)
        expert = import_with_progress(zoo, task, policy, settings, self.seed)
        if self.json:
            print_json({**expert_row(expert), "record": expert.record})
        else:
            print_imported(zoo, expert)
        return 0

    def _settings(self) -> ImportSettings:
        """Check the flags before anything is read."""
        from metamap_agents.experts.distillation import Distillation
        from metamap_agents.experts.importing import ImportSettings
        from metamap_envs.errors import MetaMapError
        from metamap_envs.settings import parse

        if bool(self.parameters) == bool(self.task):
            raise MetaMapError(
                "experts import: expected one of --parameters NAME=VALUE ... (the task that the policy was trained on; "
                "others have their defaults) and --task TASK_ID (a task of the zoo); got "
                f"{'both' if self.task else 'none of them'}"
            )
        given = {"rounds": self.rounds, "states": self.states, "steps": self.updates}
        return ImportSettings(self.method, self.episodes, parse(Distillation, given, "distillation"))

    def _family(self, zoo: Zoo | None) -> Family:
        """The family, of the zoo or of a new one."""
        from metamap_envs.errors import MetaMapError
        from metamap_rl.cli.inputs import read_family

        if zoo is None and self.family is None:
            raise MetaMapError(f"{self.zoo} is not a zoo yet: --family FAMILY makes it, and trains its base policy")
        family = read_family(self.family) if self.family is not None else None
        if zoo is not None and family is not None and family.name != zoo.family.name:
            raise MetaMapError(f"{self.zoo}: expected a zoo of {family.name!r}, it is one of {zoo.family.name!r}")
        found = zoo.family if zoo is not None else family
        assert found is not None, "one of them is given"
        return found

    def _task(self, zoo: Zoo | None, family: Family) -> Task:
        """The task, which must have no expert yet."""
        from metamap_agents.experts.import_tasks import given_task, task_of_zoo
        from metamap_envs.errors import MetaMapError
        from metamap_rl.cli.inputs import read_numbers

        if self.task is not None:
            if zoo is None:
                raise MetaMapError(f"--task: {self.zoo} is not a zoo yet: expected --parameters NAME=VALUE ...")
            task = task_of_zoo(zoo, self.task)
        else:
            task = given_task(family, read_numbers(self.parameters, "--parameters"), self.split)
        if zoo is not None and zoo.has(task) and not self.replace:
            raise MetaMapError(f"{self.zoo} has an expert of {task.id} ({task.describe()}): --replace replaces it")
        return task


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


COMMANDS = (TrainExperts, ImportExpert, ListExperts, ResizeExperts)

"""Train the policies of a zoo: base policy, universal policy, and experts in parallel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from metamap_agents.experts.expert import Expert
from metamap_agents.experts.ppo import OnProgress
from metamap_agents.experts.recipes import Recipe, Stage, load_recipe
from metamap_agents.experts.training import train_base, train_expert, train_universal
from metamap_agents.experts.universal import UniversalPolicy
from metamap_agents.experts.zoo import Zoo
from metamap_agents.policy.base import BasePolicy
from metamap_agents.policy.evaluation import clearly_better, evaluate_policies
from metamap_agents.runtime.executors import Executor, LocalExecutor, LostJobError
from metamap_envs.errors import MetaMapError
from metamap_envs.simulator import default_threads
from metamap_envs.task import Task

__all__ = [
    "build_base",
    "build_experts",
    "build_universal",
    "lacks_universal",
    "settle_base",
    "train_first",
    "universal_for",
]

_SETTLED = "mean_parent"
_NAMES = {"base": "base policy", "parent": "universal policy"}
"""By the name of the lock."""
_SETTLING_TASKS = 64
_SETTLING_EPISODES = 2

OnExpert = Callable[[int, int, Expert], None]
"""Called after each expert with (finished, in total, the expert)."""


def build_base(
    zoo: Zoo, *, overrides: Mapping[str, Any] | None = None, num_threads: int = 0, on_progress: OnProgress | None = None
) -> None:
    """Train the base policy of a zoo if it is missing.

    Args:
        zoo: the zoo that stores it.
        overrides: settings that replace the recipe's.
        num_threads: 0 takes all cores.
        on_progress: see `OnProgress`.

    Raises:
        MetaMapError: another process is training it, or a setting is not allowed.
    """
    recipe = load_recipe(zoo.family.name, "base", **(overrides or {}))
    with _sole(zoo, "base"):
        if not zoo.has_base:
            zoo.put_base(
                train_base(zoo.family.name, recipe, seed=zoo.seed, num_threads=num_threads, on_progress=on_progress)
            )


def build_universal(
    zoo: Zoo, *, overrides: Mapping[str, Any] | None = None, num_threads: int = 0, on_progress: OnProgress | None = None
) -> None:
    """Train the universal policy of a zoo if it is missing.

    Args:
        zoo: a zoo with a base policy, whose normaliser is used.
        overrides: settings that replace those of the recipe ``parent``.
        num_threads: 0 takes all cores.
        on_progress: see `OnProgress`.

    Raises:
        MetaMapError: another process is training it, or training diverged.
    """
    recipe = load_recipe(zoo.family.name, "parent", **(overrides or {}))
    with _sole(zoo, "parent"):
        if not zoo.has_universal:
            zoo.put_universal(
                train_universal(
                    zoo.family.name,
                    zoo.base,
                    recipe,
                    seed=zoo.seed,
                    num_threads=num_threads,
                    on_progress=on_progress,
                )
            )


def train_first(zoo: Zoo, recipe: Recipe, train: Callable[[Stage, Callable[..., None]], None]) -> None:
    """Train what the experts of a recipe need and the zoo lacks: base policy, universal policy, choice of phi_0.

    Args:
        zoo: the zoo.
        recipe: the recipe of the experts.
        train: called with "base" and `build_base`, then with "parent" and `build_universal`, for each one missing.
    """
    if not zoo.has_base:
        train("base", build_base)
    if lacks_universal(zoo, recipe):
        train("parent", build_universal)
    if recipe.start == "parent":
        settle_base(zoo)


def settle_base(zoo: Zoo, *, num_threads: int = 0) -> None:
    """Replace phi_0 by the universal policy at the mean training task, if that is clearly better on training tasks.

    The universal policy is trained longer. Where it is the better robust policy at the mean task, the gain of an expert
    over the old phi_0 would come from more training, not from adaptation. Done once, before the first expert; the
    record of the base policy then has ``mean_parent``: the mean returns of both, and whether phi_0 was replaced.

    Args:
        zoo: a zoo with a base policy and a universal policy.
        num_threads: threads of the simulator; 0 takes all cores.

    Raises:
        MetaMapError: no base policy or no universal policy, or another process is training one of them.
    """
    if _SETTLED in zoo.base.record or zoo.experts():
        return
    with _sole(zoo, "base"):
        base, universal = zoo.base, zoo.universal
        mean = universal.mean_phi()
        tasks = zoo.tasks("train", _SETTLING_TASKS)
        returns = [
            evaluate_policies(
                tasks, base.policies(phi), episodes=_SETTLING_EPISODES, num_threads=num_threads
            ).returns.mean(axis=1)
            for phi in (base.phi, mean)
        ]
        taken = clearly_better(returns[1], returns[0])
        means = {"base_return": float(returns[0].mean()), "return": float(returns[1].mean())}
        found = {**means, "tasks": len(tasks), "taken": taken}
        record = {**base.record, _SETTLED: found}
        if taken:
            base = replace(base, phi=mean, critic=universal.mean_critic())
        zoo.put_base(replace(base, record=record))


@contextmanager
def _sole(zoo: Zoo, what: str) -> Iterator[None]:
    """Be the only process that trains the base policy or the universal policy of a zoo."""
    with zoo.claim(what) as ours:
        if not ours:
            raise MetaMapError(f"another process is training the {_NAMES[what]} of {zoo.root}; wait for it to finish")
        yield


def lacks_universal(zoo: Zoo, recipe: Recipe) -> bool:
    """Return whether experts of this recipe need a universal policy that the zoo lacks."""
    return recipe.start == "parent" and not zoo.has_universal


def universal_for(zoo: Zoo, recipe: Recipe) -> UniversalPolicy | None:
    """Return the universal policy that experts of this recipe start from; None if they start from phi_0.

    Raises:
        MetaMapError: the zoo has no universal policy.
    """
    return zoo.universal if recipe.start == "parent" else None


def build_experts(
    zoo: Zoo,
    tasks: Sequence[Task],
    *,
    overrides: Mapping[str, Any] | None = None,
    workers: int = 0,
    executor: Executor | None = None,
    on_expert: OnExpert | None = None,
) -> None:
    """Train the missing experts of a zoo, except those that other processes are training.

    Each expert takes one core; its result depends on the zoo's seed and the task alone, not on where it is trained.
    Only this process writes to the zoo: each expert as soon as it is finished, so that a stopped build can be resumed.

    Args:
        zoo: a zoo with a base policy.
        tasks: tasks of the experts.
        overrides: settings that replace the recipe's.
        workers: processes on this machine, without ``executor``; 0 takes all cores, 1 trains in this process.
        executor: runs the trainings.
        on_expert: called after each expert.

    Raises:
        MetaMapError: no base policy or, where experts start from it, no universal policy, a setting that is not
            allowed, a negative number of workers, a training that diverged, or one whose process was killed twice.
    """
    if workers < 0:
        raise MetaMapError(f"the number of workers must be 0 (all cores) or more, got {workers}")
    recipe = load_recipe(zoo.family.name, "expert", **(overrides or {}))
    share = zoo.base, recipe, universal_for(zoo, recipe)
    todo = zoo.missing(tasks)
    with ExitStack() as stack:
        if executor is None:
            executor = stack.enter_context(LocalExecutor(min(workers or default_threads(), max(1, len(todo)))))
        handout = stack.enter_context(_Handout(zoo, len(todo), on_expert))
        try:
            for index, expert in executor.run(_train, handout.jobs(todo), share=share):
                handout.put(index, expert)
        except LostJobError as error:
            task = handout.task(error.index)
            raise MetaMapError(
                f"{zoo.root}: a process that trained the expert of {task.id} ({task.describe()}) was killed "
                "twice, possibly for lack of memory; finished experts are kept: start again, with fewer workers if "
                "memory is short"
            ) from error


def _train(base: BasePolicy, recipe: Recipe, universal: UniversalPolicy | None, task: Task, seed: int) -> Expert:
    """Train one expert in a worker."""
    return train_expert(task, base, recipe, seed=seed, start=universal)


class _Handout(ExitStack):
    """Hands out tasks one by one; each is claimed in the zoo until its expert is stored, or until the end."""

    def __init__(self, zoo: Zoo, total: int, on_expert: OnExpert | None) -> None:
        super().__init__()
        self._zoo = zoo
        self._total = total
        self._on_expert = on_expert
        self._under_way: list[tuple[Task, ExitStack]] = []
        self._finished = 0

    def jobs(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, int]]:
        """Yield the tasks that no other process has finished or is training, with their seeds."""
        for task in tasks:
            claim = self.enter_context(ExitStack())
            if claim.enter_context(self._zoo.claim(task.id)) and not self._zoo.has(task):
                self._under_way.append((task, claim))
                yield task, self._zoo.expert_seed(task)
            else:
                claim.close()
                self._finish(task)

    def task(self, index: int) -> Task:
        """The task of a job."""
        return self._under_way[index][0]

    def put(self, index: int, expert: Expert) -> None:
        """Store a job's expert."""
        self._zoo.put(expert)
        task, claim = self._under_way[index]
        claim.close()
        self._finish(task)

    def _finish(self, task: Task) -> None:
        self._finished += 1
        if self._on_expert is not None and self._zoo.has(task):
            self._on_expert(self._finished, self._total, self._zoo.get(task))

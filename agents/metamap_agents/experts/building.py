"""Filling a zoo: the base policy first, then experts, several at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from metamap_agents.experts.expert import Expert
from metamap_agents.experts.ppo import OnProgress
from metamap_agents.experts.recipes import Recipe, Stage, load_recipe
from metamap_agents.experts.training import train_base, train_expert, train_parent
from metamap_agents.experts.universal import Parent
from metamap_agents.experts.zoo import Zoo
from metamap_agents.policy.base import BasePolicy
from metamap_agents.policy.evaluation import clearly_better, evaluate_policies
from metamap_agents.runtime.executors import Executor, LocalExecutor, LostJobError
from metamap_envs.errors import MetaMapError
from metamap_envs.simulator import default_threads
from metamap_envs.task import Task

__all__ = ["build_base", "build_experts", "build_parent", "lacks_parent", "parent_for", "settle_base", "train_first"]

_SETTLED = "mean_parent"
_SETTLING_TASKS = 64
_SETTLING_EPISODES = 2

OnExpert = Callable[[int, int, Expert], None]
"""Called after each expert with (finished, in total, the expert)."""


def build_base(
    zoo: Zoo, *, overrides: Mapping[str, Any] | None = None, num_threads: int = 0, on_progress: OnProgress | None = None
) -> None:
    """Train the zoo's base policy if it is not there.

    Args:
        zoo: where to put it.
        overrides: settings that replace the recipe's.
        num_threads: 0 takes all cores.
        on_progress: see `OnProgress`.

    Raises:
        MetaMapError: another process is training it, or a setting is not admitted.
    """
    recipe = load_recipe(zoo.family.name, "base", **(overrides or {}))
    with _sole(zoo, "base"):
        if not zoo.has_base:
            zoo.put_base(
                train_base(zoo.family.name, recipe, seed=zoo.seed, num_threads=num_threads, on_progress=on_progress)
            )


def build_parent(
    zoo: Zoo, *, overrides: Mapping[str, Any] | None = None, num_threads: int = 0, on_progress: OnProgress | None = None
) -> None:
    """Train the zoo's parent policy if it is not there.

    Args:
        zoo: with a base policy, whose normaliser it uses.
        overrides: settings that replace the parent recipe's.
        num_threads: 0 takes all cores.
        on_progress: see `OnProgress`.

    Raises:
        MetaMapError: another process is training it, or training diverged.
    """
    recipe = load_recipe(zoo.family.name, "parent", **(overrides or {}))
    with _sole(zoo, "parent"):
        if not zoo.has_parent:
            zoo.put_parent(
                train_parent(
                    zoo.family.name,
                    zoo.base,
                    recipe,
                    seed=zoo.seed,
                    num_threads=num_threads,
                    on_progress=on_progress,
                )
            )


def train_first(zoo: Zoo, recipe: Recipe, train: Callable[[Stage, Callable[..., None]], None]) -> None:
    """Make what experts of a recipe need and the zoo has not: base policy, parent policy, the choice between them.

    Args:
        zoo: the zoo.
        recipe: of the experts.
        train: called with "base" and `build_base`, then with "parent" and `build_parent`, where that one is missing.
    """
    if not zoo.has_base:
        train("base", build_base)
    if lacks_parent(zoo, recipe):
        train("parent", build_parent)
    if recipe.start == "parent":
        settle_base(zoo)


def settle_base(zoo: Zoo, *, num_threads: int = 0) -> None:
    """Let phi_0 be the parent's policy told the mean of the training tasks, if that is clearly better on such tasks.

    A parent is trained longer, and knows more. Where its policy for the mean task is the better robust policy, what
    an expert gains over the old phi_0 would be mere training, not adaptation. Done once, before the first expert;
    then the record of the base policy has ``mean_parent``: the mean returns of both, and which was taken.

    Args:
        zoo: with a base policy and a parent policy.
        num_threads: of the simulator; 0 takes all cores.

    Raises:
        MetaMapError: no base or parent policy, or another process is at it.
    """
    if _SETTLED in zoo.base.record or zoo.experts():
        return
    with _sole(zoo, "base"):
        base, parent = zoo.base, zoo.parent
        mean = parent.mean_phi()
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
            base = replace(base, phi=mean, critic=parent.mean_critic())
        zoo.put_base(replace(base, record=record))


@contextmanager
def _sole(zoo: Zoo, what: str) -> Iterator[None]:
    """Be the one process that trains a zoo's base or parent policy."""
    with zoo.claim(what) as ours:
        if not ours:
            raise MetaMapError(f"another process is training the {what} policy of {zoo.root}; wait for it to finish")
        yield


def lacks_parent(zoo: Zoo, recipe: Recipe) -> bool:
    """Whether experts of this recipe need a parent policy that the zoo has not yet."""
    return recipe.start == "parent" and not zoo.has_parent


def parent_for(zoo: Zoo, recipe: Recipe) -> Parent | None:
    """The parent policy that experts of this recipe start from; None if they start from phi_0.

    Raises:
        MetaMapError: the zoo has none yet.
    """
    return zoo.parent if recipe.start == "parent" else None


def build_experts(
    zoo: Zoo,
    tasks: Sequence[Task],
    *,
    overrides: Mapping[str, Any] | None = None,
    workers: int = 0,
    executor: Executor | None = None,
    on_expert: OnExpert | None = None,
) -> None:
    """Train the experts that a zoo does not have yet; those that other processes are training are left to them.

    Each expert takes one core; its result depends on the zoo's seed and the task alone, not on where it is trained.
    Only this process touches the zoo: it writes each expert as soon as it arrives, so that a build which is stopped
    goes on where it was.

    Args:
        zoo: with a base policy.
        tasks: which experts.
        overrides: settings that replace the recipe's.
        workers: processes on this machine, if no executor is given; 0 takes all cores, 1 stays in this process.
        executor: where to train.
        on_expert: called after each expert.

    Raises:
        MetaMapError: no base policy or, where experts start from it, no parent policy, a setting is not admitted, a
            negative number of workers, a training that diverged, or one whose process was killed again and again.
    """
    if workers < 0:
        raise MetaMapError(f"the number of workers must be 0 (all cores) or more, got {workers}")
    recipe = load_recipe(zoo.family.name, "expert", **(overrides or {}))
    share = zoo.base, recipe, parent_for(zoo, recipe)
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
                f"{zoo.root}: a process that trained the expert of {task.id} ({task.describe()}) was killed, and again "
                "when it was tried anew, perhaps for want of memory; what is finished is kept: start again, with fewer "
                "workers if memory is short"
            ) from error


def _train(base: BasePolicy, recipe: Recipe, parent: Parent | None, task: Task, seed: int) -> Expert:
    """Train one expert, wherever this runs."""
    return train_expert(task, base, recipe, seed=seed, parent=parent)


class _Handout(ExitStack):
    """Hands tasks out one by one; each is claimed in the zoo from then until its expert is there, or until the end."""

    def __init__(self, zoo: Zoo, total: int, on_expert: OnExpert | None) -> None:
        super().__init__()
        self._zoo = zoo
        self._total = total
        self._on_expert = on_expert
        self._under_way: list[tuple[Task, ExitStack]] = []
        self._finished = 0

    def jobs(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, int]]:
        """Those tasks that nobody else has or is at, with their seeds."""
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

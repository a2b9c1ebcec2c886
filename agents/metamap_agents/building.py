"""Filling a zoo: the base policy first, then experts in parallel processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metamap_agents.recipes import load_recipe
from metamap_agents.training import Expert, OnProgress, train_base, train_expert
from metamap_agents.zoo import Zoo
from metamap_envs.errors import MetaMapError
from metamap_envs.simulator import default_threads
from metamap_envs.task import Task

__all__ = ["build_base", "build_experts"]

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
    with zoo.claim("base") as ours:
        if not ours:
            raise MetaMapError(f"another process is training the base policy of {zoo.root}; wait for it to finish")
        if not zoo.has_base:
            zoo.put_base(
                train_base(zoo.family.name, recipe, seed=zoo.seed, num_threads=num_threads, on_progress=on_progress)
            )


def build_experts(
    zoo: Zoo,
    tasks: Sequence[Task],
    *,
    overrides: Mapping[str, Any] | None = None,
    workers: int = 0,
    on_expert: OnExpert | None = None,
) -> None:
    """Train the experts that a zoo does not have yet; those that other processes are training are left to them.

    Each expert takes one core; its result depends on the zoo's seed and the task alone, not on the number of workers.

    Args:
        zoo: with a base policy.
        tasks: which experts.
        overrides: settings that replace the recipe's.
        workers: processes; 0 takes all cores, 1 stays in this process.
        on_expert: called after each expert.

    Raises:
        MetaMapError: no base policy, a setting is not admitted, a negative number of workers, or a worker was killed.
    """
    if workers < 0:
        raise MetaMapError(f"the number of workers must be 0 (all cores) or more, got {workers}")
    _ = zoo.base
    settings = dict(overrides or {})
    load_recipe(zoo.family.name, "expert", **settings)  # an unknown setting fails here, not in a worker
    todo = zoo.missing(tasks)
    workers = min(workers or default_threads(), max(1, len(todo)))
    if workers == 1:
        for count, task in enumerate(todo, start=1):
            _build_one(zoo.root, task, settings)
            _report(zoo, task, count, len(todo), on_expert)
        return
    context = multiprocessing.get_context("spawn")  # forked threads of torch and MuJoCo would hang
    others = multiprocessing.active_children()
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent) as pool:
        try:
            with _interrupts_held():
                futures = {pool.submit(_build_one, zoo.root, task, settings): task for task in todo}
            for count, future in enumerate(as_completed(futures), start=1):
                future.result()
                _report(zoo, futures[future], count, len(todo), on_expert)
        except BrokenProcessPool:
            raise MetaMapError(
                f"{zoo.root}: a process that trained an expert was killed, perhaps for want of memory; "
                "what is finished is kept: start again, with fewer workers if memory is short"
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                if process not in others:
                    process.terminate()  # its expert is trained again by the next build
            raise


def _build_one(root: Path, task: Task, settings: dict[str, Any]) -> None:
    """Train one expert, unless it is there or somebody else is at it. Runs in a worker."""
    zoo = Zoo.open(root)
    recipe = load_recipe(zoo.family.name, "expert", **settings)
    with zoo.claim(task.id) as ours:
        if ours and not zoo.has(task):
            zoo.put(train_expert(task, zoo.base, recipe, seed=zoo.expert_seed(task)))


def _report(zoo: Zoo, task: Task, count: int, total: int, on_expert: OnExpert | None) -> None:
    if on_expert is not None and zoo.has(task):
        on_expert(count, total, zoo.get(task))


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back while workers are started: they inherit that, and leave it to this process for good.

    Ignoring it in the worker itself would be too late: it reaches the whole group of processes, and they take seconds
    to import their modules.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)  # an interrupt that came meanwhile is raised here


def _end_with_parent() -> None:
    """Start a thread that ends this worker when the build is killed; it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "runs in a worker"

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

"""Adding a user's learner to a benchmark, after a trial."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np

from metamap_agents.runtime.storage import claim_output, write_bytes
from metamap_envs.errors import MetaMapError
from metamap_envs.registry import get_family
from metamap_envs.rollout import Rollout
from metamap_envs.seeds import read_seed
from metamap_envs.task import Task
from metamap_rl.bench.config import bench_to_yaml, load_bench
from metamap_rl.bench.contract import StreamLearner, describe_error
from metamap_rl.bench.counted import CountedEnv
from metamap_rl.bench.entry import ExternalSettings, LearnerFolder, make_external, read_folder

__all__ = ["add_learner", "try_learner"]

_FAMILIES = ("reacher-goal", "cartpole-swingup")
"""Families of two embodiments of different sizes, fast to simulate."""
_STEPS = 64


def add_learner(folder: Path, bench: Path, *, seed: int = 0) -> str:
    """Try a learner, copy its folder into a benchmark, and add it to the config.

    Args:
        folder: folder with ``learner.yaml``.
        bench: folder of the benchmark.
        seed: seed of the trial.

    Returns:
        The learner's name.

    Raises:
        MetaMapError: the learner fails the trial, or its name is taken.
    """
    seed = read_seed(seed)
    from metamap_rl.bench.run import open_bench

    about, config = read_folder(folder), open_bench(bench)
    if about.name in config.learners:
        raise MetaMapError(f"{bench}: has a learner {about.name!r} already: choose another name in learner.yaml")
    try_learner(_settings(about, str(folder.resolve())), seed)
    place = bench / "learners" / about.name
    claim_output(place, overwrite=True)
    shutil.rmtree(place, ignore_errors=True)
    try:
        shutil.copytree(folder, place, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    except OSError as error:  # shutil.Error is one, with a list of files
        shutil.rmtree(place, ignore_errors=True)
        raise MetaMapError(f"{place}: cannot be written ({error.strerror or 'not all files can be copied'})") from error
    settings = _settings(about, f"learners/{about.name}").model_dump(mode="json", exclude_none=True)
    changed = config.model_copy(update={"learners": {**config.learners, about.name: settings}})
    write_bytes(bench / "bench.yaml", bench_to_yaml(changed).encode())
    load_bench(bench / "bench.yaml")
    return about.name


def try_learner(settings: ExternalSettings, seed: int = 0) -> None:
    """Run a learner on two embodiments for a few environment steps.

    Raises:
        MetaMapError: it violates the interface; the message names how.
    """
    seed = read_seed(seed)
    what = settings.entry or settings.sb3
    assert what is not None  # checked by ExternalSettings
    try:
        _try(make_external(settings, seed), what, seed)
    except MetaMapError:
        raise
    except Exception as error:  # user code may raise anything
        raise MetaMapError(f"{what}: fails in a trial with {describe_error(error)}") from error


def _try(learner: StreamLearner, what: str, seed: int) -> None:
    """The trial itself."""
    for name in _FAMILIES:
        task = get_family(name).sample("train", 1, seed)[0]
        env = CountedEnv(task)
        _act(learner, env, task, f"{what}: policy before anything was learnt")
        learner.learn(env, _STEPS)
        if env.steps > _STEPS:
            raise MetaMapError(f"{what}: learn took {env.steps} environment steps of {_STEPS}")
        _act(learner, env, task, f"{what}: policy")
        env.close()
    with tempfile.TemporaryDirectory() as folder:
        learner.save(Path(folder))


def _act(learner: StreamLearner, env: CountedEnv, task: Task, what: str) -> None:
    """Request a policy for an empty D, and two actions."""
    family = get_family(task.family)
    size, actions = family.observation_size, family.action_size
    empty = Rollout(
        family.name,
        observations=np.zeros((0, size), np.float32),
        actions=np.zeros((0, actions), np.float32),
        rewards=np.zeros(0, np.float32),
        next_observations=np.zeros((0, size), np.float32),
        terminated=np.zeros(0, np.bool_),
        truncated=np.zeros(0, np.bool_),
    )
    given = learner.policy(env, empty).predict(np.zeros((2, size), np.float32))
    if len(given) != 2:
        raise MetaMapError(f"{what}: expected predict to return (actions, state), got {type(given).__name__}")
    array = np.asarray(given[0], dtype=np.float64)
    if array.shape != (2, actions) or not np.isfinite(array).all():
        raise MetaMapError(f"{what}: expected finite actions [2, {actions}] on {family.name}, got shape {array.shape}")


def _settings(about: LearnerFolder, folder: str) -> ExternalSettings:
    return ExternalSettings(
        entry=about.entry,
        folder=folder,
        steps=about.steps,
        points=about.points,
        alone=about.alone,
        settings=about.settings,
    )

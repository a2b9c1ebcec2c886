"""Adding a user's learner to a benchmark, after a trial."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metamap_agents.runtime.storage import claim_output, write_bytes
from metamap_envs.errors import MetaMapError
from metamap_envs.registry import get_family
from metamap_envs.rollout import Rollout
from metamap_envs.seeds import read_seed
from metamap_envs.settings import parse
from metamap_rl.bench.config import CONFIG, BenchConfig, bench_to_yaml, load_bench, open_bench
from metamap_rl.bench.contract import StreamLearner, Transitions, describe_error
from metamap_rl.bench.course import checked_actions
from metamap_rl.bench.entry import ExternalSettings, LearnerFolder, make_external, read_folder
from metamap_rl.bench.environment_course import GymTransitions
from metamap_rl.bench.shorthands import is_file_entry
from metamap_rl.bench.worlds import CountedEnv, FamilyWorld, World

__all__ = ["add_learner", "adopt_files", "as_copied", "try_learner"]

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
    write_bytes(bench / CONFIG, bench_to_yaml(changed).encode())
    load_bench(bench / CONFIG)
    return about.name


def adopt_files(config: BenchConfig, out: Path, worlds: Sequence[World], *, seed: int = 0) -> BenchConfig:
    """Try the learners of a benchmark that are one file each, and copy the files into its folder.

    Args:
        config: the benchmark.
        out: its folder; nothing is written before all have passed.
        worlds: worlds of the trial, one of each pair of spaces of the benchmark.
        seed: seed of the trial.

    Returns:
        The benchmark with the copies.

    Raises:
        MetaMapError: no such file, it fails the trial, it has changed since cells of its learner were run, or no seed.
    """
    seed = read_seed(seed)
    files = {name: _File.of(settings["entry"]) for name, settings in config.learners.items() if is_file_entry(settings)}
    copied = as_copied(config)
    for name, file in files.items():
        copy = out / "learners" / name / file.path.name
        known = copy.is_file() and copy.read_bytes() == file.content
        if not known and copy.is_file() and any(out.glob(f"cells/*/{name}-order*/cell.json")):
            raise MetaMapError(
                f"learner {name!r}: {file.path} has changed since its cells in {out} were run: give it another name "
                f"(--learner other={file.path.name}:{file.kind}), or remove {out}/cells/*/{name}-order*"
            )
        if not known:
            _try_file(name, file, copied.learners[name], worlds, seed)
    for name, file in files.items():
        write_bytes(out / "learners" / name / file.path.name, file.content)
    return copied


def as_copied(config: BenchConfig) -> BenchConfig:
    """A benchmark with learners of one file as they are recorded once the files are copied."""
    learners = dict(config.learners)
    for name, settings in config.learners.items():
        if is_file_entry(settings):
            file, _, kind = settings["entry"].rpartition(":")
            learners[name] = {**settings, "entry": f"{Path(file).name}:{kind}", "folder": f"learners/{name}"}
    return config.model_copy(update={"learners": learners})


@dataclass(frozen=True)
class _File:
    """A user's learner in one file."""

    path: Path
    kind: str
    content: bytes

    @classmethod
    def of(cls, entry: str) -> _File:
        """Read the file of ``file.py:Class``.

        Raises:
            MetaMapError: it cannot be read, or its name has a dot.
        """
        name, _, kind = entry.rpartition(":")
        path = Path(name)
        if "." in path.stem:
            raise MetaMapError(
                f"{path}: expected a file name without another dot, such as {path.stem.split('.')[0]}.py"
            )
        try:
            return cls(path, kind, path.read_bytes())
        except OSError as error:
            raise MetaMapError(f"{path}: cannot be read ({error.strerror})") from error


def _try_file(name: str, file: _File, settings: Mapping[str, Any], worlds: Sequence[World], seed: int) -> None:
    """Try a copy of the file, which is alone in its folder as it will be in the benchmark."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / file.path.name).write_bytes(file.content)
        try:
            try_learner(parse(ExternalSettings, {**settings, "folder": folder}, "settings"), seed, worlds)
        except MetaMapError as error:
            raise MetaMapError(f"learner {name!r}: {error}") from None


def try_learner(settings: ExternalSettings, seed: int = 0, worlds: Sequence[World] | None = None) -> None:
    """Run a learner in a few worlds for a few environment steps.

    Args:
        settings: of the learner.
        seed: its seed.
        worlds: where; default two embodiments of different sizes.

    Raises:
        MetaMapError: it violates the interface; the message names how.
    """
    seed = read_seed(seed)
    what = settings.entry or settings.sb3
    assert what is not None  # checked by ExternalSettings
    if worlds is None:
        worlds = [FamilyWorld(get_family(name).sample("train", 1, seed)[0]) for name in _FAMILIES]
    try:
        _try(make_external(settings, seed), what, worlds)
    except MetaMapError:
        raise
    except (Exception, SystemExit) as error:  # user code may raise anything, and may end the interpreter
        raise MetaMapError(f"{what}: fails in a trial with {describe_error(error)}") from error


def _try(learner: StreamLearner, what: str, worlds: Sequence[World]) -> None:
    """The trial itself."""
    for world in worlds:
        env = CountedEnv(world)
        _act(learner, env, f"{what}: policy before anything was learnt")
        learner.learn(env, _STEPS)
        if env.steps > _STEPS:
            raise MetaMapError(f"{what}: learn took {env.steps} environment steps of {_STEPS}")
        _act(learner, env, f"{what}: policy")
        env.close()
    with tempfile.TemporaryDirectory() as folder:
        learner.save(Path(folder))


def _act(learner: StreamLearner, env: CountedEnv, what: str) -> None:
    """Request a policy for an empty D, and two actions."""
    shape = env.observation_space.shape or ()
    policy = learner.policy(env, _empty(env))
    if not callable(getattr(policy, "predict", None)):
        raise MetaMapError(f"{what}: expected an object with predict, got {type(policy).__name__}")
    given: Any = policy.predict(np.zeros((2, *shape), np.float32))
    if not isinstance(given, tuple) or len(given) != 2:
        raise MetaMapError(f"{what}: expected predict to return (actions, state), got {type(given).__name__}")
    try:
        checked_actions(given[0], 2, env.action_space)
    except MetaMapError as error:
        raise MetaMapError(f"{what}: {error} ({env.world.label})") from None


def _empty(env: CountedEnv) -> Transitions:
    """D of no transitions."""
    observations, actions = env.observation_space.shape or (), env.action_space.shape or ()
    zeros = {
        "observations": np.zeros((0, *observations), np.float32),
        "actions": np.zeros((0, *actions), np.float32),
        "rewards": np.zeros(0, np.float32),
        "next_observations": np.zeros((0, *observations), np.float32),
        "terminated": np.zeros(0, np.bool_),
        "truncated": np.zeros(0, np.bool_),
    }
    arrays: dict[str, Any] = zeros
    return Rollout(env.world.task.family, **arrays) if isinstance(env.world, FamilyWorld) else GymTransitions(**arrays)


def _settings(about: LearnerFolder, folder: str) -> ExternalSettings:
    return ExternalSettings(
        entry=about.entry,
        folder=folder,
        steps=about.steps,
        points=about.points,
        alone=about.alone,
        settings=about.settings,
    )

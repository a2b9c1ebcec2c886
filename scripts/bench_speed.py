"""Speed of mapping, PPO, starting up and executors. Prints one JSON document; docs/results has those by these names.

``mapping``: milliseconds from 200 transitions to the weights of a policy, for each bundled mapper.
``training``: steps per second of SB3's PPO over the fast simulator and over SB3's own vector environments, with the
same network, PPO settings (the expert recipes), task and number of environments, by turns.
``startup``: seconds of the whole process `metamap adapt`, and of importing torch and Stable-Baselines3, by turns; those
of the processor too, since those of the clock mean little on a busy machine.
``service``: milliseconds of `act` and `observe` of an adapter per step, and of mapping its window, for each bundled
mapper, over 1000 steps of a recorded run with four tasks that is replayed. The fastest replay of each step counts,
since other processes stop some of them; by the clock, and in time of the processor.
``executors``: seconds of a batch of experts of reacher-goal on Ray and in processes of this machine, by turns; every
batch must give the same experts, to the bit.

    python scripts/bench_speed.py mapping
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from metamap_agents.experts.building import build_base, build_experts
from metamap_agents.experts.recipes import Recipe, load_recipe
from metamap_agents.experts.zoo import Zoo
from metamap_agents.runtime.executors import EXECUTORS, make_executor
from metamap_agents.runtime.machine import describe_machine
from metamap_agents.runtime.storage import library_versions
from metamap_agents.sb3.vec_env import FamilyVecEnv
from metamap_envs.registry import get_family
from metamap_envs.simulator import default_threads
from metamap_envs.task import Task
from metamap_rl.adaptation.bundled import bundled_families, load_mapper
from metamap_rl.adaptation.service import Adapter, AdapterConfig
from metamap_rl.probing.collecting import collect
from metamap_rl.probing.documents import probe_from_json


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


# mapping --------------------------------------------------------------------------------------------------------------


def mapping(arguments: argparse.Namespace) -> dict[str, Any]:
    steps, repeats, families = 200, arguments.repeats or 200, arguments.family or bundled_families()
    found = [map_family(family, steps, repeats) for family in families]
    return {"steps": steps, "repeats": repeats, "families": found}


def map_family(family: str, steps: int, repeats: int) -> dict[str, Any]:
    """Milliseconds of `Mapper.generate`, checks included."""
    mapper = load_mapper(family)
    task = get_family(family).sample("test-in", 1, 0)[0]
    rollout = collect(probe_from_json(mapper.probe), [task], mapper.base, steps=steps, seed=0).rollout(0)
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        mapper.generate(rollout)
        times.append(1000.0 * (time.perf_counter() - started))
    times.sort()
    return {
        "family": family,
        "weights": mapper.base.spec.size,
        "milliseconds": {
            "median": statistics.median(times),
            "min": times[0],
            "95th percentile": times[int(0.95 * (len(times) - 1))],
        },
    }


# training -------------------------------------------------------------------------------------------------------------


def training(arguments: argparse.Namespace) -> dict[str, Any]:
    repeats, families = arguments.repeats or 3, arguments.family or ["cheetah-velocity", "cheetah-actuators"]
    return {
        "families": {family: train_family(family, repeats, arguments) for family in families},
        "repeats": repeats,
    }


def ours(family: str, count: int) -> VecEnv:
    """The fast simulator."""
    return FamilyVecEnv([get_family(family).task()] * count, seed=0)


def subprocesses(family: str, count: int) -> VecEnv:
    """One process per environment, as SB3's documentation recommends for speed."""
    return make_vec_env(get_family(family).gym_id, count, seed=0, vec_env_cls=SubprocVecEnv)


def in_process(family: str, count: int) -> VecEnv:
    """All environments in this process, one after the other: SB3's default."""
    return make_vec_env(get_family(family).gym_id, count, seed=0, vec_env_cls=DummyVecEnv)


KINDS: dict[str, Callable[[str, int], VecEnv]] = {
    "metamap": ours,
    "sb3 SubprocVecEnv": subprocesses,
    "sb3 DummyVecEnv": in_process,
}


def steps_per_second(recipe: Recipe, envs: VecEnv, updates: int) -> float:
    """Train PPO for a few updates, the first of which is not timed."""
    model = PPO(
        "MlpPolicy",
        envs,
        n_steps=recipe.n_steps,
        batch_size=recipe.batch_size,
        n_epochs=recipe.n_epochs,
        gamma=recipe.gamma,
        gae_lambda=recipe.gae_lambda,
        policy_kwargs={"net_arch": {"pi": [64, 64], "vf": [64, 64]}},
        seed=0,
        device="cpu",
    )
    rollout = recipe.n_steps * recipe.n_envs
    model.learn(rollout)
    started = time.perf_counter()
    model.learn(updates * rollout)
    return updates * rollout / (time.perf_counter() - started)


def train_family(family: str, repeats: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """All kinds by turns."""
    recipe = load_recipe(family, "expert")
    if arguments.envs is not None:
        batch = min(recipe.batch_size, recipe.n_steps * arguments.envs)
        recipe = load_recipe(family, "expert", n_envs=arguments.envs, batch_size=batch)
    speeds: dict[str, list[float]] = {name: [] for name in KINDS}
    for _ in range(repeats):
        for name, make in KINDS.items():
            vector = make(family, recipe.n_envs)
            speeds[name].append(steps_per_second(recipe, vector, arguments.updates))
            vector.close()
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    return {
        "recipe": recipe.model_dump(mode="json"),
        "steps_per_second": {name: spread(values) for name, values in speeds.items()},
        "times_of_subproc": {name: median / medians["sb3 SubprocVecEnv"] for name, median in medians.items()},
    }


# startup --------------------------------------------------------------------------------------------------------------

_IMPORTS = "import torch, stable_baselines3"
_ADAPT = ("adapt", "cheetah-velocity", "--parameters", "target_velocity=2")


def time_process(command: list[str]) -> dict[str, float]:
    """Seconds of the clock and of the processor that a process takes."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    clock, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"clock": clock, "processor": after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime}


def summary(runs: list[dict[str, float]]) -> dict[str, Any]:
    """Median and least of each kind of seconds."""
    return {
        kind: {"median": statistics.median(run[kind] for run in runs), "min": min(run[kind] for run in runs)}
        for kind in runs[0]
    }


def startup(arguments: argparse.Namespace) -> dict[str, Any]:
    repeats = arguments.repeats or 10
    commands = {
        "imports": [sys.executable, "-c", _IMPORTS],
        "adapt": [sys.executable, "-m", "metamap_rl.cli", *_ADAPT],
    }
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    for command in commands.values():  # whatever is read from the disk once
        time_process(command)
    for _ in range(repeats):
        for name, command in commands.items():
            runs[name].append(time_process(command))
    seconds = {name: summary(found) for name, found in runs.items()}
    return {
        "commands": {"imports": f"python -c '{_IMPORTS}'", "adapt": f"metamap {' '.join(_ADAPT)}"},
        "repeats": repeats,
        "seconds": seconds,
        "ratio": {
            kind: {of: seconds["adapt"][kind][of] / seconds["imports"][kind][of] for of in ("median", "min")}
            for kind in ("clock", "processor")
        },
    }


# executors ------------------------------------------------------------------------------------------------------------

_FAMILY = "reacher-goal"
_BASE_TIMESTEPS = 20_000  # how good the base policy is makes no difference to the speed


def wait(seconds: float) -> None:
    """A job that every worker has to take part in, if there are as many of them."""
    time.sleep(seconds)


def run_once(name: str, zoo: Zoo, tasks: Sequence[Task], overrides: dict[str, Any], workers: int) -> dict[str, float]:
    """Seconds of one start, one batch, and the end."""
    started = time.perf_counter()
    with make_executor(name, workers) as executor:
        list(executor.run(wait, [(0.5,)] * workers))
        ready = time.perf_counter()
        build_experts(zoo, tasks, overrides=overrides, executor=executor)
        done = time.perf_counter()
    ended = time.perf_counter()
    return {"start": ready - started, "batch": done - ready, "with start and end": ended - started}


def time_executors(folder: Path, count: int, repeats: int, timesteps: int | None, workers: int) -> dict[str, Any]:
    """All executors by turns, each time into a new zoo."""
    first = Zoo.create(folder / "base", _FAMILY, 0)
    build_base(first, overrides={"n_timesteps": _BASE_TIMESTEPS})
    overrides: dict[str, Any] = {"start": "base", **({} if timesteps is None else {"n_timesteps": timesteps})}
    tasks = first.tasks("train", count)
    zoos: list[Zoo] = []
    seconds: dict[str, list[dict[str, float]]] = {name: [] for name in EXECUTORS}
    for repeat in range(repeats):
        for name in EXECUTORS:
            zoo = Zoo.create(folder / f"{name}-{repeat}", _FAMILY, 0)
            zoo.put_base(first.base)
            seconds[name].append(run_once(name, zoo, tasks, overrides, workers))
            zoos.append(zoo)
    return {
        "recipe": load_recipe(_FAMILY, "expert", **overrides).model_dump(mode="json"),
        "seconds": {
            name: {part: spread([run[part] for run in runs]) for part in runs[0]} for name, runs in seconds.items()
        },
        "ray_over_local": {
            part: median(seconds["ray"], part) / median(seconds["local"], part)
            for part in ("batch", "with start and end")
        },
        "ray_over_local_by_repeat": [
            ray["batch"] / local["batch"] for local, ray in zip(seconds["local"], seconds["ray"], strict=True)
        ],
        "same_experts": all(same(zoos[0], zoo, tasks) for zoo in zoos[1:]),
    }


def median(runs: Sequence[dict[str, float]], part: str) -> float:
    return statistics.median(run[part] for run in runs)


def same(one: Zoo, other: Zoo, tasks: Sequence[Task]) -> bool:
    """Whether two zoos hold the same weights and returns, to the bit."""
    pairs = [(one.get(task), other.get(task)) for task in tasks]
    return all(np.array_equal(a.phi, b.phi) and np.array_equal(a.returns, b.returns) for a, b in pairs)


def executors(arguments: argparse.Namespace) -> dict[str, Any]:
    workers, repeats = max(2, default_threads()), arguments.repeats or 5
    with tempfile.TemporaryDirectory() as folder:
        found = time_executors(Path(folder), arguments.experts, repeats, arguments.timesteps, workers)
    return {"family": _FAMILY, "experts": arguments.experts, "repeats": repeats, "workers": workers, **found}


# service --------------------------------------------------------------------------------------------------------------


def service(arguments: argparse.Namespace) -> dict[str, Any]:
    steps, repeats, families = 1000, arguments.repeats or 10, arguments.family or bundled_families()
    found = [serve_family(family, steps, repeats) for family in families]
    return {"steps": steps, "repeats": repeats, "families": found}


def serve_family(family: str, steps: int, repeats: int) -> dict[str, Any]:
    """Milliseconds of each step of an adapter, and of those that map the window the mapping itself."""
    config = AdapterConfig(least_transitions=5)
    observations, rewards = recorded(family, steps, config)
    acting, mapping = (np.zeros((len(CLOCKS), repeats, steps)) for _ in range(2))
    for repeat in range(repeats):
        adapter = Adapter(family, config)
        plain = adapter._mapping.judged
        spent = np.zeros(len(CLOCKS))

        def timed(*window: Any, plain: Any = plain, spent: NDArray[np.float64] = spent) -> Any:
            started = readings()
            found = plain(*window)
            if found is not None and found[0].mapping.count == window[0].count:
                spent[:] = readings() - started
            return found

        adapter._mapping.judged = timed
        for step in range(steps):
            spent[:] = 0.0
            started = readings()
            adapter.act(observations[step])
            adapter.observe(rewards[step], observations[step + 1])
            acting[:, repeat, step] = readings() - started
            mapping[:, repeat, step] = spent
    maps = (mapping[0] > 0).all(axis=0)
    return {
        "family": family,
        "mappings": int(maps.sum()),
        **{
            f"{what}, {clock}": percentiles(1000.0 * times.min(axis=0))
            for what, found in (("step", acting), ("mapping", mapping[:, :, maps]))
            for clock, times in zip(CLOCKS, found, strict=True)
        },
        "step, clock, all replays": percentiles(1000.0 * acting[0].ravel()),
    }


CLOCKS = {"clock": time.perf_counter, "processor": time.thread_time}


def readings() -> NDArray[np.float64]:
    return np.array([clock() for clock in CLOCKS.values()])


def recorded(family: str, steps: int, config: AdapterConfig) -> tuple[NDArray[np.float32], list[float]]:
    """Observations [steps + 1, O] and rewards of an adapter, with another task every 250 steps."""
    tasks = get_family(family).sample("test-in", 4, 0)
    env = gym.make(get_family(family).gym_id, task=tasks[0], max_episode_steps=steps + 1)
    adapter = Adapter(family, config)
    observation, _ = env.reset(seed=0)
    adapter.reset(observation)
    observations, rewards = [observation], []
    for step in range(steps):
        if step and step % 250 == 0:
            env.unwrapped.set_task(tasks[step // 250])  # type: ignore[attr-defined]
        observation, reward, terminated, _, _ = env.step(adapter.act())
        adapter.observe(float(reward), observation, terminated)
        if terminated:
            observation, _ = env.reset()
            adapter.reset(observation)
        observations.append(observation)
        rewards.append(float(reward))
    env.close()
    return np.array(observations, dtype=np.float32), rewards


def percentiles(values: NDArray[np.float64]) -> dict[str, float]:
    at = {"median": 50, "95th percentile": 95, "99th percentile": 99, "max": 100}
    return {name: float(np.percentile(values, percent)) for name, percent in at.items()}


BENCHMARKS = {"mapping": mapping, "training": training, "startup": startup, "executors": executors, "service": service}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", choices=BENCHMARKS)
    parser.add_argument("--repeats", type=int, help="by default as many as docs/results has")
    parser.add_argument("--family", action="append", help="of mapping and training; by default several")
    parser.add_argument("--updates", type=int, default=4, help="of training: timed PPO updates per repeat")
    parser.add_argument(
        "--envs", type=int, help="of training: environments, instead of the recipe's; smaller batches if need be"
    )
    parser.add_argument("--experts", type=int, default=16, help="of executors: in a batch")
    parser.add_argument("--timesteps", type=int, help="of executors: for each expert, instead of the recipe's")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the fastest for networks of this size on shared cores
    found = BENCHMARKS[arguments.benchmark](arguments)
    print(json.dumps({**found, "machine": describe_machine(), "versions": library_versions()}, indent=2))


if __name__ == "__main__":  # workers import this file again
    from _running import run_script

    run_script(main)

"""Measures the fast simulator against its limits and against other vector environments, and prints JSON.

HalfCheetah, random actions, 64 environments. Ours have 64 different tasks (cheetah-actuators); the limits step the same
64 models. The others have no parameters and run the plain HalfCheetah. All take 5 MuJoCo steps per environment step,
and episodes of 1000. SB3's SubprocVecEnv means one process per environment, so it runs 2 and 8 environments instead of
64. EnvPool runs in both its modes: sync, where a step is one of all 64, and async, where it is one of the 24 that are
ready first (its published speed is that of async, with 2.5 to 3 times as many environments as a batch has). Async keeps
no order of environments, and never steps all of them together; no mode gives each environment a model of its own.
Contenders take turns within each repeat, so that other load on the machine hits all of them; ratios are taken within a
repeat. Steps are environment steps per second, all environments of a contender together.

    python scripts/bench_engine.py --seconds 1 --repeats 5

With --family NAME it measures that family beside `cheetah-velocity`. With --users it measures what users declare: the
arm of docs/examples/own-mujoco beside a bundled family, and Gymnasium's Humanoid of unknown mass, whose steps are long
enough for workers, as chosen by itself and in one process.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
from mujoco import batch
from numpy.typing import NDArray

from metamap_agents.runtime.machine import describe_machine
from metamap_agents.runtime.storage import library_versions
from metamap_envs import Family, FamilyVectorEnv, Task, from_gymnasium, get_family, load_family
from metamap_envs.simulator import default_threads

EPISODE = 1000  # steps; HalfCheetah-v5's own
CHUNK = 50  # vector steps between two looks at the clock
TABLE = 97  # different random actions per environment, used in turn
TARGETS = {  # of the median ratio of ours to each
    "limit: mj_step in Python threads": 0.85,
    "gymnasium SyncVectorEnv": 2.0,
    "SB3 SubprocVecEnv, 8 processes": 5.0,
    "EnvPool, sync": 1.0,
}


@dataclass(frozen=True)
class Contender:
    """Something that steps environments.

    Attributes:
        name: key in the result.
        num_envs: number of environments.
        run: makes the given number of vector steps.
        close: releases processes.
        batch: environments that a vector step steps; 0 for all of them.
    """

    name: str
    num_envs: int
    run: Callable[[int], None]
    close: Callable[[], Any] = lambda: None
    batch: int = 0

    @property
    def steps(self) -> int:
        """Environment steps of a vector step."""
        return self.batch or self.num_envs


def actions_table(num_envs: int, size: int = 6) -> NDArray[np.float32]:
    """Random actions, float32 [TABLE, num_envs, size]."""
    return np.random.default_rng(0).uniform(-1.0, 1.0, (TABLE, num_envs, size)).astype(np.float32)


def stepper(step: Callable[[NDArray[np.float32]], Any], num_envs: int, size: int = 6) -> Callable[[int], None]:
    """A run function that goes on through the table of actions."""
    table, position = actions_table(num_envs, size), 0

    def run(count: int) -> None:
        nonlocal position
        for _ in range(count):
            step(table[position % TABLE])
            position += 1

    return run


# limits ---------------------------------------------------------------------------------------------------------------


def thread_limit(family: Family, tasks: list[Task], threads: int) -> Contender:
    """Python threads that loop over `mj_step`, each over its own share of models and persistent data.

    Nothing is read back, and the threads wait for one another only at the end of a chunk. `mj_step` frees the
    interpreter lock, the calls around it need it.
    """
    models = [family.model(task) for task in tasks]
    datas = [mujoco.MjData(model) for model in models]
    controls = actions_table(len(tasks)).astype(np.float64)
    generator, position = np.random.default_rng(0), 0

    def work(first: int, start: int, count: int) -> None:
        share = range(first, len(tasks), threads)
        for step in range(start, start + count):
            for index in share:
                datas[index].ctrl[:] = controls[step % TABLE, index]
                mujoco.mj_step(models[index], datas[index], nstep=family.frame_skip)

    def run(count: int) -> None:
        nonlocal position
        if position % EPISODE == 0:
            for task, model, data in zip(tasks, models, datas, strict=True):
                mujoco.mj_resetData(model, data)
                data.qpos[:], data.qvel[:] = family.initial_state(task, generator)
        workers = [threading.Thread(target=work, args=(first, position, count)) for first in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        position += count

    return Contender("limit: mj_step in Python threads", len(tasks), run)


def batch_limit(family: Family, tasks: list[Task], threads: int) -> Contender:
    """`mujoco.batch` on the same models: threads in C, no interpreter lock; only controls are written."""
    engine = batch.Batch(family.base_model, len(tasks), threads, persistent=True)
    engine.set_models([family.model(task) for task in tasks])
    qpos, qvel, control = engine.bind("qpos"), engine.bind("qvel"), engine.bind("ctrl")
    generator, steps = np.random.default_rng(0), 0

    def step(actions: NDArray[np.float32]) -> None:
        nonlocal steps
        if steps % EPISODE == 0:
            engine.reset()
            for index, task in enumerate(tasks):
                qpos[index], qvel[index] = family.initial_state(task, generator)
        control[...] = actions
        engine.step(nstep=family.frame_skip)
        steps += 1

    return Contender("limit: mujoco.batch alone", len(tasks), stepper(step, len(tasks)))


# vector environments --------------------------------------------------------------------------------------------------


def ours(tasks: list[Task], threads: int) -> Contender:
    """`FamilyVectorEnv`, with observations, rewards, ends and infos."""
    env = FamilyVectorEnv(tasks, num_threads=threads, horizon=EPISODE)
    env.reset(seed=0)
    return Contender("ours", len(tasks), stepper(env.step, len(tasks)), env.close)


def plain_cheetah() -> gymnasium.Env[Any, Any]:
    """Gymnasium's environment, without the warning that MuJoCo prints on each load of its half_cheetah.xml."""
    importlib.import_module("mujoco").set_mju_user_warning(lambda _: None)
    return gymnasium.make("HalfCheetah-v5")


def gymnasium_sync(num_envs: int) -> Contender:
    """Gymnasium's loop over environments."""
    env = gymnasium.vector.SyncVectorEnv([plain_cheetah] * num_envs)
    env.reset(seed=0)
    return Contender("gymnasium SyncVectorEnv", num_envs, stepper(env.step, num_envs), env.close)


def gymnasium_async(num_envs: int) -> Contender:
    """Gymnasium's environments in processes."""
    env = gymnasium.vector.AsyncVectorEnv([plain_cheetah] * num_envs, context="forkserver")
    env.reset(seed=0)
    name = f"gymnasium AsyncVectorEnv, {num_envs} processes"
    return Contender(name, num_envs, stepper(env.step, num_envs), env.close)


def sb3(processes: int, num_envs: int) -> Contender:
    """Stable-Baselines3's vector environments; 0 processes is `DummyVecEnv`."""
    from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

    env = SubprocVecEnv([plain_cheetah] * processes) if processes else DummyVecEnv([plain_cheetah] * num_envs)
    env.reset()
    name = f"SB3 SubprocVecEnv, {processes} processes" if processes else "SB3 DummyVecEnv"
    return Contender(name, env.num_envs, stepper(env.step, env.num_envs), env.close)


def _pool(num_envs: int, threads: int, **settings: int) -> Any:
    """EnvPool's HalfCheetah, the newest version that the installed EnvPool has.

    Raises:
        ImportError: EnvPool is not installed.
    """
    package = importlib.import_module("envpool")
    name = max(name for name in package.list_all_envs() if name.startswith("HalfCheetah-v"))
    return package.make_gymnasium(
        name, num_envs=num_envs, num_threads=threads, seed=0, max_episode_steps=EPISODE, **settings
    )


def envpool_sync(num_envs: int, threads: int) -> Contender:
    """EnvPool's sync mode: a step takes an action for every environment and waits for all of them."""
    env = _pool(num_envs, threads)
    env.reset()
    table = stepper(lambda actions: env.step(actions.astype(np.float64)), num_envs)
    return Contender("EnvPool, sync", num_envs, table, env.close)


def envpool_async(num_envs: int, threads: int) -> Contender:
    """EnvPool's async mode: `recv` gives the first environments to be ready, `send` their actions.

    The batch is 3/8 of the environments: 24 of 64. A vector step steps the batch.
    """
    batch_size = max(1, num_envs * 3 // 8)
    env = _pool(num_envs, threads, batch_size=batch_size)
    env.async_reset()

    def step(actions: NDArray[np.float32]) -> None:
        *_, info = env.recv()
        env.send(actions.astype(np.float64), info["env_id"])

    return Contender(
        f"EnvPool, async, batches of {batch_size}", num_envs, stepper(step, batch_size), env.close, batch_size
    )


# what users declare ---------------------------------------------------------------------------------------------------

ARM = Path(__file__).parents[1] / "docs" / "examples" / "own-mujoco" / "arm.yml"
HUMANOID = {
    "name": "humanoid-mass",
    "environment": "Humanoid-v5",
    "parameters": {"mass": {"body": "torso", "field": "mass", "how": "scale", "train": [0.8, 1.2]}},
}
HUMANOIDS = 16
WARM_UP = 4.0  # seconds of stepping, after which workers have been started and found to help, or not


def stepping(name: str, family: Family, num_envs: int, threads: int) -> Contender:
    """`FamilyVectorEnv` of a family."""
    env = FamilyVectorEnv(family.sample("train", num_envs, 0), num_threads=threads)
    env.reset(seed=0)
    return Contender(name, num_envs, stepper(env.step, num_envs, family.action_size), env.close)


def measure_users(num_envs: int, threads: int, seconds: float, repeats: int) -> dict[str, Any]:
    """Own MJCF model and declared Gymnasium environment, by turns with what they are compared with."""
    humanoid = from_gymnasium(HUMANOID)
    pairs = [
        [
            stepping("own MJCF arm", load_family(ARM), num_envs, threads),
            stepping("cheetah-velocity", get_family("cheetah-velocity"), num_envs, threads),
        ],
        [
            stepping("declared Humanoid-v5, as chosen by itself", humanoid, HUMANOIDS, threads),
            stepping("declared Humanoid-v5, one process", humanoid, HUMANOIDS, 1),
        ],
    ]
    return measure_pairs(pairs, threads, seconds, repeats)


def measure_family(name: str, num_envs: int, threads: int, seconds: float, repeats: int) -> dict[str, Any]:
    """A bundled family, by turns with `cheetah-velocity`."""
    pairs = [[stepping(each, get_family(each), num_envs, threads) for each in (name, "cheetah-velocity")]]
    return measure_pairs(pairs, threads, seconds, repeats)


def measure_pairs(pairs: list[list[Contender]], threads: int, seconds: float, repeats: int) -> dict[str, Any]:
    """Pairs by turns."""
    found: dict[str, Any] = {}
    for ours, other in pairs:
        speed(ours, WARM_UP)
        speed(other, WARM_UP)
        runs = [(speed(ours, seconds), speed(other, seconds)) for _ in range(repeats)]
        for contender, speeds in zip((ours, other), zip(*runs, strict=True), strict=True):
            found[contender.name] = {"num_envs": contender.num_envs} | summary(list(speeds))
            contender.close()
        found[ours.name][f"divided by {other.name}"] = summary([one / two for one, two in runs], 3)
    settings = {"seconds": seconds, "repeats": repeats}
    machine = describe_machine() | {"threads": threads}
    return {"steps_per_second": found, "settings": settings, "machine": machine, "versions": library_versions()}


# measurement ----------------------------------------------------------------------------------------------------------


def contenders(num_envs: int, threads: int, skipped: dict[str, str]) -> Iterator[Contender]:
    """Build all contenders, those that start processes first: they should not inherit threads."""
    family = get_family("cheetah-actuators")
    tasks = family.sample("train", num_envs, seed=0)
    for processes in (2, 8):
        yield sb3(processes, processes)
    yield gymnasium_async(8)
    yield sb3(0, num_envs)
    yield gymnasium_sync(num_envs)
    yield thread_limit(family, tasks, threads)
    yield batch_limit(family, tasks, threads)
    yield ours(tasks, threads)
    try:
        yield envpool_sync(num_envs, threads)
        yield envpool_async(num_envs, threads)
    except ImportError as reason:
        skipped["EnvPool"] = f"not installed ({reason}); pip install 'metamap-rl[bench]'"


def speed(contender: Contender, seconds: float) -> float:
    """Environment steps per second over at least the given time."""
    steps, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds or not steps:
        contender.run(CHUNK)
        steps += CHUNK * contender.steps
    return steps / passed


def summary(values: list[float], digits: int = 0) -> dict[str, float]:
    """Median and spread."""
    ends = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: round(value, digits) for name, value in ends.items()}


def installed(name: str) -> str:
    """Installed version of a distribution."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def measure(num_envs: int, threads: int, seconds: float, repeats: int) -> dict[str, Any]:
    """Run everything and build the document."""
    skipped: dict[str, str] = {}
    with ExitStack() as stack:
        everybody: list[Contender] = []
        for contender in contenders(num_envs, threads, skipped):
            stack.callback(contender.close)
            everybody.append(contender)
        before = describe_machine() | {"threads": threads}
        for contender in everybody:  # warm up
            contender.run(CHUNK)
        speeds: dict[str, list[float]] = {contender.name: [] for contender in everybody}
        for _ in range(repeats):
            for contender in everybody:
                speeds[contender.name].append(speed(contender, seconds))
    ratios = {
        name: summary([mine / other for mine, other in zip(speeds["ours"], values, strict=True)], 3)
        for name, values in speeds.items()
        if name != "ours"
    }
    return {
        "steps_per_second": {c.name: {"num_envs": c.num_envs} | summary(speeds[c.name]) for c in everybody},
        "ours_divided_by": ratios,
        "targets": {
            name: {"at_least": target, "met": ratios[name]["median"] >= target if name in ratios else None}
            for name, target in TARGETS.items()
        },
        "skipped": skipped,
        "settings": {"seconds": seconds, "repeats": repeats, "num_envs": num_envs, "episode": EPISODE},
        "machine": before,
        "versions": library_versions() | {"envpool": installed("envpool")},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="per contender and repeat (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=0, help="of the limits, ours and EnvPool; 0 takes all cores")
    parser.add_argument("--envs", type=int, default=64, help="number of environments (default: %(default)s)")
    parser.add_argument("--users", action="store_true", help="what users declare, in place of HalfCheetah")
    parser.add_argument("--family", help="a bundled family, in place of HalfCheetah")
    arguments = parser.parse_args()
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:  # MuJoCo writes MUJOCO_LOG.TXT where it is
        os.chdir(folder)
        threads = arguments.threads or default_threads()
        measured = measure_users if arguments.users else measure
        if arguments.family:
            measured = partial(measure_family, arguments.family)
        document = measured(arguments.envs, threads, arguments.seconds, arguments.repeats)
        os.chdir(here)
    print(json.dumps(document, indent=2))
    return 0


if __name__ == "__main__":
    from _running import run_script

    run_script(main)

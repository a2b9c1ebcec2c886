"""Worker processes of declared environments: what they give equals one process to the bit, and they always end."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from metamap_envs import Family, FamilyVectorEnv, MetaMapError, load_family
from metamap_envs.from_gymnasium import placement, user_modules, workers
from metamap_envs.from_gymnasium.simulator import GymnasiumSimulator

pytestmark = [
    pytest.mark.usefixtures("forgets_declared_families"),
    pytest.mark.skipif(os.name != "posix", reason="workers are started with file descriptors of their own"),
]

MODULE = '''
import gymnasium as gym
import numpy as np

class Drift(gym.Env):
    """Ends by chance, and draws from its generator in each step."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float64)
    action_space = gym.spaces.Box(-2.0, 2.0, (1,), np.float32)

    def __init__(self, gain=1.0):
        self.gain, self.x, self.count = gain, 0.0, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.count = self.np_random.normal(), 0
        return self._seen(), {}

    def _seen(self):
        return np.array([self.x, self.gain, self.count])

    def step(self, action):
        self.count += 1
        self.x += self.gain * float(action[0]) + self.np_random.normal()
        if self.x > 1e6:
            raise ValueError("too far")
        return self._seen(), self.x**2, self.np_random.random() < 0.05, False, {}

class Slotted(Drift):
    __slots__ = ("more",)

gym.register("Drift-v0", entry_point=Drift, max_episode_steps=30)
gym.register("Slotted-v0", entry_point=Slotted, max_episode_steps=30)
'''
FILE = """
name: drift
environment: users_drift:{id}
parameters:
  gain: {{attribute: gain, train: [0.5, 2.0]}}
"""


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Workers are started in the first step, whatever it takes, and kept."""
    monkeypatch.setattr(placement, "WORTH", 0.0)
    monkeypatch.setattr(placement, "PATIENCE", 0.0)
    monkeypatch.setattr(placement, "TRIAL", float("inf"))
    monkeypatch.setattr(user_modules, "_ADDED", [])
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    sys.modules.pop("users_drift", None)
    for name in ("Drift-v0", "Slotted-v0"):
        gym.registry.pop(name, None)


def declare(folder: Path, id_: str = "Drift-v0") -> Family:
    (folder / "users_drift.py").write_text(MODULE)
    (folder / "drift.yml").write_text(FILE.format(id=id_))
    return load_family(folder / "drift.yml")


class Pair:
    """The same environments in one process and in several, stepped alike."""

    def __init__(self, family: Family, count: int = 3, mode: str = "next_step", threads: int = 2) -> None:
        tasks = family.sample("train", count, 0)
        self.envs = [FamilyVectorEnv(tasks, num_threads=number, autoreset_mode=mode) for number in (1, threads)]
        self.generator = np.random.default_rng(0)
        self.same([env.reset(seed=0) for env in self.envs])

    @property
    def simulator(self) -> GymnasiumSimulator:
        simulator = self.envs[1].simulator
        assert isinstance(simulator, GymnasiumSimulator)
        return simulator

    def same(self, results: list[Any]) -> None:
        for one, other in zip(*results, strict=True):
            if not isinstance(one, dict):
                np.testing.assert_array_equal(one, other)

    def step(self, count: int = 1) -> None:
        for _ in range(count):
            actions = self.generator.uniform(-1, 1, (self.envs[0].num_envs, 1)).astype(np.float32)
            self.same([env.step(actions) for env in self.envs])

    def wait(self) -> list[int]:
        """Steps until workers have taken over; their process ids."""
        end = time.monotonic() + 120
        while self.simulator._workers is None:
            assert time.monotonic() < end, "no worker has come"
            assert not self.simulator._placement.settled, "workers were given up"
            self.step()
            time.sleep(0.01)
        return [worker.process.pid for worker in self.simulator._workers._workers]


def gone(pid: int, seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
            return True
        time.sleep(0.02)
    return False


def test_workers_give_what_one_process_gives_to_the_bit_and_end_with_the_environment(tmp_path: Path) -> None:
    family = declare(tmp_path)
    pair = Pair(family, count=5, threads=3)
    pids = pair.wait()
    assert len(pids) == 2
    assert pair.simulator.num_threads == 3
    pair.step(80)  # episodes end, and start with generators that go on
    others = family.sample("test-in", 5, 1)
    for env in pair.envs:
        env.set_tasks(others[:3], [0, 2, 4])
    pair.step(20)
    pair.same([env.reset(options={"tasks": others}) for env in pair.envs])
    pair.step(20)
    pair.same([env.reset(seed=7) for env in pair.envs])
    pair.step(5)
    assert pair.simulator._workers is not None, "they stayed all the time"
    for env in pair.envs:
        env.close()
    assert all(map(gone, pids))


def test_autoreset_in_the_same_step_is_the_same_too(tmp_path: Path) -> None:
    pair = Pair(declare(tmp_path), count=4, mode="same_step")
    pair.wait()
    pair.step(40)
    for env in pair.envs:
        env.close()


def test_copies_pickles_and_forks_go_on_from_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(declare(tmp_path), count=3)
    pair.wait()
    monkeypatch.setattr(placement, "PATIENCE", float("inf"))  # no more of them
    actions = np.full((3, 1), 0.5, np.float32)
    one, other = copy.deepcopy(pair.envs[1]), pickle.loads(pickle.dumps(pair.envs[1]))  # noqa: S301
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, np.ascontiguousarray(pair.envs[1].step(actions)[0]).tobytes())
        os._exit(0)
    results = [env.step(actions) for env in [*pair.envs, one, other]]
    for each in results[1:]:
        pair.same([results[0], each])
    assert os.read(read, 1000) == results[0][0].tobytes()
    os.waitpid(child, 0)
    for env in [*pair.envs, one, other]:
        env.close()


def test_an_error_in_a_worker_is_the_sentence_that_one_process_gives(tmp_path: Path) -> None:
    pair = Pair(declare(tmp_path), count=3)
    pair.wait()
    messages = []
    for env in pair.envs:
        env.reset(seed=0)
        with pytest.raises(MetaMapError, match="too far") as raised:
            env.step(np.array([[0.0], [0.0], [1e7]], np.float32))
        messages.append(str(raised.value))
    assert messages[0] == messages[1]
    pair.same([env.reset(seed=1) for env in pair.envs])
    pair.step(3)
    for env in pair.envs:
        env.close()


def test_an_interrupted_step_leaves_no_old_answer_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(declare(tmp_path), count=3)
    pair.wait()
    waiting = workers._answers
    monkeypatch.setattr(workers, "_answers", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        pair.envs[1].step(np.zeros((3, 1), np.float32))
    monkeypatch.setattr(workers, "_answers", waiting)
    pair.same([env.reset(seed=3) for env in pair.envs])
    pair.step(5)
    for env in pair.envs:
        env.close()


def test_a_worker_that_is_killed_is_an_error_in_words(tmp_path: Path) -> None:
    pair = Pair(declare(tmp_path), count=3)
    os.kill(pair.wait()[0], signal.SIGKILL)
    with pytest.raises(MetaMapError, match="ended unexpectedly"):
        pair.step(3)
    for env in pair.envs:
        env.close()


SCRIPT = """
import os, sys, time
import numpy as np
from metamap_envs import FamilyVectorEnv, load_family
from metamap_envs.from_gymnasium import placement

placement.WORTH = placement.PATIENCE = 0.0
family = load_family(sys.argv[1])
envs = FamilyVectorEnv([family.task()] * 2, num_threads=2)
envs.reset(seed=0)
while envs.simulator._workers is None:
    envs.step(np.zeros((2, 1), np.float32))
    time.sleep(0.01)
print(envs.simulator._workers._workers[0].process.pid, flush=True)
if sys.argv[2] == "wait":
    time.sleep(600)
"""


@pytest.mark.parametrize("how", ["end", "kill"])
def test_workers_end_with_the_process_also_of_a_script_without_a_main_guard(tmp_path: Path, how: str) -> None:
    declare(tmp_path)
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [
        sys.executable,
        str(tmp_path / "script.py"),
        str(tmp_path / "drift.yml"),
        "wait" if how == "kill" else "",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    if how == "kill":
        process.kill()
    process.wait(60)
    assert gone(pid)
    assert process.stdout.read() == ""
    process.stdout.close()


def test_environments_that_cannot_be_copied_stay_in_one_process(tmp_path: Path) -> None:
    pair = Pair(declare(tmp_path, "Slotted-v0"), count=2)
    end = time.monotonic() + 120
    while not pair.simulator._placement.settled:
        assert time.monotonic() < end
        pair.step()
        time.sleep(0.01)
    pair.step(5)
    assert pair.simulator._workers is pair.simulator._starting is None


def test_cheap_environments_stay_in_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "WORTH", 1e9)
    pair = Pair(declare(tmp_path), count=2)
    pair.step(20)
    assert pair.simulator._workers is pair.simulator._starting is None


def test_workers_that_do_not_help_are_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(declare(tmp_path), count=2)
    pids = pair.wait()
    monkeypatch.setattr(placement, "TRIAL", 0.0)
    pair.simulator._placement._alone = 0.0  # as if steps had taken no time before
    pair.step(10)
    assert pair.simulator._workers is None
    assert pair.simulator._placement.settled
    assert all(map(gone, pids))


def test_a_module_that_was_edited_since_stays_in_one_process(tmp_path: Path) -> None:
    pair = Pair(declare(tmp_path), count=2)
    os.utime(tmp_path / "users_drift.py", (1, 1))
    pair.step(3)
    assert pair.simulator._placement.settled

"""Streams of Gymnasium environments: no expert, no mapper."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.tiny_bench import bench
from metamap_agents.runtime.executors import LocalExecutor
from metamap_envs.errors import MetaMapError
from metamap_rl.bench.config import BenchConfig, open_bench
from metamap_rl.bench.environment_course import EnvironmentCourse
from metamap_rl.bench.environments import EnvironmentStreamConfig
from metamap_rl.bench.report import write_report
from metamap_rl.bench.result import CellResult, find_results
from metamap_rl.bench.run import run_bench
from metamap_rl.bench.summary import summarise
from metamap_rl.bench.worlds import GymWorld

A2C: dict[str, Any] = {"sb3": "a2c", "steps": 80, "points": 2, "settings": {"n_steps": 20}}
SCALE = {"random": 0.0, "single_task": 100.0}
LONG = {"id": "CartPole-v1", "max_episode_steps": 60, **SCALE}
SHORT = {"id": "CartPole-v1", "max_episode_steps": 30, "name": "short", **SCALE}


def environments(*listed: Any, learners: dict[str, Any] | None = None, **settings: Any) -> BenchConfig:
    stream = {"kind": "environments", "environments": list(listed), "episodes": 2, "map_steps": 5, **settings}
    return bench(streams={"poles": stream}, learners=learners or {"a2c": A2C})


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, CellResult]:
    learners = {
        "finetune": A2C,
        "scratch": {**A2C, "carry": "nothing"},
        "single": {**A2C, "carry": "per-task"},
        "dqn": {"sb3": "dqn", "steps": 60, "points": 1, "carry": "weights", "settings": {"learning_starts": 10}},
    }
    out = tmp_path_factory.mktemp("environments") / "out"
    found = run_bench(environments(LONG, SHORT, rounds=2, held_out=[LONG], learners=learners), out, LocalExecutor(1))
    assert find_results([out])[0].comparable() == found[0].comparable()
    return {cell.learner: cell for cell in found}


def test_a_list_of_ids_is_a_stream(results: dict[str, CellResult], tmp_path: Path) -> None:
    cell = results["finetune"]
    assert cell.tasks == ["CartPole-v1", "short"] * 2
    assert np.array(cell.R, dtype=float).shape == (5, 4)
    assert np.array(cell.H, dtype=float).shape == (5, 1)
    assert cell.environment_steps == [80] * 4
    assert cell.config["references"]["short"] == SCALE
    for name in ("AP_final", "F_last", "BWT", "FWT_zs", "FT_auc", "GEN_k", "MEM"):
        assert cell.metrics[name] is not None, name
    assert cell.metrics["GAP_k"] is None  # no base policy
    assert write_report(summarise(results.values()), tmp_path / "page.html", title="poles", command="") > 0
    page = (tmp_path / "page.html").read_text()
    assert "CartPole-v1 0 to 100" in page
    assert "scratch: a2c of Stable-Baselines3, 80 steps a task; made anew at each arrival." in page


def test_what_is_carried_from_task_to_task_is_a_choice(results: dict[str, CellResult]) -> None:
    scratch, single = results["scratch"], results["single"]
    assert scratch.metrics["FT_auc"] == 0  # is its own baseline
    assert [row[0] for row in single.R[1:3]] == [single.R[1][0]] * 2  # unchanged while another task is learnt
    assert single.R[1][1] == single.R[0][1]
    assert scratch.curves[0] == single.curves[0] == results["finetune"].curves[0]
    assert single.memory_bytes[1] > single.memory_bytes[0] == scratch.memory_bytes[0]
    # A buffer that was emptied holds the last task's transitions only.
    dqn = results["dqn"].memory_bytes
    assert dqn == [dqn[0]] * 4


def test_the_same_twice(results: dict[str, CellResult], tmp_path: Path) -> None:
    config = environments(LONG, SHORT, rounds=2, held_out=[LONG], learners={"dqn": results["dqn"].config["learner"]})
    (again,) = run_bench(config, tmp_path / "out", LocalExecutor(1))
    assert again.comparable() == results["dqn"].comparable()


def test_orders_permute_the_list() -> None:
    third = {**SHORT, "name": "third", "max_episode_steps": 20}
    config = environments(LONG, SHORT, third, rounds=2).model_copy(update={"orders": 2})
    first, second = (config.cell_config(cell) for cell in config.cells())
    assert isinstance(first, EnvironmentStreamConfig)
    assert isinstance(second, EnvironmentStreamConfig)
    labels = [choice.label for choice in first.stream.arriving]
    assert labels == ["CartPole-v1", "short", "third"] * 2
    assert [choice.label for choice in second.stream.arriving] == labels[:3][::-1] * 2


def test_references_are_measured_once_and_must_mean_something(tmp_path: Path) -> None:
    reference = {"sb3": "ppo", "steps": 1024, "settings": {"n_steps": 128, "learning_rate": 3e-3}}
    config = environments({"id": "CartPole-v1", "max_episode_steps": 60}, reference=reference)
    run_bench(config, tmp_path / "out", LocalExecutor(1))
    (file,) = (tmp_path / "out" / "zoo" / "environments").iterdir()
    before = file.stat().st_mtime_ns
    (cell,) = run_bench(config.model_copy(update={"learners": {"other": A2C}}), tmp_path / "out", LocalExecutor(1))
    assert file.stat().st_mtime_ns == before
    low, high = cell.config["references"]["CartPole-v1"].values()
    assert 10 < low < high <= 60
    bad = environments({"id": "CartPole-v1", "max_episode_steps": 60, "random": 60.0}, reference=reference)
    with pytest.raises(MetaMapError, match=r"'CartPole-v1': the reference ends at a return of .* random .* 60"):
        run_bench(bad, tmp_path / "bad", LocalExecutor(1))


@pytest.mark.parametrize(
    ("listed", "settings", "sentence"),
    [
        ([LONG, {"id": "Acrobot-v1", **SCALE}], {}, r"'Acrobot-v1' has observations \(6,\) .* mixed_spaces: true"),
        (["CartPole-v7"], {}, "environment 'CartPole-v7': it cannot be made: .*CartPole"),
        ([{"id": "CartPole-v1", "kwargs": {"sutton_barto": True}}], {}, "did you mean 'sutton_barto_reward'"),
        ([{"id": "metamap_test:Odd-v0", **SCALE}], {}, "expected actions that are a Discrete or a flat Box"),
        ([{"id": "metamap_test:Endless-v0", **SCALE}], {}, "no time limit: give max_episode_steps"),
    ],
)
def test_environments_that_do_not_fit_are_refused_before_anything_is_written(
    listed: list[Any], settings: dict[str, Any], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "metamap_test.py").write_text(ODD)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "metamap_test", raising=False)
    with pytest.raises(MetaMapError, match=sentence):
        run_bench(environments(*listed, **settings), tmp_path / "out", LocalExecutor(1))
    assert not (tmp_path / "out").exists()


ODD = """
import gymnasium as gym, numpy as np
from gymnasium.spaces import Box, MultiBinary, Discrete

class Odd(gym.Env):
    observation_space = Box(-1, 1, (1,))
    def __init__(self, odd): self.action_space = MultiBinary(2) if odd else Discrete(2)
    def reset(self, seed=None, options=None): return np.zeros(1, np.float32), {}
    def step(self, action): return np.zeros(1, np.float32), 0.0, False, False, {}

if "Odd-v0" not in gym.registry:
    gym.register("Odd-v0", Odd, kwargs={"odd": True}, max_episode_steps=9)
    gym.register("Endless-v0", Odd, kwargs={"odd": False})
"""

ENDS = """
import sys
import gymnasium as gym, numpy as np
from gymnasium.spaces import Box

class Ends(gym.Env):
    observation_space, action_space = Box(-1, 1, (1,)), Box(-1, 1, (1,))
    def reset(self, seed=None, options=None): return np.zeros(1, np.float32), {}
    def step(self, action): sys.exit(0)

if "Ends-v0" not in gym.registry:
    gym.register("Ends-v0", Ends, max_episode_steps=3)
"""

WHOLE = """
import gymnasium as gym, numpy as np
from gymnasium.spaces import Box

class Whole(gym.Env):
    observation_space, action_space = Box(-1, 1, (1,)), Box(-1, 1, (1,))
    def reset(self, seed=None, options=None): return np.zeros(1, int), {}
    def step(self, action): return np.full(1, 0.5, np.float32), 0.0, False, False, {}

if "Whole-v0" not in gym.registry:
    gym.register("Whole-v0", Whole, max_episode_steps=3, disable_env_checker=True)
"""


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"environments": []}, "at least 1"),
        ({"environments": [LONG, {**SHORT, "name": "CartPole-v1"}]}, "two different ones have the name 'CartPole-v1'"),
        ({"environments": [{**LONG, "random": 100.0}]}, "single_task: expected more than random = 100"),
        ({"reference": {"entry": "a:B"}}, "reference: expected an algorithm"),
        ({"enviroments": []}, "did you mean 'environments'"),
        ({"kind": "environment"}, "kind: expected environments, or config: and set: .* got 'environment'"),
    ],
)
def test_what_a_stream_of_environments_does_not_admit_is_named(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(MetaMapError, match=sentence):
        bench(streams={"poles": {"kind": "environments", "environments": [LONG], **changes}}, learners={"a2c": A2C})


def test_overrides_of_families_are_no_setting_of_environments() -> None:
    with pytest.raises(MetaMapError, match=r"settings: evaluation.split is of streams of families"):
        environments(LONG).model_copy(update={"settings": {"evaluation.split": "validation"}}).check()


def test_orders_are_the_benchmarks() -> None:
    with pytest.raises(MetaMapError, match="order is set by the benchmark"):
        environments(LONG, SHORT, order=1).check()


def test_a_stream_that_is_no_mapping_is_named() -> None:
    with pytest.raises(MetaMapError, match=r"streams\.poles.*: expected a mapping with config: or kind: .*, got None"):
        bench(streams={"poles": None}, learners={"a2c": A2C})


def test_an_unknown_way_to_carry_is_answered_with_all_of_them() -> None:
    with pytest.raises(MetaMapError, match="carry: unknown choice 'al': did you mean 'all'"):
        environments(LONG, learners={"a2c": {**A2C, "carry": "al"}})


def test_settings_of_another_stream_are_named_one_by_one(results: dict[str, CellResult], tmp_path: Path) -> None:
    out = tmp_path / "out"
    learners = {"a2c": {**A2C, "alone": False, "steps": 20, "points": 1}}
    run_bench(environments(LONG, learners=learners), out, LocalExecutor(1))
    with pytest.raises(MetaMapError, match=r"was run with stream\.episodes 2, asked for is 3: remove"):
        run_bench(environments(LONG, learners=learners, episodes=3), out, LocalExecutor(1))


@pytest.mark.parametrize("scale", [SCALE, {"random": 0.0}, {}])
def test_an_environment_that_ends_the_interpreter_is_named(
    scale: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "metamap_ends.py").write_text(ENDS)
    monkeypatch.syspath_prepend(str(tmp_path))
    config = environments({"id": "metamap_ends:Ends-v0", **scale}, reference=A2C)
    with pytest.raises(MetaMapError, match=r"SystemExit: 0 \(metamap_ends.py, line"):
        run_bench(config, tmp_path / "out", LocalExecutor(1))


def test_observations_keep_their_fractions_when_a_reset_returns_whole_numbers() -> None:
    class Counted:
        def predict(self, observation: Any, /) -> tuple[Any, Any]:
            seen.append(float(observation[0, 0]))
            return np.zeros((len(observation), 1)), None

    seen: list[float] = []
    module = types.ModuleType("metamap_whole")
    exec(WHOLE, module.__dict__)
    sys.modules["metamap_whole"] = module
    config = environments({"id": "metamap_whole:Whole-v0", **SCALE})
    found = config.cell_config(config.cells()[0])
    assert isinstance(found, EnvironmentStreamConfig)
    (world,) = found.stream.choices()
    EnvironmentCourse(found, {world: (0.0, 1.0)}).mean_return(world, Counted(), world.spaces[1])
    assert seen == [0.0, 0.5, 0.5]


def test_streams_are_not_named_as_folders_without_results() -> None:
    streams = {"tuning": {"kind": "environments", "environments": [LONG]}}
    with pytest.raises(MetaMapError, match="'tuning' is a folder without results: choose another name"):
        bench(streams=streams, learners={"a2c": A2C}).check()


def test_learners_of_mappers_need_families() -> None:
    with pytest.raises(MetaMapError, match=r"learner 'replay' is a mapper's, .* sb3: .* entry:"):
        environments(LONG, learners={"replay": {}}).check()


def test_mixed_spaces_have_a_model_each_and_other_observations_are_flattened(tmp_path: Path) -> None:
    lake = {"id": "FrozenLake-v1", "max_episode_steps": 20, "random": 0.0, "single_task": 1.0}
    config = environments(LONG, lake, mixed_spaces=True, learners={"a2c": {**A2C, "alone": False}})
    (cell,) = run_bench(config, tmp_path / "out", LocalExecutor(1))
    assert cell.memory_bytes[1] > cell.memory_bytes[0]
    assert open_bench(tmp_path / "out") == config
    world = GymWorld.of("lake", "FrozenLake-v1", {})
    assert world.spaces[0].shape == (16,)


def test_d_is_of_random_actions_and_no_task_is_shown() -> None:
    config = environments(LONG, SHORT).cell_config(environments(LONG, SHORT).cells()[0])
    assert isinstance(config, EnvironmentStreamConfig)
    worlds = list(config.stream.choices())
    course = EnvironmentCourse(config, dict.fromkeys(worlds, (0.0, 1.0)))
    found = course.transitions(worlds[1], 5)
    assert len(found) == 5
    assert found.observations.shape == (5, 4)
    np.testing.assert_array_equal(found.observations[1:], found.next_observations[:-1])
    assert course.hidden(worlds[1]) == worlds[0]

"""Beginnings of D in the self-check: drifting scales and contexts that no usual task gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import NormalizeReward
from numpy.typing import NDArray

from helpers import tiny
from metamap_agents.runtime.storage import load_arrays, read_json, save_arrays, write_json
from metamap_envs import MetaMapError, Rollout, get_family
from metamap_rl.adaptation.bundled import load_mapper
from metamap_rl.adaptation.one_shot import adapt
from metamap_rl.mapper.beginnings import usual_contexts, views
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.mapper.selfcheck import SelfCheck
from metamap_rl.probing.collecting import collect
from metamap_rl.probing.documents import probe_from_json
from metamap_rl.results.alterations import ALTERATIONS
from metamap_rl.training.calibration import calibrate
from metamap_rl.training.config import CalibrationConfig

QUICK = CalibrationConfig(
    lengths=(1, 5, 20), usual_tasks=160, return_tasks=2, harm_tasks=2, episodes=2, hidden=16, updates=300
)
FAMILY = get_family(tiny.FAMILY)


class Replay(gym.Env[NDArray[Any], NDArray[Any]]):
    """Gives the recorded rewards, so that any wrapper of rewards can be put around a recorded rollout."""

    observation_space = action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float64)

    def __init__(self, rollout: Rollout) -> None:
        self.rollout, self.at = rollout, 0

    def reset(self, **_: Any) -> tuple[NDArray[Any], dict[str, Any]]:
        return np.zeros(1), {}

    def step(self, _: Any) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        at, self.at = self.at, self.at + 1
        ends = bool(self.rollout.terminated[at]), bool(self.rollout.truncated[at])
        return np.zeros(1), float(self.rollout.rewards[at]), *ends, {}


def normalised(rollout: Rollout) -> Rollout:
    """The rollout as Gymnasium's NormalizeReward around its environment would have given it."""
    env = NormalizeReward(Replay(rollout))
    rewards = [float(env.step(np.zeros(1))[1]) for _ in range(len(rollout))]
    return replace(rollout, rewards=np.array(rewards, dtype=np.float32))


def rollouts_of(mapper: Mapper, count: int, steps: int) -> list[Rollout]:
    tasks = get_family(mapper.family).sample("test-in", count, 5)
    found = collect(probe_from_json(mapper.probe), tasks, mapper.base, steps=steps, seed=0, num_threads=1)
    return [found.rollout(task) for task in range(count)]


@pytest.mark.parametrize("family", ["ant-direction", "ant-goal"])
def test_a_recorded_reward_whose_scale_drifts_is_not_usual(family: str) -> None:
    mapper = load_mapper(family)
    rollouts = rollouts_of(mapper, 10, 100)
    plain = [adapt(mapper, rollout).adaptation for rollout in rollouts]
    assert sum(not about.fallback for about in plain) >= 9
    for rollout in rollouts:
        about = adapt(mapper, normalised(rollout)).adaptation
        assert "D is out of distribution" in about.fallback
        assert about.distance == 0.0


@pytest.fixture(scope="module")
def mapper(tiny_mapper: Mapper) -> Mapper:
    moved = tiny.moved(tiny_mapper)
    moved.check = replace(calibrate(moved, QUICK, num_threads=1), least_steps=1)
    return moved


@pytest.fixture(scope="module")
def rollouts(mapper: Mapper) -> list[Rollout]:
    return rollouts_of(mapper, 20, 30)


def novelty(mapper: Mapper, rollout: Rollout) -> float:
    verdict = mapper.judge(rollout)
    assert verdict is not None
    return verdict.novelty


def checked(mapper: Mapper) -> SelfCheck:
    assert mapper.check is not None
    return mapper.check


def test_usual_rollouts_stay_usual(mapper: Mapper, rollouts: list[Rollout]) -> None:
    assert checked(mapper).looked_at(30) == (5, 20)
    assert checked(mapper).looked_at(4) == ()
    for steps in (4, 5, 12, 20, 30):
        assert sum(novelty(mapper, rollout.head(steps)) <= 1.0 for rollout in rollouts) >= 18


def test_a_beginning_that_is_not_usual_is_not_forgotten(mapper: Mapper, rollouts: list[Rollout]) -> None:
    scale = np.where(np.arange(30) < 5, 30.0, 1.0).astype(np.float32)
    for rollout in rollouts:
        damaged = replace(rollout, rewards=scale * rollout.rewards)
        assert min(novelty(mapper, damaged.head(steps)) for steps in (5, 12, 20, 30)) > 1.0


def test_the_alteration_normalises_as_gymnasium_does(rollouts: list[Rollout]) -> None:
    altered = ALTERATIONS["NormalizeReward"](rollouts[0], np.random.default_rng(0))
    np.testing.assert_array_equal(altered.rewards, normalised(rollouts[0]).rewards)


def test_views_tell_halves_fifths_and_contexts_apart() -> None:
    surprise = np.zeros((3, 10, 4), dtype=np.float32)  # of the last two numbers the first is the reward
    surprise[:, :5, 2], surprise[:, 8:, 2], surprise[:, :, 3] = 1.0, 2.0, 7.0
    usual = np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32)
    mean, precision = usual_contexts(usual)
    context = np.array([[0, 0], [3, 0], [30, 0]], dtype=np.float32)
    found = views(surprise, 2, context, mean, precision)
    np.testing.assert_allclose(found["halves"], [[1.0, 7.0, 0.8, 7.0]] * 3, rtol=1e-6)
    np.testing.assert_allclose(found["fifths"], [[1.0, 1.0, 0.5, 0.0, 2.0]] * 3, rtol=1e-6)
    assert np.exp(found["context"][1:, 0]) == pytest.approx([3.0, 30.0], rel=0.15)


def test_beginnings_are_stored_and_a_check_of_before_has_none(
    mapper: Mapper, rollouts: list[Rollout], tmp_path: Path
) -> None:
    mapper.save(tmp_path)
    again = Mapper.load(tmp_path)
    assert all(again.judge(rollout) == mapper.judge(rollout) for rollout in rollouts)
    manifest = read_json(tmp_path / "mapper.json")
    arrays, metadata = load_arrays(tmp_path / "mapper.safetensors")
    kept = {name: array for name, array in arrays.items() if not name.startswith("check.beginnings.")}
    save_arrays(tmp_path / "mapper.safetensors", kept, metadata)
    check = {name: value for name, value in manifest["check"].items() if name != "beginnings"}
    write_json(tmp_path / "mapper.json", {**manifest, "check": check, "format_version": 2})
    old = Mapper.load(tmp_path)
    assert checked(old).beginnings is None
    assert all(0 < novelty(old, rollout) <= novelty(mapper, rollout) for rollout in rollouts)


def test_damaged_beginnings_are_reported(mapper: Mapper, tmp_path: Path) -> None:
    mapper.save(tmp_path)
    manifest = read_json(tmp_path / "mapper.json")
    arrays, metadata = load_arrays(tmp_path / "mapper.safetensors")

    def refused(message: str, changed: dict[str, Any] | None = None, **check: Any) -> None:
        write_json(tmp_path / "mapper.json", {**manifest, "check": {**manifest["check"], **check}})
        save_arrays(tmp_path / "mapper.safetensors", {**arrays, **(changed or {})}, metadata)
        with pytest.raises(MetaMapError, match=message):
            Mapper.load(tmp_path)

    refused(r"check\.beginnings\.mean: expected \(1,", beginnings=[5])
    refused("beginnings: expected those of \\[5, 20\\] transitions, got \\[5, 50\\]", beginnings=[5, 50])
    refused("beginnings: expected whole numbers", beginnings=[5, "20"])
    refused("beginnings: unexpected type, got 5", beginnings=5)
    refused("beginnings: joint: expected numbers above 0", {"check.beginnings.joint": np.zeros(2, dtype=np.float32)})


def test_without_long_lengths_there_are_no_beginnings(tiny_mapper: Mapper) -> None:
    config = replace(QUICK, lengths=(1, 4), usual_tasks=8, updates=2)
    check = calibrate(tiny_mapper, config, num_threads=1)
    assert check.beginnings is None
    assert check.looked_at(10) == ()

"""Effects of parameters on trajectories under the same actions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from helpers.user_envs import Plain
from metamap_envs import Family, MetaMapError, Parameter, from_gymnasium, get_family, registry
from metamap_envs.sensitivity import measure_effects, parameter_values, run_actions


class Windy(Plain):
    """One parameter that counts, one that does nothing, one that ends episodes."""

    def __init__(self, gain: float = 1.0, idle: float = 1.0, patience: float = 30.0) -> None:
        super().__init__(gain)
        self.idle, self.patience, self.steps = idle, patience, 0

    def reset(self, **kwargs: Any) -> Any:
        self.steps = 0
        return super().reset(**kwargs)

    def step(self, action: Any) -> Any:
        self.steps += 1
        observation, reward, _, _, info = super().step(action)
        return observation, reward, self.steps >= self.patience, False, info


@pytest.fixture
def windy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Family]:
    gym.register("Windy-v0", Windy, max_episode_steps=20)
    parameters = {
        "gain": {"argument": "gain", "train": [[-2, -1], [1, 2]]},
        "idle": {"argument": "idle", "train": [0, 2]},
        "patience": {"argument": "patience", "train": [5, 30]},
    }
    document = {"name": "windy", "environment": "Windy-v0", "parameters": parameters}
    monkeypatch.setattr(registry, "_DECLARED", {})
    with pytest.warns(UserWarning, match="'idle'"):
        yield from_gymnasium(document)
    del gym.registry["Windy-v0"]


def test_what_counts_what_does_nothing_and_what_ends_episodes(windy: Family) -> None:
    gain, idle, patience = measure_effects(windy, values=3, starts=2)
    assert not gain.does_nothing
    assert gain.values == (-2.0, -1.0, 2.0), "0 is no value of a task: the closest one is taken"
    assert gain.observations[2] > 0
    assert idle.does_nothing
    assert set(idle.observations + idle.rewards) == {0.0}
    assert not patience.does_nothing, "episodes end earlier"
    assert patience.returns[0] != patience.returns[2]


def test_the_value_at_the_default_changes_nothing_and_the_seed_decides() -> None:
    family = get_family("reacher-goal")
    once, again, other = (measure_effects(family, values=3, starts=1, seed=seed) for seed in (0, 0, 1))
    assert once == again
    assert once != other
    radius, _ = once
    assert radius.observations == (0.0, 0.0, 0.0), "the goal is hidden"
    assert max(radius.rewards) > 0


def test_what_follows_the_end_of_an_episode_is_left_out(windy: Family) -> None:
    run = run_actions(windy, [windy.task({"patience": 5.0})], starts=1, seed=0)
    assert run.alive[:, 0].sum() == 5
    assert run.returns[0] == pytest.approx(run.rewards[:5, 0].sum())
    assert np.isfinite(run.observations).all()


def test_values_of_a_parameter() -> None:
    common = {"unit": "1", "default": 1.0, "description": ""}
    log = Parameter(name="a", low=0.1, high=10, train=((0.1, 10.0),), scale="log", **common)  # type: ignore[arg-type]
    assert parameter_values(log, 3) == pytest.approx((0.1, 1.0, 10.0))
    two = Parameter(name="b", low=-1, high=1, train=(), choices=(-1.0, 1.0), **common)  # type: ignore[arg-type]
    assert parameter_values(two, 5) == (-1.0, 1.0)


@pytest.mark.parametrize("settings", [{"values": 1}, {"starts": 0}, {"seed": -1}])
def test_bad_settings_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(MetaMapError):
        measure_effects(get_family("reacher-goal"), **settings)

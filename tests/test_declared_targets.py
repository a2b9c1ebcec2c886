"""What a declared parameter writes: exactly what it says, or it is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.classic_control import PendulumEnv

from metamap_envs import Family, from_gymnasium
from metamap_envs.from_gymnasium import loading


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test declares or registers is gone after it."""
    monkeypatch.setenv(loading.VARIABLE, "")
    monkeypatch.setattr(loading, "_DECLARED", {})
    before = dict(gym.registry)
    yield
    gym.registry.clear()
    gym.registry.update(before)


def declare(creator: Any, kwargs: dict[str, Any] | None = None, **entry: object) -> Family:
    """A family with one parameter, p, of an environment that is registered for the occasion."""
    gym.register("Declared-v0", entry_point=creator, max_episode_steps=50, kwargs=kwargs or {})
    return from_gymnasium({"name": "declared", "environment": "Declared-v0", "parameters": {"p": entry}})


def made(family: Family, value: float | None = None) -> Any:
    """The environment of a task with p at a value, or at its default."""
    return family.make(family.task({} if value is None else {"p": value})).unwrapped  # type: ignore[attr-defined]


# arguments -----------------------------------------------------------------------------------------------------------


def test_the_environments_own_value_is_that_of_its_id() -> None:
    family = declare(PendulumEnv, {"g": 3.7}, argument="g", train=[5, 15])
    assert family.task()["p"] == made(family).g == 3.7
    assert [made(family, value).g for value in (9.999, 10.0, 10.001)] == [9.999, 10.0, 10.001]


def test_a_factor_is_on_the_value_of_the_id() -> None:
    family = declare(PendulumEnv, {"g": 3.7}, argument="g", how="scale", train=[0.5, 2])
    np.testing.assert_allclose([made(family, value).g for value in (1.0, 1.001, 2.0)], [3.7, 3.7037, 7.4])


# log scale -----------------------------------------------------------------------------------------------------------


def test_a_declared_range_over_decades_is_drawn_log_uniformly() -> None:
    entry = {"option": "viscosity", "train": [0.0001, 1.0], "scale": "log"}
    family = from_gymnasium({"name": "log", "environment": "Swimmer-v5", "parameters": {"viscosity": entry}})
    drawn = [task["viscosity"] for task in family.sample("train", 256, 0)]
    np.testing.assert_allclose(np.histogram(np.log10(drawn), bins=4, range=(-4, 0))[0], 64, atol=2)

"""A mapper from a family or a zoo in one call, and from a user's environment and back into it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import tiny
from metamap_agents.experts.filling import RecipeOverrides, TaskCounts
from metamap_agents.experts.zoo import Zoo
from metamap_envs import MetaMapError, get_family
from metamap_rl import Mapper, MapperRecipe, TrainingData, train
from metamap_rl.training import loop

RECIPE = MapperRecipe(tiny.CONFIG, tiny.SHAPE, survey_tasks=16, actors="probe")


def test_a_zoo_is_taken_as_it_is_and_a_family_fills_one(tiny_zoo: Zoo, tiny_mapper: Mapper) -> None:
    expected = tiny_mapper.arrays()
    settings = RecipeOverrides(tiny.SETTINGS, tiny.SETTINGS)
    filled = train(
        get_family(tiny.FAMILY),
        tiny_zoo.root,
        counts=tiny.COUNTS,
        overrides=settings,
        recipe=RECIPE,
        calibration=None,
        seed=tiny.SEED,
        workers=1,
    )
    for found in (filled, train(str(tiny_zoo.root), recipe=RECIPE, calibration=None)):
        for name, array in found.arrays().items():
            np.testing.assert_array_equal(array, expected[name])


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("reacher-goal", {}, "expected a folder for base policy and experts of 'reacher-goal': zoo=FOLDER"),
        ("reacher-gaol", {"zoo": "x"}, "did you mean 'reacher-goal'"),
        ("gone.yml", {"zoo": "x"}, "gone.yml"),
        (Path(), {}, "is no zoo: it has no zoo.json"),
        (None, {}, "train: expected a family, its name or YAML file, or a zoo, got None"),
        ("", {}, "got ''"),
        ("reacher-goal", {"zoo": "x", "seed": -1}, "seed"),
    ],
)
def test_what_is_neither_family_nor_zoo(source: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(MetaMapError, match=message):
        train(source, **options)
    assert not list(Path().iterdir()), "nothing was made"


def test_settings_of_a_family_beside_a_zoo_are_refused(tiny_zoo: Zoo) -> None:
    for options in ({"zoo": "other"}, {"counts": TaskCounts()}, {"overrides": RecipeOverrides()}):
        with pytest.raises(MetaMapError, match="a zoo is taken as it is"):
            train(tiny_zoo, **options)  # type: ignore[arg-type]


def test_the_loop_can_be_called_by_the_name_that_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "train", lambda data, **options: (data, options))
    data = TrainingData(source=None, base=None, family="x")  # type: ignore[arg-type]
    with pytest.warns(DeprecationWarning, match=r"is now metamap_rl\.training\.loop\.train"):
        assert train(data, config=1) == (data, {"config": 1})  # type: ignore[arg-type,call-arg,comparison-overlap]


MODULE = """
import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, MultiDiscrete


class Cart(gym.Env):
    def __init__(self, gain=1.0):
        self.gain = gain
        names = ("achieved_goal", "desired_goal", "speed")
        self.observation_space = Dict({name: Box(-9.0, 9.0, (1,)) for name in names})
        self.action_space = MultiDiscrete([3, 2])

    def seen(self):
        parts = {"achieved_goal": self.x, "desired_goal": self.goal, "speed": self.v}
        return {name: np.array([np.clip(value, -9, 9)], np.float32) for name, value in parts.items()}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.v, self.goal = 0.0, 0.0, self.np_random.uniform(-1, 1)
        return self.seen(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.v = 0.9 * self.v + 0.1 * self.gain * (int(action[0]) - 1) * (1 + int(action[1]))
        self.x += 0.1 * self.v
        return self.seen(), -abs(self.x - self.goal), False, False, {}


gym.register("RoundTrip-v0", entry_point=Cart, max_episode_steps=20)
"""
FAMILY = """
name: round-trip
environment: round_trip:RoundTrip-v0
parameters:
  gain: {argument: gain, train: [0.5, 2], out: [2, 3]}
"""
TRAIN = """
import metamap_rl
from metamap_agents.experts.filling import RecipeOverrides, TaskCounts
steps = {"n_envs": 4, "n_steps": 20, "batch_size": 40, "n_epochs": 2, "n_timesteps": 240}
mapper = metamap_rl.train(
    "family.yml", "zoo", counts=TaskCounts(train=3, validation=2, test_in=1), overrides=RecipeOverrides(steps, steps),
    recipe=metamap_rl.MapperRecipe(metamap_rl.TrainConfig(updates=5, warmup=1), survey_tasks=16), calibration=None,
    workers=1,
)
assert mapper.universal is not None
mapper.save("built/mapper")
"""


@pytest.mark.slow
def test_from_keys_and_choices_to_a_mapper_and_back_without_the_familys_file(tmp_path: Path) -> None:
    (tmp_path / "round_trip.py").write_text(MODULE)
    (tmp_path / "family.yml").write_text(FAMILY)

    def run(*words: str) -> str:
        done = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("-c", TRAIN)
    command = ("-m", "metamap_rl.cli", "adapt", "built", "--env", "round_trip:RoundTrip-v0", "--env-arg", "gain=0.7")
    printed = run(*command, "--steps", "30", "--episodes", "2", "--out", "policy")
    assert "read       30 transitions in 2 episodes" in printed
    assert "(trained on 0.5 to 2" in printed
    assert "served     return" in printed
    code = """
import gymnasium as gym, round_trip, metamap_rl
metamap_rl.load("built").adapt(gym.make("RoundTrip-v0"), steps=3)
policy, env = metamap_rl.AdaptedPolicy.load("policy/policy.safetensors"), gym.make("RoundTrip-v0")
seen, _ = env.reset(seed=0)
for _ in range(20):
    seen, *_ = env.step(policy.predict(seen)[0])
print(policy)
"""
    assert "AdaptedPolicy('round-trip', transitions=30" in run("-c", code)

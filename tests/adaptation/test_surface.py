"""The Python surface: load, adapt to environments of every kind, explain, and Stable-Baselines3's callback."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import NormalizeObservation, RecordEpisodeStatistics, TransformReward
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecMonitor, VecNormalize

import metamap_rl
from helpers import tiny
from helpers.policies import base_of
from helpers.user_envs import ID, Plain
from metamap_agents import FamilyVecEnv
from metamap_envs import Family, FamilyVectorEnv, MetaMapError, Rollout, from_gymnasium, get_family
from metamap_rl import AdaptationCallback, AdaptedPolicy, Mapper, MapperConfig
from metamap_rl.adaptation.record import Adaptation
from metamap_rl.cli import main
from metamap_rl.data.layout import TransitionLayout
from metamap_rl.mapper.scales import Scales

FAMILY = get_family(tiny.FAMILY)
TASK, OTHER = FAMILY.sample("test-in", 2, 3)


@pytest.fixture(scope="module")
def mapper(tiny_mapper: Mapper) -> Mapper:
    return tiny.moved(tiny_mapper)


def make(task: Any = TASK) -> gym.Env[Any, Any]:
    return gym.make(FAMILY.gym_id, task=task)


# load ---------------------------------------------------------------------------------------------------------------


def test_a_mapper_is_loaded_by_folder_build_folder_and_name(mapper: Mapper, tiny_bundle: Path, tmp_path: Path) -> None:
    mapper.save(tmp_path / "boat" / "mapper")
    for reference in (tmp_path / "boat", str(tmp_path / "boat" / "mapper")):
        np.testing.assert_array_equal(
            metamap_rl.load(reference).arrays()["weight_scale"], mapper.arrays()["weight_scale"]
        )
    assert metamap_rl.load(tiny.FAMILY).family == tiny.FAMILY
    with pytest.raises(MetaMapError, match="did you mean 'reacher-goal'"):
        metamap_rl.load("reacher-gaol")
    with pytest.raises(MetaMapError, match="not a saved mapper"):
        metamap_rl.load(tmp_path)


@pytest.mark.parametrize("name", ["load_mapper", "evaluate_mappers", "train_mapper"])
def test_earlier_names_work_with_a_warning(name: str) -> None:
    with pytest.warns(DeprecationWarning, match=rf"metamap_rl.{name} is now metamap_rl\.\w+"):
        assert callable(getattr(metamap_rl, name))
    assert name not in metamap_rl.__all__


# environments of every kind -----------------------------------------------------------------------------------------

VECTORS: dict[str, Any] = {
    "SyncVectorEnv": lambda: SyncVectorEnv([make] * 3),
    "same step": lambda: SyncVectorEnv([make] * 3, autoreset_mode=AutoresetMode.SAME_STEP),
    "AsyncVectorEnv": lambda: AsyncVectorEnv([make] * 2),
    "FamilyVectorEnv": lambda: FamilyVectorEnv([TASK] * 3, num_threads=1),
    "wrapped": lambda: RecordEpisodeStatistics(SyncVectorEnv([make] * 2)),
    "DummyVecEnv": lambda: DummyVecEnv([make] * 3),
    "VecMonitor": lambda: VecMonitor(DummyVecEnv([make])),
    "FamilyVecEnv": lambda: FamilyVecEnv([TASK] * 2, seed=0, num_threads=1),
}


@pytest.mark.parametrize("kind", VECTORS)
def test_a_vector_of_one_task_gives_the_policy_of_its_first_environment(kind: str, mapper: Mapper) -> None:
    envs = VECTORS[kind]()
    steps = FAMILY.horizon + 12  # across the end of an episode
    found, alone = (mapper.adapt(each, steps=steps, seed=4) for each in (envs, make()))
    envs.close()
    assert found.rollout is not None
    assert alone.rollout is not None
    for name in ("observations", "actions", "next_observations", "terminated", "truncated"):
        np.testing.assert_allclose(
            getattr(found.rollout, name)[: FAMILY.horizon], getattr(alone.rollout, name)[: FAMILY.horizon], atol=1e-6
        )
    assert found.rollout.truncated.sum() == 1
    assert len(found.rollout) == steps
    assert found.adaptation.notes == ()
    many = np.zeros((5, FAMILY.observation_size))
    assert found.predict(many)[0].shape == (5, FAMILY.action_size)


@pytest.mark.parametrize(
    "envs",
    [
        lambda: SyncVectorEnv([make, lambda: make(OTHER)]),
        lambda: FamilyVectorEnv([TASK, OTHER], num_threads=1),
        lambda: FamilyVecEnv([TASK, TASK, OTHER], seed=0, num_threads=1),
        lambda: DummyVecEnv([make, lambda: make(OTHER)]),
    ],
)
def test_a_vector_of_several_tasks_is_refused(envs: Any, mapper: Mapper) -> None:
    with pytest.raises(MetaMapError, match=r"environments of one task, the tasks of environments 0 and [12] differ"):
        mapper.adapt(envs())


@pytest.mark.parametrize(
    ("wrap", "note"),
    [
        (lambda: VecNormalize(DummyVecEnv([make])), "VecNormalize changes the scale of rewards and observations"),
        (lambda: VecNormalize(DummyVecEnv([make]), norm_obs=False), "VecNormalize changes the scale of rewards while"),
        (lambda: NormalizeObservation(SyncVectorEnv([make])), "NormalizeObservation changes the scale of observations"),
    ],
)
def test_with_a_vector_whose_scale_drifts_the_base_policy_is_served(wrap: Any, note: str, mapper: Mapper) -> None:
    policy = mapper.adapt(wrap(), steps=5)
    assert policy.adaptation.served == "base"
    assert note in policy.adaptation.fallback


def test_other_wrappers_of_a_vector_are_named(mapper: Mapper) -> None:
    fixed = VecNormalize(DummyVecEnv([make]), training=False, norm_obs=False)
    (note,) = mapper.adapt(fixed, steps=5).adaptation.notes
    assert "VecNormalize alters rewards" in note
    (note,) = mapper.adapt(TransformReward(SyncVectorEnv([make]), lambda reward: 2 * reward), steps=5).adaptation.notes
    assert "TransformReward may alter" in note
    with pytest.raises(MetaMapError, match="environment's observations have shape"):
        mapper.adapt(VecFrameStack(DummyVecEnv([make]), 2))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("log.csv", r"got str: read_rollout\('log.csv', family\)"),
        (None, "got NoneType"),
        (make, "got function"),
    ],
)
def test_what_is_no_source_is_refused_with_the_way(source: Any, message: str, mapper: Mapper) -> None:
    with pytest.raises(MetaMapError, match=f"adapt: expected a Rollout, or a Gymnasium environment.*{message}"):
        mapper.adapt(source)


# in words -----------------------------------------------------------------------------------------------------------


def lines_of(policy: AdaptedPolicy) -> dict[str, str]:
    return {line[:10].strip(): line[11:] for line in policy.explain().splitlines()}


def test_a_policy_says_in_one_line_what_it_is(mapper: Mapper) -> None:
    policy = mapper.adapt(make(), steps=20)
    assert repr(policy) == "AdaptedPolicy('reacher-goal', transitions=20, confidence=None, served='generated')"
    empty = mapper.adapt(Rollout.from_rows(tiny.FAMILY, []))
    assert "transitions=0, confidence=None, served='base'" in repr(empty)
    assert lines_of(empty)["served"] == "the base policy is served: there are no transitions"


def test_a_checked_policy_is_explained() -> None:
    mapper = metamap_rl.load("cheetah-velocity")
    family = get_family("cheetah-velocity")
    env = gym.make(family.gym_id, parameters={"target_velocity": 1.5})
    policy = mapper.adapt(env, steps=30)
    lines = lines_of(policy)
    assert set(lines) == {"read", "estimated", "usual", "expected", "mapped", "served", "distance"}
    assert lines["read"].startswith("30 transitions in 1 episode, rewards -")
    assert "m/s (trained on 0 to 3)" in lines["estimated"]
    assert lines["usual"].endswith("below it, as in training")
    assert "of the base policy" in lines["expected"]
    few = mapper.adapt(env, steps=1)
    assert "too few" in lines_of(few)["served"]
    about = policy.adaptation
    assert about.confidence is not None
    assert about.novelty is not None
    strange = replace(about, novelty=3.0, read={"target_velocity": 4.0}, notes=("the wrapper X alters rewards",))
    found = lines_of(AdaptedPolicy(policy.base, policy.phi, strange))
    assert found["read"] == "30 transitions"
    assert "outside of it" in found["estimated"]
    assert "above it, unlike in training" in found["usual"]
    assert found["note"] == "the wrapper X alters rewards"
    assert max(map(len, policy.explain().splitlines())) <= 80


def test_a_confidence_is_never_rounded_up(mapper: Mapper) -> None:
    policy = mapper.adapt(make(), steps=5)
    sure = AdaptedPolicy(policy.base, policy.phi, replace(policy.adaptation, confidence=0.9999))
    assert "confidence=0.99," in repr(sure)


def test_the_command_line_prints_the_same_words(
    mapper: Mapper, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mapper.save(tmp_path / "mapper")
    assert main(["adapt", str(tmp_path), "--env", FAMILY.gym_id, "--steps", "7", "--episodes", "0"]) == 0
    printed = capsys.readouterr().out.splitlines()
    policy = metamap_rl.load(tmp_path).adapt(gym.make(FAMILY.gym_id), steps=7)
    words = [line for line in policy.explain().splitlines() if not line.startswith("mapped")]
    assert [line for line in printed if line in words] == words


# a family that is known from its mapper alone -----------------------------------------------------------------------

MODULE = """
import gymnasium as gym
from gymnasium.envs.classic_control import PendulumEnv

gym.register("OfAMapper-v0", entry_point=PendulumEnv, max_episode_steps=20)
"""
DOCUMENT = {
    "name": "of-a-mapper",
    "environment": "of_a_mapper:OfAMapper-v0",
    "parameters": {"m": {"attribute": "m", "train": [0.5, 2]}, "g": {"argument": "g", "train": [5, 15]}},
}
CODE = """
import sys
import gymnasium as gym, metamap_rl, numpy as np
from metamap_envs import MetaMapError

def refused(mapper, env, message):
    try:
        metamap_rl.load(mapper).adapt(env)
    except MetaMapError as error:
        assert message in str(error), error
    else:
        raise AssertionError("it was adapted")

policy = metamap_rl.AdaptedPolicy.load("policy.safetensors")  # acts where its family is unknown
assert gym.make("Pendulum-v1").action_space.contains(policy.predict(np.zeros(3, np.float32))[0])
assert "read       3 transitions" in policy.explain()
sys.path.insert(0, "code")
refused("mapper", gym.make("Pendulum-v1"), "expected that environment, got 'Pendulum-v1'; METAMAP_FAMILIES")
gym.register("OfAMapper-v0", entry_point="gymnasium.envs.classic_control:PendulumEnv")
refused("mapper", gym.make("OfAMapper-v0"), "declared for 'of_a_mapper:OfAMapper-v0'")
assert "of_a_mapper" not in sys.modules, "the module that a mapper names is not imported"
del gym.registry["OfAMapper-v0"]

import of_a_mapper
refused("changed", gym.make("OfAMapper-v0"), "unknown argument of the environment's constructor 'gg'")
assert len(metamap_rl.AdaptiveEnv(gym.make("OfAMapper-v0"), "mapper").run(3).rewards) == 3
mapper = metamap_rl.load("mapper")
mapper.save("again")
assert metamap_rl.load("again").environment == mapper.environment != {}
print(mapper.adapt(gym.make("OfAMapper-v0"), steps=9))
"""


def untrained(family: Family) -> Mapper:
    """A mapper of any family, as it is before training."""
    base = base_of(family)
    sizes = TransitionLayout.of(base.spec).size, base.phi.size, 0
    means = [torch.zeros(size) for size in sizes]
    units = [torch.ones(size) for size in sizes]
    scales = Scales(means[0], units[0], units[1], means[2], units[2])
    config = MapperConfig(context_size=4, encoder_hidden=8, hypernetwork_hidden=8)
    return Mapper(config, base, family=family.name, scales=scales, probe={"name": "base-policy"})


@pytest.mark.usefixtures("forgets_declared_families")
def test_a_mapper_declares_its_family_only_for_the_environment_that_it_is_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "of_a_mapper.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    try:
        mapper = untrained(from_gymnasium(DOCUMENT))
        mapper.save(tmp_path / "mapper")
        mapper.adapt(gym.make("OfAMapper-v0"), steps=3).save(tmp_path / "policy.safetensors")
    finally:
        sys.modules.pop("of_a_mapper", None)

    changed = json.loads((tmp_path / "mapper" / "mapper.json").read_text())
    changed["environment"]["declared"]["parameters"]["g"]["argument"] = "gg"
    shutil.copytree(tmp_path / "mapper", tmp_path / "changed")
    (tmp_path / "changed" / "mapper.json").write_text(json.dumps(changed))
    done = subprocess.run([sys.executable, "-c", CODE], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "AdaptedPolicy('of-a-mapper', transitions=9" in done.stdout


# Stable-Baselines3's callback ---------------------------------------------------------------------------------------


def test_the_callback_logs_base_adapted_and_model_on_the_same_seeds(mapper: Mapper, tmp_path: Path) -> None:
    env = make()
    policy = mapper.adapt(env, steps=20)
    policy.save_sb3(tmp_path / "policy.zip")
    model = PPO.load(tmp_path / "policy.zip", make(), device="cpu", n_steps=50, batch_size=50, n_epochs=1)
    callback = AdaptationCallback(policy, make(), every=60, episodes=2)
    seen: dict[str, list[float]] = {}
    model.set_logger(_Recorded(seen))
    model.learn(100, callback=callback)
    expected = {name: float(np.mean(values)) for name, values in metamap_rl.measure_in_env(policy, env, 2).items()}
    assert callback.returns["base"] == pytest.approx(expected["base"])
    assert callback.returns["adapted"] == pytest.approx(expected["generated"])
    assert seen["metamap/model_return"][0] == pytest.approx(expected["generated"], rel=1e-3), "it starts as that policy"
    assert {f"metamap/{name}_return" for name in ("base", "adapted", "model")} <= set(seen)
    assert "metamap/confidence" not in seen, "a mapper without a self-check has none"


class _Recorded:
    """SB3's logger as far as PPO and callbacks use it."""

    dir = None
    level = 0
    output_formats: tuple[Any, ...] = ()

    def __init__(self, seen: dict[str, list[float]]) -> None:
        self.seen = seen

    def record(self, name: str, value: Any, exclude: Any = None) -> None:
        self.seen.setdefault(name, []).append(value)

    def dump(self, step: int = 0) -> None:
        """Nothing is written."""


@pytest.mark.usefixtures("forgets_declared_families")
def test_the_callback_takes_models_in_the_spaces_of_the_environment_or_of_the_family() -> None:
    gym.register(ID, entry_point=Plain, max_episode_steps=9)  # type: ignore[arg-type]  # a class makes it
    family = from_gymnasium(
        {"name": "users", "environment": ID, "parameters": {"gain": {"argument": "gain", "train": [1, 2]}}}
    )
    base = base_of(family)
    policy = AdaptedPolicy(base, base.phi, Adaptation("users", 3, 0.0, 0.0, confidence=0.5)).acting_in(gym.make(ID))
    for env in (VecNormalize(DummyVecEnv([lambda: gym.make(ID)])), gym.make(family.gym_id)):
        callback = AdaptationCallback(policy, gym.make(ID), every=8, episodes=1)
        PPO("MlpPolicy", env, n_steps=16, batch_size=16, n_epochs=1, device="cpu").learn(16, callback=callback)
        assert set(callback.returns) == {"base", "adapted", "model"}
    callback = AdaptationCallback(policy, gym.make(ID))
    with pytest.raises(MetaMapError, match="AdaptationCallback: the model acts in Box"):
        PPO("MlpPolicy", gym.make("CartPole-v1"), n_steps=64, device="cpu").learn(16, callback=callback)
    for wrong in ({"every": 0}, {"episodes": 0}, {"episodes": 2.5}):
        with pytest.raises(MetaMapError, match="expected"):
            AdaptationCallback(policy, gym.make(ID), **wrong)  # type: ignore[arg-type]

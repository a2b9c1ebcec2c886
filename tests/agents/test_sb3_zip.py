"""An actor out of a zip from elsewhere acts as the zip does, or the zip is refused in a sentence."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sb3_contrib import RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn

from metamap_agents import phi_from_sb3, read_sb3_actor
from metamap_agents.policy.acting import WeightPolicy
from metamap_agents.policy.normalizer import ObservationNormalizer
from metamap_agents.policy.policies import Policies
from metamap_envs.errors import MetaMapError

ACTIONS = Box(-1.0, 1.0, (2,), np.float32)
FLOATS = Box(-np.inf, np.inf, (5,), np.float32)
IMAGES = Box(0, 255, (4, 4, 3), np.uint8)


class Blank(gym.Env[Any, Any]):
    def __init__(self, observations: Space[Any] = FLOATS, actions: Space[Any] = ACTIONS) -> None:
        self.observation_space, self.action_space = observations, actions


class Halved(FlattenExtractor):
    """Has no weights, so that those of the zip do not show it."""

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return super().forward(observations) / 2


class Mirrored(ActorCriticPolicy):
    def _predict(self, observation: Any, deterministic: bool = False) -> torch.Tensor:
        return -super()._predict(observation, deterministic)


def saved(path: Path, observations: Space[Any], actions: Space[Any] = ACTIONS, **kwargs: Any) -> BaseAlgorithm:
    algorithm = kwargs.pop("algorithm", PPO)
    kind = kwargs.pop("policy", "MlpPolicy")
    more = {"use_sde": True} if kwargs.pop("use_sde", False) else {}
    blank = Blank(observations, actions)
    model: BaseAlgorithm = algorithm(kind, blank, seed=0, device="cpu", policy_kwargs=kwargs, **more)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    model.save(path)
    return model


SPACES = st.one_of(
    st.builds(
        lambda shape, low, high, kind: Box(np.full(shape, low, kind), np.full(shape, high, kind), tuple(shape), kind),
        st.lists(st.integers(1, 3), min_size=1, max_size=3),
        st.integers(-3, 0),
        st.integers(1, 255),
        st.sampled_from([np.float32, np.float64, np.int64]),
    ),
    st.builds(lambda size, high: Box(0, high, (size,), np.uint8), st.integers(1, 9), st.sampled_from([1, 255])),
    st.builds(lambda rows: Box(0, 255, (rows, 3), np.uint8), st.integers(1, 4)),
    st.builds(lambda shape: Box(0, 255, tuple(shape), np.uint8), st.lists(st.integers(1, 4), min_size=3, max_size=3)),
    st.builds(MultiBinary, st.integers(1, 6)),
    st.builds(Discrete, st.integers(1, 6)),
    st.builds(MultiDiscrete, st.lists(st.integers(2, 4), min_size=1, max_size=3)),
)
ACTION_SPACES = st.builds(
    lambda size, high: Box(-high, high, (size,), np.float32), st.integers(1, 3), st.sampled_from([0.5, 1.0, 2.0])
)
NETS = st.lists(st.integers(1, 6), max_size=3)


@pytest.mark.filterwarnings("ignore:Treating image space")
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SPACES, ACTION_SPACES, NETS, NETS, st.sampled_from([nn.Tanh, nn.ReLU, nn.ELU, nn.SiLU]), st.booleans())
def test_the_actor_acts_as_the_zip_does_or_is_refused(
    tmp_path: Path, seen: Space[Any], actions: Box, pi: list[int], vf: list[int], activation: Any, images: bool
) -> None:
    path, net = tmp_path / "model.zip", {"pi": pi, "vf": vf}
    model = saved(path, seen, actions, net_arch=net, activation_fn=activation, normalize_images=images)
    plain = isinstance(seen, Box) and not (seen.dtype == np.uint8 and len(seen.shape) == 3)
    if not (plain or isinstance(seen, MultiBinary)) or activation is nn.SiLU:
        with pytest.raises(MetaMapError, match=r"model\.zip"):
            read_sb3_actor(path)
        return
    spec, phi = read_sb3_actor(path)
    size = spec.observation_size
    policy = WeightPolicy(
        Policies(spec, ObservationNormalizer.identity(size), phi), Box(-np.inf, np.inf, (size,)), actions
    )
    seen.seed(0)
    for _ in range(3):
        observation = seen.sample()
        expected, _ = model.predict(observation, deterministic=True)
        found, _ = policy.predict(np.asarray(observation, np.float32).ravel())
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("words", "kwargs"),
    [
        ("images", {"observations": IMAGES}),
        ("images", {"observations": IMAGES, "normalize_images": False}),
        ("images", {"observations": Box(0, 255, (1, 4, 4), np.uint8)}),
        ("Discrete", {"observations": Discrete(5)}),
        ("MultiDiscrete", {"observations": MultiDiscrete([2, 3])}),
        ("Dict", {"observations": Dict(a=FLOATS, b=FLOATS), "policy": "MultiInputPolicy"}),
        ("features_extractor_class", {"features_extractor_class": Halved}),
        ("a class of test_sb3_zip", {"policy": Mirrored}),
        ("use_sde|log_std", {"use_sde": True}),
        ("Gaussian", {"actions": Discrete(3)}),
        ("RecurrentPPO|recurrent|plain MlpPolicy", {"algorithm": RecurrentPPO, "policy": "MlpLstmPolicy"}),
        ("plain MlpPolicy", {"algorithm": SAC}),
        ("plain MlpPolicy", {"algorithm": TD3}),
        ("plain MlpPolicy", {"algorithm": DQN, "actions": Discrete(3)}),
    ],
)
def test_other_policies_are_refused(words: str, kwargs: dict[str, Any], tmp_path: Path) -> None:
    saved(tmp_path / "model.zip", kwargs.pop("observations", FLOATS), kwargs.pop("actions", ACTIONS), **kwargs)
    with pytest.raises(MetaMapError, match=rf"model\.zip: .*({words})"):
        read_sb3_actor(tmp_path / "model.zip")


def test_policies_in_memory_go_by_the_same_rule(tmp_path: Path) -> None:
    for observations, more in ((IMAGES, {}), (Discrete(5), {}), (FLOATS, {"features_extractor_class": Halved})):
        model = saved(tmp_path / "model.zip", observations, **more)
        with pytest.raises(MetaMapError, match="SB3 policy: expected"):
            phi_from_sb3(model.policy)  # type: ignore[arg-type]


def test_a2c_and_double_precision_are_read(tmp_path: Path) -> None:
    model = saved(tmp_path / "model.zip", FLOATS, algorithm=A2C)
    spec, phi = read_sb3_actor(tmp_path / "model.zip")
    state = {name: value.double() for name, value in model.policy.state_dict().items()}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    again = _rewritten(tmp_path / "model.zip", {"policy.pth": buffer.getvalue()})
    assert read_sb3_actor(again)[0] == spec
    np.testing.assert_array_equal(read_sb3_actor(again)[1], phi)


def _rewritten(path: Path, entries: dict[str, bytes | None]) -> Path:
    target = path.with_name("again.zip")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = entries.get(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    return target


def test_what_the_text_does_not_tell_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "model.zip", FLOATS)
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        data = json.loads(archive.read("data"))
    shape = {**data["observation_space"], "_shape": [7]}
    for change in (
        {"observation_space": None},
        {"observation_space": {":type:": "<class 'gymnasium.spaces.box.Box'>"}},
        {"observation_space": shape},
        {"policy_class": None},
        {"policy_kwargs": {"squash_output": True}},
        {"policy_kwargs": {"mystery": 1}},
        {"policy_kwargs": 3},
    ):
        again = _rewritten(tmp_path / "model.zip", {"data": json.dumps({**data, **change}).encode()})
        with pytest.raises(MetaMapError, match=r"again\.zip"):
            read_sb3_actor(again)
    with pytest.raises(MetaMapError, match="there is no data in it"):
        read_sb3_actor(_rewritten(tmp_path / "model.zip", {"data": None}))


def test_another_activation_than_the_stored_one_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "model.zip", FLOATS, activation_fn=nn.ReLU)
    assert read_sb3_actor(tmp_path / "model.zip", activation="relu")[0].activation == "relu"
    with pytest.raises(MetaMapError, match=r"activation: expected 'relu'.*'tanh'"):
        read_sb3_actor(tmp_path / "model.zip", activation="tanh")

from __future__ import annotations

import base64
import io
import json
import pickle
import random
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

from metamap_agents.policy.acting import WeightPolicy
from metamap_agents.policy.functional import forward
from metamap_agents.policy.normalizer import ObservationNormalizer
from metamap_agents.policy.policies import Policies
from metamap_agents.policy.spec import PolicySpec
from metamap_agents.sb3 import bridge as sb3_bridge
from metamap_agents.sb3 import foreign_zip as sb3_zip
from metamap_agents.sb3 import zip_contents
from metamap_agents.sb3.export import export_sb3
from metamap_envs.errors import MetaMapError

OBSERVATIONS = spaces.Box(-np.inf, np.inf, (17,), np.float64)
ACTIONS = spaces.Box(-1.0, 1.0, (6,), np.float32)
SPECS = [PolicySpec(17, 6), PolicySpec(17, 6, (32,), "relu"), PolicySpec(17, 6, (), "elu")]


class Nothing(gym.Env[Any, Any]):
    """Spaces to build a model from; its module is not on the path of whoever loads the model."""

    def __init__(self, observations: spaces.Space[Any] = OBSERVATIONS, actions: spaces.Space[Any] = ACTIONS) -> None:
        self.observation_space, self.action_space = observations, actions


ROUNDING = 1e-5
"""Of actions in float32: torch and `RowwiseNetworks` sum in different orders (docs/reproducibility.md)."""


def sb3_policy(seed: int = 0, **kwargs: Any) -> ActorCriticPolicy:
    torch.manual_seed(seed)
    kwargs.setdefault("ortho_init", False)  # else all biases are zero and their order is not tested
    return ActorCriticPolicy(OBSERVATIONS, ACTIONS, lambda _: 1e-3, **kwargs)


def half_cheetah(rng: np.random.Generator) -> ObservationNormalizer:
    """Statistics of the scale that HalfCheetah shows: angles well below 1, joint speeds up to 10."""
    return ObservationNormalizer(rng.normal(0, 0.7, 17), np.exp(rng.uniform(np.log(0.05), np.log(10), 17)))


def exported(path: Path, spec: PolicySpec, seed: int, critic: bool) -> tuple[WeightPolicy, dict[str, Any]]:
    rng = np.random.default_rng(seed)
    value_spec = PolicySpec(17, 1, (24, 16), spec.activation)
    made: dict[str, Any] = {
        "spec": spec,
        "phi": rng.normal(0, 0.2, spec.size).astype(np.float32),
        "normalizer": half_cheetah(rng),
        "log_std": rng.normal(-1, 0.3, 6).astype(np.float32),
        "critic": value_spec.split(rng.normal(0, 0.3, value_spec.size).astype(np.float32)) if critic else None,
    }
    policy = Policies(spec, made["normalizer"], made["phi"])
    export_sb3(path, policy, made["log_std"], made["critic"], OBSERVATIONS, ACTIONS)
    return WeightPolicy(policy, OBSERVATIONS, ACTIONS), made


def raw_states(normalizer: ObservationNormalizer, count: int = 500) -> NDArray[np.float64]:
    return normalizer.mean + normalizer.std * np.random.default_rng(9).normal(0, 1.5, (count, 17))


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_the_vector_is_the_actor(spec: PolicySpec) -> None:
    module = {"tanh": nn.Tanh, "relu": nn.ReLU, "elu": nn.ELU}[spec.activation]
    policy = sb3_policy(net_arch={"pi": list(spec.hidden), "vf": [8]}, activation_fn=module)
    assert sb3_bridge.spec_from_sb3(policy) == spec
    phi = sb3_bridge.phi_from_sb3(policy)
    assert phi.dtype == np.float32
    observations = torch.randn(20, 17, generator=torch.Generator().manual_seed(1))
    expected = policy.get_distribution(observations).mode()
    torch.testing.assert_close(forward(spec, torch.from_numpy(phi), observations), expected, rtol=0, atol=2e-6)


def test_what_is_read_can_be_written_and_only_that_changes() -> None:
    source, target = sb3_policy(0), sb3_policy(1)
    read: list[tuple[Any, Any]] = [
        (sb3_bridge.phi_from_sb3, sb3_bridge.phi_into_sb3),
        (sb3_bridge.critic_from_sb3, sb3_bridge.critic_into_sb3),
        (sb3_bridge.log_std_from_sb3, sb3_bridge.log_std_into_sb3),
    ]
    with torch.no_grad():
        source.log_std.fill_(0.5)
    for index, (get, put) in enumerate(read):
        others = [other(target) for other, _ in read[index + 1 :]]
        assert not equal(get(source), get(target))
        put(target, get(source))
        assert equal(get(source), get(target))
        for (other, _), before in zip(read[index + 1 :], others, strict=True):
            assert equal(other(target), before)
    for (name, one), other in zip(source.state_dict().items(), target.state_dict().values(), strict=True):
        assert torch.equal(one, other), f"{name} is in none of the three"


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)
    return np.array_equal(one, other)


def test_what_is_read_is_a_copy() -> None:
    policy = sb3_policy()
    phi, critic = sb3_bridge.phi_from_sb3(policy), sb3_bridge.critic_from_sb3(policy)
    sb3_bridge.phi_into_sb3(policy, np.zeros_like(phi))
    sb3_bridge.critic_into_sb3(policy, {name: np.zeros_like(array) for name, array in critic.items()})
    assert phi.any()
    assert critic["layers.0.weight"].any()


def test_a_loaded_actor_still_trains() -> None:
    model = PPO("MlpPolicy", Nothing(), device="cpu")
    sb3_bridge.phi_into_sb3(model.policy, np.full(5702, 0.01))
    owned = {id(parameter) for group in model.policy.optimizer.param_groups for parameter in group["params"]}
    assert all(id(parameter) in owned for parameter in model.policy.parameters())
    assert all(parameter.requires_grad for parameter in model.policy.parameters())


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (lambda: sb3_policy(use_sde=True), "StateDependentNoise"),
        (lambda: sb3_policy(activation_fn=nn.Sigmoid), "Sigmoid"),
        (
            lambda: ActorCriticPolicy(OBSERVATIONS, spaces.Discrete(3), lambda _: 1e-3),
            "CategoricalDistribution",
        ),
    ],
)
def test_other_kinds_of_policies_are_refused(policy: Any, message: str) -> None:
    with pytest.raises(MetaMapError, match=message):
        sb3_bridge.phi_from_sb3(policy())


def test_wrong_shapes_are_refused() -> None:
    policy = sb3_policy()
    with pytest.raises(MetaMapError, match=r"phi: expected shape \(5702,\), got \(1, 5702\)"):
        sb3_bridge.phi_into_sb3(policy, np.zeros((1, 5702)))
    critic = sb3_bridge.critic_from_sb3(policy)
    with pytest.raises(MetaMapError, match=r"critic: layers\.0\.bias: expected \(64,\), file has \(1,\)"):
        sb3_bridge.critic_into_sb3(policy, {**critic, "layers.0.bias": np.zeros(1)})
    with pytest.raises(MetaMapError, match=r"log_std: expected \(6,\), file has \(5,\)"):
        sb3_bridge.log_std_into_sb3(policy, np.zeros(5))


@pytest.mark.parametrize("critic", [True, False])
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_an_exported_model_acts_as_the_vector_does(tmp_path: Path, spec: PolicySpec, critic: bool) -> None:
    policy, made = exported(tmp_path / "policy.zip", spec, seed=len(spec.hidden), critic=critic)
    assert [path.name for path in tmp_path.iterdir()] == ["policy.zip"]
    model = PPO.load(tmp_path / "policy.zip", device="cpu")
    raw = raw_states(made["normalizer"])
    expected, _ = policy.predict(raw)
    assert np.mean(np.abs(expected) < 1) > 0.1, "everything is clipped: the test would show nothing"
    np.testing.assert_allclose(model.predict(raw, deterministic=True)[0], expected, rtol=0, atol=ROUNDING)
    np.testing.assert_allclose(model.predict(raw[0], deterministic=True)[0], expected[0], rtol=0, atol=ROUNDING)
    np.testing.assert_array_equal(model.policy.log_std.detach().numpy(), made["log_std"])
    assert model.observation_space == OBSERVATIONS
    assert model.action_space == ACTIONS


def test_the_exported_actor_is_the_trained_one_behind_its_normaliser(tmp_path: Path) -> None:
    _, made = exported(tmp_path / "policy.zip", PolicySpec(17, 6), seed=3, critic=True)
    model = PPO.load(tmp_path / "policy.zip", device="cpu")
    raw = raw_states(made["normalizer"])
    normalised = torch.from_numpy(made["normalizer"].apply(raw))
    actions = forward(made["spec"], torch.from_numpy(made["phi"].astype(np.float64)), normalised)
    np.testing.assert_allclose(
        model.predict(raw, deterministic=True)[0], np.clip(actions.numpy(), -1, 1), rtol=0, atol=2e-5
    )
    value_spec = PolicySpec(17, 1, (24, 16))
    values = forward(value_spec, torch.from_numpy(value_spec.join(made["critic"])), normalised.float())
    with torch.no_grad():
        got = model.policy.predict_values(torch.from_numpy(raw).float())
    torch.testing.assert_close(got, values, rtol=0, atol=2e-5)


def test_without_a_critic_the_values_are_zero_and_can_be_learned(tmp_path: Path) -> None:
    exported(tmp_path / "policy.zip", PolicySpec(17, 6), seed=0, critic=False)
    policy = PPO.load(tmp_path / "policy.zip", device="cpu").policy
    values = policy.predict_values(torch.randn(9, 17, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(values, torch.zeros(9, 1))
    (gradient,) = torch.autograd.grad((values - 1).square().mean(), policy.value_net.weight)
    assert gradient.any()


def test_the_export_leaves_the_global_generators_alone(tmp_path: Path) -> None:
    before = torch.get_rng_state(), repr(np.random.get_state()), random.getstate()  # noqa: NPY002 (what is tested)
    exported(tmp_path / "policy.zip", PolicySpec(17, 6), seed=0, critic=False)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert repr(np.random.get_state()) == before[1]  # noqa: NPY002
    assert random.getstate() == before[2]


def test_the_export_opens_where_this_project_is_not_installed(tmp_path: Path) -> None:
    policy, made = exported(tmp_path / "policy.zip", PolicySpec(17, 6), seed=4, critic=True)
    raw = raw_states(made["normalizer"], 50)
    np.save(tmp_path / "raw.npy", raw)
    code = """
import sys, warnings
warnings.simplefilter("error")
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0].startswith(("metamap", "test_", "conftest")):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
try:
    import metamap_agents
except ModuleNotFoundError:
    pass
else:
    raise AssertionError("the package is there after all")
import numpy as np
from stable_baselines3 import PPO
np.save("actions.npy", PPO.load("policy.zip", device="cpu").predict(np.load("raw.npy"), deterministic=True)[0])
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    np.testing.assert_allclose(np.load(tmp_path / "actions.npy"), policy.predict(raw)[0], rtol=0, atol=ROUNDING)


def test_exports_that_do_not_fit_are_refused_and_write_nothing(tmp_path: Path) -> None:
    spec = PolicySpec(17, 6)
    good: dict[str, Any] = {
        "path": tmp_path / "policy.zip",
        "policy": Policies(spec, ObservationNormalizer.identity(17), np.zeros(spec.size)),
        "log_std": None,
        "critic": None,
        "observation_space": OBSERVATIONS,
        "action_space": ACTIONS,
    }
    actor = spec.split(np.zeros(spec.size))
    changes: list[tuple[dict[str, Any], str]] = [
        ({"path": tmp_path / "policy"}, r"ends in \.zip"),
        ({"policy": replace(good["policy"], phi=np.zeros((2, spec.size)))}, "phi"),
        ({"policy": replace(good["policy"], normalizer=ObservationNormalizer.identity(3))}, "normalizer"),
        ({"log_std": np.zeros(5)}, "log_std"),
        ({"critic": actor}, "critic: expected 17 inputs and 1 output"),
        ({"critic": {"layers.0.weight": np.zeros((1, 17))}}, r"critic: layers\.0\.bias"),
        ({"action_space": spaces.Discrete(6)}, "action_space"),
        ({"observation_space": ACTIONS}, "observation_space"),
    ]
    for change, message in changes:
        with pytest.raises(MetaMapError, match=message):
            export_sb3(**{**good, **change})
    assert list(tmp_path.iterdir()) == []


def test_an_export_reads_back_as_the_folded_actor(tmp_path: Path) -> None:
    for spec in SPECS:
        _, made = exported(tmp_path / "policy.zip", spec, seed=0, critic=True)
        read_spec, phi = sb3_zip.read_sb3_actor(tmp_path / "policy.zip")
        assert read_spec == spec  # the activation included: SB3 wrote its name down
        np.testing.assert_array_equal(phi, made["normalizer"].fold(spec, made["phi"].astype(np.float64)).astype("f4"))
        assert phi.dtype == np.float32


def test_a_foreign_model_with_defaults_is_read(tmp_path: Path) -> None:
    model = PPO("MlpPolicy", Nothing(), device="cpu", seed=1, policy_kwargs={"ortho_init": False})
    model.save(tmp_path / "foreign.zip")
    spec, phi = sb3_zip.read_sb3_actor(tmp_path / "foreign.zip")
    assert spec == PolicySpec(17, 6)
    np.testing.assert_array_equal(phi, sb3_bridge.phi_from_sb3(model.policy))
    assert sb3_zip.read_sb3_actor(tmp_path / "foreign.zip", activation="relu")[0].activation == "relu"
    with pytest.raises(MetaMapError, match="did you mean 'relu'"):
        sb3_zip.read_sb3_actor(tmp_path / "foreign.zip", activation="rleu")


def test_models_of_another_kind_are_refused_by_name(tmp_path: Path) -> None:
    discrete = Nothing(actions=spaces.Discrete(3))
    models = {
        "gsde": PPO("MlpPolicy", Nothing(), device="cpu", use_sde=True),
        "discrete": PPO("MlpPolicy", discrete, device="cpu"),
        "sac": SAC("MlpPolicy", Nothing(), device="cpu", buffer_size=1),
        "sigmoid": PPO("MlpPolicy", Nothing(), device="cpu", policy_kwargs={"activation_fn": nn.Sigmoid}),
    }
    expected = {"gsde": "use_sde", "discrete": "Gaussian", "sac": "MlpPolicy of PPO", "sigmoid": "Sigmoid"}
    for name, model in models.items():
        model.save(tmp_path / f"{name}.zip")
        with pytest.raises(MetaMapError, match=expected[name]) as caught:
            sb3_zip.read_sb3_actor(tmp_path / f"{name}.zip")
        assert f"{name}.zip" in str(caught.value)


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def rewritten(source: Path, target: Path, **entries: bytes) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, entries.get(name.replace(".", "_"), old.read(name)))
    return target


def test_no_code_out_of_a_foreign_zip_is_run(tmp_path: Path) -> None:
    exported(tmp_path / "good.zip", PolicySpec(17, 6), seed=0, critic=False)
    mark = tmp_path / "mark"
    bomb = pickle.dumps(Bomb(mark))
    pickle.loads(bomb)  # noqa: S301 (it does go off)
    assert mark.exists()
    mark.unlink()

    with zipfile.ZipFile(tmp_path / "good.zip") as archive:
        data = json.loads(archive.read("data"))
    for value in data.values():
        if isinstance(value, dict) and ":serialized:" in value:
            value[":serialized:"] = base64.b64encode(bomb).decode()
    spec, _ = sb3_zip.read_sb3_actor(
        rewritten(tmp_path / "good.zip", tmp_path / "data.zip", data=json.dumps(data).encode())
    )
    assert spec == PolicySpec(17, 6)
    buffer = io.BytesIO()
    torch.save({"log_std": Bomb(mark)}, buffer)
    for number, content in enumerate((bomb, buffer.getvalue())):
        path = rewritten(tmp_path / "good.zip", tmp_path / f"policy{number}.zip", policy_pth=content)
        with pytest.raises(MetaMapError, match=path.name) as caught:
            sb3_zip.read_sb3_actor(path)
        assert "weights_only" not in str(caught.value)
    assert not mark.exists()


def saved(state: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def test_broken_files_are_named(tmp_path: Path) -> None:
    exported(tmp_path / "good.zip", PolicySpec(17, 6), seed=0, critic=False)
    content = (tmp_path / "good.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.zip").write_text("not a zip")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme", "hello")
    with zipfile.ZipFile(tmp_path / "good.zip") as archive:
        state = torch.load(io.BytesIO(archive.read("policy.pth")), weights_only=True)
    changes: dict[str, dict[str, bytes]] = {
        "list": {"policy_pth": saved([1, 2])},
        "half": {"policy_pth": saved({name: value for name, value in state.items() if "net.0.bias" not in name})},
        "wide": {"policy_pth": saved({**state, "action_net.weight": torch.zeros(6, 63)})},
        "flat": {"policy_pth": saved({**state, "action_net.weight": torch.zeros(6)})},
        "cnn": {"policy_pth": saved({**state, "features_extractor.cnn.0.weight": torch.zeros(3)})},
        "text_name": {"policy_pth": saved({**state, "mlp_extractor.policy_net.x.weight": torch.zeros(3)})},
        "number": {"policy_pth": saved({**state, 3: torch.zeros(3)})},
        "sparse": {"policy_pth": saved({**state, "action_net.bias": torch.zeros(6).to_sparse()})},
        "endless": {"policy_pth": saved({**state, "action_net.bias": torch.zeros(1).expand(10**9)})},
        "nan": {"policy_pth": saved({**state, "action_net.bias": torch.full((6,), torch.nan)})},
        "integers": {"policy_pth": saved({**state, "action_net.bias": torch.zeros(6, dtype=torch.int64)})},
        "json": {"data": b"[1"},
        "array": {"data": b"[1]"},
    }
    for name, change in changes.items():
        rewritten(tmp_path / "good.zip", tmp_path / f"{name}.zip", **change)
    for name in ("cut", "text", "other", "missing", *changes):
        with pytest.raises(MetaMapError, match=rf"{name}\.zip"):
            sb3_zip.read_sb3_actor(tmp_path / f"{name}.zip")


def test_bytes_broken_anywhere_are_an_error_or_harmless(tmp_path: Path) -> None:
    exported(tmp_path / "good.zip", PolicySpec(17, 6, (2,)), seed=0, critic=False)
    with zipfile.ZipFile(tmp_path / "good.zip") as archive:
        content = archive.read("policy.pth")
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        broken = np.frombuffer(content, np.uint8).copy()
        broken[rng.integers(0, len(broken), 3)] = rng.integers(0, 256, 3)
        path = rewritten(tmp_path / "good.zip", tmp_path / "broken.zip", policy_pth=broken.tobytes())
        try:
            sb3_zip.read_sb3_actor(path)
        except MetaMapError:
            refused += 1
    assert refused > 20


def test_an_entry_that_would_fill_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported(tmp_path / "good.zip", PolicySpec(17, 6), seed=0, critic=False)
    monkeypatch.setattr(zip_contents, "_LARGEST_ENTRY", 1000)
    with pytest.raises(MetaMapError, match=r"policy\.pth is larger than 1000 bytes"):
        sb3_zip.read_sb3_actor(tmp_path / "good.zip")


def test_no_noise_and_an_empty_critic_mean_sb3s_own_start(tmp_path: Path) -> None:
    spec, identity = PolicySpec(17, 6), ObservationNormalizer.identity(17)
    export_sb3(tmp_path / "a.zip", Policies(spec, identity, np.zeros(spec.size)), None, {}, OBSERVATIONS, ACTIONS)
    policy = PPO.load(tmp_path / "a.zip", device="cpu").policy
    assert not policy.log_std.any()
    assert not policy.predict_values(torch.ones(1, 17)).any()

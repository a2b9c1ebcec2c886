"""A policy of another tool acts here as it does there, or its file is refused in a sentence."""

from __future__ import annotations

import pickle
import shutil
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from gymnasium.spaces import Discrete
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sb3_contrib import TQC
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from helpers.foreign import ACTIONS, OBSERVATIONS, Blank, PPOAgent, SquashedActor, draw, onnx_model, sb3_model, seen
from metamap_agents.importers import IMPORTERS, ForeignPolicy, ImportOptions, read_policy
from metamap_agents.importers._scaling import read_scaling
from metamap_agents.runtime import torch_files
from metamap_agents.sb3.rl_zoo import ACTIVATIONS
from metamap_envs.errors import MetaMapError

LOW, HIGH = np.array([-2.0, 0.0]), np.array([2.0, 1.0])


def unit(actions: NDArray[Any]) -> NDArray[Any]:
    """Actions between LOW and HIGH as those of a family."""
    return np.clip((actions - (LOW + HIGH) / 2) / ((HIGH - LOW) / 2), -1, 1)


def same(policy: ForeignPolicy, expected: NDArray[Any], observations: NDArray[Any] | None = None) -> None:
    np.testing.assert_allclose(policy.act(seen() if observations is None else observations), expected, atol=2e-5)


# Stable-Baselines3 ----------------------------------------------------------------------------------------------------


@settings(
    max_examples=12,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.sampled_from([PPO, A2C, SAC, TD3, TQC]),
    st.lists(st.integers(1, 6), max_size=3),
    st.sampled_from([None, *ACTIVATIONS.values()]),
    st.booleans(),
    st.booleans(),
)
def test_a_zip_acts_as_it_does_in_its_library(
    tmp_path: Path, algorithm: Any, layers: list[int], activation: Any, gsde: bool, squashed: bool
) -> None:
    kwargs: dict[str, Any] = {"net_arch": layers}
    if activation is not None:
        kwargs["activation_fn"] = activation
    more: dict[str, Any] = {"use_sde": True} if gsde and algorithm is not TD3 else {}
    if more and squashed and algorithm in (PPO, A2C):
        kwargs["squash_output"] = True
    model = sb3_model(algorithm, Blank(LOW, HIGH), policy_kwargs=kwargs, **more)
    model.save(tmp_path / "model.zip")
    policy = read_policy(tmp_path / "model.zip")
    same(policy, unit(model.predict(seen(), deterministic=True)[0]))


def normalized(path: Path) -> tuple[PPO, VecNormalize]:
    """A model that a little training has given the statistics of its observations."""
    envs = VecNormalize(DummyVecEnv([Blank]), clip_obs=1.5)
    model = PPO("MlpPolicy", envs, n_steps=64, n_epochs=1, seed=0, device="cpu")
    model.learn(64)
    draw(model.policy, 1)
    path.mkdir()
    model.save(path / "model.zip")
    envs.save(str(path / "vecnormalize.pkl"))
    return model, envs


def test_statistics_of_vec_normalize(tmp_path: Path) -> None:
    model, envs = normalized(tmp_path / "a")
    statistics = tmp_path / "a" / "vecnormalize.pkl"
    policy = read_policy(tmp_path / "a" / "model.zip", ImportOptions(normalizer=statistics))
    expected = model.predict(envs.normalize_obs(seen()), deterministic=True)[0]  # type: ignore[arg-type]
    same(policy, expected)
    scaling = policy.scaling
    assert scaling is not None
    np.testing.assert_array_equal(scaling.mean, envs.obs_rms.mean)  # type: ignore[union-attr]
    assert scaling.clip == 1.5
    np.savez(tmp_path / "n.npz", mean=scaling.mean, var=envs.obs_rms.var, clip=1.5)  # type: ignore[union-attr]
    same(read_policy(tmp_path / "a" / "model.zip", ImportOptions(normalizer=tmp_path / "n.npz")), expected)
    same(read_policy(tmp_path / "a" / "model.zip"), model.predict(seen(), deterministic=True)[0])


@pytest.mark.parametrize("protocol", range(2, 6))
def test_statistics_in_every_protocol_of_pickle(tmp_path: Path, protocol: int) -> None:
    _, envs = normalized(tmp_path / "a")
    path = tmp_path / "b.pkl"
    path.write_bytes(pickle.dumps(envs, protocol=protocol))
    if protocol == 2:  # bytes are then text that a codec is called on, which no version of SB3 wrote
        with pytest.raises(MetaMapError, match=r"b\.pkl"):
            read_scaling(path)
        return
    found = read_scaling(path)
    assert found is not None
    np.testing.assert_array_equal(found.mean, envs.obs_rms.mean)  # type: ignore[union-attr]


def test_statistics_that_are_off(tmp_path: Path) -> None:
    envs = VecNormalize(DummyVecEnv([Blank]), norm_obs=False)
    envs.save(str(tmp_path / "off.pkl"))
    assert read_scaling(tmp_path / "off.pkl") is None


# rl-zoo ---------------------------------------------------------------------------------------------------------------


def zoo_folder(path: Path, **config: Any) -> tuple[PPO, VecNormalize, Path]:
    model, envs = normalized(path)
    (path / "Blank-v0").mkdir()
    shutil.move(path / "model.zip", path / "Blank-v0.zip")
    shutil.move(path / "vecnormalize.pkl", path / "Blank-v0" / "vecnormalize.pkl")
    shutil.copy(path / "Blank-v0.zip", path / "best_model.zip")
    shutil.copy(path / "Blank-v0.zip", path / "rl_model_64_steps.zip")
    settings = OrderedDict([("n_steps", 64), ("normalize", True), *config.items()])
    (path / "Blank-v0" / "config.yml").write_text(yaml.dump(settings))
    assert "python/object" in (path / "Blank-v0" / "config.yml").read_text()
    return model, envs, path


def test_a_folder_of_rl_zoo(tmp_path: Path) -> None:
    model, envs, folder = zoo_folder(tmp_path / "ppo", env_wrapper=None)
    expected = model.predict(envs.normalize_obs(seen()), deterministic=True)[0]  # type: ignore[arg-type]
    assert read_policy(folder).path.name == "Blank-v0.zip"
    same(read_policy(folder), expected)
    (folder / "Blank-v0.zip").unlink()
    assert read_policy(folder).path.name == "best_model.zip"
    same(read_policy(folder), expected)
    (folder / "Blank-v0" / "vecnormalize.pkl").unlink()
    with pytest.raises(MetaMapError, match="its observations were normalised"):
        read_policy(folder)
    same(read_policy(folder, ImportOptions(normalizer="none")), model.predict(seen(), deterministic=True)[0])


@pytest.mark.parametrize(
    "config", [{"env_wrapper": ["sb3_contrib.common.wrappers.TimeFeatureWrapper"]}, {"frame_stack": 4}]
)
def test_policies_behind_wrappers_are_refused(tmp_path: Path, config: dict[str, Any]) -> None:
    _, _, folder = zoo_folder(tmp_path / "ppo", **config)
    with pytest.raises(MetaMapError, match=next(iter(config))):
        read_policy(folder)


def test_folders_without_one_policy_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MetaMapError, match="there are none"):
        read_policy(tmp_path)
    for name in "ab":
        (tmp_path / f"{name}.zip").touch()
    with pytest.raises(MetaMapError, match=r"a\.zip, b\.zip"):
        read_policy(tmp_path)


# CleanRL --------------------------------------------------------------------------------------------------------------


def test_ppo_of_cleanrl(tmp_path: Path) -> None:
    agent, path = PPOAgent(), tmp_path / "ppo.cleanrl_model"
    draw(agent, 1)
    torch.save(agent.state_dict(), path)
    with pytest.raises(MetaMapError, match="statistics are not in the file"):
        read_policy(path)
    mean, var = np.full(OBSERVATIONS, 3.0), np.linspace(0.1, 4.0, OBSERVATIONS)
    np.savez(tmp_path / "n.npz", mean=mean, var=var)
    options = ImportOptions(normalizer=tmp_path / "n.npz", default_range=(LOW, HIGH))
    normalised = np.clip((seen() - mean) / np.sqrt(var + 1e-8), -10, 10)
    with torch.no_grad():
        expected = agent(torch.from_numpy(normalised).float()).numpy()
        raw = agent(torch.from_numpy(seen())).numpy()
    same(read_policy(path, options), unit(expected))
    same(read_policy(path, ImportOptions(normalizer="none", action_range=(-1.0, 1.0))), np.clip(raw, -1, 1))


@pytest.mark.parametrize(("output", "kind"), [("fc_mean", "SAC"), ("fc_mu", "TD3")])
def test_squashed_actors_of_cleanrl(tmp_path: Path, output: str, kind: str) -> None:
    actor, path = SquashedActor(output), tmp_path / "actor.pt"
    draw(actor, 2)
    with torch.no_grad():
        expected = unit(actor(torch.from_numpy(seen())).numpy())
    critic = torch.nn.Linear(3, 1).state_dict()
    for state in (actor.state_dict(), (actor.state_dict(), critic, critic)):
        torch.save(state, path)
        policy = read_policy(path)
        assert policy.kind.startswith(kind)
        same(policy, expected)
        np.testing.assert_allclose((policy.low, policy.high), (LOW, HIGH))


# ONNX -----------------------------------------------------------------------------------------------------------------


def layers(hidden: int, seed: int = 0) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    generator = np.random.default_rng(seed)
    sizes = [(hidden, OBSERVATIONS), (hidden, hidden), (ACTIONS, hidden)]
    return [(0.3 * generator.normal(size=size), 0.3 * generator.normal(size=size[0])) for size in sizes]


@pytest.mark.parametrize("squashed", [False, True])
@pytest.mark.parametrize("rows", ["batch", 1, 16])
def test_models_of_onnx(tmp_path: Path, squashed: bool, rows: Any) -> None:
    parts, value = layers(5), seen().astype(np.float64)
    path = onnx_model(tmp_path / "policy.onnx", parts, squashed=squashed, rows=rows)
    for index, (weight, bias) in enumerate(parts):
        value = value @ weight.T + bias
        value = np.tanh(value) if index < 2 or squashed else value
    policy = read_policy(path, ImportOptions(default_range=(LOW, HIGH)))
    same(policy, unit(value))
    assert (policy.network is None) == squashed
    if policy.network is not None:
        np.testing.assert_allclose(policy.network(seen()), value, atol=2e-5)


@pytest.mark.slow
def test_a_model_that_torch_exports(tmp_path: Path) -> None:
    agent = PPOAgent(8)
    draw(agent, 1)
    with pytest.warns():
        torch.onnx.export(agent, (torch.from_numpy(seen(2)),), str(tmp_path / "policy.onnx"), dynamo=False)
    policy = read_policy(tmp_path / "policy.onnx")
    with torch.no_grad():
        same(policy, np.clip(agent(torch.from_numpy(seen())).numpy(), -1, 1))


# what is refused ------------------------------------------------------------------------------------------------------


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_pickles_in_disguise_are_refused_and_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    content = pickle.dumps(Bomb(mark))
    sb3_model(PPO).save(tmp_path / "good.zip")
    for name in ("a.pt", "a.zip", "a.onnx", "a.cleanrl_model"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(MetaMapError, match=name):
            read_policy(tmp_path / name, ImportOptions(normalizer="none"))
    torch.save({"actor_logstd": Bomb(mark)}, tmp_path / "b.pt")
    with pytest.raises(MetaMapError, match=r"b\.pt"):
        read_policy(tmp_path / "b.pt")
    for name in ("n.pkl", "n.npz"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(MetaMapError, match=name):
            read_policy(tmp_path / "good.zip", ImportOptions(normalizer=tmp_path / name))
    assert not mark.exists()


def test_what_a_pickle_names_is_told(tmp_path: Path) -> None:
    (tmp_path / "n.pkl").write_bytes(b"cos\nsystem\n(S'touch mark'\ntR.")
    with pytest.raises(MetaMapError, match=r"os\.system; nothing of it was run"):
        read_scaling(tmp_path / "n.pkl")
    assert not Path("mark").exists()


def test_statistics_cut_or_broken_anywhere_are_refused_or_harmless(tmp_path: Path) -> None:
    _, _ = normalized(tmp_path / "a")
    content = (tmp_path / "a" / "vecnormalize.pkl").read_bytes()
    path, generator, refused = tmp_path / "n.pkl", np.random.default_rng(0), 0
    for end in range(0, len(content) - 1, 7):
        path.write_bytes(content[:end])
        with pytest.raises(MetaMapError):
            read_scaling(path)
    for _ in range(300):
        broken = np.frombuffer(content, np.uint8).copy()
        broken[generator.integers(0, len(broken), 3)] = generator.integers(0, 256, 3)
        path.write_bytes(broken.tobytes())
        try:
            read_scaling(path)
        except MetaMapError:
            refused += 1
    assert refused > 30


def test_damaged_files_and_other_policies_are_named(tmp_path: Path) -> None:
    blank = Blank()
    model = sb3_model(SAC)
    model.save(tmp_path / "good.zip")
    content = (tmp_path / "good.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(content[: len(content) // 2])
    with torch.no_grad():
        model.policy.actor.mu.bias.fill_(torch.nan)  # type: ignore[union-attr]
    model.save(tmp_path / "nan.zip")
    blank.action_space = Discrete(3)
    sb3_model(DQN, blank).save(tmp_path / "dqn.zip")
    sb3_model(PPO, blank).save(tmp_path / "discrete.zip")
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "other.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    (tmp_path / "text.onnx").write_text("no model")
    (tmp_path / "a.txt").touch()
    parts = layers(5)
    onnx_model(tmp_path / "nan.onnx", [(parts[0][0] * np.nan, parts[0][1]), *parts[1:]], squashed=False, rows="n")
    names = ("cut.zip", "nan.zip", "dqn.zip", "discrete.zip", "other.pt", "list.pt", "text.onnx", "nan.onnx", "a.txt")
    for name in (*names, "missing.zip"):
        with pytest.raises(MetaMapError, match=name.replace(".", r"\.")) as caught:
            read_policy(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_files_that_would_fill_the_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sb3_model(PPO).save(tmp_path / "a.zip")
    torch.save(SquashedActor("fc_mu").state_dict(), tmp_path / "a.pt")
    np.savez_compressed(tmp_path / "n.npz", mean=np.zeros(4_000_000), std=np.ones(4_000_000))
    with pytest.raises(MetaMapError, match="unpacks to more"):
        read_scaling(tmp_path / "n.npz")
    monkeypatch.setattr(torch_files, "LARGEST_FILE", 1000)
    for name in ("a.zip", "a.pt"):
        with pytest.raises(MetaMapError, match="unpacks to more than 1000 bytes"):
            read_policy(tmp_path / name)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mean": np.zeros(8)}, "one of var and std"),
        ({"mean": np.zeros(8), "std": np.zeros(8)}, "positive"),
        ({"mean": np.zeros(8), "var": -np.ones(8)}, "finite"),
        ({"mean": np.zeros(3), "std": np.ones(3)}, "its normaliser 3"),
        ({"mean": np.zeros(8), "std": np.ones(8), "clp": 1.0}, "did you mean 'clip'"),
        ({"mean": np.full(8, "x"), "std": np.ones(8)}, "expected numbers"),
    ],
)
def test_statistics_that_are_none(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    sb3_model(PPO).save(tmp_path / "a.zip")
    np.savez(tmp_path / "n.npz", **arrays)
    with pytest.raises(MetaMapError, match=message):
        read_policy(tmp_path / "a.zip", ImportOptions(normalizer=tmp_path / "n.npz"))


def test_ranges_and_formats_that_are_none() -> None:
    for given_range in ((1.0,), (1.0, 1.0), (0.0, np.inf)):
        with pytest.raises(MetaMapError, match="range of actions"):
            ImportOptions(action_range=given_range)
    with pytest.raises(MetaMapError, match="did you mean 'cleanrl'"):
        IMPORTERS.get("clenrl")

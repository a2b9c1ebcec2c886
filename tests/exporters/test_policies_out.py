"""An exported policy acts as the policy does, in whatever reads the file."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from gymnasium.spaces import Box
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load_file

from helpers.policies import SPECS
from metamap_agents import BasePolicy, ObservationNormalizer, PolicySpec
from metamap_agents.policy.spec import ACTIVATIONS
from metamap_envs import get_family
from metamap_rl import AdaptedPolicy, adapt, bundled_families, export, load
from metamap_rl.adaptation.env_spaces import EnvSpaces
from metamap_rl.adaptation.plain import PlainPolicy
from metamap_rl.exporters import EXPORTERS
from metamap_rl.probing.collecting import collect
from metamap_rl.probing.documents import probe_from_json

Floats = NDArray[np.float32]
Reader = Callable[[Path], Callable[[Floats], Floats]]

COMPILER = shutil.which("cc") or shutil.which("gcc")
FORMATS = [name for name in EXPORTERS.names() if PlainPolicy in EXPORTERS.get(name).writes]
CLOSE = {"rtol": 1e-6, "atol": 1e-6}


# reading, with the tools that the files are for -----------------------------------------------------------------------


def read_onnx(path: Path) -> Callable[[Floats], Floats]:
    runtime = pytest.importorskip("onnxruntime", reason="needs metamap-rl[onnx]")
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda seen: session.run(["action"], {"observation": seen})[0]


def read_torchscript(path: Path) -> Callable[[Floats], Floats]:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        module = torch.jit.load(str(path))
    return lambda seen: module(torch.from_numpy(seen)).detach().numpy()


def read_sb3(path: Path) -> Callable[[Floats], Floats]:
    from stable_baselines3 import PPO

    model = PPO.load(path, device="cpu")
    return lambda seen: model.predict(seen, deterministic=True)[0]


def read_safetensors(path: Path) -> Callable[[Floats], Floats]:
    arrays = load_file(path)
    count = sum(name.endswith(".weight") for name in arrays)

    def act(seen: Floats) -> Floats:  # of tanh policies
        for index in range(count):
            seen = seen @ arrays[f"layers.{index}.weight"].T + arrays[f"layers.{index}.bias"]
            seen = np.tanh(seen) if index < count - 1 else seen
        return np.clip(seen, arrays["action_low"], arrays["action_high"])

    return act


def read_c(path: Path) -> Callable[[Floats], Floats]:
    if COMPILER is None:
        pytest.skip("needs a C compiler")
    source, library = path.with_name("run.c"), path.with_name("policy.so")
    source.write_text(
        f'#include "{path.name}"\n'
        "int sizes(int i) { return i ? POLICY_ACTION_SIZE : POLICY_OBSERVATION_SIZE; }\n"
        "void run(const float *observation, float *action) { policy(observation, action); }\n"
    )
    flags = ["-std=c99", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-shared", "-fPIC"]
    subprocess.run([COMPILER, *flags, source, "-o", library, "-lm"], check=True)
    loaded = ctypes.CDLL(str(library))
    pointer = ctypes.POINTER(ctypes.c_float)

    def act(seen: Floats) -> Floats:
        assert loaded.sizes(0) == seen.shape[1]
        actions = np.empty((len(seen), loaded.sizes(1)), dtype=np.float32)
        for observation, action in zip(np.ascontiguousarray(seen), actions, strict=True):
            loaded.run(observation.ctypes.data_as(pointer), action.ctypes.data_as(pointer))
        return actions

    return act


READERS: dict[str, Reader] = {
    "c": read_c,
    "onnx": read_onnx,
    "safetensors": read_safetensors,
    "sb3": read_sb3,
    "torchscript": read_torchscript,
}


def exported(policy: AdaptedPolicy | PlainPolicy, to: str, folder: Path) -> Callable[[Floats], Floats]:
    if to == "onnx":
        pytest.importorskip("onnx", reason="needs metamap-rl[onnx]")
    return READERS[to](export(policy, folder / f"policy{EXPORTERS.get(to).suffix}", to))


# every bundled family -------------------------------------------------------------------------------------------------


@cache
def adapted(family: str) -> AdaptedPolicy:
    """A generated policy for a test task, with D."""
    mapper, tasks = load(family), get_family(family).sample("test-in", 1, 0)
    rollouts = collect(probe_from_json(mapper.probe), tasks, mapper.base, steps=50, seed=0, num_threads=1)
    return adapt(mapper, rollouts.rollout(0), check=False)


def observations(policy: AdaptedPolicy) -> Floats:
    """Observations of D, and wider ones."""
    assert policy.rollout is not None
    normal = np.random.default_rng(0).normal(size=(100, policy.spec.observation_size))
    wide = policy.base.normalizer.mean + 3.0 * policy.base.normalizer.std * normal
    return np.concatenate([policy.rollout.observations, wide.astype(np.float32)])


def test_every_format_of_policies_is_tested() -> None:
    assert sorted(READERS) == FORMATS


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("family", bundled_families())
def test_actions_on_raw_observations_are_those_of_the_policy(family: str, to: str, tmp_path: Path) -> None:
    policy = adapted(family)
    seen = observations(policy)
    found, expected = exported(policy, to, tmp_path)(seen), policy.predict(seen)[0]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, **CLOSE)


# other architectures, other spaces ------------------------------------------------------------------------------------


def plain(spec: PolicySpec, seed: int, scale: float = 1.0) -> PlainPolicy:
    """Random weights, and an action range with an infinite end."""
    generator = np.random.default_rng(seed)
    phi = generator.normal(0, 0.3, spec.size).astype(np.float32)
    normalizer = ObservationNormalizer(
        generator.normal(size=spec.observation_size), generator.uniform(0.5, 2.0, spec.observation_size)
    )
    log_std = np.zeros(spec.action_size, np.float32)
    low, high = np.full(spec.action_size, -scale), np.full(spec.action_size, 0.5 * scale)
    high[-1] = np.inf
    actions = Box(low.astype(np.float32), high.astype(np.float32))
    seen = Box(-np.inf, np.inf, (spec.observation_size,))
    return PlainPolicy("reacher-goal", BasePolicy(spec, phi, normalizer, log_std), phi, log_std, seen, actions, "*/ \\")


def direct(policy: PlainPolicy, seen: Floats) -> NDArray[np.float64]:
    """What it computes, in float64."""
    activate = {"tanh": np.tanh, "relu": lambda x: np.maximum(x, 0), "elu": lambda x: np.where(x > 0, x, np.expm1(x))}
    value = policy.base.normalizer.apply(seen.astype(np.float64))
    parts = policy.spec.split(policy.phi.astype(np.float64))
    for index in range(len(policy.spec.hidden) + 1):
        value = value @ parts[f"layers.{index}.weight"].T + parts[f"layers.{index}.bias"]
        value = activate[policy.spec.activation](value) if index < len(policy.spec.hidden) else value
    return np.clip(value, *policy.bounds)


@pytest.mark.parametrize("to", ["onnx", "torchscript"])
@settings(max_examples=15)
@given(spec=SPECS, seed=st.integers(0, 99))
def test_any_architecture(spec: PolicySpec, seed: int, to: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    policy = plain(spec, seed)
    seen = np.random.default_rng(seed).normal(size=(7, spec.observation_size)).astype(np.float32)
    found = exported(policy, to, tmp_path_factory.mktemp("out"))(seen)
    np.testing.assert_allclose(found, direct(policy, seen), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("hidden", [(), (5,), (4, 3, 2)])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_c_of_any_architecture(activation: str, hidden: tuple[int, ...], tmp_path: Path) -> None:
    policy = plain(PolicySpec(3, 2, hidden, activation), 0)
    seen = np.random.default_rng(1).normal(size=(7, 3)).astype(np.float32)
    np.testing.assert_allclose(exported(policy, "c", tmp_path)(seen), direct(policy, seen), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("to", ["c", "onnx", "torchscript"])
def test_nan_is_not_hidden(to: str, tmp_path: Path) -> None:
    seen = np.full((1, 3), np.nan, dtype=np.float32)
    assert np.isnan(exported(plain(PolicySpec(3, 2, (4,), "tanh"), 0), to, tmp_path)(seen)).all()


@pytest.mark.parametrize("to", ["c", "onnx", "sb3", "torchscript"])
def test_actions_are_those_of_the_environment(to: str, tmp_path: Path) -> None:
    policy = adapted("reacher-goal")
    actions = Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 5.0], np.float32))
    spaces = EnvSpaces(Box(-np.inf, np.inf, (policy.spec.observation_size,), np.float32), actions)
    scaled = AdaptedPolicy(policy.base, policy.phi, policy.adaptation, spaces, policy.rollout)
    seen = observations(policy)
    found = exported(scaled, to, tmp_path)(seen)
    np.testing.assert_allclose(found, scaled.predict(seen)[0], rtol=1e-5, atol=1e-5)
    assert found[:, 1].min() >= 0.0
    assert found[:, 1].max() > 1.0


@pytest.mark.parametrize("to", ["c", "onnx", "safetensors"])
def test_the_same_policy_gives_the_same_bytes(to: str, tmp_path: Path) -> None:
    if to == "onnx":
        pytest.importorskip("onnx", reason="needs metamap-rl[onnx]")
    paths = [export(adapted("reacher-goal"), tmp_path / f"{name}{EXPORTERS.get(to).suffix}", to) for name in "ab"]
    assert paths[0].read_bytes() == paths[1].read_bytes()

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from helpers.synthetic import (
    FAMILY,
    FEATURES,
    SMALL,
    SPEC,
    STEPS,
    base_policy,
    features_of,
    moved_mapper,
    new_mapper,
    pairs,
    rollout_of,
)
from metamap_agents.experts.universal import UniversalPolicy
from metamap_agents.policy.base import BasePolicy
from metamap_agents.runtime.storage import load_arrays, read_json, save_arrays, write_json
from metamap_envs.errors import MetaMapError
from metamap_envs.registry import get_family
from metamap_envs.rollout import Rollout
from metamap_rl.encoders import ENCODERS
from metamap_rl.hypernetworks import HYPERNETWORKS
from metamap_rl.mapper.config import MapperConfig
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.mapper.scales import Scales
from metamap_rl.probing.documents import probe_from_json

every_shape = pytest.mark.parametrize(
    "config",
    [
        dataclasses.replace(SMALL, encoder=encoder, hypernetwork=hypernetwork)
        for encoder in ENCODERS.names()
        for hypernetwork in HYPERNETWORKS.names()
    ],
    ids=lambda config: f"{config.encoder}-{config.hypernetwork}",
)


@every_shape
def test_before_training_it_is_the_base_policy(config: MapperConfig) -> None:
    mapper = new_mapper(config=config)
    assert np.array_equal(mapper.generate(rollout_of(pairs(6, 3), 0)), base_policy().phi)


@every_shape
def test_an_empty_rollout_gives_the_base_policy(config: MapperConfig) -> None:
    mapper = moved_mapper(config=config)
    phi = mapper.generate(rollout_of(pairs(6, 3), 0, length=0))
    assert np.array_equal(phi, base_policy().phi)
    assert phi.dtype == np.float32
    features = features_of(pairs(6, 3))
    nothing = torch.zeros(features.shape[:2], dtype=torch.bool)
    assert torch.equal(mapper(features, nothing), mapper.phi_0.expand(6, -1))


def test_one_transition_is_something() -> None:
    phi = moved_mapper().generate(rollout_of(pairs(6, 3), 0, length=1))
    assert (phi != base_policy().phi).all()


@settings(max_examples=20, deadline=None)
@given(lengths=st.lists(st.integers(0, STEPS), min_size=6, max_size=6))
def test_a_padded_batch_is_each_rollout_by_itself(lengths: list[int]) -> None:
    mapper, source = moved_mapper(), pairs(6, 3)
    mask = torch.arange(STEPS) < torch.tensor(lengths)[:, None]
    batch = mapper(torch.where(mask.unsqueeze(-1), features_of(source), torch.nan), mask).detach().numpy()
    alone = np.stack([mapper.generate(rollout_of(source, task, length)) for task, length in enumerate(lengths)])
    np.testing.assert_allclose(batch, alone, atol=1e-4)


def test_the_context_is_what_tells_tasks_apart() -> None:
    z = moved_mapper().encode(features_of(pairs(6, 3)))
    assert z.shape == (6, SMALL.context_size)
    assert torch.cdist(z, z).fill_diagonal_(1).min() > 1e-2


def test_units_come_from_the_training_tasks() -> None:
    mapper, source = new_mapper(), pairs(6, 3)
    rows = source.examples(base_policy()).features.reshape(-1, FEATURES)
    torch.testing.assert_close(mapper.feature_mean, rows.mean(dim=0))
    torch.testing.assert_close(mapper.feature_std, rows.std(dim=0, correction=0))
    change = source.phi - base_policy().phi
    floor = 0.1 * np.sqrt((change**2).mean())
    np.testing.assert_allclose(mapper.weight_scale, np.maximum(np.sqrt((change**2).mean(axis=0)), floor), rtol=1e-4)


def test_the_seed_decides_and_the_global_generator_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    first, same, other = new_mapper(1).arrays(), new_mapper(1).arrays(), new_mapper(2).arrays()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(np.array_equal(first[name], same[name]) for name in first)
    assert any(not np.array_equal(first[name], other[name]) for name in first)


# ---------------------------------------------------------------------------------------------- bad rollouts


def test_a_rollout_of_another_family_is_refused() -> None:
    family = get_family("cheetah-velocity")
    size, actions = family.observation_size, family.action_size
    zeros = np.zeros((3, size), dtype=np.float32)
    flags = np.zeros(3, dtype=bool)
    rollout = Rollout(
        family.name, zeros, np.zeros((3, actions), np.float32), np.zeros(3, np.float32), zeros, flags, flags
    )
    with pytest.raises(MetaMapError, match="trained on family 'reacher-goal', the rollout is of 'cheetah-velocity'"):
        new_mapper().generate(rollout)


@pytest.mark.parametrize(("name", "size"), [("observations", 5), ("actions", 3)])
def test_a_rollout_of_another_size_is_refused(name: str, size: int) -> None:
    rollout = rollout_of(pairs(6, 3), 0)
    # The constructor of Rollout checks this too; a mapper must not rely on who made the object.
    object.__setattr__(rollout, name, np.zeros((STEPS, size), dtype=np.float32))
    with pytest.raises(MetaMapError, match=f"expected 8 numbers per observation and 2 per action, got .*{size}"):
        new_mapper().generate(rollout)


@pytest.mark.parametrize("name", ["observations", "actions", "rewards", "next_observations"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_rollout_that_is_not_finite_is_refused(name: str, value: float) -> None:
    rollout = rollout_of(pairs(6, 3), 0)
    damaged = getattr(rollout, name).copy()
    damaged.flat[3] = value
    object.__setattr__(rollout, name, damaged)
    with pytest.raises(MetaMapError, match="not finite"):
        new_mapper().generate(rollout)


def test_weights_that_overflow_are_not_handed_out() -> None:
    rollout = rollout_of(pairs(6, 3), 0)
    object.__setattr__(rollout, "rewards", np.full(STEPS, 3e38, dtype=np.float32))
    with pytest.raises(MetaMapError, match="generated weights are not finite"):
        moved_mapper().generate(rollout)


# -------------------------------------------------------------------------------------------------- artifact


def test_a_mapper_without_rewards_ignores_them(tmp_path: Path) -> None:
    mapper = moved_mapper(config=dataclasses.replace(SMALL, reward=False))
    rollout = rollout_of(pairs(6, 3), 0)
    other = dataclasses.replace(rollout, rewards=rollout.rewards + 3.0)
    assert np.array_equal(mapper.generate(rollout), mapper.generate(other))
    assert not np.array_equal(moved_mapper().generate(rollout), moved_mapper().generate(other))
    features = features_of(pairs(6, 3))
    features[..., -SPEC.observation_size - 1] = np.nan
    assert torch.isfinite(mapper(features)).all()
    mapper.save(tmp_path / "mapper")
    assert np.array_equal(Mapper.load(tmp_path / "mapper").generate(other), mapper.generate(rollout))
    with pytest.raises(MetaMapError, match="reward"):
        Mapper(mapper.config, base_policy(), family=FAMILY, scales=_wider(mapper.scales))


def _wider(scales: Scales) -> Scales:
    """Of feature rows with one number more."""
    ones = torch.ones(FEATURES + 1)
    return dataclasses.replace(scales, feature_mean=ones, feature_std=ones)


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    mapper = moved_mapper()
    mapper.record = {"updates": 7, "history": [{"update": 0, "validation": 0.1}]}
    mapper.save(tmp_path / "mapper")
    loaded = Mapper.load(tmp_path / "mapper")
    rollout = rollout_of(pairs(6, 3), 1)
    assert np.array_equal(loaded.generate(rollout), mapper.generate(rollout))
    assert (loaded.config, loaded.family, loaded.probe) == (SMALL, FAMILY, {"kind": "noise"})
    assert loaded.record == mapper.record
    assert loaded.base.record == {"steps": 1000}
    for name, array in mapper.arrays().items():
        assert np.array_equal(loaded.arrays()[name], array), name
    assert sorted(os.listdir(tmp_path / "mapper")) == ["mapper.json", "mapper.safetensors"]


def test_a_mapper_of_a_removed_probe_still_maps_a_rollout(tmp_path: Path) -> None:
    mapper, rollout = moved_mapper(), rollout_of(pairs(6, 3), 1)
    mapper.probe, mapper.record = {"name": "seeking", "guide": "guide"}, {"tuning": {"chosen_iteration": 3}}
    mapper.save(tmp_path / "mapper")
    loaded = Mapper.load(tmp_path / "mapper")
    assert np.array_equal(loaded.generate(rollout), mapper.generate(rollout))
    assert loaded.record == mapper.record
    with pytest.raises(MetaMapError, match="probe 'seeking' was removed"):
        probe_from_json(loaded.probe)


def test_half_precision_is_half_the_size_and_nearly_the_same(tmp_path: Path) -> None:
    mapper, source = moved_mapper(), pairs(6, 3)
    mapper.save(tmp_path / "full")
    mapper.save(tmp_path / "half", half=True)
    sizes = [(tmp_path / name / "mapper.safetensors").stat().st_size for name in ("full", "half")]
    assert sizes[1] < 0.7 * sizes[0]
    loaded = Mapper.load(tmp_path / "half")
    assert all(parameter.dtype == torch.float32 for parameter in loaded.parameters())
    assert np.array_equal(loaded.base.phi, mapper.base.phi)
    rollout = rollout_of(source, 0)
    change = mapper.generate(rollout) - mapper.base.phi
    np.testing.assert_allclose(loaded.generate(rollout) - mapper.base.phi, change, atol=0.01 * np.abs(change).max())


def test_another_process_reads_the_same_weights(tmp_path: Path) -> None:
    mapper, rollout = moved_mapper(), rollout_of(pairs(6, 3), 0)
    mapper.save(tmp_path / "mapper")
    np.save(tmp_path / "rows.npy", features_of(pairs(6, 3))[0].numpy())
    code = (
        "import numpy as np, torch; torch.set_num_threads(1); from metamap_rl import Mapper; "
        f"rows = torch.from_numpy(np.load({str(tmp_path / 'rows.npy')!r})); "
        f"phi = Mapper.load({str(tmp_path / 'mapper')!r})(rows[None])[0].detach().numpy(); print(phi.tobytes().hex())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == mapper.generate(rollout).tobytes().hex()


def test_what_stands_there_is_not_overwritten_unasked(tmp_path: Path) -> None:
    new_mapper(1).save(tmp_path)
    with pytest.raises(MetaMapError, match="already exists"):
        new_mapper(2).save(tmp_path)
    second = new_mapper(2)
    second.save(tmp_path, overwrite=True)
    assert np.array_equal(
        Mapper.load(tmp_path).arrays()["encoder.embed.0.weight"], second.arrays()["encoder.embed.0.weight"]
    )


def with_manifest(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        manifest = read_json(folder / "mapper.json")
        change(manifest)
        write_json(folder / "mapper.json", manifest)

    return damage


def with_arrays(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        arrays, metadata = load_arrays(folder / "mapper.safetensors")
        change(arrays)
        save_arrays(folder / "mapper.safetensors", arrays, metadata)

    return damage


def truncated(folder: Path) -> None:
    content = (folder / "mapper.safetensors").read_bytes()
    (folder / "mapper.safetensors").write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (with_manifest(lambda m: m.update(format_version=5)), "format version 5, this metamap_rl reads 4 and older"),
        (with_manifest(lambda m: m.pop("format_version")), "manifest"),
        (with_manifest(lambda m: m.update(probes={})), "unknown key 'probes': did you mean 'probe'"),
        (with_manifest(lambda m: m.pop("family")), "family: expected str, got None"),
        (with_manifest(lambda m: m.update(feature_size="x")), "feature_size: expected int, got 'x'"),
        (
            with_manifest(lambda m: m.update(feature_size=99)),
            r"embed\.0\.weight: expected \(32, 99\), file has \(32, 20\)",
        ),
        (with_manifest(lambda m: m["config"].update(encodr="x")), "did you mean 'encoder'"),
        (with_manifest(lambda m: m["config"].update(encoder="poolin")), "unknown encoder 'poolin'"),
        (with_manifest(lambda m: m["config"].update(context_size=10**12)), "file has"),  # and nothing that big is made
        (with_manifest(lambda m: m["config"].update(context_size=10**30)), "networks of an impossible size"),
        (with_manifest(lambda m: m["config"].update(encoder=["pooling"])), "encoder: .*string"),
        (with_manifest(lambda m: m["config"].update(encoder_hidden=True)), "encoder_hidden: expected a number"),
        (with_manifest(lambda m: m["base"].update(extra=1)), "base policy: expected the keys"),
        (with_manifest(lambda m: m["base"].update(record=3)), "base policy: record: expected an object, got 3"),
        (with_manifest(lambda m: m["base"].update(critic=[])), r"base policy: critic: expected an object, got \[\]"),
        (with_manifest(lambda m: m["base"].update(critic={"a": 3})), "base policy: critic: a: expected a shape, got 3"),
        (
            with_manifest(lambda m: m["base"]["spec"].update(hidden=[4])),
            r"base\.phi: expected \(46,\), file has \(18,\)",
        ),
        (with_arrays(lambda a: a.pop("weight_scale")), r"mapper\.safetensors: weight_scale: expected \(18,\)"),
        (with_arrays(lambda a: a.update(stray=np.zeros(2))), "unknown array 'stray'"),
        (
            with_arrays(lambda a: a.update({"hypernetwork.output.bias": np.zeros(3, np.float32)})),
            r"mapper\.safetensors: hypernetwork\.output\.bias: expected \(18,\), file has \(3,\)",
        ),
        (
            with_arrays(lambda a: a.update(feature_mean=np.full(FEATURES, np.nan, np.float32))),
            "feature_mean holds values that are not finite",
        ),
        (truncated, "truncated"),
        (lambda folder: (folder / "mapper.json").unlink(), "not a saved mapper.*mapper.json"),
        (lambda folder: (folder / "mapper.safetensors").unlink(), "no such file"),
        (lambda folder: (folder / "mapper.json").write_text("[1, 2]"), "manifest"),
        (lambda folder: (folder / "mapper.json").write_text("{"), "expected JSON"),
    ],
)
def test_a_damaged_artifact_is_reported(damage: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    new_mapper().save(tmp_path)
    damage(tmp_path)
    with pytest.raises(MetaMapError, match=message):
        Mapper.load(tmp_path)


# ----------------------------------------------------------------------------- universal policy and actors


def with_universal() -> Mapper:
    mapper = moved_mapper()
    spec = dataclasses.replace(base_policy().spec, observation_size=base_policy().spec.observation_size + 1)
    phi = np.random.default_rng(0).normal(size=spec.size).astype(np.float32)
    mean, std = np.full(1, 1.5, np.float32), np.full(1, 0.87, np.float32)
    critic = {
        "layers.0.weight": np.ones((1, spec.observation_size), np.float32),
        "layers.0.bias": np.ones(1, np.float32),
    }
    mapper.universal = UniversalPolicy(FAMILY, ("goal_radius",), spec, phi, mean, std, critic, {"steps": 9})
    mapper.actors = {"base": 0.3, "noise": [0, 0.3]}
    return mapper


@pytest.mark.parametrize("half", [False, True])
def test_the_universal_policy_and_the_actors_are_in_the_artifact(half: bool, tmp_path: Path) -> None:
    mapper = with_universal()
    mapper.save(tmp_path / "mapper", half=half)
    loaded = Mapper.load(tmp_path / "mapper")
    assert loaded.universal is not None
    assert mapper.universal is not None
    assert loaded.universal.describe() == mapper.universal.describe()
    arrays = mapper.universal.to_arrays()
    assert loaded.universal.to_arrays().keys() == arrays.keys()
    for name, array in arrays.items():
        assert np.array_equal(loaded.universal.to_arrays()[name], array), name
    assert loaded.actors == mapper.actors
    loaded.save(tmp_path / "again")
    assert Mapper.load(tmp_path / "again").actors == mapper.actors


@pytest.mark.parametrize("version", [1, 2, 3])
def test_older_artifacts_have_neither(version: int, tmp_path: Path) -> None:
    new_mapper().save(tmp_path)
    with_manifest(lambda m: m.update(format_version=version))(tmp_path)
    loaded = Mapper.load(tmp_path)
    assert loaded.universal is None
    assert loaded.actors == {}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            with_manifest(lambda m: m["universal"].update(family="ant-goal")),
            "expected family 'reacher-goal', got 'ant-goal'",
        ),
        (with_manifest(lambda m: m["universal"].update(family=3)), "a name as family"),
        (with_manifest(lambda m: m["universal"].update(told=[3])), r"told: expected a list of names, got \[3\]"),
        (with_manifest(lambda m: m["universal"].update(told=["goal_radios"])), "did you mean 'goal_radius'"),
        (with_manifest(lambda m: m["universal"]["spec"].update(hidden=[3])), r"phi: expected \(\d+,\), file has"),
        (with_manifest(lambda m: m.pop("universal")), "unknown array 'critic"),
        (with_manifest(lambda m: m.update(actors=[])), r"actors: expected dict, got \[\]"),
        (with_arrays(lambda a: a.pop("universal.mean")), "expected phi, mean and std, there are phi, std"),
        (with_arrays(lambda a: a.update({"universal.std": np.ones(2, np.float32)})), r"std: expected \(1,\)"),
        (with_arrays(lambda a: a.update({"universal.phi": a["universal.phi"] * np.nan})), "universal.phi holds values"),
        (with_arrays(lambda a: a.update({"universal.critic.x": np.ones(1, np.float32)})), "layers.0.weight"),
    ],
)
def test_a_damaged_universal_policy_is_reported(damage: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    with_universal().save(tmp_path)
    damage(tmp_path)
    with pytest.raises(MetaMapError, match=message):
        Mapper.load(tmp_path)


def test_a_universal_policy_of_another_network_is_not_saved(tmp_path: Path) -> None:
    mapper = with_universal()
    assert mapper.universal is not None
    spec = dataclasses.replace(mapper.universal.spec, hidden=(5,))
    mapper.universal = dataclasses.replace(mapper.universal, spec=spec, phi=np.zeros(spec.size, np.float32), critic={})
    with pytest.raises(MetaMapError, match="expected policies of the shape"):
        mapper.save(tmp_path / "mapper")
    assert not (tmp_path / "mapper").exists()


def test_a_folder_that_is_not_there_is_reported(tmp_path: Path) -> None:
    with pytest.raises(MetaMapError, match="not a saved mapper"):
        Mapper.load(tmp_path / "nothing")


def test_the_manifest_says_what_made_it(tmp_path: Path) -> None:
    new_mapper().save(tmp_path)
    manifest = json.loads((tmp_path / "mapper.json").read_text())
    assert manifest["versions"].keys() >= {"python", "numpy", "torch", "mujoco"}
    assert manifest["base"]["spec"]["observation_size"] == 8


# ---------------------------------------------------------------------------------------- config and base policy


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"encoder": "pool"}, "unknown encoder 'pool'"),
        ({"encoder": "pooling-gru"}, "the encoder 'pooling-gru' was removed: 'pooling' is closest"),
        ({"hypernetwork": "iterative"}, "the hypernetwork 'iterative' was removed: 'residual' is closest"),
        ({"hypernetwork": "linear"}, "unknown hypernetwork 'linear'"),
        ({"context_size": 1}, "context_size: expected a whole number >= 2, got 1"),
        ({"encoder_hidden": 2.5}, "encoder_hidden: expected a whole number >= 1, got 2.5"),
    ],
)
def test_a_bad_config_is_reported(field: dict[str, Any], message: str) -> None:
    with pytest.raises(MetaMapError, match=message):
        MapperConfig(**field)


def test_a_new_encoder_is_one_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ENCODERS, "_entries", dict(ENCODERS._entries))

    @ENCODERS.register("first-row")
    class FirstRow(nn.Module):
        def __init__(self, feature_size: int, context_size: int, hidden: int) -> None:
            super().__init__()
            self.context_size = context_size

        def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
            return features[:, 0, : self.context_size].tanh()

    mapper = moved_mapper(config=dataclasses.replace(SMALL, encoder="first-row"))
    assert mapper.encode(features_of(pairs(6, 3))).shape == (6, SMALL.context_size)


def test_the_base_policy_survives_as_arrays() -> None:
    base = base_policy()
    again = BasePolicy.from_arrays(base.to_arrays(), json.loads(json.dumps(base.describe())))
    assert again.describe() == base.describe()
    assert all(np.array_equal(again.to_arrays()[name], array) for name, array in base.to_arrays().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"phi": np.zeros(3, np.float32)}, r"base policy: phi: expected \(18,\), file has \(3,\)"),
        ({"log_std": np.zeros(5, np.float32)}, r"log_std: expected \(2,\)"),
        ({"log_std": np.full(2, np.nan, np.float32)}, "log_std holds values that are not finite"),
    ],
)
def test_a_base_policy_that_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(MetaMapError, match=message):
        dataclasses.replace(base_policy(), **change)


# ------------------------------------------------------------------------------------------------------ package


def test_the_package_is_lazy_and_its_names_are_there() -> None:
    code = """
import sys
import metamap_rl
assert "torch" not in sys.modules and "scipy" not in sys.modules, "import metamap_rl is slow"
assert metamap_rl.iqm([1, 2, 9]) == 4 and "torch" not in sys.modules
import metamap_rl.adaptation.one_shot
assert all(getattr(metamap_rl, name) is not None for name in metamap_rl.__all__)
assert callable(metamap_rl.adapt)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

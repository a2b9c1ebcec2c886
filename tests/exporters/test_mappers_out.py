"""A mapper as ONNX gives the weights that the mapper gives, for any number of transitions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import metamap_rl
from helpers.tiny import moved
from metamap_envs import Rollout, get_family
from metamap_rl import Mapper, MapperConfig, bundled_families, export, load
from metamap_rl.encoders import ENCODERS
from metamap_rl.exporters.mapper_graph import INPUTS
from metamap_rl.hypernetworks import HYPERNETWORKS
from metamap_rl.probing.collecting import collect
from metamap_rl.probing.documents import probe_from_json

pytest.importorskip("onnx", reason="needs metamap-rl[onnx]")
pytest.importorskip("onnxscript", reason="needs metamap-rl[onnx]")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs metamap-rl[onnx]")


def recorded(mapper: Mapper, steps: int = 60) -> Rollout:
    tasks = get_family(mapper.family).sample("test-in", 1, 3)
    probe = probe_from_json(mapper.probe)
    return collect(probe, tasks, mapper.base, steps=steps, seed=1, num_threads=1).rollout(0)


def check(mapper: Mapper, path: Path) -> None:
    """Weights and layers of the model against the mapper's own, at several lengths of D."""
    session = onnxruntime.InferenceSession(export(mapper, path), providers=["CPUExecutionProvider"])
    whole = recorded(mapper)
    for steps in (1, 2, 5, 60):
        rollout = whole.head(steps)
        weights, *layers = session.run(None, {name: getattr(rollout, name) for name in INPUTS})
        phi = mapper.generate(rollout)
        np.testing.assert_allclose(weights, phi, rtol=1e-5, atol=1e-6)
        parts = mapper.base.spec.split(mapper.base.policies(phi).folded())
        assert [each.name for each in session.get_outputs()][1:] == list(parts)
        for found, expected in zip(layers, parts.values(), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    properties = session.get_modelmeta().custom_metadata_map
    assert properties["family"] == mapper.family
    assert json.loads(properties["least_steps"]) == (None if mapper.check is None else mapper.check.least_steps)


def test_weights_are_those_of_the_mapper(tmp_path: Path) -> None:
    mapper = load("reacher-goal")
    before = {name: array.copy() for name, array in mapper.arrays().items()}
    state, training = torch.get_rng_state(), mapper.training
    check(mapper, tmp_path / "mapper.onnx")
    assert str(Path(metamap_rl.__file__).parents[1]).encode() not in (tmp_path / "mapper.onnx").read_bytes()
    # exporting leaves the mapper and the generators as they were
    assert torch.equal(torch.get_rng_state(), state)
    assert mapper.training == training
    assert all(parameter.requires_grad for parameter in mapper.encoder.parameters())
    assert all(np.array_equal(array, before[name]) for name, array in mapper.arrays().items())


@pytest.mark.slow
@pytest.mark.parametrize("family", bundled_families())
def test_every_bundled_mapper(family: str, tmp_path: Path) -> None:
    check(load(family), tmp_path / "mapper.onnx")


CONFIGS = [
    *(MapperConfig(encoder=name, context_size=8, encoder_hidden=16) for name in ENCODERS.names()),
    *(MapperConfig(hypernetwork=name, context_size=8, hypernetwork_hidden=16) for name in HYPERNETWORKS.names()),
    MapperConfig(context_size=8, reward=False),
]


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS, ids=lambda each: f"{each.encoder}-{each.hypernetwork}-{each.reward}")
def test_every_encoder_and_hypernetwork(config: MapperConfig, tmp_path: Path) -> None:
    given = load("reacher-goal")
    mapper = Mapper(config, given.base, family=given.family, scales=given.scales, probe=given.probe)
    check(moved(mapper), tmp_path / "mapper.onnx")


def test_a_forward_model_is_inverted_in_the_graph(tmp_path: Path) -> None:
    given = load("reacher-goal")
    config = MapperConfig(forward_model=5, context_size=8, encoder_hidden=16)
    mapper = Mapper(
        config, given.base, family=given.family, scales=given.scales, coordinates=given.coordinates, probe=given.probe
    )
    check(moved(mapper), tmp_path / "mapper.onnx")

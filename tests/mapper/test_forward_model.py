"""The forward model beside an encoder: its inversion against the formula, its fit, its artifact."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from helpers.surveys import survey_of_pairs
from helpers.synthetic import FAMILY, FEATURES, SMALL, SPEC, base_policy, new_mapper, pairs, rollout_of
from helpers.training import train
from metamap_agents.runtime.storage import read_json, write_json
from metamap_envs.errors import MetaMapError
from metamap_rl.adaptation.service.files import mapper_id
from metamap_rl.data.layout import TransitionLayout
from metamap_rl.encoders import ENCODERS
from metamap_rl.encoders.parts import windows_of
from metamap_rl.mapper.forward_model import (
    INDEPENDENT,
    ForwardModel,
    InformedEncoder,
    solve,
    solve_step_by_step,
)
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.mapper.networks import build_networks
from metamap_rl.training import forward_fit
from metamap_rl.training.config import MapperRecipe, TrainConfig

LAYOUT = TransitionLayout.of(SPEC)
UNKNOWNS, OUTCOMES = 3, SPEC.observation_size + 1


def constant_model(seed: int = 0) -> ForwardModel:
    """A model whose F, b and s are the same at every transition, with units that are not 1."""
    torch.manual_seed(seed)
    model = ForwardModel(LAYOUT, UNKNOWNS, 4, reward=True)
    last = model.network[-1]
    assert isinstance(last, nn.Linear)
    last.weight.zero_()
    last.bias.normal_(std=0.5)
    model.shift.normal_()
    model.mix.copy_(torch.randn(UNKNOWNS, UNKNOWNS).tril() + 2 * torch.eye(UNKNOWNS))
    model.whiten.copy_(torch.randn(OUTCOMES, OUTCOMES).triu() + 2 * torch.eye(OUTCOMES))
    return model


def random_model() -> ForwardModel:
    torch.manual_seed(0)
    return ForwardModel(LAYOUT, UNKNOWNS, 8, reward=True)


def rows(batch: int, count: int, seed: int = 0) -> Tensor:
    return torch.randn(batch, count, FEATURES, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [0.01, 3.0])
def test_the_inversion_is_bayesian_linear_regression(size: float) -> None:
    """Also where the errors are larger than the model says: by their mean square the data weighs less."""
    model, given_rows = constant_model(), rows(1, 7)
    slopes, intercept, log_scale = (part[0, 0].double().numpy() for part in model.parts(given_rows))
    mix, shift, whiten = (part.double().numpy() for part in (model.mix, model.shift, model.whiten))
    true = shift + mix @ np.array([0.3, -0.5, 0.2])
    noise = size * torch.randn(7, OUTCOMES, generator=torch.Generator().manual_seed(1))
    given_rows[..., LAYOUT.outcome] = torch.from_numpy(intercept + slopes @ true).float() + noise
    unit = whiten @ np.diag(np.exp(-log_scale))
    factor = unit @ slopes @ mix
    errors = (given_rows[0, :, LAYOUT.outcome].double().numpy() - intercept - slopes @ shift) @ unit.T

    def solved(weight: float) -> tuple[np.ndarray, np.ndarray]:
        precision = np.eye(UNKNOWNS) + weight * 7 * factor.T @ factor
        return np.linalg.solve(precision, weight * factor.T @ errors.sum(axis=0)), precision

    weight = 1 / (1 + 7 / INDEPENDENT)
    excess = max(1.0, np.square(errors - factor @ solved(weight)[0]).mean())
    assert (excess > 1) == (size > 1)
    wanted, precision = solved(weight / excess)
    mean, information = model.invert(given_rows)
    np.testing.assert_allclose(mean[0], wanted, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(information[0].sum(), np.linalg.slogdet(precision)[1], rtol=1e-4)


@settings(max_examples=15, deadline=None)
@given(count=st.integers(1, 40), seed=st.integers(0, 1000))
def test_neither_order_nor_hidden_rows_matter(count: int, seed: int) -> None:
    model, found = random_model(), rows(2, count, seed)
    generator = torch.Generator().manual_seed(seed)
    order, mask = torch.randperm(count, generator=generator), torch.rand(2, count, generator=generator) < 0.6
    for one, other in zip(model.invert(found, mask), model.invert(found[:, order], mask[:, order]), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    for one, other in zip(
        model.invert(found, mask), model.invert(torch.where(mask.unsqueeze(-1), found, torch.nan), mask), strict=True
    ):
        assert torch.equal(one, other)
    if mask[0].any():
        alone = model.invert(found[:1, mask[0]])
        torch.testing.assert_close(model.invert(found, mask)[0][:1], alone[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("mask", [None, torch.zeros(2, 5, dtype=torch.bool)])
def test_without_rows_nothing_is_known(mask: Tensor | None) -> None:
    mean, information = random_model().invert(rows(2, 0 if mask is None else 5), mask)
    assert not mean.any()
    assert not information.any()


def test_windows_of_a_sequence_are_what_each_is_by_itself(informed: Mapper) -> None:
    found, bounds = rows(1, 30)[0], [(0, 30), (5, 6), (10, 25)]
    alone = torch.cat([informed.encoder(found[None, start:end], None) for start, end in bounds])
    torch.testing.assert_close(windows_of(informed.encoder, found, bounds), alone, atol=1e-4, rtol=1e-4)


def test_without_rewards_they_are_no_outcome() -> None:
    model = ForwardModel(LAYOUT, UNKNOWNS, 4, reward=False)
    found = rows(2, 5)
    changed = found.clone()
    changed[..., LAYOUT.reward] = 100.0
    assert model.outcome(found).shape[-1] == SPEC.observation_size
    assert torch.equal(model.invert(found)[0], model.invert(changed)[0])


INFORMED = dataclasses.replace(SMALL, forward_model=UNKNOWNS)


@pytest.fixture(scope="module")
def informed() -> Mapper:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forward_fit, "UPDATES", 150)
        return train(
            pairs(6, 0),
            base_policy(),
            family=FAMILY,
            survey=survey_of_pairs(60, 1),
            config=TrainConfig(updates=5, warmup=1, batch_tasks=4, states_per_task=8),
            mapper_config=INFORMED,
        )


def test_the_fitted_model_tells_tasks_apart(informed: Mapper) -> None:
    """On tasks that it was not fitted to, the unknowns are a linear function of what tasks differ in."""
    assert isinstance(informed.encoder, InformedEncoder)
    model, source = informed.encoder.model, pairs(40, 9)
    features = source.examples(base_policy()).features[:, 0]
    mean = model.invert(informed.standardised(features))[0].double().numpy()
    angle = np.array([task["goal_angle"] for task in source.tasks])
    wanted = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    inputs = np.concatenate([mean, np.ones((len(mean), 1))], axis=1)
    left = wanted - inputs @ np.linalg.lstsq(inputs, wanted, rcond=None)[0]
    assert np.square(left).mean() < 0.1 * wanted.var()
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_saved_and_loaded_it_is_the_same(informed: Mapper, tmp_path: Path) -> None:
    informed.save(tmp_path / "mapper")
    loaded, rollout = Mapper.load(tmp_path / "mapper"), rollout_of(pairs(6, 3), 0)
    assert loaded.config.forward_model == UNKNOWNS
    assert np.array_equal(loaded.generate(rollout), informed.generate(rollout))
    assert mapper_id(loaded) == mapper_id(informed)


def test_artifacts_from_before_are_loaded(tmp_path: Path) -> None:
    mapper = new_mapper()
    mapper.save(tmp_path / "mapper")
    manifest = read_json(tmp_path / "mapper" / "mapper.json")
    assert manifest["config"].pop("forward_model") == 0
    write_json(tmp_path / "mapper" / "mapper.json", manifest)
    rollout = rollout_of(pairs(6, 3), 0)
    assert np.array_equal(Mapper.load(tmp_path / "mapper").generate(rollout), mapper.generate(rollout))


@pytest.mark.parametrize("name", ENCODERS.names())
def test_the_other_initial_weights_are_those_of_a_mapper_without_one(name: str) -> None:
    def networks(unknowns: int) -> nn.ModuleDict:
        config = dataclasses.replace(SMALL, encoder=name, forward_model=unknowns)
        torch.manual_seed(0)
        found = build_networks(config, FEATURES, SPEC, 2)
        return nn.ModuleDict(zip(("encoder", "hypernetwork", "reader", "embedder"), found, strict=True))  # type: ignore[arg-type]

    within = networks(UNKNOWNS).state_dict()
    for key, tensor in networks(0).state_dict().items():
        assert torch.equal(tensor, within[key.replace("encoder.", "encoder.encoder.", 1) if "encoder." in key else key])


def test_what_it_needs_is_said() -> None:
    with pytest.raises(MetaMapError, match="forward_model: expected a survey"):
        new_mapper(config=INFORMED)
    with pytest.raises(MetaMapError, match="forward_model: expected survey_tasks above 0"):
        MapperRecipe(shape=INFORMED, survey_tasks=0)
    with pytest.raises(MetaMapError, match=f"forward_model: expected transitions, rows of {FEATURES} numbers; got"):
        build_networks(INFORMED, FEATURES - 1, SPEC, 2)


def test_cores_with_one_are_not_shared(informed: Mapper) -> None:
    with pytest.raises(MetaMapError, match="forward_model"):
        informed.share_core(informed)


@pytest.mark.parametrize("size", [1, 2, 12])
def test_step_by_step_the_solution_is_that_of_the_factorisation(size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    factors = torch.randn(3, size, 2 * size, dtype=torch.float64, generator=generator)
    matrix, right = factors @ factors.mT + torch.eye(size), torch.randn(3, size, 1, generator=generator).double()
    for found, expected in zip(solve_step_by_step(matrix, right), solve(matrix, right), strict=True):
        torch.testing.assert_close(found, expected)

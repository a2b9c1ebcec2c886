"""Mappability: linear experts are explained, unrelated ones are not, and equal ones have no barrier."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from metamap_agents.experts.zoo import Zoo
from metamap_envs.errors import MetaMapError
from metamap_rl.evaluation.predictability import explained_variance, interpolation_barrier, neighbours, privileged_error
from metamap_rl.mapper.config import MapperConfig
from metamap_rl.training.config import TrainConfig

GENERATOR = np.random.default_rng(0)
POINTS = GENERATOR.normal(size=(40, 3))
TURN = GENERATOR.normal(size=(3, 50))


@pytest.mark.parametrize("degree", [1, 2])
def test_a_linear_function_is_explained(degree: int) -> None:
    found = explained_variance(POINTS, POINTS @ TURN + 7, degree)
    assert found.fitted > 0.99
    assert 0.9 < found.left_out <= found.fitted


def test_products_need_a_quadratic_function() -> None:
    products = np.stack([POINTS[:, 0] * POINTS[:, 1], POINTS[:, 2] ** 2], axis=1) @ TURN[:2]
    assert explained_variance(POINTS, products, 2).left_out > 0.9
    assert explained_variance(POINTS, products, 1).left_out < 0.5


def test_what_has_nothing_to_do_with_the_task_is_not_explained() -> None:
    found = explained_variance(POINTS, np.random.default_rng(1).normal(size=(40, 50)), 2)
    assert -0.3 < found.left_out < 0.05


def test_left_out_is_what_leaving_out_gives() -> None:
    weights = POINTS @ TURN + GENERATOR.normal(size=(40, 50))
    found = explained_variance(POINTS, weights, 1)
    inputs = (POINTS - POINTS.mean(axis=0)) / POINTS.std(axis=0)
    missed = of_mean = 0.0
    for index in range(40):
        rest = np.delete(np.arange(40), index)
        x, y = inputs[rest], weights[rest]
        centre, mean = x.mean(axis=0), y.mean(axis=0)
        slope = np.linalg.solve(
            (x - centre).T @ (x - centre) + found.ridge * 40 * np.eye(3), (x - centre).T @ (y - mean)
        )
        missed += np.square(weights[index] - mean - (inputs[index] - centre) @ slope).sum()
        of_mean += np.square(weights[index] - mean).sum()
    assert found.left_out == pytest.approx(1 - missed / of_mean, abs=1e-6)


def test_each_task_has_its_nearest() -> None:
    assert neighbours(np.array([[0.0, 1], [1, 1], [10, 1], [12, 1]])) == [(0, 1), (2, 3)]
    with pytest.raises(MetaMapError, match="2 tasks or more"):
        neighbours(np.zeros((1, 2)))


def test_equal_experts_have_no_barrier(tiny_zoo: Zoo) -> None:
    experts = [replace(expert, phi=tiny_zoo.base.phi) for expert in tiny_zoo.experts("train")]
    found = interpolation_barrier(experts, tiny_zoo.base, episodes=2, num_threads=1)
    np.testing.assert_allclose(found.barrier, 0, atol=1e-6)
    np.testing.assert_allclose(found.crossed_loss, 0, atol=1e-6)
    assert (found.own != found.random).all()


def test_experts_of_opposite_weights_have_one(tiny_zoo: Zoo) -> None:
    """Halfway between a network and its opposite is one that does nothing."""
    first, second = tiny_zoo.experts("train")[:2]
    opposite = [replace(first, phi=first.phi), replace(second, phi=-first.phi)]
    found = interpolation_barrier(opposite, tiny_zoo.base, episodes=2, num_threads=1)
    still = interpolation_barrier(
        [replace(expert, phi=np.zeros_like(first.phi)) for expert in (first, second)], tiny_zoo.base, episodes=2
    )
    np.testing.assert_allclose(found.middle, still.own, atol=1e-6)


def test_a_privileged_mapper(tiny_zoo: Zoo) -> None:
    experts = tiny_zoo.experts("train")
    config = TrainConfig(updates=300, warmup=10, batch_tasks=3, states_per_task=32, learning_rate=3e-3)
    shape = MapperConfig(context_size=8, encoder_hidden=16, hypernetwork_hidden=16)
    held_out = tiny_zoo.experts("validation")
    found, control = (
        privileged_error(experts, held_out, tiny_zoo.base, config=each, mapper_config=shape)
        for each in (config, replace(config, updates=1, warmup=1))
    )
    assert found["training"] < 0.7 * control["training"], "trained, it is closer to the experts than hardly trained"
    assert found["held_out"] > found["training"]


def test_what_cannot_be_measured_is_reported() -> None:
    with pytest.raises(MetaMapError, match="expected 3 tasks or more and degree 1 or 2, got 40, 3"):
        explained_variance(POINTS, POINTS @ TURN, 3)
    with pytest.raises(MetaMapError, match="all experts have the same weights"):
        explained_variance(POINTS, np.ones((40, 5)), 1)

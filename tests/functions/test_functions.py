from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from helpers.training import train
from metamap_agents.policy.functional import forward
from metamap_agents.policy.spec import PolicySpec
from metamap_envs.errors import MetaMapError
from metamap_rl.evaluation.baselines import FewShotBatch
from metamap_rl.functions import FUNCTIONS, FreshTasks, FunctionFamily, as_examples, common_start, fit, initial_weights
from metamap_rl.functions.figures import plot_fits
from metamap_rl.functions.linear import LinearRegression, ridge
from metamap_rl.functions.sinusoid import Sinusoid
from metamap_rl.mapper.config import MapperConfig
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.training.config import TrainConfig

SMALL = MapperConfig(context_size=16, encoder_hidden=32, hypernetwork_hidden=32)
QUICK = TrainConfig(
    loss="behaviour", updates=300, warmup=20, batch_tasks=32, states_per_task=16, lengths=(10,), learning_rate=3e-3
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def family(name: str) -> FunctionFamily:
    if name == "digits":
        pytest.importorskip("sklearn", reason="the optional extra `functions` is not installed")
    return FUNCTIONS.get(name)()


def trained(source: FunctionFamily, config: TrainConfig = QUICK) -> Mapper:
    return train(FreshTasks(source, 10), common_start(source), family=source.name, config=config, mapper_config=SMALL)


# -------------------------------------------------------------------------------------------------- every family


@pytest.mark.parametrize("name", FUNCTIONS.names())
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_family_draws_what_its_network_takes(name: str, split: str) -> None:
    source = family(name)
    episodes = source.draw(generator(), tasks=5, points=4, queries=6, split=split)
    sizes = source.spec.observation_size, source.spec.action_size
    assert episodes.support_inputs.shape == (5, 4, sizes[0])
    assert episodes.targets.shape == (5, 6, sizes[1])
    assert source.features(episodes).shape[:2] == (5, 4)
    assert source.score(episodes.targets, episodes.targets).shape == (5,)
    again = source.draw(generator(), tasks=5, points=4, queries=6, split=split)
    other = source.draw(generator(1), tasks=5, points=4, queries=6, split=split)
    for field in dataclasses.fields(FewShotBatch):
        assert torch.equal(getattr(episodes, field.name), getattr(again, field.name))
    assert not torch.equal(episodes.inputs, other.inputs)


@pytest.mark.parametrize("name", FUNCTIONS.names())
def test_training_takes_fresh_tasks_of_every_family_and_repeats_itself(name: str) -> None:
    source = family(name)
    config = dataclasses.replace(QUICK, updates=5)
    first, second = trained(source, config), trained(source, config)
    assert all(np.array_equal(first.arrays()[key], array) for key, array in second.arrays().items())
    assert first.family == name
    assert first.record["updates"] == 5


# ------------------------------------------------------------------------------------------------------ sinusoids


def test_sinusoids_are_mamls() -> None:
    episodes = Sinusoid().draw(generator(), tasks=4000, points=10, queries=5)
    x = torch.cat([episodes.support_inputs, episodes.inputs], dim=1)
    assert -5 <= x.min() < -4.99
    assert 4.99 < x.max() <= 5
    # y is linear in (sin x, cos x): amplitude and phase are read off by least squares.
    rows = torch.cat([episodes.support_inputs.sin(), -episodes.support_inputs.cos()], dim=-1).double()
    solution = (torch.linalg.pinv(rows) @ episodes.support_targets.double())[..., 0]
    amplitude, phase = solution.norm(dim=1), torch.atan2(solution[:, 1], solution[:, 0])
    assert 0.1 - 1e-4 <= amplitude.min() < 0.12
    assert 4.98 < amplitude.max() <= 5 + 1e-4
    assert amplitude.mean() == pytest.approx(2.55, abs=0.1)
    assert phase.min() == pytest.approx(0, abs=0.02)
    assert phase.max() == pytest.approx(math.pi, abs=0.02)
    assert phase.mean() == pytest.approx(math.pi / 2, abs=0.1)


def test_the_prior_mean_is_the_mean_of_many_tasks() -> None:
    source = Sinusoid()
    x = torch.linspace(-5, 5, 7)
    amplitude, phase = torch.linspace(0.1, 5, 101)[:, None, None], torch.linspace(0, math.pi, 1001)[:, None]
    mean = (amplitude * (x - phase).sin()).mean(dim=(0, 1))
    torch.testing.assert_close(source.prior_mean(x), mean, rtol=0, atol=5e-3)


def test_a_little_training_beats_the_mean_of_all_tasks() -> None:
    source = Sinusoid()
    mapper = trained(source)
    episodes = source.draw(generator(99), tasks=300, points=10, queries=20)
    with torch.no_grad():
        outputs = forward(source.spec, mapper(source.features(episodes)), episodes.inputs)
    error = source.score(outputs, episodes.targets).mean()
    prior = source.score(source.prior_mean(episodes.inputs), episodes.targets).mean()
    assert error < 0.7 * prior


def test_batches_are_never_the_same_tasks_twice() -> None:
    source = Sinusoid()
    examples = FreshTasks(source, 10).examples(common_start(source))
    draws = generator()
    first, second = (examples.sample(draws, tasks=3, length=5, states=7, from_start=1.0) for _ in range(2))
    assert first.features.shape == (3, 5, 2)
    assert first.inputs.shape == (3, 7, 1)
    assert not torch.equal(first.features, second.features)
    assert torch.equal(first.phi[0], torch.tensor(common_start(source).phi))


# ---------------------------------------------------------------------------------------------- linear regression


def test_ridge_is_the_textbook_formula() -> None:
    x, y = torch.randn(1, 12, 3, generator=generator()), torch.randn(1, 12, 1, generator=generator(1))
    rows = torch.cat([x[0], torch.ones(12, 1)], dim=1).double().numpy()
    expected = np.linalg.inv(rows.T @ rows + 0.7 * np.eye(4)) @ rows.T @ y[0].double().numpy()
    np.testing.assert_allclose(ridge(x, y, 0.7)[0], expected.T, rtol=1e-5, atol=1e-6)


def test_without_noise_least_squares_is_the_function() -> None:
    source = LinearRegression(noise=0.0)
    episodes = source.draw(generator(), tasks=20, points=8, queries=10)
    outputs = forward(source.spec, source.solve(episodes), episodes.inputs)
    torch.testing.assert_close(outputs, episodes.targets, rtol=1e-3, atol=1e-3)


def test_the_posterior_mean_is_better_than_least_squares() -> None:
    source = LinearRegression()
    episodes = source.draw(generator(), tasks=2000, points=10, queries=20)
    errors = {
        penalty: source.score(
            forward(source.spec, source.solve(episodes, penalty), episodes.inputs), episodes.targets
        ).mean()
        for penalty in (None, 0.0, 1.0)
    }
    assert errors[None] < min(errors[0.0], errors[1.0])


def test_the_mapper_learns_to_solve_linear_regression() -> None:
    source = LinearRegression(spec=PolicySpec(1, 1, hidden=()))
    mapper = trained(source, dataclasses.replace(QUICK, loss="weights", updates=600))
    episodes = source.draw(generator(99), tasks=300, points=10, queries=20)
    with torch.no_grad():
        own = forward(source.spec, mapper(source.features(episodes)), episodes.inputs)
    best = forward(source.spec, source.solve(episodes), episodes.inputs)
    nothing = source.score(torch.zeros_like(own), episodes.targets).mean()
    excess = source.score(own, best).mean()
    assert excess < 0.1 * nothing


# --------------------------------------------------------------------------------------------------------- digits


def test_digits_of_a_task_alternate_and_are_those_of_the_split() -> None:
    pytest.importorskip("sklearn", reason="the optional extra `functions` is not installed")
    from sklearn.datasets import load_digits

    from metamap_rl.functions.digits import CLASSES, Digits, nearest_centroid, ridge_classifier

    assert not set(CLASSES["train"]) & set(CLASSES["test"])
    loaded = load_digits()
    known = {tuple(image): digit for image, digit in zip(loaded.data, loaded.target, strict=True)}
    source = Digits()
    episodes = source.draw(generator(), tasks=40, points=4, queries=10, split="test")
    assert torch.equal(episodes.support_targets[0], torch.eye(2).repeat(2, 1))
    for images, judged in zip(episodes.support_inputs, episodes.inputs, strict=True):
        rows = [tuple(row) for row in (torch.cat([images, judged]) * 16).round().double().numpy()]
        digits = [known[row] for row in rows]
        assert set(digits) <= set(CLASSES["test"])
        assert len(set(digits[::2])) == len(set(digits[1::2])) == 1
        assert digits[0] != digits[1]
        assert len(set(rows)) == len(rows)
    for answer in (nearest_centroid, ridge_classifier):
        assert source.score(answer(episodes), episodes.targets).mean() > 0.85


def test_bad_draws_of_digits_are_reported() -> None:
    source = family("digits")
    with pytest.raises(MetaMapError, match="points: expected a multiple of 2 classes, got 3"):
        source.draw(generator(), tasks=1, points=3, queries=2, split="test")
    with pytest.raises(MetaMapError, match="did you mean 'test'"):
        source.draw(generator(), tasks=1, points=2, queries=2, split="tests")


# --------------------------------------------------------------------------------------------- examples and plots


def test_fixed_tasks_are_examples() -> None:
    source = LinearRegression()
    episodes = source.draw(generator(), tasks=6, points=5, queries=7)
    examples = as_examples(source, episodes, common_start(source))
    assert examples.features.shape == (6, 1, 5, 5)
    assert torch.equal(examples.phi, source.solve(episodes))


def test_networks_are_fitted_each_to_its_own_task_from_one_start() -> None:
    source = Sinusoid()
    start = torch.tensor(common_start(source).phi)
    episodes = source.draw(generator(), tasks=4, points=1, queries=40)
    phi = fit(source.spec, start, episodes.inputs, episodes.targets, steps=300)
    error = source.score(forward(source.spec, phi, episodes.inputs), episodes.targets)
    untrained = source.score(forward(source.spec, start, episodes.inputs), episodes.targets)
    assert (error < 0.1 * untrained).all()
    alone = fit(source.spec, start, episodes.inputs[:1], episodes.targets[:1], steps=20)
    together = fit(source.spec, start, episodes.inputs, episodes.targets, steps=20)
    torch.testing.assert_close(alone[0], together[0], rtol=1e-3, atol=1e-4)


def test_networks_start_within_their_layers_bounds() -> None:
    spec = PolicySpec(4, 2, hidden=(9,))
    parts = spec.split(initial_weights(spec, generator(), count=200))
    assert parts["layers.0.weight"].shape == (200, 9, 4)
    for name, bound in (("layers.0.weight", 1 / 2), ("layers.0.bias", 1 / 2), ("layers.1.weight", 1 / 3)):
        assert 0.98 * bound < parts[name].abs().max() <= bound
    assert initial_weights(spec, generator()).shape == (spec.size,)


def test_fits_are_drawn() -> None:
    source = Sinusoid()
    episodes = source.draw(generator(), tasks=2, points=5, queries=30)
    phi = initial_weights(source.spec, generator(), count=2)
    figure = plot_fits(source.spec, episodes, {"start": phi})
    assert [text.get_text() for text in figure.axes[-1].texts] == ["the function", "start", "D, 5 points"]
    with pytest.raises(MetaMapError, match="one number to one number"):
        plot_fits(PolicySpec(2, 1), episodes, {"start": phi})
    with pytest.raises(MetaMapError, match="1 to 4 fits"):
        plot_fits(source.spec, episodes, {})

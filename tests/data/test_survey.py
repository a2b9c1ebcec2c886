"""Surveys: rollouts of tasks without experts, and what the mapper reads from D because of them."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.surveys import survey_of_pairs
from helpers.synthetic import FAMILY, SMALL, base_policy, pairs, rollout_of
from helpers.training import train
from metamap_agents.experts.zoo import Zoo
from metamap_envs.errors import MetaMapError
from metamap_envs.registry import get_family, list_families
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.probing.probes.planned import BasePolicyProbe
from metamap_rl.training.config import TrainConfig
from metamap_rl.training.from_experts import build_survey


@pytest.mark.parametrize("name", list_families())
def test_coordinates_tell_the_parameters(name: str) -> None:
    space = get_family(name).space
    for task in get_family(name).sample("train", 8, 0):
        coordinates = space.coordinates(task.values)
        assert coordinates.shape == (len(space.coordinate_names),)
        found = space.from_coordinates(coordinates)
        assert found == pytest.approx(dict(task.parameters), rel=1e-6, abs=1e-6)


def test_no_choice_of_a_categorical_parameter_is_between_two_others() -> None:
    space = get_family("cheetah-crippled").space
    assert space.coordinate_names[:3] == ("crippled_joint = -1", "crippled_joint = 0", "crippled_joint = 1")
    points = space.coordinates(np.array([[joint, 1.0] for joint in (0.0, 1.0, 4.0)]))
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.testing.assert_allclose(distances[~np.eye(3, dtype=bool)], math.sqrt(2))
    assert space.from_coordinates(points[2] * 0.4) == pytest.approx({"crippled_joint": 4.0, "mass": 0.4})
    assert space.coordinate_columns(["mass"]) == [7]


@given(st.floats(0, 1e-3))
def test_a_periodic_parameter_has_no_seam(step: float) -> None:
    space = get_family("reacher-goal").space
    ends = np.array([[0.1, math.pi - step], [0.1, -math.pi + step]])
    first, last = space.coordinates(ends)
    assert np.abs(first - last).max() <= 2 * step + 1e-6


def test_samples_are_windows_of_the_tasks_they_come_with() -> None:
    survey = survey_of_pairs(5, 0)
    features, coordinates = survey.sample(torch.Generator().manual_seed(0), tasks=3, length=7, from_start=0.5)
    assert features.shape == (3, 7, survey.features.shape[-1])
    for window, point in zip(features, coordinates, strict=True):
        task = int((survey.coordinates == point).all(dim=1).nonzero()[0])
        rows = survey.features[task].flatten(0, 1)
        first = int((rows == window[0]).all(dim=1).nonzero()[0])
        assert torch.equal(rows[first : first + 7], window)


def test_a_survey_of_other_shapes_is_refused() -> None:
    survey = survey_of_pairs(5, 0)
    with pytest.raises(MetaMapError, match="survey: expected features"):
        dataclasses.replace(survey, names=("one",))
    with pytest.raises(MetaMapError, match="survey: expected features"):
        dataclasses.replace(survey, features=survey.features[:, 0])


@pytest.fixture(scope="module")
def surveyed() -> Mapper:
    config = TrainConfig(updates=500, batch_tasks=8, states_per_task=32, lengths=(10, 40))
    return train(
        pairs(8, 0), base_policy(), family=FAMILY, config=config, mapper_config=SMALL, survey=survey_of_pairs(256, 1)
    )


def test_a_mapper_reads_parameters_of_unseen_tasks_from_d(surveyed: Mapper) -> None:
    unseen = pairs(24, 7)
    read = [surveyed.read_parameters(rollout_of(unseen, index))["goal_angle"] for index in range(24)]
    true = [task["goal_angle"] for task in unseen.tasks]
    errors = np.abs(np.angle(np.exp(1j * (np.array(read) - true))))
    assert np.median(errors) < 0.5  # guessing is off by pi / 2 on the median


def test_nothing_is_read_from_nothing(surveyed: Mapper) -> None:
    assert surveyed.read_parameters(rollout_of(pairs(3, 0), 0, length=0)) == {}


def test_the_artifact_keeps_what_is_read(surveyed: Mapper, tmp_path: Path) -> None:
    surveyed.save(tmp_path / "mapper")
    loaded = Mapper.load(tmp_path / "mapper")
    rollout = rollout_of(pairs(3, 0), 0)
    assert loaded.coordinates == get_family(FAMILY).space.coordinate_names
    assert loaded.read_parameters(rollout) == surveyed.read_parameters(rollout)


def test_another_survey_is_another_run(tmp_path: Path) -> None:
    config = TrainConfig(updates=4, batch_tasks=2, states_per_task=4, checkpoint_every=2)
    path = tmp_path / "checkpoint.safetensors"
    for survey in (survey_of_pairs(8, 0), survey_of_pairs(8, 1)):
        run = {"config": config, "mapper_config": SMALL, "survey": survey, "checkpoint": path}
        if survey.coordinates[0, 0] == survey_of_pairs(8, 0).coordinates[0, 0]:
            train(pairs(4, 0), base_policy(), family=FAMILY, **run)
        else:
            with pytest.raises(MetaMapError, match="checkpoint of another run"):
                train(pairs(4, 0), base_policy(), family=FAMILY, **run)


class StoppedError(Exception):
    pass


def test_a_start_that_reads_goes_on_without_a_survey(surveyed: Mapper, tmp_path: Path) -> None:
    config = TrainConfig(updates=6, batch_tasks=4, states_per_task=8, checkpoint_every=2)
    about = {"family": FAMILY, "config": config, "start": surveyed, "checkpoint": tmp_path / "run.safetensors"}

    def stop(update: int, total: int, metrics: object) -> None:
        if update == 3:
            raise StoppedError

    with pytest.raises(StoppedError):
        train(pairs(8, 0), base_policy(), on_update=stop, **about)
    resumed = train(pairs(8, 0), base_policy(), **about).arrays()
    whole = train(pairs(8, 0), base_policy(), **{**about, "checkpoint": None}).arrays()
    assert all(np.array_equal(whole[name], array) for name, array in resumed.items())
    assert not np.array_equal(whole["encoder.head.0.weight"], surveyed.arrays()["encoder.head.0.weight"])


def test_a_survey_is_made_in_the_simulator(tiny_zoo: Zoo) -> None:
    survey = build_survey(tiny_zoo, BasePolicyProbe(), count=3, steps=20, repeats=2)
    again = build_survey(tiny_zoo, BasePolicyProbe(), count=3, steps=20, repeats=2)
    assert survey.features.shape[:3] == (3, 2, 20)
    assert torch.equal(survey.features, again.features)

    drawn = tiny_zoo.family.space.coordinates(np.stack([t.values for t in tiny_zoo.tasks("test-in", 4)]))

    assert not any((survey.coordinates.numpy() == row).all(axis=1).any() for row in drawn)


# ------------------------------------------------------------------------------------------------- bottleneck


NARROW = dataclasses.replace(SMALL, bottleneck=True)


@pytest.fixture(scope="module")
def narrow() -> Mapper:
    config = TrainConfig(updates=300, batch_tasks=8, states_per_task=32, lengths=(10, 40))
    survey = survey_of_pairs(256, 1)
    return train(pairs(8, 0), base_policy(), family=FAMILY, config=config, mapper_config=NARROW, survey=survey)


def test_through_a_bottleneck_only_the_coordinates_count(narrow: Mapper) -> None:
    z = torch.randn(1, SMALL.context_size, generator=torch.Generator().manual_seed(0))
    weight = narrow.reader.weight  # type: ignore[union-attr]
    _, _, directions = torch.linalg.svd(weight.detach(), full_matrices=True)  # the last ones are not read
    with torch.no_grad():
        unread, read = narrow.change(z + 3 * directions[-1]), narrow.change(z + 3 * directions[0])
        change = narrow.change(z)
    torch.testing.assert_close(unread, change, atol=1e-4, rtol=1e-4)
    assert (read - change).abs().max() > 1e-2


def test_a_mapper_with_a_bottleneck_learns_the_map(narrow: Mapper) -> None:
    unseen = pairs(24, 7)
    generated = np.stack([narrow.generate(rollout_of(unseen, index)) for index in range(24)])
    left = np.square(generated - unseen.phi).mean() / np.square(base_policy().phi - unseen.phi).mean()
    assert left < 0.5
    assert np.array_equal(narrow.generate(rollout_of(unseen, 0, length=0)), base_policy().phi)


def test_the_artifact_keeps_the_bottleneck(narrow: Mapper, tmp_path: Path) -> None:
    narrow.save(tmp_path / "mapper")
    loaded = Mapper.load(tmp_path / "mapper")
    assert loaded.config.bottleneck
    rollout = rollout_of(pairs(3, 0), 0)
    assert np.array_equal(loaded.generate(rollout), narrow.generate(rollout))


def test_a_bottleneck_of_nothing_is_refused() -> None:
    with pytest.raises(MetaMapError, match="bottleneck: expected a survey"):
        train(pairs(4, 0), base_policy(), family=FAMILY, config=TrainConfig(updates=1), mapper_config=NARROW)


def test_a_bottleneck_must_be_declared(narrow: Mapper) -> None:
    untold = dataclasses.replace(pairs(4, 0).examples(base_policy()), coordinates=None)
    with pytest.raises(MetaMapError, match="expected 3 coordinates for each task of the training set, got 0"):
        train(
            untold,
            base_policy(),
            family=FAMILY,
            config=TrainConfig(updates=1),
            mapper_config=NARROW,
            survey=survey_of_pairs(8, 0),
        )


def test_robots_with_bottlenecks_share_no_core(narrow: Mapper) -> None:
    with pytest.raises(MetaMapError, match="cannot share a core"):
        narrow.share_core(narrow)

"""Mappers trained and calibrated on D from a mixture of actors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers import tiny
from helpers.synthetic import FAMILY, SMALL, base_policy, pairs
from helpers.training import stopped_and_resumed
from metamap_agents.experts.zoo import Zoo
from metamap_envs import MetaMapError
from metamap_envs.settings import parse
from metamap_rl.cli import app
from metamap_rl.data.pairs import Pairs
from metamap_rl.evaluation.evaluate import evaluate_mappers
from metamap_rl.evaluation.protocol.problem import Problem
from metamap_rl.evaluation.protocol.settings import SharedSettings, recorded_mapper
from metamap_rl.mapper.config import MapperConfig
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.probing.actors import ActorMixture, DSource
from metamap_rl.probing.documents import probe_to_json
from metamap_rl.probing.mixture import ActorPool, collect_mixture
from metamap_rl.probing.probes.planned import BasePolicyProbe
from metamap_rl.training.calibration import calibrate
from metamap_rl.training.config import CalibrationConfig, MapperRecipe
from metamap_rl.training.from_experts import on_policy, task_coordinates
from metamap_rl.training.loop import TrainingData, train
from metamap_rl.training.pipeline import survey_of, train_mapper, training_pairs

MIXTURE = ActorMixture(steps_before=(2, 9), change_share=0.55)
PROBE = BasePolicyProbe()
CONFIG = replace(tiny.CONFIG, auxiliary="dynamics", dagger_rounds=1, checkpoint_every=4)


@pytest.fixture(scope="module")
def data(tiny_zoo: Zoo) -> TrainingData:
    """As `train_mapper` makes it, of short rollouts."""
    training, validation = (
        training_pairs(tiny_zoo, split, PROBE, steps=20, repeats=4, actors=MIXTURE) for split in ("train", "validation")
    )
    return TrainingData(
        training,
        tiny_zoo.base,
        tiny_zoo.family.name,
        probe_to_json(PROBE),
        validation=validation,
        survey=survey_of(tiny_zoo, PROBE, count=12, steps=20, actors=MIXTURE),
        visit=on_policy(training, tiny_zoo.base, states=20),
        actors=MIXTURE,
    )


@pytest.fixture(scope="module")
def mapper(data: TrainingData) -> Mapper:
    return train(data, config=CONFIG, mapper_config=tiny.SHAPE)


def test_an_artifact_holds_the_mixture(mapper: Mapper, tmp_path: Path) -> None:
    mapper.save(tmp_path / "mapper")
    loaded = Mapper.load(tmp_path / "mapper")
    assert parse(ActorMixture, loaded.actors, "test") == MIXTURE


def test_a_stopped_training_goes_on_to_the_bit(data: TrainingData, mapper: Mapper, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.safetensors"
    again = stopped_and_resumed(data, checkpoint, 13, config=CONFIG, mapper_config=tiny.SHAPE)
    for name, tensor in mapper.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_a_checkpoint_of_another_mixture_is_refused(tmp_path: Path) -> None:
    checkpoint, config = tmp_path / "checkpoint.safetensors", replace(tiny.CONFIG, updates=2)
    data = TrainingData(pairs(4, 0), base_policy(), FAMILY, actors=MIXTURE)
    train(data, config=config, mapper_config=SMALL, checkpoint=checkpoint)
    for actors in (None, MIXTURE.changed(window_lengths=(1, 20))):
        with pytest.raises(MetaMapError, match="checkpoint of another run: actors"):
            train(replace(data, actors=actors), config=config, mapper_config=SMALL, checkpoint=checkpoint)


def test_on_the_probe_alone_the_mixture_does_not_matter(tiny_zoo: Zoo, tiny_mapper: Mapper) -> None:
    assert tiny_mapper.actors == {}
    recipe = MapperRecipe(tiny.CONFIG, tiny.SHAPE, survey_tasks=16).changed(actors="probe", wrong_share=0.9)
    found = train_mapper(tiny_zoo, recipe=recipe, calibration=None)
    for name, tensor in found.state_dict().items():
        assert torch.equal(tiny_mapper.state_dict()[name], tensor), name


def test_validation_rollouts_have_one_task_and_training_rollouts_may_change(data: TrainingData, tmp_path: Path) -> None:
    training, validation, survey = data.source, data.validation, data.survey
    assert isinstance(training, Pairs)
    assert isinstance(validation, Pairs)
    assert training.rollouts.newest.any()
    assert not validation.rollouts.changed.any()
    assert survey is not None
    assert survey.newest is not None
    training.save(tmp_path / "pairs.safetensors")
    loaded = Pairs.load(tmp_path / "pairs.safetensors")
    np.testing.assert_array_equal(loaded.rollouts.newest, training.rollouts.newest)
    np.testing.assert_array_equal(loaded.select([1]).rollouts.newest, training.rollouts.newest[1:2])


def test_stored_settings_without_actors_are_those_of_the_probe() -> None:
    shared = SharedSettings.model_validate({"mapper": recorded_mapper({"updates": 7, "shape": {"hidden": 9}})})
    assert shared.mapper.collected_by is None
    assert SharedSettings().mapper.collected_by == ActorMixture()
    assert shared.d_from == "probe"


def test_the_self_check_is_calibrated_on_the_mixture(tiny_zoo: Zoo, mapper: Mapper) -> None:
    config = CalibrationConfig(lengths=(1, 5, 20), usual_tasks=24, return_tasks=4, harm_tasks=4, hidden=8, updates=20)
    with pytest.raises(MetaMapError, match="expected a pool such as"):
        calibrate(mapper, config, num_threads=1)
    check = calibrate(mapper, config, pool=ActorPool.of_zoo(tiny_zoo), num_threads=1)
    assert check.record["actors"] == MIXTURE.document()
    alone = mapper.actors
    mapper.actors = {}
    try:
        probed = calibrate(mapper, config, num_threads=1)
    finally:
        mapper.actors = alone
    assert not np.array_equal(probed.surprise.mean, check.surprise.mean)


@pytest.mark.parametrize("source", ["probe", "service"])
def test_what_is_stored_with_experts_comes_from_the_source_of_d(tiny_zoo: Zoo, tmp_path: Path, source: DSource) -> None:
    problem = Problem(tiny_zoo, SharedSettings(d_from=source, lengths=(5,)), tmp_path)
    tasks, pool = problem.tasks("train"), ActorPool.of_zoo(tiny_zoo)
    for repeats, found in ((1, problem.stored(2)), (8, problem.memory(2))):
        expected = collect_mixture(
            ActorMixture.source(source), pool, problem.probe, tasks, steps=5, repeats=repeats, seed=3_500_002
        )
        np.testing.assert_array_equal(found.actions, expected.actions)
        np.testing.assert_array_equal(found.rewards, expected.rewards)


def test_sources_of_d_in_an_evaluation(tiny_zoo: Zoo, mapper: Mapper) -> None:
    moved, experts, pool = tiny.moved(mapper), tiny_zoo.experts("test-in"), ActorPool.of_zoo(tiny_zoo)
    found = {
        source: evaluate_mappers(
            [moved], experts, lengths=(5,), episodes=1, controls=False, d_from=source, pool=pool, num_threads=1
        )
        for source in ("probe", "service", "mixture")
    }
    assert len({evaluation.methods[0].returns.tobytes() for evaluation in found.values()}) == 3
    assert found["service"].rollouts is not None
    np.testing.assert_array_equal(found["probe"].expert, found["service"].expert)
    with pytest.raises(MetaMapError, match="did you mean 'service'"):
        evaluate_mappers([moved], experts, d_from="servise")


def test_the_command_line_trains_shows_and_evaluates(
    tiny_zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "mapper")
    quick = ["--updates", "4", "--survey-tasks", "4", "--calibration-tasks", "0", "--steps-before", "1", "3"]
    assert app.main(["mapper", "train", str(tiny_zoo.root), "--out", folder, *quick, "--wrong-share", "0.5"]) == 0
    assert "wrong 40%" in capsys.readouterr().out
    assert Mapper.load(folder).actors["steps_before"] == [1, 3]
    words = ["mapper", "evaluate", folder, "--zoo", str(tiny_zoo.root), "--steps", "5", "--episodes", "1"]
    assert app.main([*words, "--d-from", "service"]) == 0
    assert "D from: service" in capsys.readouterr().out
    assert app.main(["mapper", "train", str(tiny_zoo.root), "--out", f"{folder}2", "--actors", "mixtur"]) == 2
    assert app.main(["mapper", "train", str(tiny_zoo.root), "--out", f"{folder}2", "--steps-before", "9", "3"]) == 2
    assert not Path(f"{folder}2").exists()


@pytest.mark.slow
def test_a_mapper_of_the_mixture_reads_the_service(tiny_zoo: Zoo) -> None:
    """Errors of the read goal: on D from an expert of another task, less than a mapper of the probe has."""
    recipe = MapperRecipe(replace(tiny.CONFIG, updates=800, batch_tasks=8), MapperConfig(), survey_tasks=1024)
    errors = {"mixture": 0.0, "probe": 0.0}
    tasks = tiny_zoo.family.sample("validation", 48, 3)
    rollouts = collect_mixture(
        ActorMixture.source("service"), ActorPool.of_zoo(tiny_zoo), PROBE, tasks, steps=20, seed=1, num_threads=1
    )
    features = torch.from_numpy(rollouts.features()[:, 0])
    for seed in range(1):  # one training each is not told apart on every CPU
        for actors in errors:
            found = train_mapper(tiny_zoo, recipe=recipe.changed(actors=actors, seed=seed), calibration=None)
            with torch.no_grad():
                read = found.read_coordinates(features).numpy()
            errors[actors] += float(np.square(read - task_coordinates(tasks)).mean())
    assert errors["mixture"] < errors["probe"]

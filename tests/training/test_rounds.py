"""Rounds in service: what the adapter collects on training tasks that change is labelled by the true task."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers import tiny
from helpers.synthetic import SMALL, base_policy, pairs
from helpers.training import stopped_and_resumed
from helpers.training import train as train_synthetic
from metamap_agents.experts.zoo import Zoo
from metamap_agents.policy.acting import BatchedPolicy
from metamap_agents.runtime.storage import load_arrays, save_arrays
from metamap_envs import MetaMapError
from metamap_rl.cli import app
from metamap_rl.data.layout import TransitionLayout
from metamap_rl.data.pairs import Pairs
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.probing.actors import ActorMixture
from metamap_rl.probing.documents import probe_to_json
from metamap_rl.probing.mixture import ActorPool
from metamap_rl.probing.probes.planned import BasePolicyProbe
from metamap_rl.training.config import TrainConfig
from metamap_rl.training.in_service import CHECK, in_service
from metamap_rl.training.loop import TrainingData, train
from metamap_rl.training.pipeline import survey_of, training_pairs
from metamap_rl.training.rounds import Served, enlarged, round_updates, served_survey

PROBE, MIXTURE, STEPS = BasePolicyProbe(), ActorMixture(steps_before=(2, 9)), 20
CONFIG = replace(tiny.CONFIG, service_rounds=2, dagger_rounds=1, checkpoint_every=4)
CHECKED = CHECK.changed(usual_tasks=8, return_tasks=2, hidden=8, updates=10)
SERVICE: dict[str, Any] = {"survey_tasks": 3, "check": CHECKED, "num_threads": 1}


@pytest.fixture(scope="module")
def source(tiny_zoo: Zoo) -> Pairs:
    return training_pairs(tiny_zoo, "train", PROBE, steps=STEPS, repeats=3, actors=MIXTURE)


@pytest.fixture(scope="module")
def data(tiny_zoo: Zoo, source: Pairs) -> TrainingData:
    """As `train_mapper` makes it, of short rollouts; DAgger rounds of another kind beside those in service."""
    given = source.examples(tiny_zoo.base)
    return TrainingData(
        source,
        tiny_zoo.base,
        tiny_zoo.family.name,
        probe_to_json(PROBE),
        survey=survey_of(tiny_zoo, PROBE, count=12, steps=STEPS, actors=MIXTURE),
        visit=lambda mapper, number: (given.inputs[:, :7] + number, given.targets[:, :7]),
        serve=in_service(source, ActorPool.of_zoo(tiny_zoo), change_share=0.4, **SERVICE),
        actors=MIXTURE,
    )


@pytest.fixture(scope="module")
def mapper(data: TrainingData) -> Mapper:
    return train(data, config=CONFIG, mapper_config=tiny.SHAPE)


def one_round(zoo: Zoo, source: Pairs, mapper: Mapper, number: int = 1, **settings: Any) -> Served:
    return in_service(source, ActorPool.of_zoo(zoo), **{**SERVICE, **settings})(tiny.moved(mapper), number)


def equal(first: Served, second: Served) -> bool:
    assert first.survey is not None
    assert second.survey is not None
    names = ("features", "newest", "inputs", "targets")
    pairs_of = [(getattr(first, name), getattr(second, name)) for name in names]
    pairs_of += [(first.survey.features, second.survey.features), (first.survey.coordinates, second.survey.coordinates)]
    return all(torch.equal(one, other) for one, other in pairs_of)


def misses(rows: Tensor, goals: Tensor, zoo: Zoo) -> Tensor:
    """Error of the rewards [...] in feature rows [..., F] for goals [..., 2], which nothing else is told."""
    _, actions, rewards, after = TransitionLayout.of(zoo.base.spec).unpack(rows)
    return (rewards + actions.square().sum(dim=-1) + (after[..., 6:8] - goals).norm(dim=-1)).abs()


def goals_of(coordinates: Tensor, zoo: Zoo) -> Tensor:
    """Goals [T, 2] from coordinates, by name."""
    where = {name: coordinates[:, index] for index, name in enumerate(zoo.family.space.coordinate_names)}
    direction = torch.stack([where["cos goal_angle"], where["sin goal_angle"]], dim=-1)
    return where["goal_radius"][:, None] * direction


def test_rollouts_are_labelled_by_the_true_task(tiny_zoo: Zoo, source: Pairs, mapper: Mapper) -> None:
    """From the first row on if the task does not change, from the change on otherwise, and by an older one before."""
    own = goals_of(torch.from_numpy(source.parameters), tiny_zoo)
    for share in (0.0, 0.9):
        served = one_round(tiny_zoo, source, mapper, change_share=share)
        survey = served.survey
        assert survey is not None
        assert survey.newest is not None
        assert bool(survey.newest.any()) == bool(share)
        sets = [
            (served.features, served.newest, own),
            (survey.features, survey.newest, goals_of(survey.coordinates, tiny_zoo)),
        ]
        for rows, newest, goals in sets:
            error = misses(rows, goals[:, None, None], tiny_zoo)
            of_task = torch.arange(STEPS) >= newest[..., None]
            assert error[of_task].max() < 1e-5
            if share:
                assert error[~of_task].median() > 1e-3


def test_the_states_of_experts_tasks_are_labelled_by_the_experts(tiny_zoo: Zoo, source: Pairs, mapper: Mapper) -> None:
    served, base = one_round(tiny_zoo, source, mapper, repeats=3), tiny_zoo.base
    assert served.features.shape[:3] == (len(source), 3, STEPS)
    seen = TransitionLayout.of(base.spec).unpack(served.features)[0].flatten(1, 2).numpy()
    np.testing.assert_allclose(served.inputs, base.normalizer.apply(seen), atol=1e-6)
    np.testing.assert_allclose(served.targets, BatchedPolicy(base.policies(source.phi)).means(seen), atol=1e-6)


def test_what_is_collected_joins_training_set_and_survey(tiny_zoo: Zoo, data: TrainingData, mapper: Mapper) -> None:
    given, source = data.source.examples(tiny_zoo.base), data.source
    assert isinstance(source, Pairs)
    served = one_round(tiny_zoo, source, mapper)
    assert served.survey is not None
    added = {name: getattr(served, name) for name in ("features", "newest", "inputs", "targets")}
    more = enlarged(given, added)
    assert more.features.shape[1] == given.features.shape[1] + 2
    torch.testing.assert_close(more.features[:, -2:], served.features)
    assert more.inputs.shape[1] == given.inputs.shape[1] + 2 * STEPS
    with pytest.raises(MetaMapError, match="more features"):
        enlarged(given, {**added, "features": served.features[:, :, 1:]})
    assert served_survey(data.survey, added) is None
    assert len(served.survey) == mapper.record["served_rollouts"] // 2 == 10  # 2 of 3 tasks, 3 others, a full trial
    assert mapper.record["config"]["service_rounds"] == 2


def test_a_round_is_a_pure_function_of_mapper_and_number(tiny_zoo: Zoo, source: Pairs, mapper: Mapper) -> None:
    before = {name: tensor.clone() for name, tensor in mapper.state_dict().items()}
    first = one_round(tiny_zoo, source, mapper)
    assert equal(first, one_round(tiny_zoo, source, mapper, num_threads=2))
    assert not equal(first, one_round(tiny_zoo, source, mapper, number=2))
    assert not equal(first, one_round(tiny_zoo, source, mapper, seed=1))
    assert all(torch.equal(mapper.state_dict()[name], tensor) for name, tensor in before.items())
    assert mapper.check is None


@pytest.mark.parametrize("stop", [5, 13, 18])
def test_a_stopped_training_goes_on_to_the_bit(data: TrainingData, mapper: Mapper, tmp_path: Path, stop: int) -> None:
    checkpoint = tmp_path / "checkpoint.safetensors"
    again = stopped_and_resumed(data, checkpoint, stop, config=CONFIG, mapper_config=tiny.SHAPE)
    for name, tensor in mapper.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    assert again.record == mapper.record


def test_without_rounds_nothing_changes(data: TrainingData, mapper: Mapper) -> None:
    off = replace(CONFIG, service_rounds=0)
    found = [train(one, config=off, mapper_config=tiny.SHAPE) for one in (data, replace(data, serve=None))]
    assert "served_rollouts" not in found[0].record
    for name, tensor in found[0].state_dict().items():
        assert torch.equal(found[1].state_dict()[name], tensor), name
    changed = [name for name, tensor in found[0].arrays().items() if not np.array_equal(tensor, mapper.arrays()[name])]
    assert changed


def test_checkpoints_from_before_there_were_rounds_go_on(tmp_path: Path) -> None:
    path, config = tmp_path / "run.safetensors", replace(tiny.CONFIG, updates=6)
    run = {"family": "synthetic", "mapper_config": SMALL, "checkpoint": path}
    whole = train_synthetic(pairs(6, 3), base_policy(), config=config, **run)
    arrays, metadata = load_arrays(path)
    state = json.loads(metadata["state"])
    del state["identity"]["service_rounds"]
    save_arrays(path, arrays, {**metadata, "state": json.dumps(state)})
    again = train_synthetic(pairs(6, 3), base_policy(), config=config, **run)
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in whole.state_dict().items())


def test_rounds_that_cannot_be_are_reported(tiny_zoo: Zoo, data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    assert round_updates(TrainConfig(updates=400, service_rounds=3), service=True) == (100, 200, 300)
    with pytest.raises(MetaMapError, match=r"service_rounds: 2 .*\(serve\)"):
        train(replace(data, serve=None), config=CONFIG, mapper_config=tiny.SHAPE)
    with pytest.raises(MetaMapError, match=r"service_rounds: expected fewer than the 3 .*, got 3"):
        TrainConfig(updates=3, service_rounds=3)
    monkeypatch.setattr("metamap_rl.training.in_service.can_change", lambda tasks: False)
    source = data.source
    assert isinstance(source, Pairs)
    with pytest.raises(MetaMapError, match="service_rounds: expected 0 for reacher-goal"):
        in_service(source, ActorPool.of_zoo(tiny_zoo))


@pytest.mark.slow
def test_the_command_line_trains_with_rounds_and_says_so(
    tiny_zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mapper"
    quick = ["--updates", "4", "--survey-tasks", "4", "--calibration-tasks", "0", "--service-rounds", "1"]
    assert app.main(["mapper", "train", str(tiny_zoo.root), "--out", str(folder), *quick]) == 0
    assert "1 round in service" in capsys.readouterr().out
    assert Mapper.load(folder).record["config"]["service_rounds"] == 1

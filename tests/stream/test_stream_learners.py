"""What every learner must do: these tests run over the registry."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from helpers.marks import some_slow
from helpers.stream_problem import (
    BRIEF,
    LESSONS,
    ROLLOUTS,
    UPDATE,
    Lesson,
    Stream,
    add_robot,
    assert_equal,
    base_policy,
    rollouts,
)
from metamap_envs.errors import MetaMapError
from metamap_rl.stream.learners.base import LEARNERS, list_learners, make_learner
from metamap_rl.stream.learners.step import Experience, Step
from metamap_rl.training.config import UpdateConfig

STARTS_ANEW = {"joint"}
"""Learners that make a new mapper each time."""
UNPROTECTED = {"finetune"}
UNTAUGHT = {"untrained"}
"""Learners that never learn."""
# One of a kind is enough for `make test`.
ALIKE = {"agem", "distillation", "joint", "nearest", "output-regularisation", "perfect-memory", "reservoir"}

# A learner that is not here is tested with its defaults.
SETTINGS: dict[str, dict[str, Any]] = {"joint": {"most": 120}, "l2": {"strength": 100.0}}


def settings(name: str) -> dict[str, Any]:
    return {"name": name, **SETTINGS.get(name, {})}


def fields_of(name: str) -> list[dataclasses.Field[Any]]:
    return [item for item in dataclasses.fields(LEARNERS.get(name)) if item.init]


each_learner = pytest.mark.parametrize("name", list_learners())


# every learner --------------------------------------------------------------------------------------------------------


@each_learner
def test_same_seed_twice_is_the_same_to_the_bit(name: str) -> None:
    checkpoints = []
    for unrelated in (1, 2):
        with torch.random.fork_rng():
            torch.manual_seed(unrelated)  # the global generator must not matter
            checkpoints.append(Stream(settings(name), config=BRIEF).learn(LESSONS[:4]).checkpoint())
    assert_equal(*checkpoints)


@each_learner
@pytest.mark.parametrize("done", [1, 3])
def test_resumed_from_a_checkpoint_it_goes_on_to_the_bit(name: str, done: int) -> None:
    whole = Stream(settings(name), config=BRIEF).learn(LESSONS[:done])
    checkpoint = whole.checkpoint()
    resumed = whole.resumed(checkpoint)
    assert_equal(resumed.checkpoint(), checkpoint)
    assert_equal(resumed.learn(LESSONS[done:]).checkpoint(), whole.learn(LESSONS[done:]).checkpoint())


@each_learner
def test_an_update_can_be_undone(name: str) -> None:
    stream = Stream(settings(name), config=BRIEF).learn(LESSONS[:2])
    theta, state = stream.mapper.arrays(), stream.learner.arrays()
    before = {key: array.copy() for key, array in state.items()}
    stream.learn(LESSONS[2:4])
    assert_equal(state, before)
    stream.mapper.restore(theta)
    stream.learner.restore(state, stream.mapper)
    assert_equal(stream.learner.arrays(), before)
    assert_equal(stream.mapper.arrays(), theta)


@each_learner
def test_state_of_another_mapper_is_refused(name: str) -> None:
    stream = Stream(settings(name), config=BRIEF).learn(LESSONS[:1])
    with pytest.raises(MetaMapError, match="nonsense"):
        stream.learner.restore({**stream.learner.arrays(), "nonsense": np.zeros(3)}, stream.mapper)


@each_learner
@pytest.mark.parametrize("steps", [0, 10])
def test_untrained_it_answers_phi_0(name: str, steps: int) -> None:
    stream = Stream(settings(name))
    add_robot(stream.mapper, "arm")
    features = torch.stack([item.features[:steps] for item in rollouts(LESSONS[0], 0, seed=1)])
    answer = stream.learner.generate(stream.mapper, stream.memory, "arm", features)
    assert np.array_equal(answer.numpy(), np.tile(base_policy("arm").phi, (ROLLOUTS, 1)))
    assert not answer.requires_grad


@each_learner
def test_an_empty_d_is_answered_with_phi_0_after_training(name: str) -> None:
    stream = Stream(settings(name), config=BRIEF).learn(LESSONS[:1])
    nothing = rollouts(LESSONS[0], 0, seed=1)[0].features[None, :0]
    answer = stream.learner.generate(stream.mapper, stream.memory, "arm", nothing)
    assert np.array_equal(answer[0].numpy(), base_policy("arm").phi)


@each_learner
def test_without_gradient_steps_theta_stays(name: str) -> None:
    stream = Stream(settings(name), config=BRIEF).learn(LESSONS[:1])
    add_robot(stream.mapper, "leg")
    before = stream.mapper.arrays()
    stream.learn(LESSONS[1:3], dataclasses.replace(BRIEF, updates=0))
    if name in STARTS_ANEW:
        blank = stream.mapper["arm"](rollouts(LESSONS[0], 0, seed=1)[0].features[None])
        assert np.array_equal(blank[0].detach().numpy(), base_policy("arm").phi)
    else:
        assert_equal(stream.mapper.arrays(), before)


@pytest.mark.parametrize("name", [name for name in list_learners() if name not in UNTAUGHT])
def test_it_learns_the_new_task_first_and_later(name: str) -> None:
    stream = Stream(settings(name))
    add_robot(stream.mapper, "arm")
    first, second = LESSONS[0], LESSONS[2]
    untrained = stream.loss(first)
    stream.learn([first])
    assert stream.loss(first) < 0.4 * untrained
    before = stream.loss(second)
    stream.learn([second])
    assert stream.loss(second) < 0.8 * before


def loss_on_old_tasks(chosen: Mapping[str, Any]) -> float:
    """After the stream, over all tasks but the last; mean over seeds."""
    config = dataclasses.replace(UPDATE, updates=40)
    streams = [Stream(chosen, seed, config).learn(LESSONS[:4]) for seed in (0, 1)]
    return float(np.mean([stream.loss(lesson) for stream in streams for lesson in LESSONS[:3]]))


@pytest.fixture(scope="module")
def forgetting() -> float:
    return loss_on_old_tasks({"name": "finetune"})


@pytest.mark.parametrize("name", some_slow(sorted(set(list_learners()) - UNPROTECTED - UNTAUGHT), ALIKE))
def test_old_tasks_suffer_less_than_from_fine_tuning(name: str, forgetting: float) -> None:
    assert loss_on_old_tasks(settings(name)) < 0.65 * forgetting


@pytest.mark.parametrize("name", [name for name in list_learners() if name not in STARTS_ANEW])
def test_work_and_state_do_not_grow_with_the_stream(name: str) -> None:
    stream = Stream(settings(name), config=BRIEF, budget=40_000).learn(LESSONS[:2])
    passed = [0]
    for robot in stream.mapper:
        stream.mapper[robot].encoder.register_forward_hook(  # type: ignore[attr-defined]  # it is a module
            lambda module, arguments, output: passed.append(len(arguments[0]))
        )
    work, sizes = [], []
    for slot in range(2, 8):
        experience = stream.store(Lesson("arm", float(slot)))
        passed.clear()
        stream.learner.update(
            Step(stream.mapper, experience, stream.memory, BRIEF, torch.Generator().manual_seed(slot))
        )
        work.append(sum(passed))
        sizes.append(sum(array.nbytes for array in stream.learner.arrays().values()))
        stream.slot += 1
    assert len(set(work)) == 1
    assert len(set(sizes)) == 1


# settings -------------------------------------------------------------------------------------------------------------


@each_learner
def test_settings_out_of_range_are_refused(name: str) -> None:
    for item in fields_of(name):
        for value in (-1, -1.0, math.nan, math.inf, "3", True, None):
            with pytest.raises(MetaMapError, match=name):
                make_learner({"name": name, item.name: value})


@each_learner
def test_a_setting_that_counts_is_a_whole_number(name: str) -> None:
    for item in fields_of(name):
        if item.type == "int":
            with pytest.raises(MetaMapError, match="whole number"):
                make_learner({"name": name, item.name: item.default + 0.5})


def test_unknown_learners_and_settings_are_refused_with_the_closest() -> None:
    with pytest.raises(MetaMapError, match="output-regularisation"):
        make_learner({"name": "output-regularization"})
    with pytest.raises(MetaMapError, match="strength"):
        make_learner({"name": "ewc", "strenght": 1.0})
    with pytest.raises(MetaMapError, match="expected a name"):
        make_learner({"strength": 1.0})


@pytest.mark.parametrize(
    "field",
    [
        {"loss": "behavior"},
        {"updates": -1},
        {"batch_tasks": 0},
        {"states_per_task": 0},
        {"learning_rate": 0.0},
        {"learning_rate": math.nan},
        {"gradient_clip": -1.0},
        {"lengths": ()},
        {"lengths": (0,)},
        {"from_start": 1.5},
    ],
)
def test_update_settings_out_of_range_are_refused(field: dict[str, Any]) -> None:
    with pytest.raises(MetaMapError):
        UpdateConfig(**field)


def test_weights_decay() -> None:
    def size(decay: float) -> float:
        stream = Stream({"name": "finetune"}, config=dataclasses.replace(BRIEF, weight_decay=decay)).learn(LESSONS[:1])
        return sum(float(parameter.detach().square().sum()) for parameter in stream.mapper.parameters())

    assert size(60.0) < 0.8 * size(0.0)


def test_a_loss_that_is_not_finite_is_said() -> None:
    lesson = Lesson("arm", 0.0)
    stream = Stream({"name": "finetune"})
    add_robot(stream.mapper, "arm")
    broken = [dataclasses.replace(item, targets=item.targets * math.inf) for item in rollouts(lesson, 0, seed=0)]
    with pytest.raises(MetaMapError, match="learning_rate"):
        stream.learner.update(
            Step(stream.mapper, Experience(0, "arm", tuple(broken)), stream.memory, BRIEF, torch.Generator())
        )

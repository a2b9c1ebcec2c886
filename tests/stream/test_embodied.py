"""One mapper for several robots: what they share, and what they do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.stream_problem import (
    BRIEF,
    LESSONS,
    SHAPE,
    SIZES,
    Stream,
    add_robot,
    assert_equal,
    base_policy,
    new_mapper,
    rollouts,
)
from metamap_envs.errors import MetaMapError
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.stream.embodied import EmbodiedMapper

LESSON = {lesson.robot: lesson for lesson in LESSONS}


def features(robot: str, steps: int = 20) -> torch.Tensor:
    """Feature rows [B, n, F]."""
    return torch.stack([item.features[:steps] for item in rollouts(LESSON[robot], 0, seed=1)])


def moved_mapper(*robots: str) -> EmbodiedMapper:
    """A mapper that no longer answers phi_0."""
    mapper, generator = new_mapper(*robots), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in mapper.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return mapper


@torch.no_grad()
def answers(mapper: EmbodiedMapper) -> dict[str, torch.Tensor]:
    return {robot: mapper(robot, features(robot)) for robot in mapper}


def test_untrained_it_answers_phi_0_exactly() -> None:
    for robot, answer in answers(new_mapper(*SIZES)).items():
        assert np.array_equal(answer.numpy(), np.tile(base_policy(robot).phi, (len(answer), 1)))


def test_sizes_are_those_of_the_robot() -> None:
    mapper = moved_mapper(*SIZES)
    for robot, (observations, actions) in SIZES.items():
        assert mapper[robot].feature_size == 2 * observations + actions + 2
        assert mapper(robot, features(robot)).shape[1] == base_policy(robot).spec.size == actions * (observations + 1)


def test_the_core_is_one_and_the_heads_are_not() -> None:
    mapper = new_mapper(*SIZES)
    arm, leg = (set(mapper.theta(robot)) for robot in ("arm", "leg"))
    assert arm | leg == set(mapper.theta())
    assert {name.split(".arm.")[1] for name in arm - leg} == {name.split(".leg.")[1] for name in leg - arm}
    own = {name.split(".leg.")[1] for name in leg - arm}
    assert own == {
        f"{part}.{kind}" for part in ("encoder.embed.0", "hypernetwork.output") for kind in ("weight", "bias")
    }
    alone = sum(parameter.numel() for parameter in new_mapper("arm").parameters())
    heads = sum(parameter.numel() for name, parameter in mapper.theta().items() if name in leg - arm)
    assert sum(parameter.numel() for parameter in mapper.parameters()) == alone + heads


def test_learning_on_one_robot_moves_the_core_of_all_and_no_other_head() -> None:
    stream = Stream({"name": "finetune"}, config=BRIEF)
    for robot in SIZES:
        add_robot(stream.mapper, robot)
    before = stream.mapper.arrays()
    stream.learn([LESSON["leg"]])
    after = stream.mapper.arrays()
    arm, leg = stream.mapper.theta("arm"), stream.mapper.theta("leg")
    for name in stream.mapper.theta():
        assert np.array_equal(before[name], after[name]) == (name not in leg), name
    assert set(arm) & set(leg), "there is a core"


def test_what_one_robot_learns_changes_the_answer_of_another() -> None:
    mapper = moved_mapper(*SIZES)
    before = answers(mapper)
    mapper["leg"].encoder.head[0].weight.data.add_(0.1)  # type: ignore[attr-defined]  # a layer of the core
    for robot, answer in answers(mapper).items():
        assert not torch.equal(answer, before[robot])


def test_a_robot_that_is_added_later_leaves_the_others_as_they_are() -> None:
    mapper = moved_mapper("arm")
    before, theta = answers(mapper), mapper.arrays()
    add_robot(mapper, "leg")
    after = answers(mapper)
    assert torch.equal(after["arm"], before["arm"])
    assert np.array_equal(after["leg"][0].numpy(), base_policy("leg").phi)
    mapper.forget(["leg"])
    assert mapper.embodiments == ("arm",)
    assert_equal(mapper.arrays(), theta)


def test_several_sets_of_d_go_through_the_head_together() -> None:
    mapper = moved_mapper(*SIZES)
    parts = [features("leg", 20)[:1], features("leg", 7), features("leg", 20)[1:3]]
    expected = torch.cat([mapper("leg", part) for part in parts])
    torch.testing.assert_close(mapper("leg", *parts), expected)


def test_arrays_survive_to_the_bit_units_included() -> None:
    mapper = moved_mapper(*SIZES)
    other = EmbodiedMapper(SHAPE, seed=5)
    for robot in SIZES:
        add_robot(other, robot)
        other[robot].weight_scale.mul_(3.0)
        other[robot].feature_mean.add_(1.0)
    other.restore(mapper.arrays())
    assert_equal(other.arrays(), mapper.arrays())
    assert_equal(answers(other), answers(mapper))


def test_arrays_are_copies() -> None:
    mapper = moved_mapper("arm")
    arrays = mapper.arrays()
    before = {name: array.copy() for name, array in arrays.items()}
    with torch.no_grad():
        for parameter in mapper.parameters():
            parameter.zero_()
    assert_equal(arrays, before)
    mapper.restore(arrays)
    with torch.no_grad():
        for parameter in mapper.parameters():
            parameter.zero_()
    assert_equal(arrays, before)


def test_arrays_that_do_not_fit_are_named() -> None:
    mapper = new_mapper("arm")
    arrays = mapper.arrays()
    name = next(key for key in arrays if "hypernetwork.output.weight" in key)
    missing = {key: array for key, array in arrays.items() if key != name}
    for broken in (missing, {**arrays, name: arrays[name][:1]}):
        with pytest.raises(MetaMapError, match=f"checkpoint: .*{name}"):
            mapper.restore(broken, "checkpoint")
    with pytest.raises(MetaMapError, match="leg"):
        mapper.restore(new_mapper("arm", "leg").arrays(), "checkpoint")


def test_blank_has_the_same_robots_and_nothing_learnt() -> None:
    mapper = moved_mapper(*SIZES)
    mapper["leg"].weight_scale.mul_(2.0)
    blank = mapper.blank(seed=3)
    assert blank.embodiments == mapper.embodiments
    for robot, answer in answers(blank).items():
        assert np.array_equal(answer[0].numpy(), base_policy(robot).phi)
        assert torch.equal(blank[robot].weight_scale, mapper[robot].weight_scale)
        assert (blank[robot].family, blank[robot].probe) == (mapper[robot].family, mapper[robot].probe)
    assert_equal(blank.arrays(), mapper.blank(seed=3).arrays())
    assert any(not np.array_equal(array, blank.arrays()[name]) for name, array in mapper.blank(4).arrays().items())
    with torch.no_grad():
        for parameter in blank.parameters():
            parameter.zero_()
    assert_equal(
        mapper.arrays(), {**moved_mapper(*SIZES).arrays(), "unit.leg.weight_scale": mapper["leg"].weight_scale}
    )


def test_seeds_decide_the_parameters() -> None:
    assert_equal(new_mapper(*SIZES, seed=1).arrays(), new_mapper(*SIZES, seed=1).arrays())
    one, other = new_mapper(*SIZES, seed=1).arrays(), new_mapper(*SIZES, seed=2).arrays()
    assert any(not np.array_equal(one[name], other[name]) for name in one)


def test_unknown_and_repeated_robots_are_refused() -> None:
    mapper = new_mapper("arm")
    with pytest.raises(MetaMapError, match="arm"):
        mapper["army"]
    with pytest.raises(MetaMapError, match="added"):
        add_robot(mapper, "arm")


@pytest.mark.parametrize("robot", list(SIZES))
def test_one_robot_of_it_is_saved_and_loaded_as_an_ordinary_mapper(robot: str, tmp_path: Path) -> None:
    mapper = moved_mapper(*SIZES)
    mapper[robot].save(tmp_path / "mapper")
    loaded = Mapper.load(tmp_path / "mapper")
    assert torch.equal(loaded(features(robot)), mapper(robot, features(robot)))
    assert (loaded.family, loaded.probe, loaded.config) == (f"{robot}-family", {"name": "noise"}, SHAPE)
    assert np.array_equal(loaded.base.phi, base_policy(robot).phi)

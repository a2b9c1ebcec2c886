"""What one gradient step sees of stored rollouts."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from helpers.stream_problem import BRIEF, LESSONS, UPDATE, Lesson, Stream, rollouts
from metamap_rl.stream.memory import Item
from metamap_rl.stream.windows import by_embodiment, draw, windows


def numbered(slot: int, robot: str = "arm", steps: int = 40) -> Item:
    """A rollout whose rows tell their slot and their step."""
    item = rollouts(Lesson(robot, float(slot)), slot, seed=0, count=1, steps=steps)[0]
    item.features[:, 0] = slot
    item.features[:, 1] = torch.arange(steps)
    return item


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("from_start", [0.0, 0.5, 1.0])
def test_windows_are_consecutive_rows_some_of_them_from_the_start(from_start: float) -> None:
    config = dataclasses.replace(UPDATE, lengths=(10,), from_start=from_start)
    (rows,) = draw([numbered(0), numbered(1)], 400, config, generator())
    steps = rows.features[:, :, 1]
    assert steps.shape == (400, 10)
    assert torch.equal(steps, steps[:, :1] + torch.arange(10))
    assert len(set(steps[:, 0].tolist())) == (1 if from_start == 1 else 31)
    assert float((steps[:, 0] == 0).float().mean()) == pytest.approx(from_start + (1 - from_start) / 31, abs=0.07)


def test_a_draw_has_one_length_that_all_its_rollouts_have() -> None:
    long, short = numbered(0, steps=40), numbered(1, steps=25)
    for seed in range(30):
        for items, allowed in (([long], {10, 20, 40}), ([short], {10, 20}), ([numbered(2, steps=5)], {5})):
            (rows,) = draw(items, 3, UPDATE, generator(seed))
            assert rows.features.shape[1] in allowed
    lengths = {draw([long], 1, UPDATE, generator(seed))[0].features.shape[1] for seed in range(30)}
    assert lengths == {10, 20, 40}


def test_by_slot_tasks_count_alike_and_else_rollouts() -> None:
    items = [numbered(0)] * 9 + [numbered(5)]
    for by_slot, expected in ((True, 0.5), (False, 0.1)):
        (rows,) = draw(items, 2000, UPDATE, generator(), by_slot=by_slot)
        share = float((rows.features[:, 0, 0] == 5).float().mean())
        assert share == pytest.approx(expected, abs=0.04)


def test_rows_of_one_robot_come_together_with_what_belongs_to_them() -> None:
    items = [numbered(slot, robot) for slot, robot in enumerate(["arm", "leg", "arm", "leg"])]
    parts = windows(items, UPDATE, generator())
    assert [(part.embodiment, len(part)) for part in parts] == [("arm", 2), ("leg", 2)]
    for part in parts:
        for index, slot in enumerate(part.features[:, 0, 0].int().tolist()):
            item = items[slot]
            assert torch.equal(part.phi[index], item.phi)
            where = (part.inputs[index][:, None] == item.inputs[None]).all(-1).int().argmax(dim=1)
            assert torch.equal(part.inputs[index], item.inputs[where])
            assert torch.equal(part.targets[index], item.targets[where])
            assert torch.equal(part.dark[index], item.dark[where])


def test_nothing_is_drawn_from_nothing() -> None:
    assert draw([], 3, UPDATE, generator()) == []
    assert draw([numbered(0)], 0, UPDATE, generator()) == []
    assert windows([], UPDATE, generator()) == []


def test_a_step_generates_once_what_it_would_generate_apart() -> None:
    stream = Stream({"name": "replay"}, config=BRIEF).learn(LESSONS[:3])
    step = stream.step(LESSONS[3])
    rows = [*step.new(3), *step.draw(step.old, 6, by_slot=True)]
    assert len(by_embodiment(rows)) == 2
    made = step.generate(rows)
    for part, weights in zip(rows, made, strict=True):
        torch.testing.assert_close(weights, stream.mapper(part.embodiment, part.features))
    assert all(one is other for one, other in zip(made, step.generate(rows), strict=True))


def test_losses_are_means_over_all_rollouts_whatever_robot_they_are_of() -> None:
    stream = Stream({"name": "replay"}, config=BRIEF).learn(LESSONS[:3])
    step = stream.step(LESSONS[3])
    rows = windows(step.old, step.config, step.generator)
    sizes = [len(part) for part in rows]
    assert sizes == [6, 3], "uneven, or the test says little"
    for loss in (step.pair_loss, step.dark_loss, step.weights_loss):
        apart = [float(loss([part]).detach()) for part in rows]
        expected = sum(size * value for size, value in zip(sizes, apart, strict=True)) / 9
        assert float(loss(rows).detach()) == pytest.approx(expected, rel=1e-5)
        assert float(loss([])) == 0.0

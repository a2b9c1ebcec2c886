"""Tuning: policy gradient through the map. Its parts by hand, and the whole on a small mapper."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import tiny
from metamap_agents.zoo import Zoo
from metamap_envs import MetaMapError
from metamap_envs.family import get_family
from metamap_rl.cli import app
from metamap_rl.experience import Experience, TaskCritic, act_with_noise, advantages
from metamap_rl.mapper import Mapper
from metamap_rl.tuning import TuningConfig, clipped_surrogate, tune
from metamap_rl.workflow import train_mapper

QUICK = TuningConfig(
    iterations=4,
    tasks=6,
    batch_tasks=4,
    episodes=1,
    longest=20,
    epochs=2,
    critic_hidden=8,
    critic_only=1,
    validation_every=2,
    validation_tasks=3,
    validation_lengths=(5, 20),
    checkpoint_every=1,
)
LEARNS = replace(QUICK, iterations=12, tasks=16, batch_tasks=8, epochs=4, learning_rate=3e-3, validation_every=4)
"""Long enough to do better than the mapper given."""


def experience(rewards: list[float], terminated: list[bool], ended: list[bool]) -> Experience:
    """One environment of one task."""
    empty = np.zeros((1, 1, len(rewards), 1), dtype=np.float32)
    flags = (np.array([[part]]) for part in (terminated, ended))
    return Experience(empty, empty, np.array([[rewards]], dtype=np.float32), empty, *flags)


def test_advantages_by_hand() -> None:
    """An episode that terminates, then one that is cut off: gamma .5, lambda .5."""
    seen = experience([1, 2, 3, 4], [False, True, False, False], [False, True, False, True])
    values = np.array([[[1, 1, 2, 2]]], dtype=np.float32)
    following = np.array([[[1, 9, 2, 4]]], dtype=np.float32)
    found, targets = advantages(seen, values, following, discount=0.5, trace=0.5)
    # surprises: 1 + .5 - 1, 2 - 1 (terminated), 3 + 1 - 2, 4 + 2 - 2 (goes on from 4)
    expected = np.array([0.5 + 0.25 * 1, 1, 2 + 0.25 * 4, 4])
    np.testing.assert_allclose(found[0, 0], expected)
    np.testing.assert_allclose(targets, found + values)


def test_surrogate_by_hand() -> None:
    ratio, advantage = torch.tensor([1.5, 1.5, 0.5, 0.5]), torch.tensor([1.0, -1.0, 1.0, -1.0])
    # A good action made likelier counts up to the clip, a bad one fully; and the other way round.
    assert clipped_surrogate(ratio, advantage, 0.2).item() == pytest.approx(-(1.2 - 1.5 + 0.5 - 0.8) / 4)


def test_noisy_episodes(tiny_zoo: Zoo) -> None:
    base, tasks = tiny_zoo.base, get_family("reacher-goal").sample("train", 3, 0)
    phis = np.tile(base.phi, (3, 1))

    def act(noise: float) -> Experience:
        return act_with_noise(
            tasks, base, phis, noise=noise, episodes=2, generator=np.random.default_rng(1), num_threads=1
        )

    calm, wild, again = act(1e-6), act(0.3), act(0.3)
    horizon = tiny_zoo.family.horizon
    assert wild.actions.shape == (3, 2, horizon, base.spec.action_size)
    assert wild.steps == 6 * horizon
    assert wild.ended.sum(axis=-1).tolist() == [[1, 1]] * 3
    assert wild.ended[..., -1].all()
    assert not wild.terminated.any()  # cut off by time
    np.testing.assert_array_equal(wild.following[:, :, :-1], wild.inputs[:, :, 1:])
    assert not np.array_equal(wild.following[:, :, -1], wild.inputs[:, :, 0])  # not the next episode's start
    # The same starts; from there on the noise shows, with the standard deviation asked for.
    np.testing.assert_array_equal(calm.inputs[:, :, 0], wild.inputs[:, :, 0])
    first = (wild.actions - calm.actions)[:, :, 0]
    assert 0.15 < first.std() < 0.5
    np.testing.assert_array_equal(wild.rewards, again.rewards)


def test_critic_reads_the_task() -> None:
    coordinates = torch.tensor([[0.0, 100.0], [2.0, 100.0]])
    critic = TaskCritic(3, coordinates, hidden=8, seed=0)
    values = critic(torch.zeros(2, 5, 3), coordinates)
    assert values.shape == (2, 5)
    assert not torch.allclose(values[0], values[1])
    assert values.isfinite().all()  # a coordinate that never changes has no spread to divide by


def test_it_learns_and_leaves_the_given_mapper_alone(tiny_mapper: Mapper) -> None:
    before = {name: array.copy() for name, array in tiny_mapper.arrays().items()}
    tuned = tune(tiny_mapper, LEARNS)
    assert all(np.array_equal(before[name], array) for name, array in tiny_mapper.arrays().items())
    record = tuned.record["tuning"]
    returns = [entry["validation"] for entry in record["history"]]
    assert len(returns) == 4
    assert max(returns) > returns[0]
    assert record["history"][record["chosen_iteration"] // 4]["validation"] == max(returns)
    horizon = get_family(tiny_mapper.family).horizon
    assert record["environment_steps"] == 12 * 16 * (20 + horizon) + 4 * 3 * (20 + 2 * horizon)
    assert record["config"]["discount"] == 0.98  # the recipe's
    assert tuned.check is None
    assert tuned.record["training_tasks"] == tiny_mapper.record["training_tasks"]
    no_rows = torch.zeros(1, 0, tuned.feature_size)
    assert torch.equal(tuned(no_rows)[0], tuned.phi_0)  # phi_0 is still what an empty D gives


def test_without_iterations_it_is_the_mapper_given(tiny_mapper: Mapper) -> None:
    tuned = tune(tiny_mapper, replace(QUICK, iterations=0))
    for name, tensor in tiny_mapper.state_dict().items():
        assert torch.equal(tensor, tuned.state_dict()[name])


def test_the_first_iterations_are_the_critics(tiny_mapper: Mapper) -> None:
    moved = []
    tune(
        tiny_mapper,
        replace(QUICK, iterations=3, critic_only=2, learning_rate=1e-2),
        on_iteration=lambda done, total, metrics: moved.append(metrics["moved"]),
    )
    assert max(moved[:2]) < 1e-6 < moved[2]


def test_without_its_signal_the_reader_stays(tiny_zoo: Zoo) -> None:
    def reader(mapper: Mapper) -> torch.Tensor:
        return torch.cat([parameter.detach().flatten() for parameter in mapper.reader.parameters()])

    # Through a bottleneck the policy depends on the reader, so that only what is kept from moving does not move.
    shape = replace(tiny.SHAPE, bottleneck=True)
    narrow = train_mapper(tiny_zoo, config=tiny.CONFIG, mapper_config=shape, survey_tasks=16, calibration=None)
    state = {"with": tune(narrow, replace(LEARNS, reading_coefficient=1.0)), "without": tune(narrow, LEARNS)}
    assert all(mapper.record["tuning"]["chosen_iteration"] > 0 for mapper in state.values())
    assert torch.equal(reader(state["without"]), reader(narrow))
    assert not torch.equal(reader(state["with"]), reader(narrow))


def test_a_second_tuning_tells_of_the_first(tiny_mapper: Mapper) -> None:
    once = tune(tiny_mapper, replace(QUICK, iterations=0))
    twice = tune(once, QUICK)
    assert twice.record["tuning"]["before"] == once.record["tuning"]


class Stopped(Exception):  # noqa: N818  (what a user's Ctrl-C would be)
    pass


def test_a_stopped_run_goes_on_to_the_same_mapper(tiny_mapper: Mapper, tmp_path: Path) -> None:
    whole = tune(tiny_mapper, LEARNS)
    assert whole.record["tuning"]["chosen_iteration"] > 3, "or else there is nothing to compare"
    checkpoint = tmp_path / "run.safetensors"

    def stop(done: int, total: int, metrics: dict[str, float]) -> None:
        if done == 3:
            raise Stopped

    with pytest.raises(Stopped):
        tune(tiny_mapper, LEARNS, checkpoint=checkpoint, on_iteration=stop)
    resumed = tune(tiny_mapper, LEARNS, checkpoint=checkpoint)
    assert resumed.record == whole.record
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name])
    with pytest.raises(MetaMapError, match=r"checkpoint of another run: noise was 0\.2, is now 0\.1"):
        tune(tiny_mapper, replace(LEARNS, noise=0.1), checkpoint=checkpoint)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tasks": 0}, "tasks: expected >= 1, got 0"),
        ({"iterations": 5}, "iterations: expected 0 or more than the 5 in which only the critic learns, got 5"),
        ({"noise": 0.0}, "noise: expected > 0"),
        ({"discount": 1.5}, r"discount: expected a number in \[0, 1\], got 1.5"),
        ({"validation_lengths": (300,)}, "expected lengths from 1 to longest = 200"),
    ],
)
def test_bad_settings(settings: dict[str, object], message: str) -> None:
    with pytest.raises(MetaMapError, match=message):
        TuningConfig(**settings)  # type: ignore[arg-type]


def test_command(tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(tiny_bundle / "reacher-goal"), "--iterations", "6", "--tasks", "2"]
    quick = [*words, "--calibration-tasks", "4", "--json"]
    assert app.main(["mapper", "tune", *quick, "--out", str(tmp_path / "tuned")]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["record"]["tuning"]["config"]["tasks"] == 2
    assert document["check"] is not None
    assert [path.name for path in tmp_path.iterdir()] == ["tuned"]
    assert app.main(["mapper", "show", str(tmp_path / "tuned")]) == 0
    assert "by policy gradient over" in capsys.readouterr().out
    assert app.main(["mapper", "tune", *quick, "--out", str(tmp_path / "tuned")]) == 2
    assert "tuned" in capsys.readouterr().err
    assert app.main(["mapper", "tune", *words, "--noise", "-1", "--out", str(tmp_path / "no")]) == 2
    assert "noise: expected > 0" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()

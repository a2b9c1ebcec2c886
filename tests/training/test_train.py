from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers.marks import some_slow
from helpers.synthetic import FAMILY, SMALL, SPEC, STEPS, base_policy, features_of, moved_mapper, pairs, rollout_of
from helpers.training import train
from metamap_agents.policy.base import BasePolicy
from metamap_agents.policy.functional import forward
from metamap_agents.policy.normalizer import ObservationNormalizer
from metamap_agents.policy.spec import PolicySpec
from metamap_agents.runtime.storage import load_arrays, save_arrays
from metamap_envs.errors import MetaMapError
from metamap_envs.registry import get_family
from metamap_rl.data.examples import Examples
from metamap_rl.data.pairs import Pairs
from metamap_rl.evaluation.privileged import privileged_examples, privileged_phis
from metamap_rl.mapper.config import MapperConfig
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.training.config import TrainConfig
from metamap_rl.training.loop import validation_losses
from metamap_rl.training.losses import LOSSES
from metamap_rl.training.updates import learning_rate

QUICK = TrainConfig(updates=40, warmup=5, batch_tasks=4, states_per_task=16, validation_every=15, checkpoint_every=10)
LEARN = TrainConfig(updates=500, warmup=20, states_per_task=32, learning_rate=3e-3, validation_every=100)


def quick(config: TrainConfig = QUICK, **options: Any) -> Mapper:
    return train(pairs(6, 3), base_policy(), family=FAMILY, config=config, mapper_config=SMALL, **options)


def same(first: Mapper, second: Mapper) -> bool:
    one, two = first.arrays(), second.arrays()
    return one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)


def error_on(source: Pairs, phi: np.ndarray) -> float:
    """Mean squared error of actions on the experts' states, for weights [T, P]."""
    examples = source.examples(base_policy())
    outputs = forward(SPEC, torch.as_tensor(phi), examples.inputs)
    return float((outputs - examples.targets).square().mean())


# ------------------------------------------------------------------------------------------------------ it learns


@pytest.mark.parametrize("loss", some_slow(LOSSES.names(), ["behaviour", "weights"]))
def test_it_adapts_to_tasks_it_has_not_seen(loss: str) -> None:
    config = dataclasses.replace(LEARN, loss=loss)
    validation, test = pairs(8, 11), pairs(20, 12)
    mapper = train(
        pairs(40, 10), base_policy(), family=FAMILY, config=config, mapper_config=SMALL, validation=validation
    )
    own = np.stack([mapper.generate(rollout_of(test, task)) for task in range(20)])
    base = error_on(test, np.tile(base_policy().phi, (20, 1)))
    assert error_on(test, own) < 0.1 * base
    # Another task's D must be worse than no D at all: what was learned is to read D, not a better average.
    assert error_on(test, np.roll(own, 1, axis=0)) > base
    few = np.stack([mapper.generate(rollout_of(test, task, length=5)) for task in range(20)])
    assert error_on(test, own) < error_on(test, few) < 0.6 * base


def test_the_same_loop_learns_function_regression() -> None:
    """Points (x, y) of y = a sin(x) + b in, weights of a 1-40-40-1 network that draws the function out."""
    generator = torch.Generator().manual_seed(0)
    spec = PolicySpec(1, 1, hidden=(40, 40))
    phi_0 = torch.cat(
        [
            torch.randn(shape, generator=generator).flatten() / (shape[-1] ** 0.5 if len(shape) > 1 else 1.0)
            for shape in spec.shapes.values()
        ]
    ).numpy()
    base = BasePolicy(spec, phi_0, ObservationNormalizer.identity(1), np.zeros(1, np.float32))

    def functions(count: int) -> Examples:
        a, b = (2 * torch.rand(2, count, 1, 1, 1, generator=generator) - 1).unbind()
        x = 6 * torch.rand(count, 1, 30, 1, generator=generator) - 3
        grid = torch.linspace(-3, 3, 50).view(1, 50, 1).expand(count, -1, -1)
        return Examples(
            features=torch.cat([x, a * x.sin() + b], dim=-1),
            phi=torch.tensor(phi_0).expand(count, -1),  # no expert weights: the behaviour loss needs none
            inputs=grid,
            targets=a[:, 0] * grid.sin() + b[:, 0],
        )

    config = dataclasses.replace(LEARN, lengths=(10, 20, 30), updates=400)
    mapper = train(functions(100), base, family="sines", config=config, mapper_config=SMALL)
    losses = validation_losses(mapper, functions(30), (30,))
    assert losses[30] < 0.05  # the functions' own mean square is 1/6 + 1/3


def test_a_privileged_mapper_is_given_the_task_and_needs_no_rollout() -> None:
    source, others = pairs(40, 10), pairs(16, 11)
    rollouts = source.rollouts
    blank = dataclasses.replace(
        rollouts, rewards=np.zeros_like(rollouts.rewards), observations=rollouts.next_observations
    )
    blind = dataclasses.replace(source, rollouts=blank)
    told, held_out = (privileged_examples(one, base_policy()) for one in (blind, others))
    privileged = train(told, base_policy(), family=FAMILY, validation=held_out, config=LEARN, mapper_config=SMALL)
    base = error_on(others, np.tile(base_policy().phi, (16, 1)))
    assert error_on(others, privileged_phis(privileged, others.tasks)) < 0.1 * base
    assert error_on(others, privileged_phis(privileged, others.tasks[::-1])) > base


# -------------------------------------------------------------------------------------- determinism and resumption


def test_same_seed_same_mapper_to_the_bit() -> None:
    first = quick(validation=pairs(4, 5))
    assert same(first, quick(validation=pairs(4, 5)))
    assert first.record == quick(validation=pairs(4, 5)).record
    assert not same(first, quick(dataclasses.replace(QUICK, seed=1), validation=pairs(4, 5)))


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("stop", [1, 10, 27, 40])
@pytest.mark.parametrize("validated", [True, False])
def test_stopped_and_resumed_is_the_same_to_the_bit(stop: int, validated: bool, tmp_path: Path) -> None:
    validation = pairs(4, 5) if validated else None
    path = tmp_path / "run.safetensors"

    def stop_there(update: int, total: int, metrics: dict[str, float]) -> None:
        if update == stop:
            raise StoppedError

    with pytest.raises(StoppedError):
        quick(validation=validation, checkpoint=path, on_update=stop_there)
    updates: list[int] = []
    resumed = quick(validation=validation, checkpoint=path, on_update=lambda update, total, _: updates.append(update))
    assert updates == list(range(stop // 10 * 10 + 1, 41))
    whole = quick(validation=validation)
    assert same(resumed, whole)
    assert resumed.record == whole.record


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"config": dataclasses.replace(QUICK, learning_rate=0.5)}, "learning_rate was 0.001, is now 0.5"),
        ({"config": dataclasses.replace(QUICK, lengths=(5,))}, "lengths was"),
        ({"validation": pairs(4, 6)}, "validation set was"),
        ({"start": moved_mapper()}, "initial mapper was"),
        ({"config": dataclasses.replace(QUICK, seed=QUICK.seed + 1)}, "seed was"),  # not what follows from it
    ],
)
def test_the_checkpoint_of_another_run_is_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    quick(checkpoint=path)
    with pytest.raises(MetaMapError, match=message):
        quick(checkpoint=path, **options)


def test_another_file_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    save_arrays(path, {"x": np.zeros(2)}, {})
    with pytest.raises(MetaMapError, match="not a checkpoint of a training run"):
        quick(checkpoint=path)
    for state in ("[]", "{"):
        save_arrays(path, {"x": np.zeros(2)}, {"format": "metamap-checkpoint-1", "state": state})
        with pytest.raises(MetaMapError, match="its description is damaged"):
            quick(checkpoint=path)


# ----------------------------------------------------------------------------------------------- choice and reports


def test_the_best_mapper_on_validation_tasks_is_returned() -> None:
    # The best policies of these validation tasks lie halfway to the experts: training passes by and goes too far.
    examples = pairs(8, 11).examples(base_policy())
    at_base = forward(SPEC, torch.tensor(base_policy().phi), examples.inputs)
    halfway = dataclasses.replace(examples, targets=(examples.targets + at_base) / 2)
    config = dataclasses.replace(QUICK, updates=90, learning_rate=1e-2, validation_every=4)
    mapper = quick(config, validation=halfway)
    history = mapper.record["history"]
    assert [entry["update"] for entry in history] == [*range(0, 90, 4), 90]
    assert mapper.record["chosen_update"] == min(history, key=lambda entry: entry["validation"])["update"]
    assert 0 < mapper.record["chosen_update"] < 90
    losses = validation_losses(mapper, halfway, config.validation_lengths)
    assert sum(losses.values()) / 2 == pytest.approx(min(entry["validation"] for entry in history))


def test_where_training_only_harms_the_base_policy_is_returned() -> None:
    # Validation tasks whose best policy is phi_0 itself: any training makes it worse there.
    source, base = pairs(8, 11), base_policy()
    examples = source.examples(base)
    at_base = forward(SPEC, torch.tensor(base.phi), examples.inputs)
    mapper = quick(validation=dataclasses.replace(examples, targets=at_base))
    assert mapper.record["chosen_update"] == 0
    assert np.array_equal(mapper.generate(rollout_of(source, 0)), base.phi)


def test_every_update_is_reported() -> None:
    seen: list[tuple[int, int, dict[str, float]]] = []
    mapper = quick(validation=pairs(4, 5), on_update=lambda *report: seen.append(report))
    assert [update for update, _, _ in seen] == list(range(1, 41))
    assert {total for _, total, _ in seen} == {40}
    assert seen[0][2].keys() == {"loss", "gradient_norm", "learning_rate"}
    assert seen[14][2].keys() >= {"validation", "validation_5", "validation_20"}
    assert mapper.record["updates"] == 40
    assert mapper.record["config"]["loss"] == "both"


def test_it_goes_on_from_another_mapper() -> None:
    start = quick()
    before = start.arrays()
    before = {name: array.copy() for name, array in before.items()}
    more = quick(start=start, probe={"not": "looked at"})
    assert not same(more, start)
    assert more.probe == start.probe
    assert all(np.array_equal(before[name], array) for name, array in start.arrays().items())
    assert same(quick(dataclasses.replace(QUICK, updates=0), start=start), start)


def test_a_start_from_elsewhere_is_refused() -> None:
    start = quick()
    with pytest.raises(MetaMapError, match=r"family 'other'.*'reacher-goal'"):
        train(pairs(6, 3), base_policy(), family="other", start=start)
    other = dataclasses.replace(base_policy(), phi=base_policy().phi + 1)
    with pytest.raises(MetaMapError, match="base policy"):
        train(pairs(6, 3), other, family=FAMILY, start=start)


def test_examples_that_do_not_fit_are_refused() -> None:
    small = pairs(6, 3).examples(base_policy())
    other = dataclasses.replace(small, phi=small.phi[:, :-1])
    with pytest.raises(MetaMapError, match="training set: expected 18 weights, got 17"):
        train(other, base_policy(), family=FAMILY)
    with pytest.raises(MetaMapError, match="validation set: expected 20 features, got 19"):
        quick(validation=dataclasses.replace(small, features=small.features[..., 1:]))


def test_a_run_that_diverges_stops_and_says_so() -> None:
    examples = pairs(6, 3).examples(base_policy())
    config = dataclasses.replace(QUICK, learning_rate=1e30)
    with pytest.raises(MetaMapError, match="training diverged at update"):
        train(examples, base_policy(), family=FAMILY, config=config, mapper_config=SMALL)


def test_the_learning_rate_rises_and_falls() -> None:
    config = TrainConfig(updates=110, warmup=10, learning_rate=1.0)
    rates = [learning_rate(update, config) for update in range(110)]
    assert rates[:10] == sorted(rates[:10])
    assert max(rates) == rates[10] == 1.0
    assert rates[60] == pytest.approx(0.5)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.01
    assert all(rate > 0 for rate in rates)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"loss": "behavior"}, "did you mean 'behaviour'"),
        ({"updates": -1}, "updates: expected a whole number >= 0, got -1"),
        ({"batch_tasks": 0}, "batch_tasks: expected .* >= 1"),
        ({"learning_rate": 0.0}, "learning_rate: expected .* > 0"),
        ({"learning_rate": math.nan}, "learning_rate: expected .* > 0"),
        ({"from_start": 1.5}, "from_start: expected .*<= 1, got 1.5"),
        ({"lengths": ()}, "lengths: expected at least one"),
        ({"validation_lengths": (0, 5)}, "validation_lengths: expected .* >= 1, got 0"),
    ],
)
def test_a_bad_config_is_reported(field: dict[str, Any], message: str) -> None:
    with pytest.raises(MetaMapError, match=message):
        TrainConfig(**field)


# ------------------------------------------------------------------------------------------------- the training set


def test_a_batch_is_windows_of_one_rollout() -> None:
    source = pairs(6, 3)
    examples = source.examples(base_policy())
    generator = torch.Generator().manual_seed(0)
    starts = []
    for _ in range(30):
        batch = examples.sample(generator, tasks=4, length=10, states=7, from_start=0.5)
        assert batch.features.shape == (4, 10, examples.features.shape[-1])
        assert batch.inputs.shape == (4, 7, SPEC.observation_size)
        for features, phi in zip(batch.features, batch.phi, strict=True):
            task = int((examples.phi == phi).all(dim=1).nonzero())
            rollout, start = (examples.features[task] == features[0]).all(dim=-1).nonzero()[0].tolist()
            assert torch.equal(features, examples.features[task, rollout, start : start + 10])
            starts.append(start)
        assert len({tuple(phi.tolist()) for phi in batch.phi}) == 4
    assert 0.35 < np.mean([start == 0 for start in starts]) < 0.7
    assert max(starts) > STEPS - 15


def test_inputs_are_normalised_and_targets_are_theirs() -> None:
    source, base = pairs(6, 3), base_policy()
    examples = source.examples(base)
    raw = (source.states - base.normalizer.mean) / base.normalizer.std
    np.testing.assert_allclose(examples.inputs, raw, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(forward(SPEC, examples.phi, examples.inputs), examples.targets)
    assert torch.equal(examples.features[:, 0], features_of(source))


def test_long_rollouts_use_every_length_and_short_ones_what_they_have() -> None:
    examples = pairs(6, 3).examples(base_policy())
    mapper = quick()
    assert validation_losses(mapper, examples, (5, 20, 100)).keys() == {5, 20}
    assert validation_losses(mapper, examples, (100, 200)).keys() == {STEPS}


def test_pairs_are_stored_and_selected(tmp_path: Path) -> None:
    source = pairs(6, 3)
    source.save(tmp_path / "pairs.safetensors")
    loaded = Pairs.load(tmp_path / "pairs.safetensors")
    assert loaded.tasks == source.tasks
    assert loaded.family == FAMILY
    chosen = loaded.select([4, 0])
    assert chosen.tasks == (source.tasks[4], source.tasks[0])
    for name, array in chosen.rollouts.arrays().items():
        assert np.array_equal(array, source.rollouts.arrays()[name][[4, 0]])
    for bad in ([], [6], [-1]):
        with pytest.raises(MetaMapError, match=r"expected indices in \[0, 6\)"):
            source.select(bad)


def test_pairs_stored_without_the_flag_get_it_back_from_the_jumps(tmp_path: Path) -> None:
    """Files of 0.1 hold no "truncated"."""
    rollouts = pairs(4, 3).rollouts
    following = rollouts.next_observations
    joined = np.concatenate([rollouts.observations[:, :, :1], following[:, :, :-1]], axis=2)
    joined[:, :, 10], joined[:, :, 20] = 7.0, 8.0  # episodes begin here
    terminated, truncated = (np.zeros((4, 3, STEPS), dtype=bool) for _ in range(2))
    terminated[:, :, 9], truncated[:, :, 19] = True, True
    stored = dataclasses.replace(rollouts, observations=joined, terminated=terminated, truncated=truncated)
    dataclasses.replace(pairs(4, 3), rollouts=stored).save(tmp_path / "x.safetensors")
    arrays, metadata = load_arrays(tmp_path / "x.safetensors")
    del arrays["truncated"]
    save_arrays(tmp_path / "old.safetensors", arrays, metadata)
    assert np.array_equal(Pairs.load(tmp_path / "old.safetensors").rollouts.truncated, truncated)


def test_pairs_keep_where_the_task_changed(tmp_path: Path) -> None:
    source = pairs(4, 3)
    changed = np.zeros(source.rollouts.rewards.shape, dtype=np.bool_)
    changed[1, 0, 2] = True
    rollouts = dataclasses.replace(source.rollouts, changed=changed)
    dataclasses.replace(source, rollouts=rollouts).save(tmp_path / "pairs.safetensors")
    loaded = Pairs.load(tmp_path / "pairs.safetensors").rollouts
    assert np.array_equal(loaded.changed, changed)
    assert np.array_equal(loaded.rollout(1).changed, changed[1, 0])
    assert loaded.select([1]).changed.sum() == 1
    assert not loaded.select([0]).changed.any()
    assert not source.rollouts.changed.any()


def test_another_file_is_no_pairs(tmp_path: Path) -> None:
    save_arrays(tmp_path / "x.safetensors", {"x": np.zeros(2)}, {})
    with pytest.raises(MetaMapError, match="expected a file of pairs"):
        Pairs.load(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"actions": np.zeros((6, 3, STEPS), np.float32)},
            r"rollouts: actions: expected \[T, R, n, A\] = \(6, 3, 40, 'A'\)",
        ),
        ({"rewards": np.zeros((6, 3, 7), np.float32)}, r"rollouts: rewards: .* got \(6, 3, 7\)"),
        ({"phi": np.zeros((5, 18), np.float32)}, r"pairs: phi: expected \[T, P\] = \(6, 18\)"),
        ({"states": np.zeros((6, 0, 8), np.float32)}, r"pairs: states: .*none of them 0"),
        ({"phi": np.zeros((6, 18))}, "pairs: phi: expected float32, got float64"),
        ({"terminated": np.zeros((6, 3, STEPS), np.float32)}, "rollouts: terminated: expected bool"),
        ({"parameters": np.full((6, 2), np.nan, np.float32)}, "pairs: parameters: holds values that are not finite"),
        ({"tasks": (*pairs(5, 3).tasks, get_family("cheetah-velocity").task())}, "tasks of one family expected"),
        ({"tasks": ()}, r"rollouts: observations: expected \[T, R, n, O\] = \(0,"),
    ],
)
def test_pairs_that_do_not_fit_together_are_refused(change: dict[str, Any], message: str) -> None:
    source: Any = pairs(6, 3)
    changed = source if change.keys() <= vars(source).keys() else source.rollouts
    with pytest.raises(MetaMapError, match=message):
        dataclasses.replace(changed, **change)


def test_the_default_mapper_has_the_size_that_was_meant() -> None:
    assert MapperConfig() == MapperConfig("pooling", "modulation", 32, 128, 128)

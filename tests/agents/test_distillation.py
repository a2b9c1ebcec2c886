"""On-policy rounds: the states that generated policies come to, labelled by the experts, join the training set."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.synthetic import FAMILY, SMALL, SPEC, base_policy, pairs
from helpers.training import train
from metamap_agents.experts.zoo import Zoo
from metamap_agents.policy.acting import BatchedPolicy
from metamap_agents.policy.functional import forward
from metamap_agents.runtime.storage import load_arrays, save_arrays
from metamap_envs.errors import MetaMapError
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.probing.probes.planned import BasePolicyProbe
from metamap_rl.training.config import TrainConfig
from metamap_rl.training.from_experts import on_policy
from metamap_rl.training.pipeline import training_pairs
from metamap_rl.training.rounds import round_updates

CONFIG = TrainConfig(
    updates=40, warmup=5, batch_tasks=4, states_per_task=16, validation_every=15, checkpoint_every=10, dagger_rounds=3
)
FAR = 5.0


def far_inputs(count: int = 6) -> tuple[Tensor, Tensor]:
    """Inputs that no expert comes to, and what the experts of the synthetic problem would answer there."""
    inputs = FAR + torch.randn(count, 30, SPEC.observation_size, generator=torch.Generator().manual_seed(0))
    return inputs, forward(SPEC, torch.from_numpy(pairs(6, 3).phi), inputs)


def run(config: TrainConfig = CONFIG, **options: Any) -> Mapper:
    return train(pairs(6, 3), base_policy(), family=FAMILY, config=config, mapper_config=SMALL, **options)


def same(first: Mapper, second: Mapper) -> bool:
    one, two = first.arrays(), second.arrays()
    return all(np.array_equal(one[name], two[name]) for name in one)


def test_rounds_cut_a_run_into_equal_parts() -> None:
    assert round_updates(TrainConfig(updates=400, dagger_rounds=3)) == (100, 200, 300)
    assert round_updates(TrainConfig(updates=3, dagger_rounds=2)) == (1, 2)
    assert round_updates(TrainConfig(dagger_rounds=0)) == ()


def test_each_round_uses_the_mapper_as_it_is_then() -> None:
    asked: list[tuple[int, float]] = []

    def visit(mapper: Mapper, number: int) -> tuple[Tensor, Tensor]:
        asked.append((number, float(sum(parameter.abs().sum() for parameter in mapper.parameters()))))
        return far_inputs()

    run(visit=visit)
    assert [number for number, _ in asked] == [1, 2, 3]
    assert len({size for _, size in asked}) == 3


def test_what_is_visited_is_learned() -> None:
    config = dataclasses.replace(CONFIG, updates=300, loss="behaviour", learning_rate=3e-3)
    inputs, targets = far_inputs()

    def error(mapper: Mapper) -> float:
        with torch.no_grad():
            phis = mapper(pairs(6, 3).examples(base_policy()).features[:, 0])
            return float((forward(SPEC, phis, inputs) - targets).square().mean())

    with_rounds = run(config, visit=lambda mapper, number: far_inputs())
    assert error(with_rounds) < 0.5 * error(run(dataclasses.replace(config, dagger_rounds=0)))


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("stop", [5, 10, 27, 40])
def test_stopped_and_resumed_is_the_same_to_the_bit(stop: int, tmp_path: Path) -> None:
    def visit(mapper: Mapper, number: int) -> tuple[Tensor, Tensor]:
        inputs, targets = far_inputs()
        return inputs + number + mapper.hypernetwork.trunk[0].weight.sum().detach(), targets  # type: ignore[attr-defined]

    def stop_there(update: int, total: int, metrics: dict[str, float]) -> None:
        if update == stop:
            raise StoppedError

    path = tmp_path / "run.safetensors"
    config = dataclasses.replace(CONFIG, auxiliary="dynamics")
    with pytest.raises(StoppedError):
        run(config, visit=visit, validation=pairs(4, 5), checkpoint=path, on_update=stop_there)
    resumed = run(config, visit=visit, validation=pairs(4, 5), checkpoint=path)
    whole = run(config, visit=visit, validation=pairs(4, 5))
    assert same(resumed, whole)
    assert resumed.record == whole.record


def test_a_checkpoint_with_the_old_name_of_the_rounds_goes_on(tmp_path: Path) -> None:
    config, path = dataclasses.replace(CONFIG, updates=10, dagger_rounds=0), tmp_path / "run.safetensors"
    whole = run(config, checkpoint=path)
    arrays, metadata = load_arrays(path)
    state = json.loads(metadata["state"])
    state["identity"]["rounds"] = state["identity"].pop("dagger_rounds")
    save_arrays(path, arrays, {**metadata, "state": json.dumps(state)})
    assert same(run(config, checkpoint=path), whole)


def test_rounds_that_cannot_be_are_reported() -> None:
    with pytest.raises(MetaMapError, match=r"dagger_rounds: 3 .*\(visit\)"):
        run()
    with pytest.raises(MetaMapError, match=r"dagger_rounds: expected fewer than the 3 .*, got 3"):
        TrainConfig(updates=3, dagger_rounds=3)
    with pytest.raises(MetaMapError, match=r"more inputs: expected \(6, 'S', 8\), got \(5, 30, 8\)"):
        run(visit=lambda mapper, number: (far_inputs()[0][:5], far_inputs()[1]))
    assert same(
        run(dataclasses.replace(CONFIG, dagger_rounds=0), visit=None), run(dataclasses.replace(CONFIG, dagger_rounds=0))
    )


def test_generated_policies_are_run_and_the_experts_say_what_they_would_do(tiny_zoo: Zoo, tiny_mapper: Mapper) -> None:
    source = training_pairs(tiny_zoo, "train", BasePolicyProbe(), steps=20, repeats=2)
    base = tiny_zoo.base
    visit = on_policy(source, base, states=150, num_threads=1)
    inputs, targets = visit(tiny_mapper, 1)
    assert inputs.shape == (3, 150, base.spec.observation_size)
    raw = inputs.numpy() * base.normalizer.std + base.normalizer.mean
    wanted = BatchedPolicy(base.policies(source.phi)).means(raw)
    np.testing.assert_allclose(targets, wanted, atol=1e-4)
    assert not torch.isin(inputs[:, :, 0], torch.from_numpy(base.normalizer.apply(source.states))[:, :, 0]).all()
    again, other = visit(tiny_mapper, 1), visit(tiny_mapper, 2)
    assert torch.equal(again[0], inputs)
    assert not torch.equal(other[0], inputs)
    many = on_policy(source, base, states=1000, num_threads=1)(tiny_mapper, 1)[0]  # more than there are: 2 x 2 x 50
    assert many.shape[1] == 1000

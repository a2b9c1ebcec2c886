"""Auxiliary losses: that each is learned beside the mapper, needs no experts, and leaves nothing in the artifact."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from helpers.surveys import survey_of_pairs
from helpers.synthetic import FAMILY, FEATURES, SMALL, SPEC, base_policy, pairs
from helpers.training import train
from metamap_agents.policy.spec import PolicySpec
from metamap_envs.errors import MetaMapError
from metamap_rl.data.examples import draw_rows
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.training.auxiliary import AUXILIARIES, Dynamics, new_auxiliary
from metamap_rl.training.config import TrainConfig

every_auxiliary = pytest.mark.parametrize("name", AUXILIARIES.names())
CONFIG = TrainConfig(updates=20, warmup=2, batch_tasks=4, states_per_task=16)


def built(name: str) -> torch.nn.Module:
    return new_auxiliary(name, feature_size=FEATURES, context_size=8, spec=SPEC, hidden=32, seed=1)


def run(config: TrainConfig, survey: bool = False) -> Mapper:
    told = survey_of_pairs(32, 1) if survey else None
    return train(pairs(6, 3), base_policy(), family=FAMILY, config=config, mapper_config=SMALL, survey=told)


@every_auxiliary
def test_a_loss_of_z_and_rows(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(4, 8, generator=generator, requires_grad=True)
    state = torch.random.get_rng_state()
    loss = built(name)(z, torch.randn(4, 11, FEATURES, generator=generator))
    assert torch.equal(state, torch.random.get_rng_state())
    assert loss.shape == ()
    loss.backward()
    assert z.grad is not None
    assert (z.grad != 0).any(dim=1).all()


@every_auxiliary
@pytest.mark.parametrize("survey", [False, True])
def test_it_changes_the_encoder_and_not_the_artifact(name: str, survey: bool) -> None:
    without, with_it = run(CONFIG, survey), run(dataclasses.replace(CONFIG, auxiliary=name), survey)
    one, two = without.arrays(), with_it.arrays()
    assert one.keys() == two.keys()
    changed = [key for key in one if not np.array_equal(one[key], two[key])]
    assert any(key.startswith("encoder.") for key in changed)
    assert with_it.record["config"]["auxiliary"] == name
    unheeded = run(dataclasses.replace(CONFIG, auxiliary=name, auxiliary_coefficient=0), survey)
    assert np.isfinite(unheeded.arrays()["encoder.embed.0.weight"]).all()


def test_dynamics_predicts_reward_and_change_from_z_observation_and_action() -> None:
    """The change is the sum of z and the action, turned; the reward a number that nothing tells."""
    generator = torch.Generator().manual_seed(0)
    spec = PolicySpec(3, 2, hidden=())
    model = new_auxiliary("dynamics", feature_size=10, context_size=4, spec=spec, hidden=64, seed=0)
    assert isinstance(model, Dynamics)
    turn = torch.randn(6, 3, generator=generator)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(300):
        z, rows = torch.randn(32, 4, generator=generator), torch.randn(32, 8, 10, generator=generator)
        told = torch.cat([z.unsqueeze(1).expand(-1, 8, -1), rows[..., 3:5]], dim=-1)
        rows[..., 7:] = told @ turn / 2.4
        loss = model(z, rows)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    errors = (model.predict(z, rows[..., :6]) - rows[..., 6:]).square().mean(dim=(0, 1))
    assert errors[0] > 0.7  # the reward's own variance is 1
    assert (errors[1:] < 0.2).all()


def test_rows_are_drawn_from_all_rollouts_of_their_task() -> None:
    rows = torch.arange(4 * 3 * 5).reshape(4, 3, 5, 1)
    drawn = draw_rows(rows, torch.tensor([2, 0]), torch.Generator().manual_seed(0), 400)
    assert set(drawn[0].flatten().tolist()) == set(range(30, 45))
    assert set(drawn[1].flatten().tolist()) == set(range(15))


def test_what_it_cannot_read_is_reported() -> None:
    with pytest.raises(MetaMapError, match="unknown auxiliary loss 'dynamic': did you mean 'dynamics'"):
        TrainConfig(auxiliary="dynamic")
    with pytest.raises(MetaMapError, match=r"auxiliary_coefficient: expected .*>= 0"):
        TrainConfig(auxiliary_coefficient=-1)
    with pytest.raises(MetaMapError, match="reads rows of transitions, of 20 numbers; these have 2"):
        new_auxiliary("dynamics", feature_size=2, context_size=8, spec=SPEC, hidden=32, seed=0)

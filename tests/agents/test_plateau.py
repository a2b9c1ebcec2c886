"""Trainings that no longer improve end, and experts that are no better than phi_0 are told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers import tiny
from metamap_agents.experts.expert import Expert
from metamap_agents.experts.plateau import Plateau, PlateauRule
from metamap_agents.experts.recipes import load_recipe
from metamap_agents.experts.training import train_expert
from metamap_agents.experts.zoo import Zoo
from metamap_agents.policy.evaluation import clearly_better
from metamap_envs import MetaMapError, get_family


def first_stop(returns: list[float], **settings: Any) -> int | None:
    rule = PlateauRule(Plateau(**{"least": 0.1, "smooth": 0.0, **settings}))
    return next((index for index, value in enumerate(returns) if rule.reached(value)), None)


@pytest.mark.parametrize(
    ("returns", "stop"),
    [
        ([5.0] * 9, 3),  # nothing ever improves
        ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0], None),
        ([0.0, 10.0, 10.5, 10.9, 10.99, 11.0], 4),  # improvements below a tenth of the range
        ([0.0, 10.0, 10.5, 10.9, 11.5, 11.0, 11.0], None),  # small steps that add up
        ([9.0, 5.0, 3.0, 1.0], 3),
        ([-900.0, -100.0, -100.0, -100.0, -100.0], 4),  # whatever the level
    ],
)
def test_hand_made_sequences(returns: list[float], stop: int | None) -> None:
    assert first_stop(returns, patience=3) == stop


def test_smoothing_bridges_a_lucky_rollout() -> None:
    returns = [0.0, 1.0, 9.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert first_stop(returns, patience=3) == 5
    assert first_stop(returns, patience=3, smooth=0.8) is None


def test_an_expert_ends_on_a_plateau(tiny_zoo: Zoo) -> None:
    task = get_family(tiny.FAMILY).sample("train", 1, 0)[0]
    settings = {**tiny.SETTINGS, "n_timesteps": 2000}

    def expert(plateau: dict[str, Any] | None) -> Expert:
        return train_expert(
            task, tiny_zoo.base, load_recipe(tiny.FAMILY, "expert", **settings, plateau=plateau), seed=0
        )

    stopped = expert({"patience": 1, "least": 0.99, "smooth": 0.9})
    assert stopped.record["stopped_on_plateau"] is True
    assert stopped.record["steps"] < 1000
    assert not np.array_equal(stopped.phi, tiny_zoo.base.phi)
    whole, patient = expert(None), expert({"patience": 1000})
    assert "stopped_on_plateau" not in whole.record
    assert patient.record["stopped_on_plateau"] is False
    assert patient.record["steps"] == whole.record["steps"] == 2000
    assert np.array_equal(patient.phi, whole.phi), "watching changes nothing"


@pytest.mark.parametrize(
    ("plateau", "message"),
    [
        ({"patience": 0}, "plateau.patience: .*greater than or equal to 1, got 0"),
        ({"patience": 3, "last": 0.1}, "'plateau.last': did you mean 'plateau.least'"),
        ({}, "plateau.patience: is missing"),
    ],
)
def test_settings_that_are_not_admitted(plateau: dict[str, Any], message: str) -> None:
    with pytest.raises(MetaMapError, match=message):
        load_recipe(tiny.FAMILY, "expert", plateau=plateau)


def test_better_is_more_than_chance() -> None:
    base = np.array([-3.0, -9.0, -6.0, -1.0])
    assert clearly_better(base + 0.5, base), "the same episodes: their spread does not count"
    assert not clearly_better(base, base)
    assert not clearly_better(base + np.array([9.0, -4.0, -4.0, 0.5]), base)
    assert not clearly_better(base - 0.5, base)
    assert not clearly_better([1.0], [0.5]), "one episode shows nothing"
    task = get_family(tiny.FAMILY).task()
    phi = np.zeros(3, np.float32)
    assert Expert(task, phi, base + 0.5, base).better
    assert not Expert(task, phi, base, base).better

"""Drafts of families' files: what could be varied in an environment, and files that read back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.user_envs import Plain
from metamap_envs import MetaMapError, list_families
from metamap_envs.from_gymnasium.building import build
from metamap_envs.from_gymnasium.candidates import find_candidates
from metamap_envs.from_gymnasium.declaration import Declaration
from metamap_envs.from_gymnasium.drafting import HORIZON, draft_family
from metamap_envs.settings import parse
from metamap_envs.yaml_text import parse_yaml

HERE = Path()


class Clipping(Plain):
    """Clips one argument, keeps another as it is, and has an attribute, a state and a switch."""

    def __init__(self, gain: float = 1.0, clipped: float = 1.0, wet: bool = False) -> None:
        super().__init__(gain)
        self.clipped = min(clipped, 1.0)
        self.wet = wet
        self.drag = 0.1
        self.distance = 0.0

    def step(self, action: Any) -> Any:
        self.distance += 1.0
        self.x = self.x * (1.0 - self.drag * self.clipped) + 0.01 * self.wet
        return super().step(action)


@pytest.fixture
def clipping() -> Iterator[str]:
    gym.register("Clipping-v3", Clipping, max_episode_steps=30)
    yield "Clipping-v3"
    del gym.registry["Clipping-v3"]


def declared(text: str) -> Any:
    return parse(Declaration, parse_yaml(text, "draft"), "draft")


def test_arguments_attributes_and_no_state_are_found(clipping: str) -> None:
    known = find_candidates(clipping, HERE)
    assert known.time_limit == 30
    assert {name: (each.kind, each.own) for name, each in known.found.items()} == {
        "gain": ("argument", 1.0),
        "clipped": ("argument", 1.0),
        "wet": ("argument", False),
        "drag": ("attribute", 0.1),
    }


def test_a_draft_reads_back_as_a_family_with_the_environments_own_defaults(clipping: str) -> None:
    draft = draft_family(clipping, ["gain", "drag", "wet"], HERE)
    assert (draft.name, draft.refused) == ("clipping", {})
    family = build(declared(draft.text), HERE)
    assert dict(family.task().parameters) == {"gain": 1.0, "drag": 0.1, "wet": 0.0}
    assert family.sample("test-out", 2, 0)


def test_what_is_refused_stays_in_the_file_with_the_reason(clipping: str) -> None:
    draft = draft_family(clipping, ["clipped", "gain"], HERE)
    assert list(draft.refused) == ["clipped"]
    assert f"# REFUSED as it is: {draft.refused['clipped']}" in draft.text
    assert list(declared(draft.text).parameters) == ["clipped", "gain"]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (["gian"], "unknown parameter 'gian' of environment 'Clipping-v3': did you mean 'gain'"),
        (["gain", "gain"], "the parameter 'gain' is named twice"),
        ([], "at least one parameter"),
    ],
)
def test_wrong_parameters_are_one_sentence(clipping: str, parameters: list[str], message: str) -> None:
    with pytest.raises(MetaMapError, match=message):
        draft_family(clipping, parameters, HERE)


def test_wrong_environments_and_names_are_one_sentence(clipping: str) -> None:
    with pytest.raises(MetaMapError, match="did you mean 'Clipping-v3'"):
        find_candidates("Cliping-v3", HERE)
    with pytest.raises(MetaMapError, match="No module named 'nowhere'"):
        find_candidates("nowhere:Clipping-v3", HERE)
    with pytest.raises(MetaMapError, match="name"):
        draft_family(clipping, ["gain"], HERE, name="Not A Name")


def test_names_of_the_package_are_not_proposed(clipping: str) -> None:
    gym.register("PendulumSwingup-v0", Plain)
    draft = draft_family("PendulumSwingup-v0", ["gain"], HERE, taken=list_families())
    del gym.registry["PendulumSwingup-v0"]
    assert draft.name == "my-pendulum-swingup"
    assert declared(draft.text).horizon == HORIZON, "it has no time limit of its own"


def test_fields_of_a_mujoco_model_are_found_and_tried() -> None:
    known = find_candidates("Hopper-v5", HERE)
    kinds = {name: each.kind for name, each in known.found.items()}
    names = {"torso_mass": "body", "foot_geom_friction": "geom", "thigh_joint_damping": "joint", "gravity": "option"}
    assert names.items() <= kinds.items()
    draft = draft_family("Hopper-v5", list(names), HERE)
    assert draft.refused == {}
    defaults = dict(build(declared(draft.text), HERE).task().parameters)
    assert defaults["torso_mass"] == 1.0, "a factor"
    assert defaults["gravity"] == -9.81


@given(own=st.floats(-1e6, 1e6, allow_subnormal=False).filter(lambda own: own == 0 or abs(own) > 1e-6))
@settings(max_examples=15)
def test_any_own_value_gives_a_family_around_it(own: float) -> None:
    gym.register("Any-v0", Plain, max_episode_steps=10, kwargs={"gain": own})
    try:
        draft = draft_family("Any-v0", ["gain"], HERE)
        (entry,) = declared(draft.text).parameters.values()
    finally:
        del gym.registry["Any-v0"]
    ((low, high),) = entry.train
    (below, above) = entry.out
    assert low < high
    assert low <= own <= high
    assert below[1] == low
    assert above[0] == high

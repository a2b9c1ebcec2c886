"""Recipes: every key of the files means something, and what is wrong is told before training."""

from __future__ import annotations

from typing import Any

import pytest

from metamap_agents.experts.recipes import Recipe, Stage, load_recipe, read_recipes
from metamap_envs import MetaMapError, list_families, registry

STAGES: tuple[Stage, ...] = ("base", "expert")


@pytest.mark.parametrize("stage", STAGES)
def test_every_key_of_a_file_is_a_registered_family(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_installed", lambda module: True)
    assert set(read_recipes(stage)) <= {"default", *list_families()}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("family", list_families())
def test_every_setting_is_admitted(stage: Stage, family: str) -> None:
    recipe = load_recipe(family, stage)
    assert recipe.n_steps * recipe.n_envs % recipe.batch_size == 0
    schedule = recipe.schedule()
    assert schedule == recipe.learning_rate if isinstance(schedule, float) else schedule(1.0) > schedule(0.5) > 0


@pytest.mark.parametrize("family", list_families())
def test_experts_have_the_network_of_the_base_policy(family: str) -> None:
    base, expert = load_recipe(family, "base").policy_kwargs, load_recipe(family, "expert").policy_kwargs
    assert (base.net_arch, base.activation_fn) == (expert.net_arch, expert.activation_fn)


def test_overrides_replace_the_file() -> None:
    assert load_recipe("reacher-goal", "base", n_timesteps=7).n_timesteps == 7


@pytest.mark.parametrize(
    ("given", "falls", "start"), [(3e-4, False, 3e-4), ("1e-3", False, 1e-3), (1, False, 1.0), ("lin_1e-3", True, 1e-3)]
)
def test_learning_rates_in_the_notation_of_rl_zoo(given: Any, falls: bool, start: float) -> None:
    schedule = load_recipe("reacher-goal", "base", learning_rate=given).schedule()
    if falls:
        assert callable(schedule)
        assert (schedule(1.0), schedule(0.5), schedule(0.0)) == (start, start / 2, 0.0)
    else:
        assert schedule == start


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"n_step": 3}, "expert recipe of 'reacher-goal': unknown key 'n_step': did you mean 'n_steps'"),
        ({"policy_kwargs": {"activation": "relu"}}, "did you mean 'policy_kwargs.activation_fn'"),
        ({"policy_kwargs": {"net_arch": {"pie": [1]}}}, "did you mean 'policy_kwargs.net_arch.pi'"),
        ({"policy_kwargs": {"net_arch": {"pi": [0]}}}, r"policy_kwargs.net_arch.pi\[0\]: .*greater than 0, got 0"),
        (
            {"n_envs": 2, "n_steps": 50, "batch_size": 64},
            r"n_steps \* n_envs = 50 \* 2 = 100 must be a multiple of batch_size = 64",
        ),
        ({"learning_rate": "cos_1e-3"}, "learning_rate: expected a positive number or 'lin_<number>', got 'cos_1e-3'"),
        ({"learning_rate": -1.0}, "learning_rate: expected a positive number"),
        ({"learning_rate": "lin_nan"}, "learning_rate: expected a positive number"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"gamma": 1.5}, "gamma: .*less than or equal to 1, got 1.5"),
        ({"ent_coef": float("nan")}, "ent_coef: .*finite"),
        ({"n_timesteps": 0}, "n_timesteps: .*got 0"),
        ({"start": "nearest"}, "start: the start from the nearest expert was removed: expected 'base' or 'parent'"),
        ({"algorithm": "dqn"}, "algorithm: unknown choice 'dqn': .*'ppo', 'sac', 'tqc'"),
        (
            {"algorithm": "sac", "start": "parent"},
            "'sac' .*'base', got 'parent'",
        ),
        ({"algorithm": "sac", "start": "base", "plateau": {"patience": 2}}, "plateau: .*'ppo'.*'sac'"),
        (
            {"algorithm": "sac", "start": "base", "n_timesteps": 50},
            "off_policy.learning_starts = 2000 must be below n_timesteps = 50",
        ),
        ({"off_policy": {"tao": 0.1}}, "'off_policy.tao': did you mean 'off_policy.tau'"),
        ({"off_policy": {"net_arch": {"vf": [8]}}}, "unknown key 'off_policy.net_arch.vf'"),
        ({"off_policy": {"ent_coef": "car"}}, "off_policy.ent_coef: expected a positive number, 'auto' or"),
        ({"distillation": {"round": 1}}, "did you mean 'distillation.rounds'"),
        ({"distillation": {"learning_rate": 0}}, "distillation.learning_rate: .*greater than 0, got 0"),
    ],
)
def test_what_is_not_admitted_is_reported_in_a_sentence(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(MetaMapError, match=message) as caught:
        load_recipe("reacher-goal", "expert", **overrides)
    assert "\n" not in str(caught.value)


def test_unknown_family_and_stage() -> None:
    with pytest.raises(MetaMapError, match="did you mean 'reacher-goal'"):
        load_recipe("reacher-gaol", "base")
    with pytest.raises(MetaMapError, match="unknown recipe stage 'bas': did you mean 'base'"):
        load_recipe("reacher-goal", "bas")  # type: ignore[arg-type]


def test_only_experts_have_another_algorithm() -> None:
    with pytest.raises(MetaMapError, match="base recipe of 'reacher-goal': algorithm: expected 'ppo'"):
        load_recipe("reacher-goal", "base", algorithm="sac", start="base")


def test_a_recipe_survives_json() -> None:
    recipe = load_recipe("cheetah-velocity", "expert")
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe

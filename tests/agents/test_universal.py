"""Universal policies: their inputs, folding them into the weights of a task, and zoos whose experts start from one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers import tiny
from metamap_agents.experts.filling import RecipeOverrides, TaskCounts, fill_zoo
from metamap_agents.experts.recipes import load_recipe
from metamap_agents.experts.training import train_base, train_expert, train_universal
from metamap_agents.experts.universal import UniversalPolicy, coordinate_columns, coordinate_scales
from metamap_agents.experts.zoo import Zoo
from metamap_agents.policy.acting import BatchedPolicy
from metamap_agents.policy.base import BasePolicy
from metamap_agents.policy.evaluation import Episodes
from metamap_agents.policy.functional import forward
from metamap_agents.policy.normalizer import ObservationNormalizer
from metamap_agents.policy.policies import Policies
from metamap_agents.policy.spec import PolicySpec
from metamap_agents.sb3.conditioned import ConditionedVecEnv
from metamap_agents.sb3.vec_env import FamilyVecEnv
from metamap_envs import MetaMapError, Task, get_family
from metamap_envs.registry import list_families
from metamap_envs.vector import FamilyVectorEnv

CARTPOLE = "cartpole-swingup"
COUNTS = TaskCounts(train=3, validation=1, test_in=1)


@pytest.fixture(scope="module")
def base() -> BasePolicy:
    return train_base(CARTPOLE, load_recipe(CARTPOLE, "base", **tiny.SETTINGS), seed=0, num_threads=1)


def trained(base: BasePolicy, **settings: Any) -> UniversalPolicy:
    recipe = load_recipe(CARTPOLE, "parent", **{**tiny.SETTINGS, "start": "random", "told": (), **settings})
    return train_universal(CARTPOLE, base, recipe, seed=0, num_threads=1)


def outputs(spec: PolicySpec, phi: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    return forward(spec, torch.from_numpy(phi)[None], torch.from_numpy(inputs)[None])[0].numpy()


def test_folding_a_task_leaves_the_actions_as_they_were(base: BasePolicy) -> None:
    universal = trained(base, told="all")
    family = get_family(CARTPOLE)
    assert universal.parameters == family.space.names
    normalised = np.random.default_rng(0).normal(size=(7, family.observation_size)).astype(np.float32)
    distinct = set()
    for task in family.sample("test-in", 4, seed=1):
        told = np.tile(universal.coordinates([task]), (7, 1))
        expected = outputs(universal.spec, universal.phi, np.concatenate([normalised, told], axis=1))
        phi = universal.phi_for(task)
        assert phi.shape == (base.spec.size,)
        np.testing.assert_allclose(outputs(base.spec, phi, normalised), expected, atol=1e-5)
        critic, whole = universal.critic_for(task), universal.critic
        spec = PolicySpec.infer(whole, base.spec.activation)
        values = outputs(spec, spec.join(whole), np.concatenate([normalised, told], axis=1))
        own = PolicySpec.infer(critic, base.spec.activation)
        np.testing.assert_allclose(outputs(own, own.join(critic), normalised), values, atol=1e-4)
        distinct.add(phi.tobytes())
    assert len(distinct) == 4


def test_the_inputs_have_mean_0_and_standard_deviation_1_over_training_tasks(base: BasePolicy) -> None:
    universal = trained(base, told="all")
    seen = universal.coordinates(get_family(CARTPOLE).sample("train", 256, seed=9))
    np.testing.assert_allclose(seen.mean(axis=0), 0, atol=0.1)
    np.testing.assert_allclose(seen.std(axis=0), 1, atol=0.1)


def test_periodic_parameters_are_cosine_and_sine() -> None:
    family = get_family("reacher-goal")
    assert family.space.coordinate_names == ("goal_radius", "cos goal_angle", "sin goal_angle")
    assert coordinate_columns(family, ["goal_angle"]) == [1, 2]
    assert coordinate_columns(family, ["goal_radius"]) == [0]
    with pytest.raises(MetaMapError, match="'goal_angel' of family 'reacher-goal': did you mean 'goal_angle'"):
        coordinate_columns(family, ["goal_angel"])


def test_a_choice_that_no_training_task_has_changes_nothing() -> None:
    family = get_family("cheetah-crippled")
    mean, std = coordinate_scales(family, family.space.names, family.sample("train", 256, seed=0))
    spec = PolicySpec(family.observation_size + len(mean), family.action_size, (4,))
    phi = np.random.default_rng(0).normal(size=spec.size).astype(np.float32)
    universal = UniversalPolicy(family.name, family.space.names, spec, phi, mean, std)
    told = universal.coordinates(
        [family.task({"crippled_joint": joint, "mass": float(mean[-1])}) for joint in (3, 4, 5)]
    )
    assert np.count_nonzero(told[0, :-1]) == 4, "where the four joints of training stand"
    np.testing.assert_array_equal(told[1], told[2])


@pytest.mark.parametrize("name", [name for name in list_families() if get_family(name).action_factors])
def test_an_action_times_its_factors_is_the_action_of_the_default_robot(name: str) -> None:
    family = get_family(name)
    assert len(family.action_factors) == family.action_size
    factors = {factor for names in family.action_factors for factor in names}
    values = dict.fromkeys(factors, 1.0)
    values |= {factor: -1.0 for factor in sorted(factors) if "sign" in factor}
    values |= {factor: 0.5 + 0.07 * index for index, factor in enumerate(sorted(factors)) if "sign" not in factor}
    task = family.task(values)
    actions = np.random.default_rng(0).uniform(-0.4, 0.4, (5, 1, family.action_size))
    product = np.array([np.prod([task[factor] for factor in names]) for names in family.action_factors])
    changed, default = FamilyVectorEnv([task], num_threads=1), FamilyVectorEnv([family.task()], num_threads=1)
    changed.reset(seed=0), default.reset(seed=0)
    for action in actions:
        ours, theirs = changed.step(action)[0], default.step(action * product)[0]
        np.testing.assert_allclose(ours, theirs, atol=1e-9)


@pytest.mark.parametrize("told", [(), ("sensor_0",)])
def test_an_expert_reads_its_sensors_in_the_order_of_its_task(told: tuple[str, ...]) -> None:
    family = get_family("reacher-sensors")
    inputs = len(coordinate_columns(family, told))
    spec = PolicySpec(family.observation_size + inputs, family.action_size, (4,))
    phi = np.random.default_rng(0).normal(size=spec.size).astype(np.float32)
    universal = UniversalPolicy(family.name, told, spec, phi, np.zeros(inputs, np.float32), np.ones(inputs, np.float32))
    plain = ObservationNormalizer(np.zeros(6), np.ones(6))
    ordered = family.task({"sensor_1": 3, "sensor_3": 2})
    tasks = [
        family.task(),
        ordered,
        family.task({"sensor_0": 4}),
        family.task({**dict(ordered.parameters), "sensor_0": 4}),
    ]
    policies = BatchedPolicy(
        Policies(universal.base_spec, plain, np.stack([universal.expert_for(one) for one in tasks]))
    )
    envs = FamilyVectorEnv(tasks, num_threads=1)
    seen, _ = envs.reset(seed=[0] * 4)
    acted = [policies(seen[:, None])[:, 0]]
    seen, *_ = envs.step(np.tile([[0.4, -0.9]], (4, 1)).astype(np.float32))
    acted.append(policies(seen[:, None])[:, 0])
    for actions in acted:
        np.testing.assert_allclose(actions[1], actions[0], atol=1e-6)
        if not told:
            np.testing.assert_allclose(actions[2:], actions[:1].repeat(2, axis=0), atol=1e-6)


def test_the_universal_policy_gives_an_expert_for_any_task() -> None:
    family = get_family("cheetah-actuators")
    spec = PolicySpec(family.observation_size, family.action_size, (4,))
    phi = np.random.default_rng(0).normal(size=spec.size).astype(np.float32)
    nothing = np.zeros(0, np.float32)
    universal = UniversalPolicy(family.name, (), spec, phi, nothing, nothing)
    np.testing.assert_allclose(
        universal.gains_for(family.task()), 0.75, err_msg="the median of the strengths in training"
    )
    assert np.array_equal(universal.phi_for(family.task()), phi)
    task = family.task({"sign_bshin": -1.0, "strength_bshin": 0.5, "strength_ffoot": 1.2})
    np.testing.assert_allclose(universal.gains_for(task), [0.75, -1.5, 0.75, 0.75, 0.75, 0.625])
    inputs = np.random.default_rng(1).normal(size=(9, family.observation_size)).astype(np.float32)
    applied = outputs(spec, universal.expert_for(task), inputs) * [1, -0.5, 1, 1, 1, 1.2]
    np.testing.assert_allclose(applied, 0.75 * outputs(spec, phi, inputs), rtol=1e-4, atol=1e-6)
    with pytest.raises(MetaMapError, match="of family 'cheetah-actuators', the task is of 'reacher-goal'"):
        universal.expert_for(get_family("reacher-goal").task())


def test_factors_that_are_inputs_are_not_undone(base: BasePolicy) -> None:
    family = get_family(CARTPOLE)
    universal = trained(base, told=["strength_motor"])
    task = family.task({"sign_motor": -1.0, "strength_motor": 0.6})
    assert universal.gains_for(task).tolist() == [-1.0]
    whole = trained(base, told="all")
    assert np.array_equal(whole.expert_for(task), whole.phi_for(task))


class Seen(FamilyVecEnv):
    tasks: list[Task]

    def __init__(self, tasks: Sequence[Task], *rest: Any) -> None:
        Seen.tasks = list(tasks)
        super().__init__(tasks, *rest)


def test_discrete_parameters_vary_only_if_they_are_inputs(base: BasePolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metamap_agents.experts.changes.FamilyVecEnv", Seen)
    plain, same = trained(base), trained(base)
    assert np.array_equal(plain.phi, same.phi)
    assert not np.array_equal(plain.phi, base.phi)
    assert {task["sign_motor"] for task in Seen.tasks} == {1.0}
    assert len({task["strength_motor"] for task in Seen.tasks}) == len(Seen.tasks) > 1
    family = get_family(CARTPOLE)
    first, second = family.sample("train", 2, seed=4)
    assert np.array_equal(plain.phi_for(first), plain.phi_for(second))
    assert plain.own_task(first) == family.task()

    told = trained(base, told=["sign_motor"])
    assert {task["sign_motor"] for task in Seen.tasks} == {-1.0, 1.0}
    turned = family.task({"sign_motor": -1.0, "strength_motor": 0.8})
    assert told.own_task(turned) == family.task({"sign_motor": -1.0})


def test_a_universal_policy_may_start_from_phi_0(base: BasePolicy) -> None:
    universal = trained(base, told="all", start="base", learning_rate=1e-30)
    for task in get_family(CARTPOLE).sample("train", 2, seed=0):
        np.testing.assert_allclose(universal.phi_for(task), base.phi, atol=1e-6)
        for name, array in universal.critic_for(task).items():
            np.testing.assert_allclose(array, base.critic[name], atol=1e-6)
    other = trained(base, told="all", learning_rate=1e-30)
    assert np.abs(other.phi_for(get_family(CARTPOLE).task()) - base.phi).max() > 0.01


def test_the_end_of_an_episode_has_the_coordinates_too() -> None:
    tasks = get_family(tiny.FAMILY).sample("train", 2, seed=0)
    constants = np.array([[1.0], [2.0]], dtype=np.float32)
    envs = ConditionedVecEnv(FamilyVecEnv(tasks, 0, num_threads=1), lambda _: constants)
    first = envs.reset()
    assert first.shape == (2, envs.observation_space.shape[0])
    np.testing.assert_array_equal(first[:, -1:], constants)
    for _ in range(get_family(tiny.FAMILY).horizon):
        observations, _, dones, infos = envs.step(np.zeros((2, 2), np.float32))
        np.testing.assert_array_equal(observations[:, -1:], constants)
    assert dones.all()
    for info, constant in zip(infos, constants, strict=True):
        assert info["terminal_observation"].shape == observations[0].shape
        assert info["terminal_observation"][-1] == constant


def made(root: Path, *, told: Any = "all", **expert: Any) -> Zoo:
    settings = {**tiny.SETTINGS, "start": "parent", **expert}
    return fill_zoo(
        root,
        tiny.FAMILY,
        COUNTS,
        seed=3,
        workers=1,
        overrides=RecipeOverrides({**tiny.SETTINGS, "told": told}, settings),
    )


def test_a_zoo_of_folded_experts(tmp_path: Path) -> None:
    zoo = made(tmp_path / "zoo")
    experts = zoo.experts()
    assert len(experts) == 5
    assert len({expert.phi.tobytes() for expert in experts}) == 5
    again = Zoo.open(tmp_path / "zoo")
    for expert in experts:
        assert np.array_equal(expert.phi, again.universal.phi_for(expert.task))
        assert expert.record["steps"] == 0
    with pytest.raises(MetaMapError, match="told 'all'"):
        made(tmp_path / "zoo", told=[])


@pytest.mark.parametrize("better", [True, False])
def test_phi_0_is_the_universal_policy_at_the_mean_where_that_is_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, better: bool
) -> None:
    seen: list[np.ndarray] = []

    def returns(tasks: Sequence[Task], policies: Policies, *, episodes: int, **_: Any) -> Episodes:
        seen.append(policies.phi)
        values = np.arange(len(tasks) * episodes, dtype=float).reshape(len(tasks), episodes)
        return Episodes(values + (len(seen) == 2) * (1.0 if better else -1.0), np.full(values.shape, 50))

    monkeypatch.setattr("metamap_agents.experts.building.evaluate_policies", returns)
    zoo = made(tmp_path / "zoo")
    before, mean = seen  # once, though the zoo was then filled
    assert not np.array_equal(before, mean)
    middle = np.mean([zoo.universal.phi_for(task) for task in zoo.family.sample("train", 1024, zoo.seed)], axis=0)
    np.testing.assert_allclose(mean, middle, atol=1e-4)
    again = Zoo.open(tmp_path / "zoo").base
    assert np.array_equal(again.phi, mean if better else before)
    assert again.record["mean_parent"]["taken"] is better
    values = zoo.universal.mean_critic() if better else again.critic
    for name, array in again.critic.items():
        assert np.array_equal(array, values[name])
    made(tmp_path / "zoo")
    assert len(seen) == 2, "settled once"


def test_ppo_continues_from_the_universal_policy(tmp_path: Path) -> None:
    zoo = made(tmp_path / "zoo", parent_timesteps=400)
    task = zoo.tasks("train", 1)[0]
    expert = zoo.get(task)
    assert expert.record["steps"] == 400
    assert not np.array_equal(expert.phi, zoo.universal.phi_for(task))
    still = load_recipe(
        tiny.FAMILY, "expert", **{**tiny.SETTINGS, "start": "parent", "parent_timesteps": 400, "learning_rate": 1e-30}
    )
    frozen = train_expert(task, zoo.base, still, seed=0, start=zoo.universal)
    np.testing.assert_allclose(frozen.phi, zoo.universal.phi_for(task), atol=1e-6)
    given = train_expert(task, zoo.base, still, seed=0, start=zoo.base.phi)
    np.testing.assert_allclose(given.phi, zoo.base.phi, atol=1e-6)


def test_outside_the_training_range_ppo_goes_on(tmp_path: Path) -> None:
    settings = {**tiny.SETTINGS, "start": "parent"}
    universal = {**tiny.SETTINGS, "told": "all"}
    counts = TaskCounts(train=1, validation=1, test_in=1, test_out=1)
    zoo = fill_zoo(
        tmp_path / "zoo", tiny.FAMILY, counts, seed=3, workers=1, overrides=RecipeOverrides(universal, settings)
    )
    steps = {expert.task.split: expert.record["steps"] for expert in zoo.experts()}
    assert steps == {"train": 0, "validation": 0, "test-in": 0, "test-out": 400}
    (outside,) = zoo.experts("test-out")
    assert not np.array_equal(outside.phi, zoo.universal.phi_for(outside.task))


def test_a_damaged_universal_policy_is_reported(tmp_path: Path) -> None:
    zoo = made(tmp_path / "zoo", told=[])
    good = zoo.universal
    with pytest.raises(MetaMapError, match="did you mean"):
        UniversalPolicy.from_arrays(good.to_arrays(), {**good.describe(), "told": ["goal_radios"]}, "x")
    with pytest.raises(MetaMapError, match=r"mean: expected \(1,\)"):
        UniversalPolicy.from_arrays(good.to_arrays(), {**good.describe(), "told": ["goal_radius"]}, "x")
    with pytest.raises(MetaMapError, match="with the keys"):
        UniversalPolicy.from_arrays(good.to_arrays(), {"told": []}, "x")
    with pytest.raises(MetaMapError, match="expected phi, mean and std"):
        UniversalPolicy.from_arrays({"phi": good.phi}, good.describe(), "x")
    with pytest.raises(MetaMapError, match="phi holds values that are not finite"):
        UniversalPolicy.from_arrays({**good.to_arrays(), "phi": good.phi * np.nan}, good.describe(), "x")


@pytest.mark.parametrize(
    ("stage", "settings", "message"),
    [
        ("expert", {"parent_timesteps": -1}, "parent_timesteps"),
        ("parent", {"told": "some"}, "told: expected 'all' or a list of parameter names, got 'some'"),
        ("parent", {"start": "nowhere"}, "start"),
    ],
)
def test_settings_that_do_not_fit_are_reported(stage: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(MetaMapError, match=message):
        load_recipe(tiny.FAMILY, stage, **settings)


def test_the_universal_recipe_is_the_base_recipe_with_changes() -> None:
    base, universal = load_recipe("cheetah-velocity", "base"), load_recipe("cheetah-velocity", "parent")
    assert (universal.start, universal.told) == ("random", "all")
    assert universal.model_copy(update={"start": base.start, "told": base.told}) == base
    assert load_recipe("reacher-goal", "parent").start == "base"


@pytest.mark.parametrize("name", list_families())
def test_recipes_name_parameters_that_the_family_has(name: str) -> None:
    family, recipe = get_family(name), load_recipe(name, "parent")
    told = family.space.names if recipe.told == "all" else recipe.told
    assert len(coordinate_columns(family, told)) >= len(told)


def test_another_network_is_reported(base: BasePolicy) -> None:
    with pytest.raises(MetaMapError, match="expected the network"):
        trained(base, policy_kwargs={"net_arch": {"pi": [8]}})


def test_old_names_work_with_a_warning(tiny_zoo: Zoo) -> None:
    with pytest.warns(DeprecationWarning, match="has_universal"):
        assert not tiny_zoo.has_parent  # type: ignore[attr-defined]
    still: Any = load_recipe(tiny.FAMILY, "expert", **{**tiny.SETTINGS, "learning_rate": 1e-30})
    old: Any = train_expert
    with pytest.warns(DeprecationWarning, match="parent.*start"):
        given = old(tiny_zoo.tasks("train", 1)[0], tiny_zoo.base, still, seed=0, parent=None)
    np.testing.assert_allclose(given.phi, tiny_zoo.base.phi, atol=1e-6)


def test_without_a_search_an_expert_has_the_gains_that_undo_its_factors(base: BasePolicy) -> None:
    universal = trained(base, told=("pole_mass", "gravity"))
    recipe = load_recipe(CARTPOLE, "expert", **{**tiny.SETTINGS, "start": "parent", "gain_search": None})
    task = get_family(CARTPOLE).task({"sign_motor": -1.0, "strength_motor": 0.8})
    expert = train_expert(task, base, recipe, seed=0, start=universal)
    np.testing.assert_array_equal(expert.phi, universal.expert_for(task))
    assert not np.array_equal(expert.phi, universal.phi_for(task))

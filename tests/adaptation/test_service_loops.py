"""The adapter in service in other loops: many environments, Gymnasium, Stable-Baselines3."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecNormalize

from helpers.service import ACTIONS, FAMILY, OBSERVATIONS, service_mapper, stream
from helpers.synthetic import SPEC
from metamap_agents.sb3.vec_env import FamilyVecEnv
from metamap_envs import MetaMapError, ScheduledTasks, TaskSchedule
from metamap_rl import Adapter
from metamap_rl.adaptation.service import AdapterConfig, AdaptiveEnv, AdaptivePolicy, VectorAdapter
from metamap_rl.mapper.mapper import Mapper


@pytest.fixture(scope="module")
def mapper() -> Mapper:
    return service_mapper()


@pytest.mark.slow
def test_the_example_of_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "service.md").read_text(encoding="utf-8")
    code = page.split("```python\n")[1].split("```")[0]
    exec(code, {})  # our own page
    assert "policy" in capsys.readouterr().out


def test_a_vector_of_adapters_is_each_by_itself(mapper: Mapper) -> None:
    config = AdapterConfig(longest_window=40, blend=2)
    streams = [list(stream([-1.0] * n + [1.0] * (40 - n), seed=n)) for n in (10, 20, 40)]
    single = [Adapter(mapper, config) for _ in streams]
    vector = VectorAdapter(mapper, 3, config)
    vector.reset(np.stack([steps[0][0] for steps in streams]))
    for adapter, steps in zip(single, streams, strict=True):
        adapter.reset(steps[0][0])
    none = np.zeros(3, dtype=bool)
    for now in zip(*streams, strict=True):
        observations, rewards, after = (np.array(one) for one in zip(*now, strict=True))
        expected = [adapter.act(one[0]) for adapter, one in zip(single, now, strict=True)]
        assert np.array_equal(vector.act(observations), expected)
        vector.observe(rewards, after, none, none)
        for adapter, one in zip(single, now, strict=True):
            adapter.observe(*one[1:])
    assert vector.beliefs == tuple(adapter.belief for adapter in single)
    with pytest.raises(MetaMapError, match="shape"):
        vector.act(np.zeros((2, OBSERVATIONS)))


def test_what_a_vector_refuses_changes_none_of_its_adapters(mapper: Mapper) -> None:
    vector, rows, none = VectorAdapter(mapper, 2), np.zeros((2, OBSERVATIONS)), np.zeros(2, dtype=bool)
    vector.act(rows)
    for arguments, words in (
        (([0.0, "much"], rows, none, none), "rewards"),
        (([0.0], rows, none, none), "rewards"),
        ((None, rows, none, none), "reward"),
        (([0.0, 0.0], rows[0], none, none), "next_observations"),
        (([0.0, 0.0], np.full(rows.shape, "x"), none, none), "next_observations"),
        (([0.0, 0.0], rows, False, none), "terminated"),
        (([0.0, 0.0], rows, none, ["no", "no"]), "truncated"),
    ):
        with pytest.raises(MetaMapError, match=words):
            vector.observe(*arguments)
    assert [belief.lost for belief in vector.beliefs] == [0, 0]
    vector.observe([0.0, np.nan], rows + 1, none, [0, 1])
    assert [(belief.window, belief.lost) for belief in vector.beliefs] == [(1, 0), (0, 1)]
    vector.act(rows)
    vector.reset(rows, where=[1])
    assert [belief.lost for belief in vector.beliefs] == [0, 2]
    with pytest.raises(MetaMapError, match="where"):
        vector.reset(rows, where=[2])


def test_a_wrapper_runs_the_adapter_in_a_gymnasium_environment(mapper: Mapper) -> None:
    env = AdaptiveEnv(gym.make(FAMILY.gym_id), mapper)
    run = env.run(60, seed=0)
    assert run.rewards.shape == (60,)
    assert run.beliefs[-1].window + run.beliefs[-1].lost >= 1
    assert env.adapter._step == 60, "also across the end of an episode"
    env.reset(seed=1)
    observation, *_, info = env.step()
    assert env.observation_space.contains(observation)
    assert env.action_space.contains(info["action"])
    *_, info = env.step(np.array([0.5, -0.5]))
    assert info["action"].tolist() == [0.5, -0.5]
    assert info["belief"] == env.adapter.belief
    stored = env.adapter._window.rows[-1, OBSERVATIONS : OBSERVATIONS + ACTIONS]
    assert np.array_equal(stored, np.float32([0.5, -0.5]))
    lost = env.adapter.belief.lost
    for action in ("up", [1.0], np.full(2, "x")):
        with pytest.raises(MetaMapError, match="action"):
            env.step(action)
    assert env.adapter.belief.lost == lost
    for steps in (0, 2.5, "3"):
        with pytest.raises(MetaMapError, match="steps"):
            env.run(steps)
    with pytest.raises(MetaMapError, match="seed"):
        env.run(3, seed=-1)
    with pytest.raises(MetaMapError, match="environment"):
        AdaptiveEnv(None, mapper)
    with pytest.raises(MetaMapError, match="observations"):
        AdaptiveEnv(gym.make("Pendulum-v1"), mapper)
    env.close()


def test_wrappers_that_change_units_are_refused_or_named(mapper: Mapper) -> None:
    for wrapper in (gym.wrappers.NormalizeReward, gym.wrappers.NormalizeObservation):
        env = wrapper(gym.make(FAMILY.gym_id))
        with pytest.raises(MetaMapError, match=wrapper.__name__):
            AdaptiveEnv(env, mapper)
        assert wrapper.__name__ in AdaptiveEnv(env, mapper, AdapterConfig(check=False)).notes[0]
        env.close()
    scaled = gym.wrappers.TransformReward(gym.make(FAMILY.gym_id), lambda reward: 2 * reward)
    assert "TransformReward alters rewards" in AdaptiveEnv(scaled, mapper).notes[0]
    assert AdaptiveEnv(ScheduledTasks(gym.make(FAMILY.gym_id), TaskSchedule()), mapper).notes == ()
    scaled.close()
    venv = VecNormalize(FamilyVecEnv(FAMILY.sample("train", 1, 0), seed=0, num_threads=1))
    with pytest.raises(MetaMapError, match="VecNormalize"):
        AdaptivePolicy(mapper).watched(venv)
    venv.norm_obs = venv.norm_reward = False
    AdaptivePolicy(mapper).watched(venv)


def test_a_simulator_that_really_diverges_leaves_the_window_as_it_was(mapper: Mapper) -> None:
    env = AdaptiveEnv(gym.make(FAMILY.gym_id), mapper)
    env.run(5, seed=0)
    before = env.adapter.belief
    env.unwrapped.data.qvel[:] = 1e12
    observation, _, terminated, _, info = env.step()
    assert info["diverged"]
    assert terminated
    assert np.isfinite(observation).all()
    assert (info["belief"].window, info["belief"].lost) == (before.window, before.lost + 1)
    env.reset(seed=1)
    *_, info = env.step()
    assert np.isfinite(info["action"]).all()
    assert np.abs(env.adapter._window.rows).max() < 1e3
    env.close()


def test_it_is_evaluated_by_sb3(mapper: Mapper) -> None:
    tasks = FAMILY.sample("train", 2, 0)
    policy = AdaptivePolicy(mapper)
    venv = policy.watched(FamilyVecEnv(tasks, seed=0, num_threads=1))
    with pytest.warns(UserWarning, match="Monitor"):
        returns, lengths = evaluate_policy(policy, venv, n_eval_episodes=2, return_episode_rewards=True)
    assert len(returns) == 2
    assert policy._state is not None
    assert [belief.lost for belief in policy._state.adapters.beliefs] == [0, 0]
    assert sum(one._step for one in policy._state.adapters.adapters) >= sum(lengths) - 2
    with pytest.warns(UserWarning, match="Monitor"), pytest.raises(MetaMapError, match="reward"):
        evaluate_policy(AdaptivePolicy(mapper), FamilyVecEnv(tasks, seed=0, num_threads=1), n_eval_episodes=2)


def test_predict_observes_by_itself_where_rewards_are_known_or_not_needed(mapper: Mapper) -> None:
    steps = list(stream([0.5] * 20))
    by_formula = AdaptivePolicy(mapper, reward=lambda before, action, after: 0.5)
    adapter = Adapter(mapper)
    state = None
    for step, (observation, _, _) in enumerate(steps):
        start = np.array([step in (0, 7)])
        action, state = by_formula.predict(observation, state=state, episode_start=start)
        if step and step != 7:
            adapter.observe(0.5, observation)
        if start[0]:
            adapter.reset(observation)
        assert np.array_equal(action, adapter.act(observation))
    assert state.adapters.adapters[0].belief.window == adapter.belief.window == 18
    with pytest.raises(MetaMapError, match="episode_start"):
        by_formula.predict(steps[0][0], state=state, episode_start=np.array([True, False]))
    for observation in ("x", [[0.0], [0.0, 1.0]], np.zeros((2, 3, OBSERVATIONS)), np.full(OBSERVATIONS, "x")):
        with pytest.raises(MetaMapError, match="observation"):
            by_formula.predict(observation, state=state)
    with pytest.raises(MetaMapError, match="function"):
        AdaptivePolicy(mapper, reward=0.5)
    by_formula.reward = lambda before, action, after: None
    with pytest.raises(MetaMapError, match="reward"):
        by_formula.predict(steps[0][0], state=state)
    with pytest.raises(MetaMapError, match="state"):
        by_formula.predict(steps[0][0], state=(np.zeros(3),))
    with pytest.raises(MetaMapError, match="deterministic"):
        by_formula.predict(steps[0][0], deterministic=False)
    assert SPEC.observation_size == OBSERVATIONS

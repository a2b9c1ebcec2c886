"""The adapter in service: what it promises to a control loop."""

from __future__ import annotations

import dataclasses
import json
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from stable_baselines3.common.evaluation import evaluate_policy

from helpers.service import ACTIONS, FAMILY, OBSERVATIONS, Step, service_check, service_mapper, stream
from helpers.synthetic import FEATURES, SMALL, SPEC, base_policy
from metamap_agents.policy.acting import BatchedPolicy
from metamap_agents.policy.rowwise import RowwiseNetworks
from metamap_agents.runtime.storage import load_arrays, save_arrays
from metamap_agents.sb3.vec_env import FamilyVecEnv
from metamap_envs import MetaMapError
from metamap_rl import Adapter
from metamap_rl.adaptation.service import AdapterConfig, AdaptiveEnv, AdaptivePolicy, VectorAdapter
from metamap_rl.encoders import ENCODERS
from metamap_rl.encoders.pooling import PoolingEncoder
from metamap_rl.mapper.mapper import Mapper

NAN = float("nan")
QUICK = AdapterConfig(longest_window=30)


@pytest.fixture(scope="module")
def mapper() -> Mapper:
    return service_mapper()


def served(adapter: Adapter, steps: Iterable[Step]) -> NDArray[np.float32]:
    """Actions [n, A] of a stretch of service; starts with a reset if there was none."""
    actions = []
    for observation, reward, after in steps:
        actions.append(adapter.act(observation))
        adapter.observe(reward, after)
    return np.array(actions)


def base_action(observation: NDArray[np.float32]) -> NDArray[np.float32]:
    return BatchedPolicy(base_policy().policies(base_policy().phi[None]))(observation[None, None])[0, 0]


def test_before_any_evidence_the_base_policy_acts(mapper: Mapper) -> None:
    adapter = Adapter(mapper)
    observation = np.ones(OBSERVATIONS, dtype=np.float32)
    adapter.reset(observation)
    assert np.array_equal(adapter.act(), base_action(observation))
    assert (adapter.belief.served, adapter.belief.window, adapter.belief.confidence) == ("base", 0, None)
    adapter.observe(1.0, observation)
    assert adapter.belief.served == "base"
    assert "too few" in adapter.belief.reason


def test_a_change_is_found_and_the_policy_is_mapped_from_what_came_after(mapper: Mapper) -> None:
    adapter = Adapter(mapper)
    served(adapter, stream([-1.0] * 50))
    assert adapter.belief.served == "generated"
    assert (adapter.belief.changes, adapter.belief.window, adapter.belief.age) == (0, 50, 50)
    before = adapter._served.phi
    served(adapter, stream([1.0] * 12, seed=1))
    assert adapter.belief.changes == 1
    assert 10 <= adapter.belief.window <= 12
    assert adapter.belief.served == "generated"
    assert not np.array_equal(adapter._served.phi, before)
    fresh = Adapter(mapper)
    served(fresh, list(stream([1.0] * 12, seed=1)))
    near, far = (np.linalg.norm(adapter._served.phi - one) for one in (fresh._served.phi, before))
    assert near < 0.1 * far


def test_a_known_change_begins_a_window(mapper: Mapper) -> None:
    adapter = Adapter(mapper, QUICK)
    served(adapter, stream([0.5] * 20))
    adapter.task_changed()
    assert (adapter.belief.window, adapter.belief.age, adapter.belief.changes) == (0, 0, 1)
    served(adapter, stream([0.6] * 4, seed=1))
    assert (adapter.belief.window, adapter.belief.mapped, adapter.belief.served) == (4, 4, "generated")


def test_windows_encoded_together_are_each_by_itself() -> None:
    encoder = service_mapper(config=dataclasses.replace(SMALL, encoder="pooling", context_size=8)).encoder
    assert isinstance(encoder, PoolingEncoder)
    rows = torch.randn(30, FEATURES, generator=torch.Generator().manual_seed(0))
    bounds = [(0, 30), (0, 1), (12, 17), (29, 30)]
    with torch.no_grad():
        expected = torch.cat([encoder(rows[None, start:end]) for start, end in bounds])
        torch.testing.assert_close(encoder.of_windows(rows, bounds), expected, rtol=1e-4, atol=1e-4)


def test_replaced_networks_are_new_ones_to_the_bit() -> None:
    generator = np.random.default_rng(0)
    phis = generator.normal(size=(3, SPEC.size)).astype(np.float32)
    networks = RowwiseNetworks(SPEC, phis)
    phis[1] = generator.normal(size=SPEC.size)
    networks.replace(1, phis[1])
    observations = generator.normal(size=(3, 2, OBSERVATIONS))
    assert np.array_equal(networks(observations), RowwiseNetworks(SPEC, phis)(observations))


def test_without_a_change_the_window_grows_to_its_limit_and_mapping_is_rare(mapper: Mapper) -> None:
    adapter = Adapter(mapper, QUICK)
    served(adapter, stream([0.5] * 60))
    assert (adapter.belief.changes, adapter.belief.window, adapter.belief.age) == (0, 30, 30)
    assert adapter.belief.swaps < 20


def test_what_nothing_explains_is_left_to_the_base_policy(mapper: Mapper) -> None:
    adapter = Adapter(mapper)
    served(adapter, stream([0.5] * 10))
    assert adapter.belief.served == "generated"
    wild = np.random.default_rng(0).choice([-40.0, 40.0], size=30)
    served(adapter, stream(wild, seed=1))
    assert adapter.belief.served == "base"
    assert adapter.belief.reason
    served(adapter, stream([0.5] * 30, seed=2))
    assert adapter.belief.served == "generated"


@pytest.mark.parametrize("encoder", ENCODERS.names())
def test_every_encoder_serves(encoder: str) -> None:
    adapter = Adapter(service_mapper(config=dataclasses.replace(SMALL, encoder=encoder, context_size=8)))
    assert np.isfinite(served(adapter, stream([0.5] * 25))).all()
    assert adapter.belief.window >= 1


def test_without_a_self_check_a_window_slides() -> None:
    adapter = Adapter(service_mapper(check=False))
    served(adapter, stream([0.5] * 30))
    belief = adapter.belief
    assert (belief.served, belief.window, belief.confidence) == ("generated", 20, None)
    assert "unchecked" in belief.reason
    short = Adapter(service_mapper(), AdapterConfig(fixed_window=7, check=False))
    served(short, stream([0.5] * 30))
    assert (short.belief.window, short.belief.served) == (7, "generated")


@pytest.mark.parametrize(
    "config", [AdapterConfig(fixed_window=10), AdapterConfig(fixed_window=40), AdapterConfig(longest_window=20)]
)
def test_a_full_window_is_mapped_anew_as_it_slides(config: AdapterConfig) -> None:
    adapter = Adapter(service_mapper(), config.changed(check=False))
    swaps = []
    for count in (60, 60):
        served(adapter, stream([0.5] * count))
        swaps.append(adapter.belief.swaps)
    assert swaps[1] - swaps[0] >= 60 // 5 - 1


def test_a_check_that_never_allows_is_heeded_unless_told_otherwise() -> None:
    mapper = service_mapper()
    mapper.check = service_check(least_steps=None)
    adapter = Adapter(mapper)
    served(adapter, stream([0.5] * 30))
    assert (adapter.belief.served, adapter.belief.swaps) == ("base", 0)
    for config in (AdapterConfig(least_transitions=4), AdapterConfig(check=False)):
        adapter = Adapter(mapper, config)
        served(adapter, stream([0.5] * 30))
        assert adapter.belief.served == "generated"


# real controllers -----------------------------------------------------------------------------------------------------


def test_weights_are_swapped_between_steps_as_a_whole(mapper: Mapper) -> None:
    adapter = Adapter(mapper)
    for observation, reward, after in stream([-1.0] * 20 + [1.0] * 20):
        policy = adapter._served
        expected = BatchedPolicy(mapper.base.policies(policy.phi[None]))(observation[None, None])[0, 0]
        kept = policy.phi.copy()
        assert np.array_equal(adapter.act(observation), expected)
        assert np.array_equal(adapter.act(observation), expected), "acting changes nothing"
        assert adapter._served is policy
        adapter.observe(reward, after)
        assert np.array_equal(policy.phi, kept)
    assert adapter.belief.swaps > 1


def test_actions_keep_to_limits_and_rate(mapper: Mapper) -> None:
    config = AdapterConfig(action_low=(-0.5, -0.2), action_high=(0.5, 0.3), rate_limit=(0.1,))
    adapter = Adapter(mapper, config)
    adapter.reset(np.zeros(OBSERVATIONS), last_action=[0.4, 0.3])
    steps = list(stream([-1.0] * 20 + [1.0] * 20))
    actions = np.concatenate([[[0.4, 0.3]], served(adapter, steps)])
    assert (actions >= np.float32([-0.5, -0.2])).all()
    assert (actions <= np.float32([0.5, 0.3])).all()
    assert np.abs(np.diff(actions, axis=0)).max() <= 0.1 + 1e-6
    free = served(Adapter(mapper), steps)
    assert np.abs(np.diff(free, axis=0)).max() > 0.5


def test_a_swap_blends_over_some_steps(mapper: Mapper) -> None:
    plain, blended = Adapter(mapper), Adapter(mapper, AdapterConfig(blend=3, review=1000, growth=100.0))
    steps = list(stream([0.5] * 3))
    for adapter in (plain, blended):
        served(adapter, steps)
    assert blended.belief.served == "generated"
    new, at = blended._served, np.zeros(OBSERVATIONS, dtype=np.float32)
    old_action, new_action = np.clip(base_action(at), -1, 1), np.clip(new(at), -1, 1)
    found = []
    for _ in range(4):
        found.append(blended.act(at))
        blended.observe(0.5, at + 1)
    expected = [old_action + share * (new_action - old_action) for share in (0.25, 0.5, 0.75, 1.0)]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_on_hold_the_policy_stays_and_observing_goes_on(mapper: Mapper) -> None:
    adapter = Adapter(mapper)
    served(adapter, stream([-1.0] * 20))
    adapter.hold, policy = True, adapter._served
    served(adapter, stream([1.0] * 20, seed=1))
    assert adapter._served is policy
    assert (adapter.belief.reason, adapter.belief.changes) == ("held", 1)
    adapter.hold = False
    served(adapter, stream([1.0], seed=2))
    assert adapter._served is not policy


def test_a_lost_step_is_not_stored(mapper: Mapper) -> None:
    adapter = Adapter(mapper)
    observation = np.ones(OBSERVATIONS, dtype=np.float32)
    adapter.reset(observation)
    first = adapter.act(observation)
    assert np.array_equal(adapter.act(observation), first)
    adapter.observe(0.0, observation + 1)
    adapter.observe(0.0, observation)  # nobody acted
    assert (adapter.belief.window, adapter.belief.lost) == (1, 2)
    adapter.act(observation)
    adapter.reset(observation)
    assert adapter.belief.lost == 3


@pytest.mark.parametrize(
    ("outcome", "options"),
    [
        ((NAN, np.ones(OBSERVATIONS)), {}),
        ((float("inf"), np.ones(OBSERVATIONS)), {}),
        ((0.0, np.full(OBSERVATIONS, np.nan)), {}),
        ((0.0, np.full(OBSERVATIONS, 1e30)), {}),
        ((0.0, np.full(OBSERVATIONS, 1e300)), {}),
        ((1e9, np.ones(OBSERVATIONS)), {}),
        ((0.0, np.ones(OBSERVATIONS)), {"valid": False}),
        ((0.0, np.zeros(OBSERVATIONS), True), {}),  # the last observation again, as FamilyEnv does
    ],
)
def test_a_diverging_simulator_does_not_poison_the_history(
    mapper: Mapper, outcome: tuple[Any, ...], options: dict[str, Any]
) -> None:
    sound, hurt = Adapter(mapper), Adapter(mapper)
    for adapter in (sound, hurt):
        served(adapter, stream([0.5] * 20))
    hurt.act(np.zeros(OBSERVATIONS))
    hurt.observe(*outcome, **options)
    assert (hurt.belief.lost, hurt.belief.window) == (1, 20)
    steps = list(stream([0.5] * 10, seed=1))
    hurt.reset(steps[0][0])
    sound.reset(steps[0][0])
    assert np.array_equal(served(sound, steps), served(hurt, steps))


def test_with_a_lost_observation_the_last_action_is_repeated(mapper: Mapper) -> None:
    adapter = Adapter(mapper)
    lost = np.full(OBSERVATIONS, np.nan)
    adapter.reset(lost)
    assert np.array_equal(adapter.act(), np.zeros(ACTIONS, dtype=np.float32))
    adapter.observe(0.0, lost)
    action = adapter.act(np.ones(OBSERVATIONS))
    adapter.observe(0.0, lost)
    assert np.array_equal(adapter.act(), action)
    adapter.observe(0.0, np.ones(OBSERVATIONS))
    assert adapter.belief.window == 0
    assert np.isfinite(adapter.act()).all()


def test_an_action_that_was_not_the_adapters_is_stored_as_executed(mapper: Mapper) -> None:
    adapter = Adapter(mapper)
    adapter.act(np.zeros(OBSERVATIONS))
    adapter.observe(0.0, np.ones(OBSERVATIONS), action=[0.25, -0.5])
    stored = adapter._window.rows[0, OBSERVATIONS : OBSERVATIONS + ACTIONS]
    assert np.array_equal(stored, np.float32([0.25, -0.5]))


def test_rewards_that_cannot_be_observed_need_a_mapper_without(mapper: Mapper) -> None:
    observation = np.zeros(OBSERVATIONS)
    adapter = Adapter(mapper)
    adapter.act(observation)
    with pytest.raises(MetaMapError, match=r"reward.*NaN"):
        adapter.observe(None, observation + 1)
    blind = service_mapper(config=dataclasses.replace(SMALL, encoder="pooling", context_size=8, reward=False))
    one, other = Adapter(blind), Adapter(blind)
    for step, (before, reward, after) in enumerate(stream([0.5] * 15)):
        assert np.array_equal(one.act(before), other.act(before)), step
        one.observe(None, after)
        other.observe(reward, after)
    assert one.belief == other.belief


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda adapter: adapter.act(np.zeros(3)), "shape"),
        (lambda adapter: adapter.reset(np.zeros((2, OBSERVATIONS))), "shape"),
        (lambda adapter: adapter.reset((np.zeros(OBSERVATIONS), {})), "tuple"),
        (lambda adapter: adapter.act("left"), "numbers"),
        (lambda adapter: adapter.act(), "observation"),
        (lambda adapter: adapter.observe(0.0, np.zeros(OBSERVATIONS), action=[1.0]), "action"),
        (lambda adapter: Adapter(adapter.mapper, AdapterConfig(action_low=(0.0,))), "action_low"),
        (lambda adapter: Adapter(adapter.mapper, AdapterConfig(rate_limit=(1.0,) * 3)), "rate_limit"),
        (lambda adapter: Adapter(adapter.mapper, AdapterConfig(action_low=(2.0, 2.0))), "no action"),
        (lambda adapter: AdapterConfig(cuts=(5, 2)), "cuts"),
        (lambda adapter: AdapterConfig(fixed_window=500), "fixed_window"),
        (lambda adapter: AdapterConfig(action_low=(1.0,), action_high=(0.0,)), "action_low"),
        (lambda adapter: VectorAdapter(adapter.mapper, 0), "num_envs"),
        (lambda adapter: Adapter("reacher-gaol"), "reacher-goal"),
    ],
)
def test_bad_input_is_reported(mapper: Mapper, call: Any, message: str) -> None:
    with pytest.raises(MetaMapError, match=message):
        call(Adapter(mapper))


# memory and storage ---------------------------------------------------------------------------------------------------


def _grown(adapter: Adapter, steps: int) -> int:
    """Bytes that are held longer after so many steps."""
    generator = np.random.default_rng(0)
    observations = generator.normal(size=(64, OBSERVATIONS)).astype(np.float32)
    tracemalloc.start()
    try:
        for step in range(steps):
            if step == steps // 2:
                before = tracemalloc.get_traced_memory()[0]
            adapter.act(observations[step % 64])
            adapter.observe(float(step // 60 % 2), observations[(step + 1) % 64])
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


def test_memory_is_bounded(mapper: Mapper) -> None:
    assert _grown(Adapter(mapper, QUICK), 200) < 20_000


@pytest.mark.slow
def test_memory_is_bounded_over_a_long_time(mapper: Mapper) -> None:
    assert _grown(Adapter(mapper), 100_000) < 20_000


@pytest.mark.parametrize("at", [0, 3, 21, 22, 75])
def test_saved_and_loaded_in_mid_run_it_goes_on_to_the_bit(mapper: Mapper, tmp_path: Path, at: int) -> None:
    config = AdapterConfig(longest_window=50, blend=4, rate_limit=(0.3,))
    steps = list(stream([-1.0] * 20 + [1.0] * 80))
    whole, half = Adapter(mapper, config), Adapter(mapper, config)
    expected = served(whole, steps)
    for adapter in (half,):
        served(adapter, steps[:at])
        if at:
            adapter.act(steps[at][0])  # in the middle of a step
    half.save(tmp_path / "state.safetensors")
    resumed = Adapter.load(tmp_path / "state.safetensors", mapper)
    assert resumed.belief == half.belief
    if at:
        resumed.observe(*steps[at][1:])
        half.observe(*steps[at][1:])
        rest = steps[at + 1 :]
    else:
        rest = steps
    found = served(resumed, rest)
    assert np.array_equal(found, expected[len(steps) - len(rest) :])
    assert resumed.belief == whole.belief
    resumed.save(tmp_path / "again.safetensors")
    whole.save(tmp_path / "whole.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


def test_a_damaged_state_is_reported(mapper: Mapper, tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    adapter = Adapter(mapper)
    served(adapter, stream([-1.0] * 20))
    adapter.save(path)
    arrays, metadata = load_arrays(path)
    state = json.loads(metadata["state"])

    def refused(message: str, arrays: dict[str, Any] = arrays, **changes: Any) -> None:
        text = json.dumps({**state, **changes})
        save_arrays(path, arrays, {"format": "metamap-adapter-1", "state": text})
        with pytest.raises(MetaMapError, match=message):
            Adapter.load(path, mapper)

    refused("rows", {name: array for name, array in arrays.items() if name != "rows"})
    refused("rows", arrays | {"rows": np.full_like(arrays["rows"], np.nan)})
    refused("phi", arrays | {"phi": arrays["phi"].astype(np.float64)})
    refused("phi", arrays | {"phi": arrays["phi"][:-1]})
    refused("extra", arrays | {"extra": arrays["phi"]})
    refused("pending", arrays | {"pending_action": np.zeros(ACTIONS, np.float32)})
    refused("steps", arrays | {"steps": arrays["steps"][::-1].copy()})
    refused("begin", begin=21)
    refused("count", count=-1)
    refused("stepp", stepp=3)
    refused("another mapper", mapper="0" * 64)
    save_arrays(path, arrays, {"format": "metamap-adapter-1", "state": "{"})
    with pytest.raises(MetaMapError, match="damaged"):
        Adapter.load(path, mapper)
    save_arrays(path, arrays, {"format": "other", "state": "{}"})
    with pytest.raises(MetaMapError, match="format"):
        Adapter.load(path, mapper)
    other = service_mapper()
    other.check = dataclasses.replace(service_check(), noise=0.2)
    adapter.save(path)
    with pytest.raises(MetaMapError, match="another mapper"):
        Adapter.load(path, other)


@given(st.lists(st.sampled_from(["act", "observe", "nan", "reset", "hold", "end"]), max_size=40))
def test_any_order_of_calls_gives_finite_actions_within_the_limits(calls: list[str]) -> None:
    adapter = Adapter(_SHARED, QUICK)
    steps = stream([0.5] * 100)
    observation, reward, after = next(steps)
    adapter.reset(observation)
    for call in calls:
        observation, reward, after = next(steps)
        if call == "act":
            action = adapter.act(observation)
            assert np.isfinite(action).all()
            assert np.abs(action).max() <= 1.0
        elif call == "nan":
            assert np.isfinite(adapter.act(np.full(OBSERVATIONS, np.nan))).all()
        elif call == "reset":
            adapter.reset(observation)
        elif call == "hold":
            adapter.hold = not adapter.hold
        else:
            adapter.observe(reward, after, terminated=call == "end")
    assert adapter.belief.window <= len(calls)


_SHARED = service_mapper()


@pytest.mark.slow
def test_the_example_of_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "service.md").read_text(encoding="utf-8")
    code = page.split("```python\n")[1].split("```")[0]
    exec(code, {})  # our own page
    assert "policy" in capsys.readouterr().out


# many environments, Gymnasium, SB3 ------------------------------------------------------------------------------------


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
    with pytest.raises(MetaMapError, match="observations"):
        AdaptiveEnv(gym.make("Pendulum-v1"), mapper)
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
    with pytest.raises(MetaMapError, match="state"):
        by_formula.predict(steps[0][0], state=(np.zeros(3),))
    with pytest.raises(MetaMapError, match="deterministic"):
        by_formula.predict(steps[0][0], deterministic=False)
    assert SPEC.observation_size == OBSERVATIONS

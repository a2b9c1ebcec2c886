"""The adapter in service: limits, lost steps and bad input of real controllers."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.service import ACTIONS, OBSERVATIONS, base_action, served, service_mapper, stream
from helpers.synthetic import SMALL
from metamap_agents.policy.acting import BatchedPolicy
from metamap_envs import MetaMapError
from metamap_rl import Adapter
from metamap_rl.adaptation.service import AdapterConfig, VectorAdapter
from metamap_rl.mapper.mapper import Mapper

NAN = float("nan")
QUICK = AdapterConfig(longest_window=30)
_SHARED = service_mapper()


@pytest.fixture(scope="module")
def mapper() -> Mapper:
    return service_mapper()


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
    plain, blended = (
        Adapter(mapper),
        Adapter(mapper, AdapterConfig(blend=3, review=1000, growth=100.0, least_transitions=3)),
    )
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
        (lambda adapter: adapter.reset(np.zeros(OBSERVATIONS), last_action=[NAN, 0.0]), "last_action"),
        (lambda adapter: AdapterConfig(least_transitions=8, fixed_window=7), "least_transitions"),
        (lambda adapter: AdapterConfig(cuts=5), "cuts"),
        (lambda adapter: AdapterConfig(action_high="high"), "action_high"),
        (lambda adapter: AdapterConfig(longest_window=10**12), "longest_window"),
        (lambda adapter: Adapter(adapter.mapper, {"blend": 3}), "AdapterConfig"),
        (lambda adapter: Adapter(adapter.mapper, AdapterConfig), "AdapterConfig"),
        (lambda adapter: Adapter(None), "mapper"),
        (lambda adapter: Adapter(""), "mapper"),
        (lambda adapter: VectorAdapter(adapter.mapper, 0), "num_envs"),
        (lambda adapter: VectorAdapter(adapter.mapper, 2.0), "num_envs"),
        (lambda adapter: Adapter("reacher-gaol"), "reacher-goal"),
    ],
)
def test_bad_input_is_reported(mapper: Mapper, call: Any, message: str) -> None:
    with pytest.raises(MetaMapError, match=message):
        call(Adapter(mapper))


def test_a_mapper_of_other_spaces_than_its_family_is_refused() -> None:
    other = service_mapper()
    other.family = "cheetah-velocity"
    with pytest.raises(MetaMapError, match="'cheetah-velocity' has 17 and 6"):
        Adapter(other)


GOOD: dict[str, Any] = {
    "reward": 0.0,
    "next_observation": np.ones(OBSERVATIONS),
    "terminated": False,
    "truncated": False,
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("reward", "much"),
        ("reward", [1.0, 2.0]),
        ("reward", 1j),
        ("next_observation", np.ones((1, OBSERVATIONS))),
        ("next_observation", np.full(OBSERVATIONS, "x")),
        ("next_observation", np.full(OBSERVATIONS, 1j)),
        ("next_observation", [None] * OBSERVATIONS),
        ("next_observation", np.zeros(OBSERVATIONS, dtype="datetime64[s]")),
        ("terminated", "no"),
        ("terminated", None),
        ("truncated", [True, False]),
        ("valid", "no"),
        ("valid", None),
        ("action", [1.0]),
        ("action", "left"),
    ],
)
def test_a_call_that_is_refused_changes_nothing(mapper: Mapper, name: str, value: Any) -> None:
    adapter = Adapter(mapper)
    adapter.act(np.zeros(OBSERVATIONS))
    with pytest.raises(MetaMapError, match=name):
        adapter.observe(**GOOD | {name: value})
    assert (adapter.belief.window, adapter.belief.lost) == (0, 0)
    adapter.observe(**GOOD)
    assert (adapter.belief.window, adapter.belief.lost) == (1, 0)


@pytest.mark.parametrize(
    "as_given",
    [
        list,
        tuple,
        lambda values: torch.tensor(values, requires_grad=True),
        lambda values: values.astype(np.float64),
        lambda values: np.repeat(values, 2)[::2],
        lambda values: np.ma.masked_invalid(values),
    ],
)
def test_numbers_of_any_library_are_the_same_observation(mapper: Mapper, as_given: Any) -> None:
    plain, other = Adapter(mapper), Adapter(mapper)
    for observation, reward, after in stream([0.5] * 5):
        action = plain.act(observation)
        assert np.array_equal(other.act(as_given(observation)), action)
        plain.observe(reward, after, False, False)
        other.observe(np.array([reward]), as_given(after), np.bool_(False), 0)
    assert plain.belief == other.belief
    lost = np.ma.masked_array(np.ones(OBSERVATIONS), mask=np.eye(OBSERVATIONS)[0])
    assert np.array_equal(other.act(lost), action), "a masked number is a lost one"


@given(
    st.lists(
        st.sampled_from(["act", "observe", "nan", "reset", "hold", "end", "other", "from", "vague", "changed"]),
        max_size=40,
    )
)
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
            action = adapter.act(np.full(OBSERVATIONS, np.nan))
            assert np.isfinite(action).all()
            assert np.abs(action).max() <= 1.0
        elif call == "reset":
            adapter.reset(observation)
        elif call == "from":
            adapter.reset(observation, last_action=[3.0, -3.0])
        elif call == "other":
            adapter.observe(reward, after, action=[3.0, -3.0])
        elif call == "vague":
            adapter.observe(NAN, after, action=[NAN, 0.0], valid=False)
        elif call == "changed":
            adapter.task_changed()
        elif call == "hold":
            adapter.hold = not adapter.hold
        else:
            adapter.observe(reward, after, terminated=call == "end")
    assert adapter.belief.window <= len(calls)

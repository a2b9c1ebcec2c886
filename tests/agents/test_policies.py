from __future__ import annotations

import copy
import pickle
from typing import Any, cast

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from helpers.policies import SPECS
from metamap_agents.policy.acting import BatchedPolicy, WeightPolicy
from metamap_agents.policy.functional import forward
from metamap_agents.policy.normalizer import ObservationNormalizer
from metamap_agents.policy.policies import Policies
from metamap_agents.policy.spec import PolicySpec
from metamap_envs.errors import MetaMapError

SPEC = PolicySpec(5, 3, (8, 8))
OBSERVATIONS = spaces.Box(-np.inf, np.inf, (5,), np.float64)
ACTIONS = spaces.Box(-1.0, 1.0, (3,), np.float32)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def normalizer(rng: np.random.Generator) -> ObservationNormalizer:
    return ObservationNormalizer(rng.normal(0, 2, 5), np.exp(rng.normal(0, 1, 5)))


def weights(rng: np.random.Generator, tasks: int) -> NDArray[np.float32]:
    return rng.normal(0, 0.6, (tasks, SPEC.size)).astype(np.float32)


def states(rng: np.random.Generator, normalizer: ObservationNormalizer, *lead: int) -> NDArray[np.float64]:
    return normalizer.mean + normalizer.std * rng.normal(0, 1, (*lead, 5))


def test_batched_actions_are_the_networks_actions_clipped(
    rng: np.random.Generator, normalizer: ObservationNormalizer
) -> None:
    phis, raw = weights(rng, 4), states(rng, normalizer, 4, 7)
    policy = BatchedPolicy(Policies(SPEC, normalizer, phis))
    normalised = torch.from_numpy(normalizer.apply(raw))
    exact = forward(SPEC, torch.from_numpy(phis.astype(np.float64)), normalised).numpy()
    assert np.abs(exact).max() > 1.5, "nothing to clip: the test would show nothing"
    np.testing.assert_allclose(policy.means(raw), exact, rtol=0, atol=1e-5)
    np.testing.assert_allclose(policy(raw), np.clip(exact, -1, 1), rtol=0, atol=1e-5)
    assert policy(raw).dtype == np.float32
    assert len(policy) == 4


def test_one_policy_acts_as_it_does_in_the_batch(rng: np.random.Generator, normalizer: ObservationNormalizer) -> None:
    phis, raw = weights(rng, 4), states(rng, normalizer, 4, 7)
    together = BatchedPolicy(Policies(SPEC, normalizer, phis))(raw)
    for phi, observations, expected in zip(phis, raw, together, strict=True):
        policy = WeightPolicy(Policies(SPEC, normalizer, phi), OBSERVATIONS, ACTIONS)
        np.testing.assert_array_equal(policy.predict(observations)[0], expected)
        copied = pickle.loads(pickle.dumps(policy))  # noqa: S301  (our own)
        np.testing.assert_array_equal(copied.predict(observations)[0], expected)
        np.testing.assert_array_equal(copy.deepcopy(policy).predict(observations[2])[0], expected[2])


@given(SPECS, st.integers(1, 6), st.integers(1, 9), st.integers(0, 2**31))
@example(PolicySpec(200, 5, (150, 70), "relu"), 2, 3, 0)  # more than one block, inwards and outwards
def test_no_action_depends_on_what_else_is_in_the_batch(spec: PolicySpec, tasks: int, episodes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    phis = rng.normal(0, 0.5, (tasks, spec.size)).astype(np.float32)
    raw = rng.normal(0, 1, (tasks, episodes, spec.observation_size))
    normalizer = ObservationNormalizer(rng.normal(0, 1, raw.shape[-1]), np.exp(rng.normal(0, 1, raw.shape[-1])))
    together = BatchedPolicy(Policies(spec, normalizer, phis)).means(raw)
    exact = forward(spec, torch.from_numpy(phis).double(), torch.from_numpy(normalizer.apply(raw))).numpy()
    np.testing.assert_allclose(together, exact, rtol=1e-4, atol=1e-4 * (1 + np.abs(exact).max()))
    turned = BatchedPolicy(Policies(spec, normalizer, phis[::-1])).means(raw[::-1, ::-1])
    np.testing.assert_array_equal(turned[::-1, ::-1], together)
    task, episode = int(rng.integers(tasks)), int(rng.integers(episodes))
    alone = BatchedPolicy(Policies(spec, normalizer, phis[task : task + 1])).means(
        raw[task : task + 1, episode : episode + 1]
    )
    np.testing.assert_array_equal(alone[0, 0], together[task, episode])


def test_weights_and_observations_that_are_not_finite_go_through() -> None:
    spec = PolicySpec(2, 1, (3,))
    phi = np.ones((1, spec.size), dtype=np.float32)
    policy = BatchedPolicy(Policies(spec, ObservationNormalizer.identity(2), phi))
    found = policy.means(np.array([[[np.inf, 1.0], [np.nan, 1.0], [1.0, 1.0]]]))[0, :, 0]
    np.testing.assert_allclose(found, [4.0, np.nan, 1.0 + 3 * np.tanh(3.0)], rtol=1e-6)


def test_predict_follows_sb3(rng: np.random.Generator, normalizer: ObservationNormalizer) -> None:
    narrow = spaces.Box(np.array([-0.1, -0.2, 0.0], np.float32), np.array([0.1, 0.2, 0.3], np.float32))
    policy = WeightPolicy(Policies(SPEC, normalizer, weights(rng, 1)[0]), OBSERVATIONS, narrow)
    raw = states(rng, normalizer, 50)
    actions, state = policy.predict(raw)
    assert actions.shape == (50, 3)
    assert actions.dtype == np.float32
    assert state is None
    np.testing.assert_array_equal(actions.min(0), narrow.low)
    np.testing.assert_array_equal(actions.max(0), narrow.high)
    memory = (np.ones(2),)
    single, state = policy.predict(raw[7], memory, np.array([True]), deterministic=True)
    assert single.shape == (3,)
    assert state is memory
    np.testing.assert_array_equal(single, actions[7])


def test_the_policies_keep_their_own_copy(rng: np.random.Generator) -> None:
    identity = ObservationNormalizer.identity(5)
    phis = weights(rng, 2)
    raw = rng.normal(size=(2, 1, 5))
    policy = BatchedPolicy(Policies(SPEC, identity, phis))
    before = policy(raw)
    phis[:] = 0
    np.testing.assert_array_equal(policy(raw), before)


def test_sb3s_own_evaluation_takes_it(rng: np.random.Generator, normalizer: ObservationNormalizer) -> None:
    import gymnasium as gym
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.monitor import Monitor

    class Steps(gym.Env[NDArray[Any], NDArray[Any]]):
        observation_space, action_space = OBSERVATIONS, ACTIONS

        def reset(self, **_: Any) -> tuple[NDArray[Any], dict[str, Any]]:
            self.left = 5
            return np.zeros(5), {}

        def step(self, action: NDArray[Any]) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
            assert self.action_space.contains(action)
            self.left -= 1
            return np.full(5, float(self.left)), 1.0, self.left == 0, False, {}

    policy = WeightPolicy(Policies(SPEC, normalizer, weights(rng, 1)[0]), OBSERVATIONS, ACTIONS)
    mean, _ = evaluate_policy(policy, Monitor(Steps()), n_eval_episodes=2)
    assert mean == 5.0


def test_wrong_input_is_refused(rng: np.random.Generator, normalizer: ObservationNormalizer) -> None:
    phis = weights(rng, 2)
    batched = BatchedPolicy(Policies(SPEC, normalizer, phis))
    for shape in ((3, 1, 5), (2, 5), (2, 1, 4)):
        with pytest.raises(MetaMapError, match="observations: expected shape"):
            batched(np.zeros(shape))
    with pytest.raises(MetaMapError, match="phi: expected shape"):
        BatchedPolicy(Policies(SPEC, normalizer, phis[0]))
    with pytest.raises(MetaMapError, match="phi: expected shape"):
        WeightPolicy(Policies(SPEC, normalizer, phis), OBSERVATIONS, ACTIONS)
    with pytest.raises(MetaMapError, match="normalizer"):
        BatchedPolicy(Policies(SPEC, ObservationNormalizer.identity(4), phis))
    with pytest.raises(MetaMapError, match=r"action_space: expected a Box of shape \(3,\)"):
        WeightPolicy(Policies(SPEC, normalizer, phis[0]), OBSERVATIONS, spaces.Discrete(3))
    with pytest.raises(MetaMapError, match=r"observation_space: expected a Box of shape \(5,\)"):
        WeightPolicy(Policies(SPEC, normalizer, phis[0]), ACTIONS, ACTIONS)
    policy = WeightPolicy(Policies(SPEC, normalizer, phis[0]), OBSERVATIONS, ACTIONS)
    for observation in (np.zeros(4), np.zeros((2, 2, 5)), np.zeros(())):
        with pytest.raises(MetaMapError, match="observation"):
            policy.predict(observation)
    with pytest.raises(MetaMapError, match="one array, got a tuple"):
        policy.predict((np.zeros(5), {}))  # type: ignore[arg-type]
    with pytest.raises(MetaMapError, match="deterministic=True"):
        policy.predict(np.zeros(5), deterministic=False)


def test_weights_of_another_size_are_no_policies(normalizer: ObservationNormalizer) -> None:
    for shape in ((SPEC.size - 1,), (2, SPEC.size + 1), (1, 1, SPEC.size), ()):
        with pytest.raises(MetaMapError, match=rf"phi: expected shape \({SPEC.size},\)"):
            Policies(SPEC, normalizer, np.zeros(shape))


def test_the_old_call_form_works_with_a_warning(rng: np.random.Generator, normalizer: ObservationNormalizer) -> None:
    (phi,), raw = weights(rng, 1), states(rng, normalizer, 7)
    expected = WeightPolicy(Policies(SPEC, normalizer, phi), OBSERVATIONS, ACTIONS).predict(raw)[0]
    old: Any = WeightPolicy
    named = {"phi": phi, "normalizer": normalizer, "observation_space": OBSERVATIONS, "action_space": ACTIONS}
    for arguments, keywords in (((SPEC, phi, normalizer, OBSERVATIONS, ACTIONS), {}), ((SPEC,), named)):
        with pytest.warns(DeprecationWarning, match="Policies"):
            policy = old(*arguments, **keywords)
        np.testing.assert_array_equal(policy.predict(raw)[0], expected)
    with pytest.warns(DeprecationWarning, match="Policies"):
        batched = cast(Any, BatchedPolicy)(spec=SPEC, phis=phi[None], normalizer=normalizer)
    np.testing.assert_array_equal(batched(raw[None])[0], expected)

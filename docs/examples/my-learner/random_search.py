"""An example of a learner of one's own: a linear policy for each robot, made better by random search."""

from __future__ import annotations

from pathlib import Path

import numpy as np


class Linear:
    """Actions tanh(W [observation, 1])."""

    def __init__(self, weights):
        self.weights = weights

    def predict(self, observation):
        """Actions [n, A] of observations [n, O]."""
        padded = np.concatenate([observation, np.ones((len(observation), 1))], axis=1)
        return np.tanh(padded @ self.weights.T), None


class RandomSearch:
    """Keeps the best weights so far for each size of observations and actions."""

    def __init__(self, seed, noise=0.3):
        self.generator, self.noise = np.random.default_rng(seed), noise
        self.weights, self.env = {}, None

    def learn(self, env, steps):
        """Try changed weights for one episode each, as long as the steps last."""
        if env is not self.env:  # another arrival: what was good before must show it again
            self.env, self.best = env, -np.inf
        horizon = env.get_wrapper_attr("_max_episode_steps")
        for _ in range(steps // horizon):
            now = self._weights(env)
            tried = now + self.noise * self.generator.standard_normal(now.shape)
            value = self._episode(env, Linear(tried))
            if value > self.best:
                self.best, self.weights[now.shape] = value, tried

    def policy(self, env, rollout):
        """The best weights; a few transitions tell this learner nothing."""
        return Linear(self._weights(env))

    def save(self, folder: Path):
        """All weights."""
        for shape, weights in self.weights.items():
            np.save(folder / f"{shape[0]}x{shape[1]}.npy", weights)

    def _weights(self, env):
        shape = (env.action_space.shape[0], env.observation_space.shape[0] + 1)
        return self.weights.setdefault(shape, np.zeros(shape))

    def _episode(self, env, policy):
        observation, _ = env.reset(seed=int(self.generator.integers(2**31)))
        total, ended = 0.0, False
        while not ended:
            observation, reward, terminated, truncated, _ = env.step(policy.predict(observation[None])[0][0])
            total, ended = total + reward, terminated or truncated
        return total

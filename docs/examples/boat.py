"""A boat that is to reach a buoy, in a wind that it cannot see, with a rudder that may be mounted the wrong way."""

import gymnasium as gym
import numpy as np


class Boat(gym.Env):
    def __init__(self, wind_x=0.0, wind_y=0.0, gain=1.0):
        self.wind = np.array([wind_x, wind_y])
        self.gain = gain  # of the rudder, negative where it is mounted the wrong way
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (4,))  # position and velocity
        self.action_space = gym.spaces.Box(-1.0, 1.0, (2,))  # sail and rudder

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.position, self.velocity = self.np_random.uniform(-1.0, 1.0, 2), np.zeros(2)
        return self._observation(), {}

    def step(self, action):
        force = np.clip(action, -1.0, 1.0) * (1.0, self.gain) + self.wind
        self.velocity = 0.9 * self.velocity + 0.1 * force
        self.position = self.position + 0.1 * self.velocity
        return self._observation(), -float(self.position @ self.position), False, False, {}

    def _observation(self):
        return np.concatenate([self.position, self.velocity]).astype(np.float32)


gym.register("Boat-v0", Boat, max_episode_steps=100)

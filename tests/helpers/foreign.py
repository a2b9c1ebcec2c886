"""Policies as other tools store them, with random weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from torch import nn

OBSERVATIONS, ACTIONS = 8, 2
"""Sizes of reacher-goal."""


class Blank(gym.Env[Any, Any]):
    """Spaces, and episodes of ten random steps."""

    def __init__(self, low: Sequence[float] = (-1.0, -1.0), high: Sequence[float] = (1.0, 1.0)) -> None:
        self.observation_space = Box(-np.inf, np.inf, (OBSERVATIONS,), np.float32)
        self.action_space = Box(np.array(low, np.float32), np.array(high, np.float32))
        self._count = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[NDArray[Any], dict[str, Any]]:
        super().reset(seed=seed)
        self._count = 0
        return self._observed(), {}

    def step(self, action: Any) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        self._count += 1
        return self._observed(), 0.0, False, self._count == 10, {}

    def _observed(self) -> NDArray[Any]:
        return self.np_random.normal(3.0, 2.0, OBSERVATIONS).astype(np.float32)


def sb3_model(algorithm: Any, env: Any = None, *, seed: int = 3, **settings: Any) -> BaseAlgorithm:
    """A model of Stable-Baselines3 whose weights are all drawn anew."""
    if issubclass(algorithm, OffPolicyAlgorithm):
        settings["buffer_size"] = 10
    model: BaseAlgorithm = algorithm("MlpPolicy", env or Blank(), seed=0, device="cpu", **settings)
    draw(model.policy, seed)
    return model


def draw(module: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))


class PPOAgent(nn.Module):
    """CleanRL's agent for PPO with continuous actions."""

    def __init__(self, hidden: int = 64) -> None:
        super().__init__()
        self.critic = nn.Sequential(nn.Linear(OBSERVATIONS, hidden), nn.Tanh(), nn.Linear(hidden, 1))
        self.actor_mean = nn.Sequential(
            *(nn.Linear(OBSERVATIONS, hidden), nn.Tanh()),
            *(nn.Linear(hidden, hidden), nn.Tanh()),
            nn.Linear(hidden, ACTIONS),
        )
        self.actor_logstd = nn.Parameter(torch.zeros(1, ACTIONS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.actor_mean(x)  # type: ignore[no-any-return]


class SquashedActor(nn.Module):
    """CleanRL's actor for SAC (output ``fc_mean``) or TD3 (``fc_mu``)."""

    def __init__(self, output: str, hidden: int = 16) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(OBSERVATIONS, hidden), nn.Linear(hidden, hidden)
        self._output = output
        self.add_module(output, nn.Linear(hidden, ACTIONS))
        if output == "fc_mean":
            self.fc_logstd = nn.Linear(hidden, ACTIONS)
        self.register_buffer("action_scale", torch.tensor([2.0, 0.5]))
        self.register_buffer("action_bias", torch.tensor([0.0, 0.5]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.fc2(torch.relu(self.fc1(x))))
        return torch.tanh(getattr(self, self._output)(x)) * self.action_scale + self.action_bias  # type: ignore[no-any-return,operator]


def seen(count: int = 40, seed: int = 0) -> NDArray[np.float32]:
    """Observations."""
    return np.random.default_rng(seed).normal(3.0, 2.0, (count, OBSERVATIONS)).astype(np.float32)


def onnx_model(path: Path, parts: Sequence[tuple[NDArray[Any], NDArray[Any]]], *, squashed: bool, rows: Any) -> Path:
    """A model of matrix products, sums and tanh, as other exporters write them."""
    import onnx

    make, constants, nodes, value = onnx.helper.make_node, [], [], "obs"
    for index, (weight, bias) in enumerate(parts):
        for name, array in ((f"w{index}", weight.T), (f"b{index}", bias)):
            constants.append(onnx.numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name))
        nodes.append(make("MatMul", [value, f"w{index}"], [f"m{index}"]))
        nodes.append(make("Add", [f"m{index}", f"b{index}"], [f"s{index}"]))
        value = f"s{index}"
        if index < len(parts) - 1 or squashed:
            nodes.append(make("Tanh", [value], [f"t{index}"]))
            value = f"t{index}"
    tensor, number = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    inputs = [tensor("obs", number, [rows, parts[0][0].shape[1]])]
    graph = onnx.helper.make_graph(nodes, "p", inputs, [tensor(value, number, [rows, len(parts[-1][1])])], constants)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path

"""Networks of the mapper: a GRU from windows to what hovering takes, and the policy that is given it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from metamap_agents.policy.functional import forward
from metamap_agents.policy.normalizer import ObservationNormalizer
from metamap_agents.policy.spec import PolicySpec
from metamap_agents.runtime.storage import load_arrays, save_arrays
from metamap_envs.errors import MetaMapError
from metamap_envs.families._quadrotor import Quadrotor
from metamap_envs.registry import get_family
from metamap_envs.task import Task
from metamap_rl.evaluation.hovering.rows import FEATURES

__all__ = ["COORDINATES", "FILE", "HoverMapper", "HoverPolicy", "Reader"]

Floats = NDArray[np.float32]

COORDINATES = 13
"""Numbers that say what hovering takes."""
FILE = "hovering.safetensors"
_SCALE_TASKS, _SCALE_SEED = 2_000, 77
_FARTHEST = 3.0  # standard deviations from the mean of training vehicles


class Reader(nn.Module):
    """A GRU and a head: standardised coordinates [N, n, 13] after each row of windows [N, n, F]."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(FEATURES, hidden), nn.Tanh())
        self.memory = nn.GRU(hidden, hidden, batch_first=True)
        self.head = nn.Sequential(nn.Linear(2 * hidden, hidden), nn.Tanh(), nn.Linear(hidden, COORDINATES))
        with torch.no_grad():
            for parameter, factor in zip(self.head[-1].parameters(), (0.1, 0.0), strict=True):  # weight and bias
                parameter.mul_(factor)

    def forward(self, rows: Tensor) -> Tensor:
        """See the class."""
        first = self.first(rows)
        found: Tensor = self.head(torch.cat([self.memory(first)[0], first], dim=-1))
        return found


@dataclass(frozen=True, eq=False)
class HoverPolicy:
    """A policy of all vehicles with the coordinates of hovering as inputs.

    Attributes:
        family: quadrotors.
        spec: shape of the network, with the coordinates after the observations.
        mean, std: of the coordinates over training vehicles [13].
        phi: weights [P].
        normalizer: that of the observations.
    """

    family: Quadrotor
    spec: PolicySpec
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    phi: Floats
    normalizer: ObservationNormalizer

    def coordinates(self, tasks: Sequence[Task]) -> Floats:
        """Standardised coordinates [N, 13] of tasks."""
        return standardised(self.family, tasks, self.mean, self.std)

    def inputs(self, observations: NDArray[np.floating]) -> Floats:
        """Normalised observations."""
        return self.normalizer.apply(observations).astype(np.float32)

    def __call__(self, observations: NDArray[np.floating], coordinates: Floats) -> Floats:
        """Actions [N, 4]."""
        inputs = torch.from_numpy(np.concatenate([self.inputs(observations), coordinates], axis=1))
        with torch.no_grad():
            actions: Floats = forward(self.spec, torch.from_numpy(self.phi), inputs).numpy()
        clipped: Floats = np.clip(actions, -1.0, 1.0)
        return clipped


def standardised(
    family: Quadrotor, tasks: Sequence[Task], mean: NDArray[np.float64], std: NDArray[np.float64]
) -> Floats:
    """Coordinates [N, 13] of tasks less their mean, over their standard deviation."""
    return ((family.controller(tasks).hovering - mean) / std).astype(np.float32)


def scales(family: Quadrotor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of the coordinates over training vehicles."""
    found = family.controller(family.sample("train", _SCALE_TASKS, _SCALE_SEED)).hovering
    return found.mean(axis=0), found.std(axis=0)


@dataclass(frozen=True, eq=False)
class HoverMapper:
    """Reader and policy."""

    policy: HoverPolicy
    reader: Reader

    def read(self, window: Floats) -> Floats:
        """Standardised coordinates [N, 13] after windows [N, n, F]."""
        with torch.no_grad():
            found: Floats = self.reader(torch.from_numpy(window))[:, -1].numpy()
        return np.clip(found, -_FARTHEST, _FARTHEST)

    def save(self, folder: Path) -> None:
        """Write it into a folder."""
        policy, spec = self.policy, self.policy.spec
        arrays = {f"reader.{name}": array.numpy() for name, array in self.reader.state_dict().items()}
        arrays |= {"phi": policy.phi, "mean": policy.mean, "std": policy.std}
        arrays |= {"observation_mean": policy.normalizer.mean, "observation_std": policy.normalizer.std}
        about = {
            "family": policy.family.name,
            "hidden": " ".join(map(str, spec.hidden)),
            "activation": spec.activation,
        }
        save_arrays(folder / FILE, arrays, about)

    @classmethod
    def load(cls, folder: Path) -> HoverMapper:
        """Read what `save` wrote.

        Raises:
            MetaMapError: no such file, or another one.
        """
        arrays, about = load_arrays(folder / FILE)
        try:
            return cls._of(arrays, about)
        except (AssertionError, KeyError, RuntimeError, ValueError) as error:
            raise MetaMapError(f"{folder / FILE}: expected a mapper of hovering, got another file: {error}") from None

    @classmethod
    def _of(cls, arrays: dict[str, NDArray[Any]], about: dict[str, str]) -> HoverMapper:
        family = get_family(about["family"])
        assert isinstance(family, Quadrotor), f"{family.name} is no family of quadrotors"
        size = family.observation_size + COORDINATES
        spec = PolicySpec(size, family.action_size, tuple(map(int, about["hidden"].split())), about["activation"])
        normalizer = ObservationNormalizer(arrays["observation_mean"], arrays["observation_std"])
        state = {
            name.removeprefix("reader."): torch.from_numpy(array)
            for name, array in arrays.items()
            if name.startswith("reader.")
        }
        reader = Reader(len(state["first.0.bias"]))
        reader.load_state_dict(state)
        return cls(HoverPolicy(family, spec, arrays["mean"], arrays["std"], arrays["phi"], normalizer), reader)

"""Policies of other tools: what is read of them, and the registry of the formats."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from metamap_agents.importers._scaling import Scaling, read_scaling
from metamap_agents.policy.spec import PolicySpec
from metamap_agents.runtime.registry import Registry
from metamap_agents.runtime.torch_files import LARGEST_FILE
from metamap_agents.sb3.rl_zoo import ACTIVATIONS
from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.files import refuse_pipes

__all__ = ["IMPORTERS", "ForeignPolicy", "ImportOptions", "Importer", "Network", "content_of", "read_policy"]

Outputs = Callable[[NDArray[np.float32]], NDArray[Any]]
"""Outputs [N, A] of a network for its inputs [N, O]."""


@dataclass(frozen=True, eq=False)
class Network:
    """A multilayer perceptron of another tool.

    Attributes:
        parts: ``layers.<i>.weight`` [out, in] and ``layers.<i>.bias`` [out], as those of a `PolicySpec`.
        activation: between layers, a name of `metamap_agents.sb3.rl_zoo.ACTIVATIONS`.
        limit: the last layer's output is clipped to [-limit, limit].
        squashed: whether tanh follows.

    Raises:
        MetaMapError: layers that do not fit together, or an unknown activation.
    """

    parts: Mapping[str, NDArray[Any]]
    activation: str
    limit: float = math.inf
    squashed: bool = False
    what: str = "network"

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise unknown_name("activation", self.activation, ACTIVATIONS)
        object.__setattr__(self, "_shape", PolicySpec.infer(dict(self.parts), "tanh", self.what))

    @property
    def shape(self) -> PolicySpec:
        """Its sizes; the activation of this spec says nothing."""
        found: PolicySpec = self.__dict__["_shape"]
        return found

    def __call__(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Outputs [N, A] for inputs [N, O]."""
        activate, last = ACTIVATIONS[self.activation](), len(self.shape.hidden)
        with torch.no_grad():
            x = torch.from_numpy(np.ascontiguousarray(inputs, dtype=np.float32))
            for index in range(last + 1):
                weight, bias = (self._tensor(f"layers.{index}.{kind}") for kind in ("weight", "bias"))
                x = torch.nn.functional.linear(x, weight, bias)
                x = activate(x) if index < last else x.clamp(-self.limit, self.limit)
            return (x.tanh() if self.squashed else x).numpy()

    def _tensor(self, name: str) -> torch.Tensor:
        return torch.from_numpy(np.asarray(self.parts[name], dtype=np.float32))

    def describe(self) -> dict[str, Any]:
        """Architecture, as plain JSON values."""
        return {"hidden": list(self.shape.hidden), "activation": self.activation, "squashed": self.squashed}


@dataclass(frozen=True, eq=False)
class ForeignPolicy:
    """A deterministic policy that another tool has trained.

    Attributes:
        kind: what it is, such as "SAC of Stable-Baselines3".
        path: its file.
        observation_size: O.
        low: lowest actions of its environment [A]. The range stands for the family's [-1, 1].
        high: highest ones.
        outputs: its outputs for normalised observations.
        unit: whether outputs in [-1, 1] stand for the range of actions; else they are actions.
        scaling: normalises observations; None for none.
        network: its layers, where they are known.

    Raises:
        MetaMapError: sizes that do not fit together.
    """

    kind: str
    path: Path
    observation_size: int
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    outputs: Outputs
    unit: bool = False
    scaling: Scaling | None = None
    network: Network | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.scaling is not None and len(self.scaling.mean) != self.observation_size:
            raise MetaMapError(
                f"{self.path}: its observations have {self.observation_size} numbers, its normaliser "
                f"{len(self.scaling.mean)}"
            )
        if self.network is not None and self.network.shape.observation_size != self.observation_size:
            raise MetaMapError(
                f"{self.path}: its observations have {self.observation_size} numbers, its actor takes "
                f"{self.network.shape.observation_size}"
            )
        if self.network is not None and self.network.shape.action_size != self.action_size:
            raise MetaMapError(
                f"{self.path}: its actions have {self.action_size} numbers, its actor gives "
                f"{self.network.shape.action_size}"
            )

    @property
    def action_size(self) -> int:
        """A."""
        return len(self.low)

    def act(self, observations: NDArray[Any]) -> NDArray[np.float64]:
        """Actions [N, A] of the family, in [-1, 1], for raw observations [N, O].

        Raises:
            MetaMapError: actions of another shape, or that are not finite.
        """
        inputs = observations if self.scaling is None else self.scaling.apply(observations)
        outputs = np.asarray(self.outputs(np.asarray(inputs, dtype=np.float32)), dtype=np.float64)
        if outputs.shape != (len(observations), self.action_size):
            expected = (len(observations), self.action_size)
            raise MetaMapError(f"{self.path}: expected actions of shape {expected}, got {outputs.shape}")
        if not np.isfinite(outputs).all():
            raise MetaMapError(f"{self.path}: its actions are not finite numbers")
        middle, half = self.affine()
        return np.clip((outputs - middle) / half, -1.0, 1.0)

    def affine(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Middle and half width [A] of the range of outputs that stands for [-1, 1]."""
        if self.unit:
            return np.zeros(self.action_size), np.ones(self.action_size)
        return (self.low + self.high) / 2.0, (self.high - self.low) / 2.0

    def check_sizes(self, family: str, observation_size: int, action_size: int) -> None:
        """Refuse a policy for another robot.

        Raises:
            MetaMapError: it has other sizes.
        """
        ours, theirs = (observation_size, action_size), (self.observation_size, self.action_size)
        if ours != theirs:
            raise MetaMapError(
                f"{self.path}: {self.kind} with {theirs[0]} observations and {theirs[1]} actions, family {family!r} "
                f"has {ours[0]} and {ours[1]}: a policy of another environment"
            )

    def describe(self) -> dict[str, Any]:
        """What it is, as plain JSON values."""
        return {
            "kind": self.kind,
            "file": self.path.name,
            "sha256": _digest(self.path),
            "action_low": self.low.tolist(),
            "action_high": self.high.tolist(),
            "scaling": None if self.scaling is None else self.scaling.to_json(),
            "network": None if self.network is None else self.network.describe(),
            **self.details,
        }


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class ImportOptions:
    """What a file of a policy does not say.

    Attributes:
        normalizer: file with the statistics of observations, or "none" for a policy that takes them raw; None to take
            what lies beside the policy. See `metamap_agents.importers._scaling.read_scaling`.
        action_range: lowest and highest action of its environment, one pair for all; None for the range that the file
            tells, or else `default_range`.
        default_range: range of the actions of the family's own environment, [A] each.
    """

    normalizer: str | Path | None = None
    action_range: tuple[float, ...] | None = None
    default_range: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None

    def __post_init__(self) -> None:
        given = self.action_range
        if given is not None and (len(given) != 2 or not -math.inf < given[0] < given[1] < math.inf):
            raise MetaMapError(f"range of actions: expected two numbers, the lower one first, got {given}")

    @property
    def raw(self) -> bool:
        """Whether the policy is said to take raw observations."""
        return str(self.normalizer) == "none"

    def scaling(self) -> Scaling | None:
        """The statistics of the file that was given.

        Raises:
            MetaMapError: an invalid file.
        """
        return None if self.normalizer is None or self.raw else read_scaling(Path(self.normalizer))

    def range(
        self, size: int, told: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lowest and highest action, [A] each.

        Args:
            size: A.
            told: what the file tells.
        """
        if self.action_range is not None:
            low, high = self.action_range
            return np.full(size, low), np.full(size, high)
        found = told or self.default_range
        if found is None or len(found[0]) != size:
            return -np.ones(size), np.ones(size)
        return found


class Importer(Protocol):
    """Reads the policies of one tool.

    Attributes:
        suffixes: what names of its files end in; empty for folders.
    """

    suffixes: ClassVar[tuple[str, ...]]

    def __call__(self, path: Path, options: ImportOptions) -> ForeignPolicy:
        """Read a policy.

        Raises:
            MetaMapError: not a policy of this tool, a damaged file, or one that does more than can be read.
        """


IMPORTERS: Registry[type[Importer]] = Registry("format")
"""Importers by name."""


def content_of(path: Path) -> bytes:
    """Read a policy's file whole.

    Raises:
        MetaMapError: a pipe or device, a file that cannot be read, or one larger than `LARGEST_FILE`.
    """
    refuse_pipes(path)
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise MetaMapError(f"{path}: expected a policy, the file is larger than {LARGEST_FILE} bytes")
        return path.read_bytes()
    except OSError as error:
        raise MetaMapError(f"{path}: cannot be read ({error.strerror})") from error


def read_policy(path: str | Path, options: ImportOptions | None = None, format: str | None = None) -> ForeignPolicy:
    """Read a policy of another tool without running code from it.

    Args:
        path: a file or folder.
        options: what the file does not say.
        format: name of the format in `IMPORTERS`; None for the one that the path ends in.

    Raises:
        MetaMapError: no such file, unknown format, or see `Importer`.
    """
    path = Path(path)
    if not path.exists():
        raise MetaMapError(f"{path}: no such file or folder")
    importer = IMPORTERS.get(format if format is not None else _named(path))()
    policy = importer(path, options or ImportOptions())
    policy.act(np.zeros((2, policy.observation_size)))
    return policy


def _named(path: Path) -> str:
    """Name of the format of a folder, or of what a file's name ends in."""
    suffix = "" if path.is_dir() else path.suffix
    for name in IMPORTERS.names():
        suffixes = IMPORTERS.get(name).suffixes
        if suffix in suffixes or not (suffix or suffixes or path.is_file()):
            return name
    known = ", ".join(f"{name} ({' '.join(IMPORTERS.get(name).suffixes) or 'a folder'})" for name in IMPORTERS.names())
    raise MetaMapError(f"{path}: no policy is stored under such a name, expected one of {known}")

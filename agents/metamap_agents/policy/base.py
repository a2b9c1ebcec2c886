"""The base policy of a family: phi_0 with all that is needed to run, fine-tune or export it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metamap_agents.policy.normalizer import ObservationNormalizer
from metamap_agents.policy.policies import Policies
from metamap_agents.policy.spec import PolicySpec
from metamap_agents.runtime.storage import check_arrays
from metamap_envs.errors import MetaMapError

__all__ = ["BasePolicy"]

DESCRIPTION_KEYS = ("critic", "record", "spec")


@dataclass(frozen=True, eq=False)
class BasePolicy:
    """One robust policy for a whole family: the initial weights of experts, and the centre of generated policies.

    Raises:
        MetaMapError: an array does not fit ``spec``, or holds a value that is not finite.
    """

    spec: PolicySpec
    """Architecture of the actor, with P weights for O observations and A actions."""
    phi: NDArray[np.float32]
    """phi_0 [P], weights of the actor on *normalised* observations."""
    normalizer: ObservationNormalizer
    """Frozen observation statistics (mean [O], std [O]), shared by every policy of the family."""
    log_std: NDArray[np.float32]
    """Log standard deviation of the action noise [A], in units of the action."""
    critic: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """Weights of the value network by name, so that an exported policy can be trained further; may be empty."""
    record: dict[str, Any] = field(default_factory=dict)
    """Record of the training, as plain JSON values."""

    def __post_init__(self) -> None:
        arrays = self.to_arrays()
        check_arrays(arrays, self.shapes(self.describe()), "base policy")
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise MetaMapError(f"base policy: {name} holds values that are not finite")

    def policies(self, phi: ArrayLike) -> Policies:
        """Other weights, [P] or [N, P], with the spec and the normaliser of this base policy.

        Raises:
            MetaMapError: ``phi`` has another shape.
        """
        return Policies(self.spec, self.normalizer, np.asarray(phi))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return every array by a stable name; :meth:`from_arrays` with :meth:`describe` is the inverse."""
        return {
            "phi": self.phi,
            "log_std": self.log_std,
            **self.normalizer.to_arrays(),
            **{f"critic.{name}": array for name, array in self.critic.items()},
        }

    def describe(self) -> dict[str, Any]:
        """Return what the arrays do not say, as plain JSON values: spec, shapes of the critic, record."""
        return {
            "spec": self.spec.to_json(),
            "critic": {name: list(array.shape) for name, array in self.critic.items()},
            "record": self.record,
        }

    @staticmethod
    def shapes(description: object) -> dict[str, tuple[int, ...]]:
        """Return the shape that each array of :meth:`to_arrays` must have, from :meth:`describe` alone.

        Raises:
            MetaMapError: the description lacks a key, has an unknown one, or holds a value of another type.
        """
        if not isinstance(description, Mapping) or set(description) != set(DESCRIPTION_KEYS):
            found = sorted(description) if isinstance(description, Mapping) else repr(description)
            raise MetaMapError(f"base policy: expected the keys {', '.join(DESCRIPTION_KEYS)}, got {found}")
        for key in ("critic", "record"):
            if not isinstance(description[key], Mapping):
                raise MetaMapError(f"base policy: {key}: expected an object, got {description[key]!r}")
        for name, shape in description["critic"].items():
            if not isinstance(shape, list | tuple):
                raise MetaMapError(f"base policy: critic: {name}: expected a shape, got {shape!r}")
        spec = PolicySpec.from_json(description["spec"])
        return {
            "phi": (spec.size,),
            "log_std": (spec.action_size,),
            "normalizer.mean": (spec.observation_size,),
            "normalizer.std": (spec.observation_size,),
            **{f"critic.{name}": tuple(shape) for name, shape in description["critic"].items()},
        }

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[Any]], description: Mapping[str, Any], what: str = "base policy"
    ) -> BasePolicy:
        """Build a base policy from the results of :meth:`to_arrays` and :meth:`describe`.

        Args:
            arrays: the arrays by name.
            description: the JSON document beside them.
            what: their source, for messages ("base.safetensors").

        Raises:
            MetaMapError: an array is missing, left over, of the wrong shape, or not finite.
        """
        check_arrays(dict(arrays), cls.shapes(description), what)
        return cls(
            spec=PolicySpec.from_json(description["spec"]),
            phi=arrays["phi"],
            normalizer=ObservationNormalizer.from_arrays(arrays),
            log_std=arrays["log_std"],
            critic={name: arrays[f"critic.{name}"] for name in description["critic"]},
            record=dict(description["record"]),
        )

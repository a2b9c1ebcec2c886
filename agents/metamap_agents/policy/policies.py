"""Weight vectors with what they need to act: the shape of the network and the observation normaliser."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from metamap_agents.policy.normalizer import Normalizer
from metamap_agents.policy.spec import PolicySpec
from metamap_envs.errors import MetaMapError

__all__ = ["Policies", "accepts_triple"]

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, eq=False)
class Policies:
    """One policy or N policies of one family, as weight vectors.

    Attributes:
        spec: shape of the networks, with P weights for O observations and A actions.
        normalizer: maps raw observations [..., O] to the inputs of the networks.
        phi: [P] for one policy, [N, P] for N policies; weights on normalised observations.

    Raises:
        MetaMapError: ``phi`` has another shape.
    """

    spec: PolicySpec
    normalizer: Normalizer
    phi: NDArray[Any]

    def __post_init__(self) -> None:
        phi = np.asarray(self.phi)
        if phi.ndim not in (1, 2) or phi.shape[-1] != self.spec.size:
            size = self.spec.size
            raise MetaMapError(f"phi: expected shape ({size},) or (policies, {size}) for {self.spec}, got {phi.shape}")
        object.__setattr__(self, "phi", phi)

    def folded(self) -> NDArray[np.float64]:
        """Weights on raw observations, of the shape of ``phi``: the normaliser is folded into the first layer.

        Raises:
            MetaMapError: the normaliser is of another observation size.
        """
        return self.normalizer.fold(self.spec, self.phi.astype(np.float64))


def accepts_triple(position: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function with a `Policies` argument also accept ``spec, phi, normalizer`` there, with a warning.

    The old call form works for one release.

    Args:
        position: of the `Policies` argument, counted from 0 with ``self``.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            rest = args[position:]
            if not (rest and isinstance(rest[0], PolicySpec)) and "spec" not in kwargs:
                return function(*args, **kwargs)
            warnings.warn(
                "spec, phi and normalizer as three arguments are deprecated: pass Policies(spec, normalizer, phi), or "
                "base.policies(phi) of a BasePolicy",
                DeprecationWarning,
                stacklevel=2,
            )
            triple: dict[str, Any] = dict(zip(("spec", "phi", "normalizer"), rest, strict=False))
            for name in ("spec", "phi", "phis", "normalizer"):
                if name in kwargs:
                    triple["phi" if name == "phis" else name] = kwargs.pop(name)
            return function(*args[:position], Policies(**triple), *rest[3:], **kwargs)  # type: ignore[arg-type]

        return wrapper

    return decorate

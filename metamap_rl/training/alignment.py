"""Alignment of weights: the same network, its hidden units put in the order of another network's.

Two networks that do the same can differ in every weight, because hidden units can stand in any order (and with tanh
each can be turned round: -tanh(-x) is tanh(x)). Experts that were not fine-tuned from phi_0 say little as numbers until
they are put in its order. Units are matched layer by layer, again and again until nothing changes, as in Git Re-Basin
(Ainsworth et al. 2023).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from metamap_agents.policy.spec import PolicySpec
from metamap_envs.errors import MetaMapError

__all__ = ["align"]

_MOST_PASSES = 50
_ODD = ("tanh",)  # activations f with f(-x) = -f(x)

Weights = NDArray[np.float32]


def align(spec: PolicySpec, phi: Weights, reference: Weights) -> Weights:
    """Return the network ``phi`` with its hidden units in the order, and with the signs, that are nearest to another's.

    The result computes what ``phi`` does, up to the order of sums. No pass makes the distance to ``reference`` larger,
    so weights that are aligned already come back as they are.

    Args:
        spec: shape of both.
        phi: weights [P].
        reference: weights [P] to come near to, such as phi_0.

    Raises:
        MetaMapError: weights of another shape.
    """
    for name, weights in (("phi", phi), ("reference", reference)):
        if weights.shape != (spec.size,):
            raise MetaMapError(f"{name}: expected shape {(spec.size,)}, got {weights.shape}")
    parts = {name: part.copy() for name, part in spec.split(phi).items()}
    wanted = spec.split(reference.astype(np.float64))
    for _ in range(_MOST_PASSES):
        changed = [_match(parts, wanted, layer, spec.activation in _ODD) for layer in range(len(spec.hidden))]
        if not any(changed):
            break
    return spec.join(parts)


def _match(parts: dict[str, Weights], wanted: dict[str, NDArray[np.float64]], layer: int, odd: bool) -> bool:
    """Put the units of one hidden layer in order, given the layers around it; whether any had to move."""
    into, bias, out = f"layers.{layer}.weight", f"layers.{layer}.bias", f"layers.{layer + 1}.weight"
    # A unit is all that touches it: weights in, bias, weights out. Row i: the wanted unit, column j: the one there is.
    likeness = wanted[into] @ parts[into].T + np.outer(wanted[bias], parts[bias]) + wanted[out].T @ parts[out]
    scores = np.abs(likeness) if odd else likeness
    units, order = linear_sum_assignment(scores, maximize=True)
    signs = np.where(likeness[units, order] < 0, -1, 1).astype(np.float32) if odd else np.ones(len(units), np.float32)
    before = np.trace(likeness)
    if (scores[units, order].sum() - before) <= 1e-9 * np.abs(likeness).sum():
        return False
    parts[into] = signs[:, None] * parts[into][order]
    parts[bias] = signs * parts[bias][order]
    parts[out] = parts[out][:, order] * signs
    return True

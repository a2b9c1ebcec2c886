"""Alignment of weights: permutes the hidden units of a network to match another network.

Networks that compute the same function can differ in every weight: hidden units can be permuted and, with tanh, have
their signs flipped (-tanh(-x) = tanh(x)). Weights of experts that were not fine-tuned from phi_0 are therefore not
comparable until they are aligned with it. Units are matched layer by layer until nothing changes, as in Git Re-Basin
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
    """Return ``phi`` with its hidden units permuted, and their signs flipped, to be close to another network.

    The result computes the same function as ``phi``, up to the order of sums. No pass increases the distance to
    ``reference``; aligned weights are returned unchanged.

    Args:
        spec: architecture of both.
        phi: weights [P].
        reference: target weights [P], such as phi_0.

    Raises:
        MetaMapError: weights of the wrong shape.
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
    """Match the units of one hidden layer, given the adjacent layers; returns whether any changed."""
    into, bias, out = f"layers.{layer}.weight", f"layers.{layer}.bias", f"layers.{layer + 1}.weight"
    # A unit is its input weights, bias and output weights. Row i: unit of the reference, column j: present unit.
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

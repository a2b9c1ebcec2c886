"""Batched policies for acting, where no action depends on the rest of the batch.

A batched matrix product may sum the same numbers in another order when the batch has another size, and one bit is
enough to change an episode of a chaotic system. Here each observation is multiplied with the weights of its policy in
a product of its own: always a vector by a matrix, of the same shape, at the same alignment, on one thread. NumPy loops
over these products in C, which takes no longer than `torch.baddbmm` (docs/reproducibility.md).
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_agents.policy.spec import PolicySpec
from metamap_envs.errors import MetaMapError

__all__ = ["RowwiseNetworks"]

Floats = NDArray[np.float32]

_ALIGNMENT = 64  # bytes, the widest vector register of x86-64
_BLOCK = (128, 64)  # inputs, outputs of one product: small enough that no BLAS divides it among threads


class RowwiseNetworks:
    """T networks of one shape in float32, with their own copy of the weights.

    Args:
        spec: shape of the networks.
        phis: [T, P].

    Raises:
        MetaMapError: weights of another size.
    """

    def __init__(self, spec: PolicySpec, phis: NDArray[Any]) -> None:
        self.spec = spec
        self._phis = np.array(phis, dtype=np.float32, order="C")
        parts = spec.split(self._phis)
        self._layers = [
            (
                _aligned(parts[f"layers.{index}.weight"].transpose(0, 2, 1)[:, None]),
                parts[f"layers.{index}.bias"][:, None, None].copy(),
            )
            for index in range(len(spec.hidden) + 1)
        ]

    def __reduce__(self) -> tuple[Any, ...]:
        return RowwiseNetworks, (self.spec, self._phis)  # a copy of the layers' arrays would lose their alignment

    def __len__(self) -> int:
        """T."""
        return len(self._layers[0][0])

    def replace(self, index: int, phi: NDArray[Any]) -> None:
        """Give one of the networks other weights [P]; to the bit as if it had been made with them."""
        self._phis[index] = phi
        parts = self.spec.split(self._phis[index])
        for layer, (weight, bias) in enumerate(self._layers):
            weight[index, 0] = parts[f"layers.{layer}.weight"].T
            bias[index, 0, 0] = parts[f"layers.{layer}.bias"]

    def __call__(self, observations: NDArray[Any]) -> Floats:
        """Return mean actions before clipping, float32 [T, E, A].

        Args:
            observations: [T, E, O], inputs of the networks; cast to float32.

        Raises:
            MetaMapError: observations of another shape.
        """
        if observations.ndim != 3 or observations.shape[::2] != (len(self), self.spec.observation_size):
            expected = (len(self), "episodes", self.spec.observation_size)
            raise MetaMapError(f"observations: expected shape {expected}, got {observations.shape}")
        activate = _ACTIVATIONS[self.spec.activation]
        with np.errstate(all="ignore"):  # infinite weights and NaN go through, as in torch
            x = _aligned(observations[:, :, None].astype(np.float32))
            for index, (weight, bias) in enumerate(self._layers):
                x = _product(x, weight)
                x += bias
                if index < len(self._layers) - 1:
                    activate(x)
        return np.ascontiguousarray(x[:, :, 0])


def _product(x: Floats, weight: Floats) -> Floats:
    """[T, E, 1, I] by [T, 1, I, H]: [T, E, 1, H], each row by itself, in blocks of at most `_BLOCK`."""
    inputs, outputs = weight.shape[2:]
    y = _empty((*x.shape[:3], outputs))
    for end in range(0, outputs, _BLOCK[1]):
        block = y[..., end : end + _BLOCK[1]]
        columns = weight[..., end : end + _BLOCK[1]]
        np.matmul(x[..., : _BLOCK[0]], columns[:, :, : _BLOCK[0]], out=block)
        for start in range(_BLOCK[0], inputs, _BLOCK[0]):
            rows = slice(start, start + _BLOCK[0])
            block += np.matmul(x[..., rows], columns[:, :, rows])
    return y


def _empty(shape: tuple[int, ...]) -> Floats:
    """An array whose rows all begin at a multiple of `_ALIGNMENT` bytes, not only the first."""
    size = np.dtype(np.float32).itemsize
    in_register = _ALIGNMENT // size
    width = -(-shape[-1] // in_register) * in_register
    count = width * prod(shape[:-1])
    memory = np.empty(count + in_register, dtype=np.float32)
    skip = -memory.ctypes.data % _ALIGNMENT // size
    return memory[skip : skip + count].reshape(*shape[:-1], width)[..., : shape[-1]]


def _aligned(values: NDArray[Any]) -> Floats:
    copy = _empty(values.shape)
    copy[...] = values
    return copy


def _elu(x: Floats) -> None:
    np.copyto(x, np.expm1(x), where=x < 0)


def _tanh(x: Floats) -> None:
    np.tanh(x, out=x)


def _relu(x: Floats) -> None:
    np.maximum(x, 0, out=x)


_ACTIVATIONS: dict[str, Callable[[Floats], None]] = {"tanh": _tanh, "relu": _relu, "elu": _elu}

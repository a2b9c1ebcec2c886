"""The shape of a policy network and the layout of its weights in one flat vector ``phi``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError, unknown_name

if TYPE_CHECKING:
    import torch

__all__ = ["ACTIVATIONS", "Layer", "PolicySpec"]

ACTIVATIONS = ("tanh", "relu", "elu")

ArrayT = TypeVar("ArrayT", NDArray[Any], "torch.Tensor")


class Layer(NamedTuple):
    """A weight matrix ``(out, in)`` or bias ``(out,)``, stored from ``phi[offset]`` on in C order."""

    name: str
    shape: tuple[int, ...]
    offset: int


@dataclass(frozen=True)
class PolicySpec:
    """A multilayer perceptron from observation to mean action: ``activation`` between layers, linear output.

    This is the actor of Stable-Baselines3's ``MlpPolicy``. ``phi`` holds layers.0.weight, layers.0.bias,
    layers.1.weight, ... one after the other; a weight has shape (out, in).

    Attributes:
        observation_size: O, at least 1.
        action_size: A, at least 1.
        hidden: sizes of the hidden layers; empty for a linear policy.
        activation: one of :data:`ACTIVATIONS`.

    Raises:
        MetaMapError: a size that is not a positive integer, or an unknown activation.
    """

    observation_size: int
    action_size: int
    hidden: tuple[int, ...] = (64, 64)
    activation: str = "tanh"

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        object.__setattr__(self, "observation_size", _positive("observation_size", self.observation_size))
        object.__setattr__(self, "action_size", _positive("action_size", self.action_size))
        object.__setattr__(self, "hidden", tuple(_positive("hidden", width) for width in self.hidden))
        if self.activation not in ACTIVATIONS:
            raise unknown_name("activation", self.activation, ACTIVATIONS)

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """Name, shape and offset of every weight and bias, in the order of ``phi``."""
        table: list[Layer] = []
        offset = 0
        widths = (self.observation_size, *self.hidden, self.action_size)
        for index, (inputs, outputs) in enumerate(pairwise(widths)):
            for kind, shape in (("weight", (outputs, inputs)), ("bias", (outputs,))):
                table.append(Layer(f"layers.{index}.{kind}", shape, offset))
                offset += prod(shape)
        return tuple(table)

    @cached_property
    def size(self) -> int:
        """P, the number of weights: 5702 for 17 -> 64 -> 64 -> 6."""
        return sum(prod(layer.shape) for layer in self.layers)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape by name, as :func:`metamap_agents.runtime.storage.check_arrays` takes them."""
        return {layer.name: layer.shape for layer in self.layers}

    def split(self, phi: ArrayT) -> dict[str, ArrayT]:
        """Split ``phi`` [..., P] into named weights [..., out, in] and biases [..., out].

        The parts are views of ``phi`` (NumPy copies them where the last axis of ``phi`` is not contiguous).

        Raises:
            MetaMapError: the last axis is not of size P.
        """
        if phi.ndim == 0 or phi.shape[-1] != self.size:
            raise MetaMapError(f"phi: expected shape (..., {self.size}) for {self}, got {tuple(phi.shape)}")
        lead = tuple(phi.shape[:-1])
        parts = {}
        for name, shape, offset in self.layers:
            parts[name] = phi[..., offset : offset + prod(shape)].reshape(lead + shape)
        return parts

    def join(self, parts: Mapping[str, ArrayT]) -> ArrayT:
        """Inverse of :meth:`split`: named parts, all with the same leading axes, to ``phi`` [..., P].

        Raises:
            MetaMapError: a part is missing, unexpected or of another shape.
        """
        shapes = self.shapes
        for name in parts:
            if name not in shapes:
                raise unknown_name("policy weight", name, shapes)
        flat: list[Any] = []  # Any: the two libraries share these calls, not a type
        lead: tuple[int, ...] = ()
        for name, shape in shapes.items():
            if name not in parts:
                raise MetaMapError(f"{name}: expected an array of shape {shape}, there is none")
            part: Any = parts[name]
            if not flat:
                lead = tuple(part.shape[: part.ndim - len(shape)])
            full = lead + shape
            if tuple(part.shape) != full:
                raise MetaMapError(f"{name}: expected shape {full}, got {tuple(part.shape)}")
            flat.append(part.reshape((*lead, prod(shape))))
        if isinstance(flat[0], np.ndarray):
            joined: Any = np.concatenate(flat, axis=-1)
        else:
            import torch  # only for a caller who has it already: the layout itself is plain Python

            joined = torch.cat(flat, dim=-1)
        return cast(ArrayT, joined)

    @classmethod
    def infer(cls, parts: Mapping[str, NDArray[Any]], activation: str = "tanh", what: str = "policy") -> PolicySpec:
        """Infer the sizes from named weights ``layers.<i>.weight`` and ``layers.<i>.bias``.

        Args:
            parts: the arrays, and no others.
            activation: one of :data:`ACTIVATIONS`.
            what: their source, for the error.

        Raises:
            MetaMapError: the shapes are not those of one multilayer perceptron.
        """
        widths: list[int] = []
        while (name := f"layers.{len(widths)}.weight") in parts:
            if parts[name].ndim != 2:
                raise MetaMapError(f"{what}: {name}: expected shape (out, in), got {parts[name].shape}")
            widths.append(int(parts[name].shape[0]))
        if not widths:
            raise MetaMapError(f"{what}: expected layers.0.weight and layers.0.bias, there are {sorted(parts)}")
        spec = cls(int(parts["layers.0.weight"].shape[1]), widths[-1], tuple(widths[:-1]), activation)
        try:
            spec.join(dict(parts))
        except MetaMapError as error:
            raise MetaMapError(f"{what}: {error}") from error
        return spec

    def to_json(self) -> dict[str, Any]:
        """The four attributes, in types that JSON has."""
        return {
            "observation_size": self.observation_size,
            "action_size": self.action_size,
            "hidden": list(self.hidden),
            "activation": self.activation,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PolicySpec:
        """Inverse of :meth:`to_json`; all four keys must be there, and no other.

        Raises:
            MetaMapError: a key is missing or unknown, or a value is not valid.
        """
        keys = ("observation_size", "action_size", "hidden", "activation")
        if not isinstance(data, Mapping):
            raise MetaMapError(f"policy spec: expected an object with the keys {', '.join(keys)}, got {data!r}")
        for key in data:
            if key not in keys:
                raise unknown_name("policy spec key", key, keys)
        for key in keys:
            if key not in data:
                raise MetaMapError(f"policy spec: expected the key {key!r}, there are {sorted(data)}")
        if not isinstance(data["hidden"], (list, tuple)):
            raise MetaMapError(f"policy spec: hidden: expected a list of sizes, got {data['hidden']!r}")
        return cls(**data)


def _positive(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise MetaMapError(f"policy spec: {name}: expected a positive integer, got {value!r}")
    return int(value)

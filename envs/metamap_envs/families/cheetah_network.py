"""HalfCheetah whose commands go through a hidden neural network before they are torques."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metamap_envs.families._half_cheetah import ACTUATORS, HalfCheetah
from metamap_envs.families.cheetah_actuators import TARGET_VELOCITY
from metamap_envs.parameters import Parameter, ParameterSpace
from metamap_envs.registry import register_family
from metamap_envs.state import Array, State

__all__ = ["CheetahNetwork"]

_LATENTS = 4
_SIZE = len(ACTUATORS)
_SLOPE = 2.0  # of the hidden units at 0
_TURN = 0.8  # largest singular value of a generator: at 1 its latent alone turns a plane by 2 atan(0.8), 77 degrees
_SHIFT = 0.3  # standard deviation of the hidden units' biases for each latent at 1
_SEED = 18  # of the network's shape, one for the family


def _latent(index: int) -> Parameter:
    return Parameter(
        name=f"latent_{index}",
        unit="1",
        low=-1.3,
        high=1.3,
        default=0.0,
        train=((-1.0, 1.0),),
        out=((-1.3, -1.0), (1.0, 1.3)),
        description=f"coordinate {index} of the network between command and torque",
    )


class _Shape(NamedTuple):
    """How the network's weights follow from the latents."""

    inward: Array
    """Generators of the rotation before the hidden units [K, A, A]."""
    outward: Array
    """The same behind them."""
    shift: Array
    """Biases of the hidden units [K, A]."""


def _generators(generator: np.random.Generator) -> Array:
    """Random skew matrices [K, A, A] whose largest singular value is `_TURN`."""
    drawn = generator.standard_normal((_LATENTS, _SIZE, _SIZE))
    skew = drawn - drawn.transpose(0, 2, 1)
    scaled: Array = _TURN * skew / np.linalg.norm(skew, ord=2, axis=(1, 2))[:, None, None]
    return scaled


def _shape() -> _Shape:
    generator = np.random.default_rng(_SEED)
    return _Shape(_generators(generator), _generators(generator), _SHIFT * generator.standard_normal((_LATENTS, _SIZE)))


_SHAPE = _shape()


def _rotations(generators: Array, latents: Array) -> Array:
    """Rotation matrices [N, A, A]: Cayley's transform of the sum of generators, weighted by latents [N, K]."""
    skew = (generators[None] * latents[:, :, None, None]).sum(axis=1)
    return np.linalg.solve(np.eye(_SIZE) + skew, np.eye(_SIZE) - skew)


@lru_cache(maxsize=64)
def _weights(latents: bytes) -> tuple[Array, Array, Array]:
    """Inward rotations, outward rotations [N, A, A] and biases [N, A] of the networks of latents [N, K]."""
    rows = np.frombuffer(latents).reshape(-1, _LATENTS)
    shift = (_SHAPE.shift[None] * rows[:, :, None]).sum(axis=1)
    return _rotations(_SHAPE.inward, rows), _rotations(_SHAPE.outward, rows), shift


def _turned(rotations: Array, vectors: Array) -> Array:
    """Products [N, A], each row by itself, so that a row does not depend on how many there are."""
    products: Array = (rotations * vectors[:, None, :]).sum(axis=2)
    return products


@register_family
class CheetahNetwork(HalfCheetah):
    """HalfCheetah-v5 physics behind a network of six hidden units: torques ``B tanh(2 A a + c)`` of commands a.

    Commands and torques are clipped to [-1, 1]. A and B are rotations in the space of the six actuators, c is a vector;
    all three follow from four latents by a rule that was drawn once, at random, for the family. With all latents at 0
    they are the identity and 0. A latent of 1 alone turns one plane by 77 degrees in A and another in B, so that a
    command to one joint moves others. The network is no part of the model: no mass, gear or other parameter of a
    simulated cheetah has its effect.

    Reward: ``-|v - 2| - 0.05 sum(a^2)``, v the mean forward velocity over the step in m/s, a the command as given.
    Horizon 200.
    Source: ours; reward and horizon are those of `cheetah-actuators`.
    """

    name = "cheetah-network"
    description = "HalfCheetah at 2 m/s whose commands go through a hidden neural network before they are torques"
    space = ParameterSpace(tuple(_latent(index) for index in range(_LATENTS)))
    physics_parameters = frozenset(space.names)

    def controls(self, actions: NDArray[Any], activations: Array, values: Array) -> Array:
        """Torques that the network makes of commands."""
        inward, outward, shift = _weights(np.ascontiguousarray(values, dtype=np.float64).tobytes())
        commands = np.clip(actions.astype(np.float64), -1.0, 1.0)
        return _turned(outward, np.tanh(_SLOPE * _turned(inward, commands) + shift))

    def reward(
        self, before: State, after: State, actions: NDArray[Any], values: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Distance to 2 m/s and control cost, both negative."""
        return self.velocity_reward(before, after, actions, target=TARGET_VELOCITY)

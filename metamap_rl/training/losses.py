"""Losses of the mapper: error of generated weights against the expert's, in weights or in behaviour.

Each is a function of an :class:`Outcome`, registered with ``@LOSSES.register("name")``. They are independent of control
and also used for function regression.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import mse_loss

from metamap_agents.policy.functional import forward as network_forward
from metamap_agents.policy.spec import PolicySpec
from metamap_rl.common.registry import Registry
from metamap_rl.data.examples import Batch
from metamap_rl.mapper.mapper import Mapper

__all__ = ["LOSSES", "Loss", "Outcome", "behaviour", "both", "weights"]


@dataclass(frozen=True)
class Outcome:
    """Output and target of one forward pass for B tasks."""

    spec: PolicySpec
    """Architecture of the generated network, with P weights, I inputs and A outputs."""
    phi_hat: Tensor
    """Generated weights [B, P]."""
    phi: Tensor
    """Weights of the experts, phi* [B, P]."""
    scale: Tensor
    """Unit of each weight [P], positive."""
    inputs: Tensor
    """Inputs of the generated network [B, S, I]; for policies the expert's states, normalised."""
    targets: Tensor
    """Outputs of the experts for them [B, S, A]; for policies unclipped mean actions."""
    weights_coefficient: float = 0.0
    """Coefficient of the weight loss in ``both``, >= 0."""

    @classmethod
    def of(cls, mapper: Mapper, phi_hat: Tensor, batch: Batch, weights_coefficient: float = 0.0) -> Outcome:
        """Build from generated weights [B, P] and the batch that they were generated for."""
        spec, scale = mapper.base.spec, mapper.weight_scale
        return cls(spec, phi_hat, batch.phi, scale, batch.inputs, batch.targets, weights_coefficient)


Loss = Callable[[Outcome], Tensor]
LOSSES: Registry[Loss] = Registry("loss")


@LOSSES.register("weights")
def weights(outcome: Outcome) -> Tensor:
    """Return ``mean(((phi_hat - phi*) / scale)^2)``, a scalar without unit.

    Meaningful only if all phi* are in one basin: networks that compute the same function can differ in every weight.
    """
    return mse_loss(outcome.phi_hat / outcome.scale, outcome.phi / outcome.scale)


@LOSSES.register("behaviour")
def behaviour(outcome: Outcome) -> Tensor:
    """Return the mean squared error of outputs on the expert's inputs, a scalar in squared output units.

    Actions are not clipped: an expert's action outside the actuator's range still gives a direction, and clipping would
        stop the gradient.
    """
    return mse_loss(network_forward(outcome.spec, outcome.phi_hat, outcome.inputs), outcome.targets)


@LOSSES.register("both")
def both(outcome: Outcome) -> Tensor:
    """Return ``weights_coefficient * weights + behaviour``."""
    return outcome.weights_coefficient * weights(outcome) + behaviour(outcome)

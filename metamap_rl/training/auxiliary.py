"""Auxiliary losses on z, trained together with the mapper and dropped after training.

They need no experts, so they use the survey if there is one. To add one, write a module with the interface of
:class:`Auxiliary` and register it with ``@AUXILIARIES.register("name")``.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from metamap_agents.policy.spec import PolicySpec
from metamap_envs.errors import MetaMapError
from metamap_envs.seeds import read_seed
from metamap_rl.common.registry import Registry
from metamap_rl.data.layout import TransitionLayout

__all__ = ["AUXILIARIES", "Auxiliary", "AuxiliaryFactory", "Dynamics", "new_auxiliary"]


class Auxiliary(Protocol):
    """Interface of auxiliary losses; implementations are ``nn.Module`` classes."""

    def __call__(self, z: Tensor, rows: Tensor) -> Tensor:
        """Return the loss, a scalar.

        Args:
            z: contexts [B, Z] of B tasks.
            rows: standardised feature rows [B, Q, F] of the same tasks, mostly not part of D.
        """
        ...


class AuxiliaryFactory(Protocol):
    """Constructor of an auxiliary loss: sizes F and Z, architecture of the generated network, hidden width."""

    def __call__(self, feature_size: int, context_size: int, spec: PolicySpec, hidden: int) -> nn.Module:
        """Build it; parameters are drawn from torch's global generator."""
        ...


AUXILIARIES: Registry[AuxiliaryFactory] = Registry("auxiliary loss")


@AUXILIARIES.register("dynamics")
class Dynamics(nn.Module):
    """Dynamics model: predicts reward and change of the observation from z, observation and action.

    The loss is the mean squared error of standardised reward and change; the best constant prediction has loss 1. A z
    that predicts the dynamics contains what a policy needs to know of the task (VariBAD, Zintgraf et al. 2020).

    Raises:
        MetaMapError: the feature rows do not have the size of `metamap_rl.data.layout.TransitionLayout`.
    """

    def __init__(self, feature_size: int, context_size: int, spec: PolicySpec, hidden: int) -> None:
        super().__init__()
        layout = TransitionLayout.of(spec)
        self.given = layout.outcome.start  # columns of observation, action and |action|^2 come first
        if feature_size != layout.size:
            raise MetaMapError(
                f"the auxiliary loss 'dynamics' reads rows of transitions, of {layout.size} numbers; "
                f"these have {feature_size}"
            )
        self.network = nn.Sequential(
            nn.Linear(context_size + self.given, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, layout.size - self.given),
        )

    def predict(self, z: Tensor, given: Tensor) -> Tensor:
        """Predict reward and change [..., Q, 1 + O] from observations and actions [..., Q, O + A + 1], standardised."""
        context = z.unsqueeze(-2).expand(*given.shape[:-1], -1)
        outcome: Tensor = self.network(torch.cat([context, given], dim=-1))
        return outcome

    def forward(self, z: Tensor, rows: Tensor) -> Tensor:
        """See :class:`Auxiliary`."""
        return mse_loss(self.predict(z, rows[..., : self.given]), rows[..., self.given :])


def new_auxiliary(
    name: str, *, feature_size: int, context_size: int, spec: PolicySpec, hidden: int, seed: int
) -> nn.Module:
    """Build an auxiliary loss by name; torch's global generator is restored."""
    seed = read_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AUXILIARIES.get(name)(feature_size, context_size, spec, hidden)

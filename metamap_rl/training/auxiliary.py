"""Auxiliary losses: what else z should be good for. They are learned beside the mapper and dropped after training.

They need no experts, so they are learned on the survey where there is one. To add one, write a module with the
constructor and the call of :class:`Auxiliary` under ``@AUXILIARIES.register("name")``.
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
    """What training needs of an auxiliary loss; implementations are ``nn.Module`` classes."""

    def __call__(self, z: Tensor, rows: Tensor) -> Tensor:
        """Return the loss, a scalar.

        Args:
            z: contexts [B, Z] of B tasks, each from a D of its own.
            rows: feature rows [B, Q, F] of the same tasks, standardised, most of which are not in that D.
        """
        ...


class AuxiliaryFactory(Protocol):
    """How training builds one: the sizes F and Z, the generated network's shape, the width of hidden layers."""

    def __call__(self, feature_size: int, context_size: int, spec: PolicySpec, hidden: int) -> nn.Module:
        """Build it; parameters are drawn from torch's current generator."""
        ...


AUXILIARIES: Registry[AuxiliaryFactory] = Registry("auxiliary loss")


@AUXILIARIES.register("dynamics")
class Dynamics(nn.Module):
    """A model of the task: from z, observation and action to reward and change of the observation.

    The loss is the mean squared error of standardised reward and change, so that 1 is what a constant would have. A z
    that tells how the task answers to actions tells what a policy needs to know of it (VariBAD, Zintgraf et al. 2020).

    Raises:
        MetaMapError: the feature rows are not those of `metamap_rl.data.layout.TransitionLayout`.
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
        """Reward and change [..., Q, 1 + O] after observations and actions [..., Q, O + A + 1], standardised."""
        context = z.unsqueeze(-2).expand(*given.shape[:-1], -1)
        outcome: Tensor = self.network(torch.cat([context, given], dim=-1))
        return outcome

    def forward(self, z: Tensor, rows: Tensor) -> Tensor:
        """See :class:`Auxiliary`."""
        return mse_loss(self.predict(z, rows[..., : self.given]), rows[..., self.given :])


def new_auxiliary(
    name: str, *, feature_size: int, context_size: int, spec: PolicySpec, hidden: int, seed: int
) -> nn.Module:
    """Build an auxiliary loss by name; torch's global generator is left as it was."""
    seed = read_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AUXILIARIES.get(name)(feature_size, context_size, spec, hidden)

"""phi* by training: many networks at once, one for each function, all initialised with phi_0."""

from __future__ import annotations

import torch
from torch import Tensor

from metamap_agents.policy.functional import forward
from metamap_agents.policy.spec import PolicySpec
from metamap_rl.common.schedule import warmup_cosine
from metamap_rl.evaluation.baselines.adaptation import squared_error

__all__ = ["fit"]


def fit(
    spec: PolicySpec, start: Tensor, inputs: Tensor, targets: Tensor, *, steps: int = 1000, rate: float = 1e-2
) -> Tensor:
    """Fit one network to each task with Adam, full batch, on the squared error; the rate falls to 0 along a cosine.

    Args:
        spec: shape of the networks.
        start: phi_0 [P], shared by all, so that all phi* lie in one basin.
        inputs: [T, S, I].
        targets: [T, S, A].
        steps: updates.
        rate: first learning rate.

    Returns:
        phi* [T, P]. Adam is element-wise, so the tasks are independent.
    """
    phi = start.detach().repeat(len(inputs), 1).requires_grad_()
    optimiser = torch.optim.Adam([phi], lr=rate, fused=True)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = warmup_cosine(step, steps, warmup=0, highest=rate)
        optimiser.zero_grad(set_to_none=True)
        squared_error(forward(spec, phi, inputs), targets).sum().backward()  # type: ignore[no-untyped-call]  # torch annotates it only in part
        optimiser.step()
    return phi.detach()

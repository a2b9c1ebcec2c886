"""TorchScript module, for ``torch.jit.load`` in Python and C++."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from metamap_agents.runtime.storage import write_bytes
from metamap_rl.adaptation.plain import PlainPolicy
from metamap_rl.exporters.base import EXPORTERS

__all__ = ["TorchScript"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "elu": nn.ELU}


@EXPORTERS.register("torchscript")
class TorchScript:
    """A module from raw observations [N, O] or [O], float32, to clipped actions of the same leading axes."""

    suffix: ClassVar[str] = ".pt"
    writes: ClassVar[tuple[type, ...]] = (PlainPolicy,)

    def __call__(self, source: Any, path: Path) -> None:
        """See `metamap_rl.exporters.base.Exporter`."""
        with warnings.catch_warnings():
            # torch calls TorchScript deprecated since 2.9; nothing else is read by C++ without a compiler.
            warnings.simplefilter("ignore", DeprecationWarning)
            module = torch.jit.script(_Network(source).eval())
            buffer = io.BytesIO()
            torch.jit.save(module, buffer)
        write_bytes(path, buffer.getvalue())


class _Network(nn.Module):
    """The layers of a policy, and the range of its actions."""

    def __init__(self, policy: PlainPolicy) -> None:
        super().__init__()
        modules: list[nn.Module] = []
        for weight, bias in policy.layers():
            with torch.device("meta"):  # no initial weights are drawn
                linear = nn.Linear(weight.shape[1], weight.shape[0])
            linear.weight, linear.bias = (nn.Parameter(torch.from_numpy(each.copy())) for each in (weight, bias))
            modules += [linear, _ACTIVATIONS[policy.spec.activation]()]
        self.layers = nn.Sequential(*modules[:-1])
        # Parameters, since TorchScript cannot read the annotations that buffers need.
        self.low, self.high = (nn.Parameter(torch.from_numpy(bound.copy())) for bound in policy.bounds)
        self.requires_grad_(False)

    def forward(self, observation: Tensor) -> Tensor:
        action: Tensor = self.layers(observation)
        return torch.maximum(torch.minimum(action, self.high), self.low)

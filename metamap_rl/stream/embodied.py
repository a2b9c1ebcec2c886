"""Mapper for several embodiments of different observation and action sizes: a shared core and a head for each.

Each embodiment has a complete `Mapper` with its own base policy and units, but all mappers share the modules whose
sizes do not depend on the embodiment. A head belongs to an embodiment, never to a task or a family: the task must be
inferred from D.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from metamap_agents.policy.base import BasePolicy
from metamap_agents.runtime.storage import check_arrays
from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.seeds import read_seed
from metamap_rl.mapper.config import MapperConfig
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.mapper.scales import Scales

__all__ = ["EmbodiedMapper"]


class EmbodiedMapper(nn.Module):
    """``phi_hat = phi_0 + weight_scale * head(core(first_layer(D)))``, the first layer, head and units by embodiment.

    Args:
        config: sizes and networks of the core.
        seed: of the initial parameters.
    """

    def __init__(self, config: MapperConfig, seed: int = 0) -> None:
        seed = read_seed(seed)
        super().__init__()
        self.config = config
        self.seed = seed
        self._mappers = nn.ModuleDict()

    @property
    def embodiments(self) -> tuple[str, ...]:
        """Names of the embodiments, in order of addition."""
        return tuple(self._mappers)

    def __contains__(self, embodiment: str) -> bool:
        return embodiment in self._mappers

    def __getitem__(self, embodiment: str) -> Mapper:
        """The mapper of one embodiment.

        Raises:
            MetaMapError: it was not added.
        """
        if embodiment not in self._mappers:
            raise unknown_name("embodiment of this mapper", embodiment, self.embodiments)
        return cast(Mapper, self._mappers[embodiment])

    def __iter__(self) -> Iterator[str]:
        return iter(self._mappers)

    def add(
        self, embodiment: str, base: BasePolicy, scales: Scales, *, family: str, probe: Mapping[str, Any] | None = None
    ) -> Mapper:
        """Add an embodiment; before training its output is exactly phi_0. The others are not changed.

        Args:
            embodiment: its name.
            base: base policy of the embodiment.
            scales: units of features and weights, fixed from now on.
            family: name of the family of the base policy.
            probe: name and settings of the probe.

        Raises:
            MetaMapError: it was added before.
        """
        if embodiment in self:
            raise MetaMapError(f"embodiment {embodiment!r} was added to this mapper before")
        mapper = Mapper(
            self.config, base, family=family, scales=scales, probe=probe, seed=self.seed + len(self._mappers)
        )
        if self._mappers:
            mapper.share_core(self[self.embodiments[0]])
        self._mappers[embodiment] = mapper
        return mapper

    def forget(self, embodiments: Iterable[str]) -> None:
        """Remove heads; the core is not changed."""
        for embodiment in embodiments:
            del self._mappers[embodiment]

    def forward(self, embodiment: str, *features: Tensor) -> Tensor:
        """Map feature rows of one embodiment to weights, in one pass through its head.

        Args:
            embodiment: its name.
            features: one or more batches of D [B_i, n_i, F]; n_i at least 1 if there are several.

        Returns:
            [sum B_i, P], in the order given.
        """
        mapper = self[embodiment]
        if len(features) == 1:
            weights: Tensor = mapper(features[0])
            return weights
        z = torch.cat([mapper.encode(rows) for rows in features])
        return mapper.phi_0 + mapper.change(z)

    def blank(self, seed: int) -> EmbodiedMapper:
        """An untrained mapper with the same embodiments, base policies and units."""
        seed = read_seed(seed)
        fresh = EmbodiedMapper(self.config, seed)
        for name in self:
            mapper = self[name]
            fresh.add(name, mapper.base, mapper.scales, family=mapper.family, probe=mapper.probe)
        return fresh

    def theta(self, embodiment: str | None = None) -> dict[str, nn.Parameter]:
        """Trainable tensors by name, those of the core once; or only those that affect one embodiment."""
        theta = dict(self.named_parameters())
        if embodiment is None:
            return theta
        acting = {id(parameter) for parameter in self[embodiment].parameters()}
        return {name: parameter for name, parameter in theta.items() if id(parameter) in acting}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Copies of theta and units of all embodiments by name, the core once; without base policies."""
        return {name: np.array(tensor.detach().cpu().numpy()) for name, tensor in self._tensors().items()}

    @torch.no_grad()
    def restore(self, arrays: Mapping[str, NDArray[Any]], what: str = "mapper") -> None:
        """Restore the result of `arrays`; the same embodiments must have been added, in the same order.

        Raises:
            MetaMapError: an array is missing, unexpected or of another shape.
        """
        tensors = self._tensors()
        check_arrays(dict(arrays), {name: tuple(tensor.shape) for name, tensor in tensors.items()}, what)
        for name, tensor in tensors.items():
            tensor.copy_(torch.from_numpy(np.array(arrays[name])))

    def _tensors(self) -> dict[str, Tensor]:
        """Theta and the scales of each embodiment; phi_0 is stored with the base policy."""
        units = {
            f"unit.{embodiment}.{name}": tensor
            for embodiment in self
            for name, tensor in vars(self[embodiment].scales).items()
        }
        return {**self.theta(), **units}

"""Adaptation in service in many environments at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metamap_agents.policy.rowwise import RowwiseNetworks
from metamap_envs.options import read_where
from metamap_envs.values import read_flags, read_numbers, read_whole
from metamap_rl.adaptation.service.adapter import Adapter
from metamap_rl.adaptation.service.belief import Belief
from metamap_rl.adaptation.service.config import AdapterConfig
from metamap_rl.mapper.mapper import Mapper

__all__ = ["VectorAdapter"]

Floats = NDArray[np.float32]


class VectorAdapter:
    """N adapters of one mapper, each with its own history; actions are those of N single ones, to the bit.

    Policies act in one batch whose products are row by row; each history is evaluated by itself.

    Args:
        mapper: a mapper, its folder, or the name of a family with a bundled one.
        num_envs: N.
        config: settings of each adapter.

    Raises:
        MetaMapError: as `Adapter`, or ``num_envs`` below 1.
    """

    def __init__(self, mapper: Mapper | str | Path, num_envs: int, config: AdapterConfig | None = None) -> None:
        num_envs = read_whole("num_envs", num_envs, 1)
        first = Adapter(mapper, config)
        self.adapters = (first, *(Adapter(first.mapper, config) for _ in range(num_envs - 1)))
        """The single adapters."""
        self._served = [adapter._served for adapter in self.adapters]
        self._networks = RowwiseNetworks(first.mapper.base.spec, np.stack([one.folded for one in self._served]))

    @property
    def num_envs(self) -> int:
        """N."""
        return len(self.adapters)

    @property
    def beliefs(self) -> tuple[Belief, ...]:
        """What each adapter believes now."""
        return tuple(adapter.belief for adapter in self.adapters)

    def reset(self, observations: ArrayLike, where: Sequence[int] | NDArray[Any] | None = None) -> None:
        """Start episodes, in all environments or in some; see `Adapter.reset`.

        Args:
            observations: [N, O]; those of other environments are ignored.
            where: bool [N], or indices; default all.

        Raises:
            MetaMapError: another shape or type.
        """
        rows = self._rows("observations", observations)
        for index in read_where(where, self.num_envs):
            self.adapters[index].reset(rows[index])

    def act(self, observations: ArrayLike) -> Floats:
        """Return actions [N, A] for observations [N, O]; see `Adapter.act`.

        Raises:
            MetaMapError: another shape.
        """
        rows = self._rows("observations", observations)
        seen = [adapter._begin_action(row) for adapter, row in zip(self.adapters, rows, strict=True)]
        for index, adapter in enumerate(self.adapters):
            if adapter._served is not self._served[index]:
                self._served[index] = adapter._served
                self._networks.replace(index, adapter._served.folded)
        raw = self._networks(rows[:, None])[:, 0]
        return np.stack([adapter._finish_action(*one) for adapter, *one in zip(self.adapters, seen, raw, strict=True)])

    def observe(
        self,
        rewards: ArrayLike | None,
        next_observations: ArrayLike,
        terminated: ArrayLike,
        truncated: ArrayLike,
        *,
        valid: ArrayLike | None = None,
    ) -> None:
        """Store the outcomes of the last actions; see `Adapter.observe`.

        Args:
            rewards: [N], or None if rewards cannot be observed.
            next_observations: [N, O], of environments whose episode ended the last observation of that episode.
            terminated: bool [N].
            truncated: bool [N].
            valid: bool [N], False for steps that must not count; default all.

        Raises:
            MetaMapError: another shape or type, or no rewards for a mapper that uses them.
        """
        rows, count = self._rows("next_observations", next_observations), self.num_envs
        given = [None] * count if rewards is None else read_numbers("rewards", rewards, (count,)).tolist()
        ends = [read_flags("terminated", terminated, count), read_flags("truncated", truncated, count)]
        sound = np.ones(count, dtype=np.bool_) if valid is None else read_flags("valid", valid, count)
        for index, adapter in enumerate(self.adapters):
            adapter.observe(given[index], rows[index], *(one[index] for one in ends), valid=sound[index])

    def _rows(self, name: str, values: ArrayLike) -> Floats:
        return read_numbers(name, values, (self.num_envs, self.adapters[0].mapper.base.spec.observation_size))

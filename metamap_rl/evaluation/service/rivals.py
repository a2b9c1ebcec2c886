"""Rivals of the adapter in service, as controllers of N environments. None is given the changes of the task."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_agents.experts.universal import UniversalPolicy
from metamap_agents.policy.base import BasePolicy
from metamap_agents.policy.rowwise import RowwiseNetworks
from metamap_envs.rollout import Rollout
from metamap_envs.seeds import read_seed
from metamap_envs.task import Task
from metamap_rl.adaptation.service.belief import Belief
from metamap_rl.adaptation.service.trial import AdapterController
from metamap_rl.adaptation.service.vector import VectorAdapter
from metamap_rl.evaluation.identification import Identification, IdentificationConfig, identify
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.probing.collecting import Pilot
from metamap_rl.probing.documents import probe_from_json

__all__ = ["IdentifyingController", "ProbingController", "other_windows"]

Floats = NDArray[np.float32]
Row = tuple[Any, ...]


class _Recording:
    """Networks of N environments, and the latest transitions of each.

    Args:
        base: the base policy, which acts at first.
        count: N.
        longest: transitions that are kept.
    """

    beliefs: tuple[Belief, ...] = ()

    def __init__(self, base: BasePolicy, count: int, longest: int) -> None:
        self.base = base
        self.networks = self.base_networks(count)
        self.rows: list[deque[Row]] = [deque(maxlen=longest) for _ in range(count)]
        self.swaps = [0] * count
        """See `SwapCounter`."""
        self.step = 0
        """Steps so far."""
        self._latest: tuple[NDArray[Any], Floats] | None = None

    def base_networks(self, count: int) -> RowwiseNetworks:
        """N copies of the base policy."""
        return RowwiseNetworks(self.base.spec, self.base.policies(np.tile(self.base.phi, (count, 1))).folded())

    def tasks_change(self, tasks: Sequence[Task], changed: NDArray[np.bool_]) -> None:
        """See `Controller`; ignored."""

    def reset(self, observations: NDArray[Any], where: NDArray[np.bool_]) -> None:
        """See `Controller`; transitions do not go across a reset."""

    def act(self, observations: NDArray[Any]) -> Floats:
        """See `Controller`."""
        actions = self.chosen(observations)
        self._latest = observations, actions
        return actions

    def chosen(self, observations: NDArray[Any]) -> Floats:
        """Actions [N, A]."""
        found: Floats = np.clip(self.networks(observations[:, None])[:, 0], -1.0, 1.0)
        return found

    def observe(self, step: dict[str, NDArray[Any]]) -> None:
        """See `Controller`."""
        assert self._latest is not None, "acted"
        before, actions = self._latest
        after, ends = step["next_observations"], (step["terminated"], step["truncated"])
        for index, rows in enumerate(self.rows):
            row = before[index], actions[index], float(step["rewards"][index]), after[index]
            if step["valid"][index] and all(np.isfinite(part).all() for part in row):
                rows.append((*row, *(bool(end[index]) for end in ends)))
        self.step += 1
        self.learn()

    def learn(self) -> None:
        """After a step."""

    def serve(self, index: int, phi: Floats) -> None:
        """Exchange the weights [P] of an environment."""
        self.networks.replace(index, self.base.policies(phi).folded())
        self.swaps[index] += 1


class ProbingController(_Recording):
    """Probes, maps, and serves the mapped policy: once, or again and again.

    During a probe the base policy acts with the noise of the mapper's probe. Nothing is checked.

    Args:
        mapper: maps the transitions of the probe.
        count: N.
        steps: of a probe.
        period: steps from the beginning of a probe to that of the next; None for one probe at the start.
        seed: of the noise.
    """

    def __init__(self, mapper: Mapper, count: int, *, steps: int, period: int | None = None, seed: int = 0) -> None:
        seed = read_seed(seed)
        super().__init__(mapper.base, count, steps)
        self._mapper, self._steps, self._period = mapper, steps, period
        self._probe = probe_from_json(mapper.probe)
        self._generators = [np.random.default_rng([seed, index]) for index in range(count)]
        self._probing = self.base_networks(count)

    def chosen(self, observations: NDArray[Any]) -> Floats:
        """Actions of the probe, or else of the served policy."""
        phase = self._phase(self.step)
        if phase == 0:
            self._pilot = Pilot(self._probe, self._generators, self._steps, self.base)
            for rows in self.rows:
                rows.clear()
        if phase >= self._steps:
            return super().chosen(observations)
        self._pilot.look(phase, observations)
        return self._pilot.act(phase, self._probing(observations[:, None])[:, 0])

    def learn(self) -> None:
        """Map the probe's transitions when it ends."""
        if self._phase(self.step - 1) != self._steps - 1:
            return
        for index, rows in enumerate(self.rows):
            if rows:
                self.serve(index, self._mapper.generate(Rollout.from_rows(self._mapper.family, list(rows))))

    def _phase(self, step: int) -> int:
        return step % self._period if self._period else step


class IdentifyingController(_Recording):
    """System identification on the latest transitions, then the universal policy given the estimate.

    Each estimate starts from the last one.

    Args:
        base: the base policy, which acts until there are transitions.
        universal: the universal policy.
        count: N.
        config: settings of the search.
        rows: latest transitions that it is made of.
        every: steps between two estimates.
    """

    def __init__(
        self,
        base: BasePolicy,
        universal: UniversalPolicy,
        count: int,
        config: IdentificationConfig,
        *,
        rows: int,
        every: int,
    ) -> None:
        super().__init__(base, count, rows)
        self._universal, self._config, self._every = universal, config, every
        self._last: list[Identification | None] = [None] * count
        self.seconds: list[float] = []
        """CPU time of each estimate."""
        self.simulated: list[int] = []
        """Environment steps simulated for each."""

    def learn(self) -> None:
        """Estimate the task of every environment if that is due."""
        if self.step % self._every:
            return
        for index, rows in enumerate(self.rows):
            if not rows:
                continue
            begin = time.thread_time()
            rollout = Rollout.from_rows(self._universal.family, list(rows))
            found = identify(rollout, self._config, start=self._last[index], diagnose=False)
            self.seconds.append(time.thread_time() - begin)
            self.simulated.append(found.steps)
            last, self._last[index] = self._last[index], found
            if last is None or last.task != found.task:
                self.serve(index, self._universal.expert_for(found.task))


def other_windows(adapters: VectorAdapter) -> AdapterController:
    """Control: each adapter maps the window of the next one, when it would map its own.

    As long as that is empty, what it would have mapped itself is mapped.
    """

    def generator(mapper: Mapper, other: Callable[[], Floats]) -> Callable[[Any], Floats]:
        def generate(own: Any) -> Floats:
            import torch

            from metamap_rl.mapper.mapper import Reading

            window = other()
            if not len(window):
                return mapper.generate(own)
            with torch.no_grad():
                rows = torch.from_numpy(window)[None]
                return mapper.generate(Reading(rows, mapper.encoder(rows, None)))

        return generate

    count = adapters.num_envs
    for index, adapter in enumerate(adapters.adapters):
        other = adapters.adapters[(index + 1) % count]
        adapter.generate = generator(adapter.mapper, lambda other=other: other.window)  # type: ignore[misc]
    return AdapterController(adapters)

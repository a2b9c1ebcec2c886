"""Calibration of the self-check of a trained mapper, in the simulator.

Uses only tasks of the training and the validation split, drawn with separate seeds. No experts are needed: generated
policies are compared with the base policy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metamap_agents.policy.evaluation import evaluate_policies
from metamap_agents.runtime.seeds import CALIBRATION_EPISODES, CALIBRATION_TASKS
from metamap_envs.family import Family
from metamap_envs.registry import get_family
from metamap_envs.settings import parse
from metamap_envs.task import Task
from metamap_rl.common.harm import CONFIDENCE, LEVEL, Harm, measure_harm
from metamap_rl.data.rollouts import Rollouts
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.mapper.selfcheck import SelfCheck
from metamap_rl.probing.actors import ActorMixture
from metamap_rl.probing.collecting import collect
from metamap_rl.probing.documents import probe_from_json
from metamap_rl.probing.mixture import ActorPool, collect_mixture, supported
from metamap_rl.training.config import CalibrationConfig
from metamap_rl.training.usual import joint_limits, learn_surprise, usual, usual_beginnings

__all__ = ["calibrate"]

OnStage = Callable[[str], None]
_BATCH = 128  # tasks per batch of probes
_RIDGES = (0.1, 1.0, 10.0, 100.0)


def calibrate(
    mapper: Mapper,
    config: CalibrationConfig | None = None,
    *,
    pool: ActorPool | None = None,
    num_threads: int = 0,
    on_stage: OnStage | None = None,
) -> SelfCheck:
    """Calibrate the self-check of a trained mapper, to be assigned to `mapper.check`.

    D is collected as in training, by the mapper's mixture of actors or by its probe. The task does not change in it:
    a D that spans a change is to be noticed, not served.

    Args:
        mapper: a mapper of a family with a simulator.
        config: settings of the calibration.
        pool: policies of the mapper's mixture of actors; default those that the mapper's universal policy gives. With a
            pool, D for a mapper that was trained on its probe alone are collected by the default mixture.
        num_threads: threads of the simulator; 0 uses all cores.
        on_stage: called with the name of each stage before it begins.

    Raises:
        MetaMapError: an unknown family or probe, or no pool for a mapper without a universal policy that was trained
            with a mixture of actors.
    """
    config = config or CalibrationConfig()
    on_stage = on_stage or (lambda stage: None)
    family, half = get_family(mapper.family), config.usual_tasks // 2
    on_stage("probing")
    learned = _tasks(family, "train", config.usual_tasks + half, config)
    validation = _tasks(family, "validation", half, config)
    mixture = _mixture(mapper, pool)
    collecting = _collecting(mapper, mixture, pool, config)
    probes = [
        _collected(mapper, collecting, tasks, config, num_threads)
        for tasks in (learned[: config.usual_tasks], learned[config.usual_tasks :], validation)
    ]
    contexts = [_contexts(mapper, rows, config.lengths) for rows in probes]
    on_stage("fitting the novelty model")
    surprise = learn_surprise(mapper, probes[0], contexts[0], config)
    others = (probes[1:], contexts[1:])
    familiar = usual(surprise, *others, config)
    beginnings = usual_beginnings(surprise, contexts[0], *others, config)
    on_stage("running base and generated policies")
    returns = _Returns(mapper, config, num_threads)
    judged, base, generated = returns.validation(validation, contexts[2])
    few, short = slice(config.return_tasks), slice(config.episodes)
    more_base, more_generated = returns.training(learned[config.usual_tasks :][few], contexts[1][few])
    weights, error = _predict_returns(
        torch.cat([contexts[2][few], contexts[1][few]]),
        np.concatenate([base[few, short], more_base]).mean(axis=-1),
        np.concatenate([generated[:, few, short], more_generated], axis=1).mean(axis=-1),
    )
    check = SelfCheck(
        surprise=surprise,
        lengths=config.lengths,
        least_steps=least_steps(config, judged),
        noise=_noise(base),
        **familiar,
        returns=weights,
        error=error,
        record={
            "config": vars(config) | {"lengths": list(config.lengths)},
            "harm": {str(length): asdict(harm) for length, harm in judged.items()},
            "harm_test_level": LEVEL,
            "harm_bound_confidence": CONFIDENCE,
            "validation_base_return": float(base.mean()),
            "torch_threads": torch.get_num_threads(),
            "actors": {} if mixture is None else mixture.document(),
        },
        beginnings=beginnings,
    )
    return joint_limits(check, *others, config)


def _tasks(family: Family, split: str, count: int, config: CalibrationConfig) -> list[Task]:
    return family.sample(split, count, np.random.default_rng([config.seed, CALIBRATION_TASKS, len(split)]))


def _mixture(mapper: Mapper, pool: ActorPool | None) -> ActorMixture | None:
    """The mixture of actors that collects D; None for the probe alone."""
    if mapper.actors:
        return parse(ActorMixture, mapper.actors, "actors of the mapper")
    return None if pool is None else supported(ActorMixture(), pool)


def _collecting(
    mapper: Mapper, mixture: ActorMixture | None, pool: ActorPool | None, config: CalibrationConfig
) -> Callable[..., Rollouts]:
    """How D is collected, given tasks and settings of `collect`."""
    probe = probe_from_json(mapper.probe)
    if mixture is None:
        return lambda tasks, **settings: collect(probe, tasks, mapper.base, **settings)
    unchanged = mixture.without_changes()
    actors = pool or ActorPool.of_universal(mapper.base, mapper.universal, config.seed)
    return lambda tasks, **settings: collect_mixture(unchanged, actors, probe, tasks, **settings)


def _collected(
    mapper: Mapper,
    collecting: Callable[..., Rollouts],
    tasks: Sequence[Task],
    config: CalibrationConfig,
    num_threads: int,
) -> Tensor:
    """Standardised feature rows [T, n, F] of one rollout of each task."""
    parts: list[Rollouts] = [
        collecting(
            tasks[start : start + _BATCH],
            steps=max(config.lengths),
            seed=CALIBRATION_TASKS + config.seed,
            num_threads=num_threads,
        )
        for start in range(0, len(tasks), _BATCH)
    ]
    rows = torch.from_numpy(np.concatenate([part.features()[:, 0] for part in parts]))
    return mapper.standardised(rows)


@torch.no_grad()
def _contexts(mapper: Mapper, rows: Tensor, lengths: Sequence[int]) -> Tensor:
    """Contexts [T, L, Z] of the first transitions of each rollout."""
    return torch.stack([mapper.encoder(rows[:, :length], None) for length in lengths], dim=1)


@dataclass(frozen=True)
class _Returns:
    """Returns of base and generated policies of a mapper on the same reset seeds."""

    mapper: Mapper
    config: CalibrationConfig
    num_threads: int

    def validation(
        self, tasks: Sequence[Task], z: Tensor
    ) -> tuple[dict[int, Harm], NDArray[np.float64], NDArray[np.float64]]:
        """Measure harm on validation tasks, from the longest D down to the first that is not served.

        At shorter lengths fewer tasks and episodes are run.

        Args:
            tasks: tasks of the validation split, one for each D.
            z: their contexts [T, L, Z].

        Returns:
            Harm by length; returns of the base policy [T, E]; returns of generated policies [L, T', E'] of the tasks
            and episodes that are run at every length.
        """
        config = self.config
        most, few = max(config.harm_tasks, config.return_tasks), slice(config.return_tasks)
        tasks, z, episodes = tasks[:most], z[:most], max(config.harm_episodes, config.episodes)
        counted = (slice(config.harm_tasks), slice(config.harm_episodes))
        base = self._run(tasks, self.mapper.base.phi, episodes)
        judged: dict[int, Harm] = {}
        rows = []
        for at in reversed(range(len(config.lengths))):
            if all(_harmless(harm, config) for harm in judged.values()):
                found = self._run(tasks, self._phis(z[:, at]), episodes)
                judged[config.lengths[at]] = measure_harm(base[counted], found[counted])
            else:
                found = self._run(tasks[few], self._phis(z[few, at]), config.episodes)
            rows.append(found[few, : config.episodes])
        return judged, base, np.stack(rows[::-1])

    def training(self, tasks: Sequence[Task], z: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Returns of the base policy [T, E] and of generated ones [L, T, E] on tasks of the training split."""
        episodes = self.config.episodes
        generated = [self._run(tasks, self._phis(z[:, at]), episodes) for at in range(len(self.config.lengths))]
        return self._run(tasks, self.mapper.base.phi, episodes), np.stack(generated)

    @torch.no_grad()
    def _phis(self, z: Tensor) -> NDArray[np.float32]:
        phis: NDArray[np.float32] = (self.mapper.phi_0 + self.mapper.change(z)).numpy()
        return phis

    def _run(self, tasks: Sequence[Task], phis: NDArray[np.float32], episodes: int) -> NDArray[np.float64]:
        base = self.mapper.base
        return evaluate_policies(
            tasks,
            base.policies(phis),
            episodes=episodes,
            seed=CALIBRATION_EPISODES,
            num_threads=self.num_threads,
        ).returns


def _harmless(harm: Harm, config: CalibrationConfig) -> bool:
    """Whether generated policies may be served: few pairs are harmed, and not by more than the others gain.

    The mean loss of the worst tenth of the pairs must not exceed the mean gain of all pairs.
    """
    return harm.upper < config.harm_limit and harm.worst_decile >= -harm.mean


def least_steps(config: CalibrationConfig, judged: Mapping[int, Harm]) -> int | None:
    """The smallest length from which on all lengths are harmless; None if the longest is not."""
    least = None
    for length in reversed(config.lengths):
        if length not in judged or not _harmless(judged[length], config):
            break
        least = length
    return least


def _noise(base: NDArray[np.float64]) -> float:
    """Two standard errors of the difference of two means, over all tasks, of the base policy's returns [T, E]."""
    return float(2.0 * math.sqrt(2.0 * base.var(axis=1, ddof=1).mean() / base.size))


def _predict_returns(
    z: Tensor, base: NDArray[np.float64], generated: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Ridge regression of both returns on (z, 1) [L, Z + 1, 2], and the error [L] of gains, each task left out once."""
    weights, errors = [], []
    for at, returns in enumerate(generated):
        inputs = np.concatenate([z[:, at].numpy().astype(np.float64), np.ones((len(z), 1))], axis=1)
        targets = np.stack([returns, base], axis=1)
        fits = [ridge(inputs, targets, strength) for strength in _RIDGES]
        best, error = min(fits, key=lambda fit: fit[1])
        weights.append(best)
        errors.append(max(error, 1e-6))
    return np.array(weights, dtype=np.float32), np.array(errors, dtype=np.float32)


def ridge(inputs: NDArray[np.float64], targets: NDArray[np.float64], strength: float) -> tuple[NDArray[Any], float]:
    """Ridge regression from inputs [T, I] to targets [T, 2], and leave-one-out error of the gain.

    The last input is not penalised.
    """
    penalty = strength * np.eye(inputs.shape[1])
    penalty[-1, -1] = 1e-9
    solve = np.linalg.solve(inputs.T @ inputs + penalty, inputs.T)
    weights = solve @ targets
    leverage = np.einsum("ti,it->t", inputs, solve)
    residual = (targets - inputs @ weights) / np.maximum(1.0 - leverage, 1e-6)[:, None]
    return weights, float(np.sqrt(np.square(residual[:, 0] - residual[:, 1]).mean()))

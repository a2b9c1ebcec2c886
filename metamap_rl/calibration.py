"""Calibration: what the self-check knows, measured in the simulator once the mapper is trained.

Only tasks of the training and the validation split are used, drawn with seeds of their own. None needs an expert: the
question is whether a generated policy beats the base policy, and both can be run anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from metamap_agents.evaluation import evaluate_policies
from metamap_envs.errors import MetaMapError
from metamap_envs.family import Family, get_family
from metamap_envs.seeds import read_seed
from metamap_envs.task import Task
from metamap_rl.mapper import Mapper
from metamap_rl.probe import Transitions, collect, probe_from_json
from metamap_rl.schedule import warmup_cosine
from metamap_rl.selfcheck import LARGEST_ERROR, SMALLEST_SPREAD, SelfCheck, Surprise, check_lengths, layer_sizes

__all__ = ["CalibrationConfig", "calibrate"]

OnStage = Callable[[str], None]

_TASK_SEED = 6_000_000  # tasks, probes and episodes: far from those of training, evaluation and surveys
_EPISODE_SEED = 7_000_000
_BATCH = 128  # tasks probed at once
_ONE_SIDED = 1.645  # standard errors below which a normal variable lies in 5 % of cases
_SHRINK = 0.01  # added to the variance of observations and actions, in their own units
_RIDGES = (0.1, 1.0, 10.0, 100.0)


@dataclass(frozen=True)
class CalibrationConfig:
    """How to calibrate.

    Raises:
        MetaMapError: a value out of range.
    """

    lengths: tuple[int, ...] = (1, 2, 5, 10, 20, 50, 100, 200)
    """Transitions of D at which everything is measured; the first must be 1."""
    usual_tasks: int = 256
    """Tasks of the training split from which what is usual is learned; half as many of the training split, and as many
    of the validation split, say how much usual D differ from it."""
    return_tasks: int = 48
    """Tasks of either split on which generated and base policies are run."""
    episodes: int = 3
    """Of each policy on each of them."""
    harmed: float = 0.05
    """Share of validation tasks on which policies from enough transitions may be worse than the base policy, by more
    than two standard errors; chance alone gives .02."""
    false_alarms: float = 0.005
    """Share of usual D that may count as foreign, at every length, before ``slack``."""
    slack: float = 1.2
    """By how much the limit is raised above that quantile, which is itself uncertain: a few hundred D, long tails."""
    hidden: int = 64
    """Width of the network that predicts reward and change."""
    updates: int = 1500
    """Of that network."""
    seed: int = 0
    """Of tasks, probes and the network."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", read_seed(self.seed, "calibration: seed"))
        check_lengths(self.lengths)
        for name, least in (("usual_tasks", 4), ("return_tasks", 2), ("episodes", 2), ("hidden", 1), ("updates", 1)):
            if getattr(self, name) < least:
                raise MetaMapError(f"calibration: {name}: expected at least {least}, got {getattr(self, name)}")
        for name in ("false_alarms", "harmed"):
            if not 0 < getattr(self, name) < 1:
                raise MetaMapError(f"calibration: {name}: expected a share in (0, 1), got {getattr(self, name)}")
        if not self.slack >= 1:
            raise MetaMapError(f"calibration: slack: expected at least 1, got {self.slack}")
        if self.return_tasks > self.usual_tasks // 2:
            raise MetaMapError(
                f"calibration: return_tasks: expected at most half of usual_tasks, {self.usual_tasks // 2}, "
                f"got {self.return_tasks}"
            )


def calibrate(
    mapper: Mapper,
    config: CalibrationConfig | None = None,
    *,
    num_threads: int = 0,
    on_stage: OnStage | None = None,
) -> SelfCheck:
    """Measure what the self-check of a trained mapper needs to know; `mapper.check` is where it belongs.

    Args:
        mapper: of a family that can be simulated, with the probe that it was trained on.
        config: how much to measure.
        num_threads: threads of the simulator; 0 takes all cores.
        on_stage: called with what is done next.

    Raises:
        MetaMapError: an unknown family or probe.
    """
    config = config or CalibrationConfig()
    on_stage = on_stage or (lambda stage: None)
    family, half = get_family(mapper.family), config.usual_tasks // 2
    on_stage("probing")
    learned = _tasks(family, "train", config.usual_tasks + half, config)
    validation = _tasks(family, "validation", half, config)
    probes = [
        _probed(mapper, tasks, config, num_threads)
        for tasks in (learned[: config.usual_tasks], learned[config.usual_tasks :], validation)
    ]
    contexts = [_contexts(mapper, rows, config.lengths) for rows in probes]
    on_stage("learning what is usual")
    surprise = _learn_surprise(mapper, probes[0], contexts[0], config)
    typical, spread, limit = _usual(surprise, probes[1:], contexts[1:], config)
    on_stage("running base and generated policies")
    count = config.return_tasks
    tasks = [*validation[:count], *learned[config.usual_tasks :][:count]]
    z = torch.cat([contexts[2][:count], contexts[1][:count]])
    base, generated = _returns(mapper, tasks, z, config, num_threads)
    gains = (generated - base).mean(axis=-1)
    bound, noise = _paired_bound(gains[:, :count]), _noise(base[:count])
    harmed = (gains[:, :count] < -noise * math.sqrt(count)).mean(axis=1)
    weights, error = _predict_returns(z, base.mean(axis=-1), generated.mean(axis=-1))
    return SelfCheck(
        surprise=surprise,
        lengths=config.lengths,
        least_steps=_least_steps(config.lengths, (bound >= -noise) & (harmed <= config.harmed)),
        noise=noise,
        typical=typical,
        spread=spread,
        limit=limit,
        returns=weights,
        error=error,
        record={
            "config": vars(config) | {"lengths": list(config.lengths)},
            "validation_gain": gains[:, :count].mean(axis=1).tolist(),
            "validation_gain_lower_bound": bound.tolist(),
            "validation_harmed": harmed.tolist(),
            "validation_base_return": float(base[:count].mean()),
        },
    )


# -------------------------------------------------------------------------------------------------- what is usual


def _tasks(family: Family, split: str, count: int, config: CalibrationConfig) -> list[Task]:
    return family.sample(split, count, np.random.default_rng([config.seed, _TASK_SEED, len(split)]))


def _probed(mapper: Mapper, tasks: Sequence[Task], config: CalibrationConfig, num_threads: int) -> Tensor:
    """Standardised feature rows [T, n, F] of one probe rollout of each task."""
    probe = probe_from_json(mapper.probe)
    parts: list[Transitions] = [
        collect(
            probe,
            tasks[start : start + _BATCH],
            mapper.base,
            steps=max(config.lengths),
            seed=_TASK_SEED + config.seed,
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


def _learn_surprise(mapper: Mapper, rows: Tensor, contexts: Tensor, config: CalibrationConfig) -> Surprise:
    """Gaussian of observation and action, and the network that predicts reward and change from them and z."""
    seen_size = mapper.base.spec.observation_size + mapper.base.spec.action_size
    told_size = mapper.base.spec.observation_size + 1
    seen, told = rows[..., :seen_size], rows[..., seen_size + 1 :]
    network = _fit(seen, told.clamp(-LARGEST_ERROR, LARGEST_ERROR), contexts, config)
    layers = [module for module in network if isinstance(module, nn.Linear)]
    assert layers[-1].out_features == 2 * told_size
    flat = seen.flatten(0, 1).double()
    mean = flat.mean(dim=0)
    covariance = (flat - mean).T @ (flat - mean) / len(flat) + _SHRINK * torch.eye(seen_size, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(covariance)
    whiten = vectors * values.rsqrt() @ vectors.T
    return Surprise(
        mean=mean.float().numpy(),
        whiten=whiten.float().numpy(),
        weights=tuple(layer.weight.detach().numpy() for layer in layers),
        biases=tuple(layer.bias.detach().numpy() for layer in layers),
    )


def _fit(seen: Tensor, told: Tensor, contexts: Tensor, config: CalibrationConfig) -> nn.Sequential:
    """Maximise the likelihood of reward and change under a Gaussian, z from as many transitions as D may have."""
    sizes = layer_sizes(seen.shape[-1], told.shape[-1], contexts.shape[-1], config.hidden)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        linear = [nn.Linear(into, out) for into, out in sizes]
    network = nn.Sequential(linear[0], nn.Tanh(), linear[1], nn.Tanh(), linear[2])
    generator = torch.Generator().manual_seed(config.seed)
    optimiser = torch.optim.Adam(network.parameters())
    lengths = torch.tensor(config.lengths)
    for update in range(config.updates):
        for group in optimiser.param_groups:
            group["lr"] = warmup_cosine(update, config.updates, warmup=50, highest=3e-3)
        task = torch.randint(len(seen), (1024,), generator=generator)
        at = torch.randint(len(lengths), (1024,), generator=generator)
        row = (torch.rand(1024, generator=generator) * lengths[at]).long()  # one of those that z was read from
        expected, spread = network(torch.cat([seen[task, row], contexts[task, at]], dim=-1)).chunk(2, dim=-1)
        spread = spread.clamp(math.log(SMALLEST_SPREAD), math.log(LARGEST_ERROR))
        loss = functional.gaussian_nll_loss(expected, told[task, row], (2.0 * spread).exp())
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
    return network


def _usual(
    surprise: Surprise, probes: Sequence[Tensor], contexts: Sequence[Tensor], config: CalibrationConfig
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Mean and spread of the mean surprise [L, S] of usual D, and the limit [L] of their largest deviation.

    The limit is, but for the slack, the larger of those of the two splits: where validation tasks are unlike training
    tasks, tasks to come will be so too.
    """
    typical, spread, limit = [], [], []
    for at, length in enumerate(config.lengths):
        found = [
            surprise(rows[:, :length].numpy(), z[:, at].numpy()).mean(axis=1)
            for rows, z in zip(probes, contexts, strict=True)
        ]
        together = np.concatenate(found)
        mean, deviation = together.mean(axis=0), np.maximum(together.std(axis=0), SMALLEST_SPREAD)
        largest = [np.abs((one - mean) / deviation).max(axis=1) for one in found]
        typical.append(mean)
        spread.append(deviation)
        limit.append(config.slack * max(np.quantile(one, 1.0 - config.false_alarms) for one in largest))
    return tuple(np.array(one, dtype=np.float32) for one in (typical, spread, limit))  # type: ignore[return-value]


# ----------------------------------------------------------------------------------------- what a policy is worth


@torch.no_grad()
def _returns(
    mapper: Mapper, tasks: Sequence[Task], z: Tensor, config: CalibrationConfig, num_threads: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns of the base policy [T, E] and of the policies generated at each length [L, T, E], same reset seeds."""

    def run(phis: NDArray[np.float32]) -> NDArray[np.float64]:
        base = mapper.base
        return evaluate_policies(
            tasks,
            base.spec,
            phis,
            base.normalizer,
            episodes=config.episodes,
            seed=_EPISODE_SEED,
            num_threads=num_threads,
        ).returns

    generated = [run((mapper.phi_0 + mapper.change(z[:, at])).numpy()) for at in range(len(config.lengths))]
    return run(mapper.base.phi), np.stack(generated)


def _paired_bound(gains: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lower 95 % confidence bound of the mean over tasks [L] of paired gains [L, T]."""
    bound: NDArray[np.float64] = gains.mean(axis=1) - _ONE_SIDED * gains.std(axis=1, ddof=1) / math.sqrt(gains.shape[1])
    return bound


def _noise(base: NDArray[np.float64]) -> float:
    """Two standard errors of the difference of two means over all tasks of the base policy's returns [T, E]."""
    return float(2.0 * math.sqrt(2.0 * base.var(axis=1, ddof=1).mean() / base.size))


def _least_steps(lengths: Sequence[int], passed: NDArray[np.bool_]) -> int | None:
    """The smallest length that passes with all longer ones; None if the longest does not."""
    least = None
    for length, good in zip(reversed(lengths), reversed(passed.tolist()), strict=True):
        if not good:
            break
        least = length
    return least


def _predict_returns(
    z: Tensor, base: NDArray[np.float64], generated: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Ridge regression of both returns on (z, 1) [L, Z + 1, 2], and the error [L] of gains, each task left out once."""
    weights, errors = [], []
    for at, returns in enumerate(generated):
        inputs = np.concatenate([z[:, at].numpy().astype(np.float64), np.ones((len(z), 1))], axis=1)
        targets = np.stack([returns, base], axis=1)
        fits = [_ridge(inputs, targets, strength) for strength in _RIDGES]
        best, error = min(fits, key=lambda fit: fit[1])
        weights.append(best)
        errors.append(max(error, 1e-6))
    return np.array(weights, dtype=np.float32), np.array(errors, dtype=np.float32)


def _ridge(inputs: NDArray[np.float64], targets: NDArray[np.float64], strength: float) -> tuple[NDArray[Any], float]:
    """Weights that map inputs [T, I] to targets [T, 2], the last input free; and the left-out error of their gain."""
    penalty = strength * np.eye(inputs.shape[1])
    penalty[-1, -1] = 1e-9
    solve = np.linalg.solve(inputs.T @ inputs + penalty, inputs.T)
    weights = solve @ targets
    leverage = np.einsum("ti,it->t", inputs, solve)
    residual = (targets - inputs @ weights) / np.maximum(1.0 - leverage, 1e-6)[:, None]
    return weights, float(np.sqrt(np.square(residual[:, 0] - residual[:, 1]).mean()))

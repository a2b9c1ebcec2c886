"""A last stage for a trained mapper: policy gradient through the map, over many tasks at once in the fast simulator.

Supervised training ends where the experts' pairs end. Here f_theta goes on learning from return: on tasks drawn anew in
every iteration it reads a probe's D, the generated policies act with noise, and PPO's surrogate (Schulman et al. 2017)
is back-propagated through the generated weights into theta. It needs no experts; the critic is told the tasks'
parameters. It is an option; ``scripts/measure_tuning.py`` compares it with the purely supervised map.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metamap_agents.evaluation import evaluate_policies
from metamap_agents.functional import forward
from metamap_agents.recipes import load_recipe
from metamap_agents.torch_state import torch_threads
from metamap_envs.errors import MetaMapError
from metamap_envs.family import get_family
from metamap_envs.seeds import read_seed
from metamap_envs.task import Task
from metamap_rl import checkpoint as checkpoints
from metamap_rl.checkpoint import TrainState, digest
from metamap_rl.experience import Experience, TaskCritic, act_with_noise, advantages
from metamap_rl.mapper import Mapper
from metamap_rl.pairs import task_coordinates
from metamap_rl.probe import collect, probe_from_json, probe_identity

__all__ = ["OnIteration", "TuningConfig", "clipped_surrogate", "tune"]

OnIteration = Callable[[int, int, dict[str, float]], None]
"""Called after every iteration with the iterations done, their total, and the numbers of this one."""

_SEED = 7_000_000  # of everything drawn here, far from the seeds of training, calibration and evaluation
_VALIDATION_SEED = 8_000_000
_SCALE_TASKS = 1024  # whose coordinates give the critic its units
_SMALLEST = 1e-8


@dataclass(frozen=True)
class TuningConfig:
    """How a mapper is tuned. Defaults are PPO's usual ones, with small noise: it is the mean action that is served.

    Raises:
        MetaMapError: a number out of range.
    """

    iterations: int = 150
    """Rounds of acting and learning, 0 or more than ``critic_only``; each takes tasks x (longest D + episodes x
    horizon) environment steps."""
    tasks: int = 64
    """Training-split tasks drawn in each."""
    batch_tasks: int = 16
    """Tasks in a mini-batch: all their steps, through one forward pass of the map."""
    episodes: int = 2
    """Environments of each task in which its generated policy acts."""
    noise: float = 0.2
    """Standard deviation of the actions around the generated policy's."""
    longest: int = 200
    """Longest D; of each task a length between 1 and this is drawn, evenly on a logarithmic scale."""
    epochs: int = 4
    """Passes over an iteration's experience."""
    clip: float = 0.2
    """Range of PPO's probability ratio around 1."""
    learning_rate: float = 1e-5
    """Adam's for theta, falling linearly to 0. Small: in so many parameters larger steps along a noisy gradient undo
    what was learned from experts; an untrained mapper stands 3e-4."""
    critic_rate: float = 1e-3
    """Adam's for the critic, falling likewise."""
    critic_hidden: int = 128
    """Width of the critic's hidden layers."""
    critic_only: int = 5
    """First iterations in which only the critic learns, so that theta does not follow an ignorant one."""
    reading_coefficient: float = 0.0
    """Share of telling a task's true coordinates from z, as in training on a survey, of a mapper that reads any. With 0
    the reader stays, and what it says drifts with z."""
    discount: float | None = None
    """Gamma; None takes that of the family's recipes."""
    trace: float = 0.95
    """Lambda of generalised advantage estimation."""
    gradient_clip: float = 0.5
    """Largest norm of the gradient of theta, and of the critic's."""
    validation_every: int = 10
    """Iterations between validations; the mapper with the best mean return there is the one returned."""
    validation_tasks: int = 32
    """Tasks of the validation split, without experts."""
    validation_lengths: tuple[int, ...] = (5, 20, 100)
    """Lengths of D that validation averages over, none above ``longest``."""
    checkpoint_every: int = 10
    """Iterations between checkpoints, where a checkpoint file is asked for."""
    seed: int = 0
    """Of everything that is drawn."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", read_seed(self.seed, "tuning config: seed"))
        least = {
            **dict.fromkeys(("tasks", "batch_tasks", "episodes", "longest", "epochs", "critic_hidden"), 1),
            **dict.fromkeys(("validation_every", "validation_tasks", "checkpoint_every"), 1),
            **dict.fromkeys(("iterations", "critic_only", "reading_coefficient"), 0),
        }
        for name, bound in least.items():
            if not getattr(self, name) >= bound:
                raise MetaMapError(f"tuning config: {name}: expected >= {bound}, got {getattr(self, name)}")
        if 0 < self.iterations <= self.critic_only:
            raise MetaMapError(
                f"tuning config: iterations: expected 0 or more than the {self.critic_only} in which only the critic "
                f"learns, got {self.iterations}"
            )
        for name in ("noise", "clip", "learning_rate", "critic_rate", "gradient_clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise MetaMapError(f"tuning config: {name}: expected > 0, got {getattr(self, name)}")
        for name in ("discount", "trace"):
            if getattr(self, name) is not None and not 0 <= getattr(self, name) <= 1:
                raise MetaMapError(f"tuning config: {name}: expected a number in [0, 1], got {getattr(self, name)}")
        if not self.validation_lengths or not all(1 <= one <= self.longest for one in self.validation_lengths):
            raise MetaMapError(
                f"tuning config: validation_lengths: expected lengths from 1 to longest = {self.longest}, "
                f"got {list(self.validation_lengths)}"
            )


def tune(
    mapper: Mapper,
    config: TuningConfig | None = None,
    *,
    checkpoint: Path | None = None,
    num_threads: int = 0,
    on_iteration: OnIteration | None = None,
) -> Mapper:
    """Go on with a mapper by policy gradient. The same arguments give the same mapper to the bit.

    Args:
        mapper: of a family that can be simulated; it is not changed.
        config: how to tune.
        checkpoint: a .safetensors file. It is written every so often; where it exists, the run goes on from it.
        num_threads: threads of the simulator; 0 takes all cores.
        on_iteration: called after every iteration; what it raises stops the run.

    Returns:
        The mapper that did best on validation tasks, the one given included; ``record["tuning"]`` tells how it came
        about, its "before" how an earlier tuning did. It has no self-check, since that judged the mapper that was.

    Raises:
        MetaMapError: the checkpoint is another run's, or the loss stopped being finite.
    """
    config = config or TuningConfig()
    with torch_threads(1):
        run = _Run(mapper, config, num_threads)
        identity = _identity(mapper, config) if checkpoint is not None else {}
        if checkpoint is not None and checkpoint.exists():
            checkpoints.restore(checkpoint, run.state, identity)
        else:
            run.validate({})
        while run.state.update < config.iterations:
            metrics = run.iterate()
            done = run.state.update
            if done % config.validation_every == 0 or done == config.iterations:
                run.validate(metrics)
            if checkpoint is not None and (done % config.checkpoint_every == 0 or done == config.iterations):
                checkpoints.save(checkpoint, run.state, identity)
            if on_iteration is not None:
                on_iteration(done, config.iterations, metrics)
        return run.finished()


def _identity(mapper: Mapper, config: TuningConfig) -> dict[str, Any]:
    """What a run is started with, so that a checkpoint of another run is not mistaken for its own."""
    probe = json.dumps(probe_identity(mapper.probe), sort_keys=True)
    return {**asdict(config), "family": mapper.family, "probe": probe, "mapper": digest(mapper.arrays())}


def clipped_surrogate(ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """PPO's loss (Schulman et al. 2017, equation 7, negated), the mean over all steps."""
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage).mean()


@dataclass(frozen=True, eq=False)
class _Batch:
    """One iteration's experience as tensors, of T tasks with S = E x H steps each."""

    features: Tensor
    """D [T, n, F]."""
    mask: Tensor
    """Which rows of D count [T, n]."""
    coordinates: Tensor
    """[T, K]."""
    inputs: Tensor
    """[T, S, O]."""
    actions: Tensor
    """[T, S, A]."""
    means: Tensor
    """Mean actions of the policies that acted [T, S, A]."""
    advantage: Tensor
    """Of mean 0 and variance 1 over all [T, S]."""
    targets: Tensor
    """Of the critic, in its unit [T, S]."""

    def of(self, tasks: Tensor) -> _Batch:
        """Some of the tasks."""
        return _Batch(**{name: getattr(self, name)[tasks] for name in self.__dataclass_fields__})


class _Run:
    """A run and what does not change in it."""

    def __init__(self, mapper: Mapper, config: TuningConfig, num_threads: int) -> None:
        self.config = config
        self.num_threads = num_threads
        self.family = get_family(mapper.family)
        self.probe = probe_from_json(mapper.probe)
        self.base = mapper.base
        self.discount = config.discount
        if self.discount is None:
            self.discount = load_recipe(self.family.name, "base").gamma
        tuned = copy.deepcopy(mapper)
        tuned.check = None
        drawn = self.family.sample("train", _SCALE_TASKS, np.random.default_rng([config.seed, _SEED]))
        self.critic = TaskCritic(
            self.base.spec.observation_size,
            torch.from_numpy(task_coordinates(drawn)),
            hidden=config.critic_hidden,
            seed=config.seed,
        )
        self.reads = bool(config.reading_coefficient and tuned.coordinates)
        named = tuned.named_parameters()
        learned = [parameter for name, parameter in named if self.reads or not name.startswith("reader.")]
        optimiser = torch.optim.Adam(
            [{"params": learned}, {"params": list(self.critic.parameters())}], lr=config.learning_rate
        )
        checkpoints.allocate_moments(optimiser)
        # The generator is not drawn from: everything random is a function of seed and iteration.
        self.state = TrainState(tuned, optimiser, torch.Generator().manual_seed(config.seed), auxiliary=self.critic)
        self.validation = self.family.sample(
            "validation", config.validation_tasks, np.random.default_rng([config.seed, _VALIDATION_SEED])
        )

    @property
    def environment_steps(self) -> int:
        """All that were taken so far, those of validations included."""
        config, horizon = self.config, self.family.horizon
        iteration = config.tasks * (config.longest + config.episodes * horizon)
        validation = config.validation_tasks * (
            config.longest + len(config.validation_lengths) * config.episodes * horizon
        )
        return self.state.update * iteration + len(self.state.history) * validation

    def iterate(self) -> dict[str, float]:
        """Act on new tasks, learn from it; the state counts it as one update."""
        state, config = self.state, self.config
        generator = np.random.default_rng([config.seed, _SEED, state.update])
        tasks = self.family.sample("train", config.tasks, generator)
        features, mask = self._probed(tasks, config.longest, generator)
        with torch.no_grad():
            phis = state.mapper(features, mask).numpy()
        experience = act_with_noise(
            tasks,
            self.base,
            phis,
            noise=config.noise,
            episodes=config.episodes,
            generator=generator,
            num_threads=self.num_threads,
        )
        batch = self._batch(tasks, features, mask, phis, experience)
        left = 1.0 - state.update / config.iterations
        self._set_rates(config.learning_rate * left * (state.update >= config.critic_only), config.critic_rate * left)
        losses = [
            self._learn(batch.of(torch.from_numpy(chosen)))
            for _ in range(config.epochs)
            for chosen in np.array_split(
                generator.permutation(config.tasks), math.ceil(config.tasks / config.batch_tasks)
            )
        ]
        state.update += 1
        surrogate, critic, moved = (float(np.mean(part)) for part in zip(*losses, strict=True))
        reward = float(experience.rewards.mean())
        metrics = {"reward": reward, "surrogate": surrogate, "critic": critic, "moved": moved}
        if not all(math.isfinite(value) for value in metrics.values()):
            raise MetaMapError(f"tuning diverged at iteration {state.update} ({metrics}): lower learning_rate")
        return metrics

    @torch.no_grad()
    def validate(self, metrics: dict[str, float]) -> None:
        """Mean return of the generated policies on validation tasks; keep the mapper if it is the best so far."""
        state, config = self.state, self.config
        generator = np.random.default_rng([config.seed, _VALIDATION_SEED])  # the same D and starts each time
        features, _ = self._probed(self.validation, config.longest, generator)
        returns = []
        for length in config.validation_lengths:
            phis = state.mapper(features[:, :length]).numpy()
            episodes = evaluate_policies(
                self.validation,
                self.base.spec,
                phis,
                self.base.normalizer,
                episodes=config.episodes,
                seed=_VALIDATION_SEED,
                num_threads=self.num_threads,
            )
            returns.append(float(episodes.returns.mean()))
        mean = float(np.mean(returns))
        if all(mean > entry["validation"] for entry in state.history):
            state.best = {name: tensor.clone() for name, tensor in state.mapper.state_dict().items()}
        metrics["validation"] = mean
        state.history.append({"update": state.update, **metrics})

    def finished(self) -> Mapper:
        """The best mapper, with the record of the run in it."""
        state = self.state
        state.mapper.load_state_dict(state.best)
        chosen = max(state.history, key=lambda entry: entry["validation"])
        before = state.mapper.record.get("tuning")
        state.mapper.record = {
            **state.mapper.record,
            "tuning": {
                "config": asdict(replace(self.config, discount=self.discount)),
                "environment_steps": self.environment_steps,
                "chosen_iteration": chosen["update"],
                "history": state.history,
                **({"before": before} if before is not None else {}),
            },
        }
        return state.mapper

    def _probed(self, tasks: list[Task], steps: int, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """D of each task [T, n, F], and which rows of it count [T, n]: first steps, of a length drawn for each."""
        seed = int(generator.integers(2**31))
        found = collect(self.probe, tasks, self.base, steps=steps, seed=seed, num_threads=self.num_threads)
        lengths = np.ceil(steps ** generator.random((len(tasks), 1)))
        features = torch.from_numpy(found.features()[:, 0])
        return features, torch.from_numpy(np.arange(steps) < lengths)

    def _batch(
        self, tasks: list[Task], features: Tensor, mask: Tensor, phis: NDArray[np.float32], experience: Experience
    ) -> _Batch:
        coordinates = torch.from_numpy(task_coordinates(tasks))
        discount = self.discount
        assert discount is not None, "set from the recipe"
        if self.critic.unit == 0:
            zeros = np.zeros_like(experience.rewards)
            _, found = advantages(experience, zeros, zeros, discount=discount, trace=1.0)
            self.critic.unit.fill_(max(float(found.std()), _SMALLEST))
        experience = replace(experience, rewards=experience.rewards / float(self.critic.unit))
        values, following = (self._values(part, coordinates) for part in (experience.inputs, experience.following))
        advantage, targets = advantages(experience, values, following, discount=discount, trace=self.config.trace)
        advantage = (advantage - advantage.mean()) / max(float(advantage.std()), _SMALLEST)
        inputs = _flat(experience.inputs)
        with torch.no_grad():
            means = forward(self.base.spec, torch.from_numpy(phis), inputs)
        return _Batch(
            features=features,
            mask=mask,
            coordinates=coordinates,
            inputs=inputs,
            actions=_flat(experience.actions),
            means=means,
            advantage=_flat(advantage),
            targets=_flat(targets),
        )

    @torch.no_grad()
    def _values(self, inputs: NDArray[np.float32], coordinates: Tensor) -> NDArray[np.float32]:
        """The critic's values [T, E, H] of observations [T, E, H, O]."""
        values: NDArray[np.float32] = self.critic(_flat(inputs), coordinates).numpy().reshape(inputs.shape[:3])
        return values

    def _learn(self, batch: _Batch) -> tuple[float, float, float]:
        """One update of theta and critic; the surrogate, the critic's loss, and how far the mean actions moved."""
        state, config = self.state, self.config
        means = forward(self.base.spec, state.mapper(batch.features, batch.mask), batch.inputs)
        before, now = ((batch.actions - mean).square().sum(dim=-1) for mean in (batch.means, means))
        ratio = ((before - now) / (2 * config.noise**2)).exp()
        surrogate = clipped_surrogate(ratio, batch.advantage, config.clip)
        critic = (self.critic(batch.inputs, batch.coordinates) - batch.targets).square().mean()
        loss = surrogate + critic
        if self.reads:
            loss = loss + config.reading_coefficient * self._reading(batch)
        state.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        for group in state.optimiser.param_groups:
            torch.nn.utils.clip_grad_norm_(group["params"], config.gradient_clip)
        state.optimiser.step()
        moved = (means.detach() - batch.means).square().mean().sqrt()
        return surrogate.item(), critic.item(), moved.item()

    def _reading(self, batch: _Batch) -> Tensor:
        """Mean squared error of the coordinates read from z, standardised, as in training on a survey."""
        mapper = self.state.mapper
        read = mapper.read(batch.features, batch.mask)
        return ((read - batch.coordinates) / mapper.coordinate_std).square().mean()

    def _set_rates(self, theta: float, critic: float) -> None:
        for group, rate in zip(self.state.optimiser.param_groups, (theta, critic), strict=True):
            group["lr"] = rate


def _flat(array: NDArray[np.float32]) -> Tensor:
    """[T, E, H, ...] as a tensor [T, E H, ...]."""
    return torch.from_numpy(np.ascontiguousarray(array)).flatten(1, 2)

"""A recurrent student of the experts: a GRU distilled from them on its own states (DAgger).

As in RMA (Kumar et al. 2021) and RAPTOR (Eschmann et al. 2025) one network reads what happens and acts; its hidden
state is all that it knows of the task. It is trained on sequences of a D of random length, collected by the probe, and
an episode in which the student acts and the task's expert says what it would have done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from metamap_agents.policy.acting import BatchedPolicy
from metamap_agents.policy.base import BasePolicy
from metamap_agents.policy.evaluation import Episodes, run_episodes
from metamap_envs.seeds import read_seed
from metamap_envs.task import Task
from metamap_rl.common.config import Config, Positive, PositiveNumber
from metamap_rl.data.rollouts import Rollouts

__all__ = ["Student", "StudentConfig", "hidden_size", "student_returns", "train_student"]

_EPISODE_SEEDS = 6_000_000  # of training episodes


@dataclass(frozen=True)
class StudentConfig(Config):
    """Settings of the training."""

    called: ClassVar[str] = "student config"

    hidden: Positive = 32
    """Size of the hidden state."""
    rounds: Positive = 8
    """Rounds of DAgger; in the first the experts act, in the others the student."""
    episodes: Positive = 4
    """Episodes of each training task in a round, each after another D."""
    updates: Positive = 800
    """Updates in a round, on the sequences of all rounds so far."""
    batch: Positive = 32
    """Sequences in an update."""
    learning_rate: PositiveNumber = 3e-3
    """Initial learning rate of Adam; falls to 0 over all updates."""
    seed: int = 0
    """Seed of initial weights, D and episodes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "seed", read_seed(self.seed, "student config: seed"))


class Student(nn.Module):
    """A GRU and a linear output layer.

    Input of a step: normalised observation, last action, last reward in units of the training rewards, and whether an
    episode starts, in which case the two before it are 0.

    Args:
        base: provides sizes and normaliser.
        hidden: size of the hidden state H.
        reward_scale: unit of the rewards.
        seed: of the initial weights.
    """

    def __init__(self, base: BasePolicy, hidden: int, *, reward_scale: float, seed: int) -> None:
        seed = read_seed(seed)
        super().__init__()
        self.base, self.hidden, self.reward_scale = base, hidden, reward_scale
        spec = base.spec
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.cell = nn.GRU(spec.observation_size + spec.action_size + 2, hidden, batch_first=True)
            self.output = nn.Linear(hidden, spec.action_size)

    @property
    def weights(self) -> int:
        """Number of weights."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(self, inputs: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Actions [B, n, A] and the last hidden state [1, B, H] of input rows [B, n, F]."""
        outputs, state = self.cell(inputs, state)
        return self.output(outputs), state

    def rows(
        self,
        observations: NDArray[np.floating],
        actions: NDArray[np.floating],
        rewards: NDArray[np.floating],
        starts: NDArray[np.bool_],
    ) -> Tensor:
        """Input rows [..., F] from raw observations, and the actions and rewards of the steps before them."""
        seen = np.clip(self.base.normalizer.apply(observations), -10.0, 10.0)
        past = np.concatenate([actions, rewards[..., None] / self.reward_scale], axis=-1)
        past = np.where(starts[..., None], 0.0, past)
        joined = np.concatenate([seen, past, starts[..., None]], axis=-1)
        return torch.from_numpy(joined.astype(np.float32))

    def read(self, rollouts: Rollouts, lengths: NDArray[np.intp]) -> Tensor:
        """Hidden states [1, N, H] after the first transitions of the first rollout of N tasks; 0 for length 0.

        The next observation of the last transition is read too, so that all of D is.
        """
        state = torch.zeros(1, len(rollouts), self.hidden)
        for length in np.unique(lengths[lengths > 0]):
            chosen = np.flatnonzero(lengths == length)
            state[:, chosen] = self(self.of_rollouts(rollouts.select(chosen.tolist()), int(length)))[1]
        return state

    def of_rollouts(self, rollouts: Rollouts, length: int) -> Tensor:
        """Input rows [N, length + 1, F] of the first transitions of the first rollouts."""
        part = {name: array[:, 0, :length] for name, array in rollouts.arrays().items()}
        observations = np.concatenate([part["observations"], part["next_observations"][:, -1:]], axis=1)
        first = np.zeros_like(part["actions"][:, :1])
        actions, rewards = np.concatenate([first, part["actions"]], axis=1), np.pad(part["rewards"], ((0, 0), (1, 0)))
        starts = np.pad(part["terminated"] | part["truncated"], ((0, 0), (1, 0)))
        starts[:, 0], starts[:, -1] = True, False  # the last row is what D ended in
        return self.rows(observations, actions, rewards, starts)


class _Acting:
    """Student in N x E episodes at once; keeps the inputs of each step."""

    def __init__(self, student: Student, state: Tensor, episodes: int, teach: BatchedPolicy | None = None) -> None:
        self.student, self.state, self.teach = student, state.repeat_interleave(episodes, dim=1), teach
        self.inputs: list[Tensor] = []
        self.actions: NDArray[np.float32] | None = None
        self.rewards: NDArray[np.float64] | None = None

    @torch.no_grad()
    def act(self, observations: NDArray[np.float64]) -> NDArray[np.float32]:
        """Actions [T, E, A] for raw observations [T, E, O]."""
        count, size = int(np.prod(observations.shape[:2])), self.student.base.spec.action_size
        flat = observations.reshape(count, -1)
        first = self.actions is None
        actions = np.zeros((count, size), np.float32) if self.actions is None else self.actions
        rewards = np.zeros(count) if self.rewards is None else self.rewards
        rows = self.student.rows(flat, actions, rewards, np.full(count, first))
        self.inputs.append(rows)
        outputs, self.state = self.student(rows[:, None], self.state)
        found = outputs[:, 0].numpy().reshape(*observations.shape[:2], size)
        taken = found if self.teach is None else self.teach.means(observations)
        self.actions = np.clip(taken, -1.0, 1.0).astype(np.float32).reshape(count, size)
        return self.actions.reshape(found.shape)

    def hear(self, rewards: NDArray[np.float64]) -> None:
        """Take the rewards [T, E] of the step."""
        self.rewards = rewards.reshape(-1)


def student_returns(
    student: Student,
    tasks: Sequence[Task],
    rollouts: Rollouts | None,
    length: int,
    *,
    episodes: int,
    seed: int,
    num_threads: int = 1,
) -> NDArray[np.float64]:
    """Returns of every episode [T, E] of the student: it reads D, then acts, its hidden state going on.

    Args:
        student: the student.
        tasks: T tasks.
        rollouts: D of each; None for no D.
        length: transitions of D that are read.
        episodes: E; each begins with the hidden state after D.
        seed: first reset seed.
        num_threads: threads of the simulator; 0 takes all cores.
    """
    seed = read_seed(seed)
    with torch.no_grad():
        state = (
            torch.zeros(1, len(tasks), student.hidden)
            if rollouts is None or not length
            else student.read(rollouts, np.full(len(tasks), length))
        )
    acting = _Acting(student, state, episodes)
    return run_episodes(tasks, acting.act, episodes, seed, num_threads=num_threads, on_rewards=acting.hear).returns


@dataclass(frozen=True, eq=False)
class _Sequences:
    """N sequences: a D, padded in front, and an episode, with the experts' actions."""

    inputs: Tensor
    """[N, k + H, F]; the last H rows are of the episode."""
    padding: NDArray[np.intp]
    """Rows in front that are not read [N]."""
    targets: Tensor
    """[N, H, A]."""
    mask: Tensor
    """Steps before the end of the episode [N, H]."""


def train_student(
    tasks: Sequence[Task],
    rollouts: Rollouts,
    phis: NDArray[np.float32],
    base: BasePolicy,
    config: StudentConfig,
    *,
    score: Callable[[Student], float],
    num_threads: int = 1,
) -> tuple[Student, dict[str, list[float]], int]:
    """Distil a student from experts on its own states.

    Args:
        tasks: T training tasks.
        rollouts: their rollouts, R of each.
        phis: weights of their experts [T, P].
        base: provides sizes and normaliser.
        config: settings.
        score: of a student on validation tasks; the round with the highest is kept.
        num_threads: threads of the simulator; 0 takes all cores.

    Returns:
        The student, loss and score of each round, and the environment steps of its episodes.
    """
    scale = float(rollouts.rewards.std()) or 1.0
    student = Student(base, config.hidden, reward_scale=scale, seed=config.seed)
    generator = np.random.default_rng(config.seed)
    optimizer = torch.optim.Adam(student.parameters(), lr=config.learning_rate)
    total = max(config.rounds * config.updates, 1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0 - step / total)
    held: list[_Sequences] = []
    record: dict[str, list[float]] = {"losses": [], "scores": []}
    best, steps = {name: value.clone() for name, value in student.state_dict().items()}, 0
    for number in range(config.rounds):
        found, taken = _collected(student, tasks, rollouts, phis, config, number, generator, num_threads)
        held.append(found)
        steps += taken
        losses = []
        for _ in range(config.updates):
            losses.append(_update(student, optimizer, held, config.batch, generator))
            schedule.step()
        record["losses"].append(float(np.mean(losses)))
        record["scores"].append(score(student))
        if record["scores"][-1] == max(record["scores"]):
            best = {name: value.clone() for name, value in student.state_dict().items()}
    student.load_state_dict(best)
    return student, record, steps


def _collected(
    student: Student,
    tasks: Sequence[Task],
    rollouts: Rollouts,
    phis: NDArray[np.float32],
    config: StudentConfig,
    number: int,
    generator: np.random.Generator,
    num_threads: int,
) -> tuple[_Sequences, int]:
    """Sequences of one round, `episodes` of each task, and the environment steps taken."""
    chosen = [task for task in range(len(tasks)) for _ in range(config.episodes)]
    which = generator.integers(rollouts.rewards.shape[1], size=len(chosen))
    longest = rollouts.rewards.shape[2]
    lengths = np.floor((longest + 1) ** generator.random(len(chosen)) - 0.5).astype(np.intp)  # 0 to n, log-uniform
    arrays = {name: array[chosen, which][:, None] for name, array in rollouts.arrays().items()}
    given = Rollouts(tuple(tasks[task] for task in chosen), **arrays)
    lengths = np.where(lengths > 0, np.maximum(lengths, given.newest[:, 0] + 1), 0)  # some of it is of the newest task
    experts = BatchedPolicy(student.base.policies(phis[chosen]))
    with torch.no_grad():
        state = student.read(given, lengths)
    acting = _Acting(student, state, 1, None if number else experts)
    episodes = run_episodes(
        given.tasks,
        acting.act,
        1,
        _EPISODE_SEEDS + 1000 * config.seed + number,
        num_threads=num_threads,
        record=True,
        on_rewards=acting.hear,
    )
    assert episodes.observations is not None, "recorded"
    wanted = np.clip(experts.means(episodes.observations[:, 0]), -1.0, 1.0).astype(np.float32)
    return _sequences(student, given, lengths, acting, wanted, episodes), int(episodes.lengths.sum())


def _sequences(
    student: Student,
    given: Rollouts,
    lengths: NDArray[np.intp],
    acting: _Acting,
    wanted: NDArray[np.float32],
    episodes: Episodes,
) -> _Sequences:
    acted = torch.stack(acting.inputs, dim=1)
    front = torch.zeros(len(given), int(lengths.max()) + 1, acted.shape[-1])
    padding = np.where(lengths > 0, front.shape[1] - lengths - 1, front.shape[1])
    for index, length in enumerate(lengths.tolist()):
        if length:
            front[index, padding[index] :] = student.of_rollouts(given.select([index]), length)[0]
    mask = np.arange(acted.shape[1]) < episodes.lengths
    return _Sequences(torch.cat([front, acted], dim=1), padding, torch.from_numpy(wanted), torch.from_numpy(mask))


def _update(
    student: Student,
    optimizer: torch.optim.Optimizer,
    held: Sequence[_Sequences],
    batch: int,
    generator: np.random.Generator,
) -> float:
    """One update on sequences of one round whose D are about equally long; returns the loss."""
    found = held[int(generator.integers(len(held)))]
    order = np.argsort(found.padding + generator.random(len(found.padding)), kind="stable")
    start = int(generator.integers(max(len(order) - batch, 0) + 1))
    rows = order[start : start + batch]
    skipped = found.padding[rows]
    inputs = found.inputs[rows][:, int(skipped.min()) :]
    steps = found.targets.shape[1]
    outputs = student(inputs, None)[0][:, -steps:]
    error = ((outputs - found.targets[rows]) ** 2).mean(dim=-1)
    mask = found.mask[rows]
    loss = (error * mask).sum() / mask.sum()
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(student.parameters(), 1.0)
    optimizer.step()
    return float(loss.detach())


def hidden_size(base: BasePolicy, size: float) -> int:
    """The largest hidden state with which a student has at most ``size`` times the weights of a policy; at least 1."""
    spec = base.spec
    inputs, actions = spec.observation_size + spec.action_size + 2, spec.action_size
    fits = [h for h in range(1, 4096) if 3 * h * (inputs + h + 2) + actions * (h + 1) <= size * spec.size]
    return max(fits, default=1)

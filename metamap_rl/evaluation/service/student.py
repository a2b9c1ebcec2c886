"""The recurrent student for service: a GRU distilled from the oracle while tasks change (DAgger).

The student of the protocol (`metamap_rl.evaluation.baselines.student`) learns from a D and an episode of one task. In
service there is neither a D nor an end: it is trained here as it is used, on trials in which the task changes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from annotated_types import Gt, Le
from numpy.typing import NDArray
from torch import Tensor, nn

from metamap_agents.experts.universal import UniversalPolicy
from metamap_agents.policy.base import BasePolicy
from metamap_agents.runtime.storage import load_arrays, save_arrays
from metamap_envs.errors import MetaMapError
from metamap_envs.registry import get_family
from metamap_envs.seeds import read_seed
from metamap_envs.task import Task
from metamap_rl.adaptation.service.belief import Belief
from metamap_rl.adaptation.service.trial import PolicyController, run_trial
from metamap_rl.common.config import Config, Positive, PositiveNumber
from metamap_rl.evaluation.baselines.student import Student, hidden_size
from metamap_rl.evaluation.service.trials import draw_trials, schedule_of

__all__ = ["ServiceStudentConfig", "StudentController", "load_student", "save_student", "train_service_student"]

_FORMAT = "metamap-student-1"
_STREAM = 7_300_000  # keeps its trials apart from others with the same seed
_VALIDATION = 8  # trials that the round is chosen on


@dataclass(frozen=True)
class ServiceStudentConfig(Config):
    """Settings of the student and its training."""

    called: ClassVar[str] = "student in service"

    size: PositiveNumber = 4.0
    """Most weights, as a multiple of those of a policy."""
    rounds: Positive = 6
    """Rounds of DAgger; in the first the oracle acts, in the others the student."""
    trials: Positive = 64
    """Trials of a round."""
    steps: Positive = 400
    """Steps of a trial."""
    hazard: Annotated[float, Gt(0), Le(1)] = 0.01
    """Probability of a change of the task before each step."""
    updates: Positive = 400
    """Updates in a round, on the trials of all rounds so far."""
    batch: Positive = 16
    """Trials in an update."""
    learning_rate: PositiveNumber = 3e-3
    """Initial learning rate of Adam; falls to 0 over all updates."""
    seed: int = 0
    """Of initial weights and trials."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "seed", read_seed(self.seed, "student in service: seed"))


class StudentController:
    """The student in N environments, as a controller; its memory goes on over changes and falls.

    Args:
        student: the student.
        count: N.
        teacher: acts in its place if ``shown``, and says what it would have done.
        shown: whether the teacher acts.
    """

    beliefs: tuple[Belief, ...] = ()

    def __init__(
        self, student: Student, count: int, teacher: PolicyController | None = None, *, shown: bool = False
    ) -> None:
        self.student, self.teacher, self._shown = student, teacher, shown
        self.swaps = [0] * count
        """See `SwapCounter`: its weights never change."""
        self._state = torch.zeros(1, count, student.hidden)
        self._starts = np.ones(count, dtype=np.bool_)
        self._actions = np.zeros((count, student.base.spec.action_size), np.float32)
        self._rewards = np.zeros(count)
        self.inputs: list[Tensor] = []
        """Input rows of each step [N, F], where there is a teacher."""
        self.wanted: list[NDArray[np.float32]] = []
        """The teacher's actions [N, A]."""

    def tasks_change(self, tasks: Sequence[Task], changed: NDArray[np.bool_]) -> None:
        """See `Controller`; for the teacher."""
        if self.teacher is not None:
            self.teacher.tasks_change(tasks, changed)

    def reset(self, observations: NDArray[Any], where: NDArray[np.bool_]) -> None:
        """See `Controller`."""
        self._starts |= where

    @torch.no_grad()
    def act(self, observations: NDArray[Any]) -> NDArray[np.float32]:
        """See `Controller`."""
        rows = self.student.rows(observations, self._actions, self._rewards, self._starts)
        self._starts = np.zeros_like(self._starts)
        outputs, self._state = self.student(rows[:, None], self._state)
        actions: NDArray[np.float32] = np.clip(outputs[:, 0].numpy(), -1.0, 1.0)
        if self.teacher is not None:
            self.inputs.append(rows)
            self.wanted.append(self.teacher.act(observations))
            actions = self.wanted[-1] if self._shown else actions
        self._actions = actions
        return actions

    def observe(self, step: dict[str, NDArray[Any]]) -> None:
        """See `Controller`."""
        self._rewards = np.nan_to_num(step["rewards"])


def train_service_student(
    base: BasePolicy, universal: UniversalPolicy, config: ServiceStudentConfig, *, num_threads: int = 1
) -> tuple[Student, dict[str, Any]]:
    """Distil a student from the universal policy given the true task, on trials of training tasks that change.

    Args:
        base: provides sizes and normaliser.
        universal: the teacher.
        config: settings.
        num_threads: threads of the simulator; 0 takes all cores.

    Returns:
        The student of the round with the highest mean reward on trials of validation tasks, and a record: loss and mean
        reward of each round, weights, environment steps.
    """
    hidden = hidden_size(base, config.size)
    student = Student(base, hidden, reward_scale=1.0, seed=config.seed)
    generator = np.random.default_rng(config.seed)
    optimizer = torch.optim.Adam(student.parameters(), lr=config.learning_rate)
    total = config.rounds * config.updates
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0 - step / total)
    held: list[tuple[Tensor, Tensor]] = []
    record: dict[str, Any] = {"losses": [], "rewards": [], "hidden": hidden, "weights": student.weights}
    best = {name: value.clone() for name, value in student.state_dict().items()}
    for number in range(config.rounds):
        held.append(_collected(student, universal, config, number, num_threads))
        losses = []
        for _ in range(config.updates):
            losses.append(_update(student, optimizer, held, config.batch, generator))
            schedule.step()
        record["losses"].append(float(np.mean(losses)))
        record["rewards"].append(_validated(student, universal.family, config, num_threads))
        if record["rewards"][-1] == max(record["rewards"]):
            best = {name: value.clone() for name, value in student.state_dict().items()}
    student.load_state_dict(best)
    record["steps"] = config.rounds * config.steps * config.trials
    return student, record


def _collected(
    student: Student, universal: UniversalPolicy, config: ServiceStudentConfig, number: int, num_threads: int
) -> tuple[Tensor, Tensor]:
    """Inputs [N, n, F] and the teacher's actions [N, n, A] of one round."""
    trials = draw_trials(
        get_family(universal.family),
        schedule_of("train", hazard=config.hazard, changes=()),
        steps=config.steps,
        trials=config.trials,
        entropy=[_STREAM, config.seed, number],
    )
    teacher = PolicyController(student.base, config.trials, universal.expert_for)
    controller = StudentController(student, config.trials, teacher, shown=number == 0)
    trial = run_trial(controller, trials.tasks, seeds=trials.seeds, num_threads=num_threads)
    inputs = torch.stack(controller.inputs, dim=1)
    if number == 0:  # the unit of rewards, in which the inputs of the later rounds are
        student.reward_scale = float(trial.rewards.std()) or 1.0
        inputs[..., -2] /= student.reward_scale
    return inputs, torch.from_numpy(np.stack(controller.wanted, axis=1))


def _validated(student: Student, family: str, config: ServiceStudentConfig, num_threads: int) -> float:
    """Mean reward on trials of validation tasks."""
    trials = draw_trials(
        get_family(family),
        schedule_of("validation", hazard=config.hazard, changes=()),
        steps=config.steps,
        trials=_VALIDATION,
        entropy=[_STREAM, config.seed],
    )
    controller = StudentController(student, _VALIDATION)
    return float(run_trial(controller, trials.tasks, seeds=trials.seeds, num_threads=num_threads).rewards.mean())


def _update(
    student: Student,
    optimizer: torch.optim.Optimizer,
    held: Sequence[tuple[Tensor, Tensor]],
    batch: int,
    generator: np.random.Generator,
) -> float:
    """One update on trials of one round; returns the loss."""
    inputs, wanted = held[int(generator.integers(len(held)))]
    rows = torch.from_numpy(generator.choice(len(inputs), size=min(batch, len(inputs)), replace=False))
    loss = (student(inputs[rows], None)[0] - wanted[rows]).square().mean()
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(student.parameters(), 1.0)
    optimizer.step()
    return float(loss.detach())


def save_student(path: str | Path, student: Student) -> None:
    """Write a student to a ``.safetensors`` file, without its base policy.

    Raises:
        MetaMapError: the name does not end in .safetensors, or the file cannot be written.
    """
    arrays = {name: value.detach().numpy() for name, value in student.state_dict().items()}
    about = json.dumps({"hidden": student.hidden, "reward_scale": student.reward_scale})
    save_arrays(path, arrays, {"format": _FORMAT, "student": about})


def load_student(path: str | Path, base: BasePolicy) -> Student:
    """Read what `save_student` wrote; ``base`` is the one that it was trained with.

    Raises:
        MetaMapError: not such a file, or of other sizes.
    """
    arrays, metadata = load_arrays(path)
    if metadata.get("format") != _FORMAT:
        raise MetaMapError(f"{path}: expected format {_FORMAT!r}, the file has {metadata.get('format')!r}")
    try:
        about = json.loads(metadata["student"])
        student = Student(base, int(about["hidden"]), reward_scale=float(about["reward_scale"]), seed=0)
        student.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    except (KeyError, TypeError, ValueError, RuntimeError):
        raise MetaMapError(f"{path}: expected a student with the sizes of this base policy; train it again") from None
    return student

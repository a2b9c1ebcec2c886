"""Recurrent students of the experts, at two sizes."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from metamap_agents.runtime.seeds import EVALUATION_SEED
from metamap_envs.settings import Number
from metamap_rl.evaluation.baselines.student import (
    Student,
    StudentConfig,
    hidden_size,
    student_returns,
    train_student,
)
from metamap_rl.evaluation.protocol.methods.base import METHODS, Method, MethodResult, at_lengths, takes
from metamap_rl.evaluation.protocol.problem import Problem

__all__ = ["RecurrentStudent", "WideRecurrentStudent"]

_CONFIG = StudentConfig()


@takes(_CONFIG, "rounds", "episodes", "updates", "batch", "learning_rate")
class _Students(Method):
    """A GRU distilled from the training experts on its own states (DAgger), as in RMA and RAPTOR.

    It reads the same D as the mapper, which sets its hidden state, and then acts in the evaluation episodes, each from
    that hidden state, which goes on through the episode: unlike a mapped policy it keeps reading while it acts. The
    best round on validation tasks is kept.
    """

    signal = "D, then its own episode, in its memory"

    size: Annotated[Number, Field(gt=0)] = 1.0
    """Most weights, as a multiple of those of a policy."""

    def measure(self, problem: Problem, seed: int) -> MethodResult:
        """See `Method`."""
        pairs = problem.training_pairs

        def returns(student: Student, split: str, length: int) -> NDArray[np.float64]:
            return student_returns(
                student,
                problem.tasks(split),
                problem.rollouts(split, seed) if length else None,
                length,
                episodes=problem.config.episodes,
                seed=EVALUATION_SEED,
                num_threads=problem.num_threads,
            )

        lengths = problem.positive_lengths
        student, record, steps = train_student(
            pairs.tasks,
            pairs.rollouts,
            pairs.phi,
            problem.base,
            self.filled(_CONFIG, hidden=hidden_size(problem.base, self.size), seed=seed),
            score=lambda student: float(np.mean([returns(student, "validation", k).mean() for k in lengths])),
            num_threads=problem.num_threads,
        )
        scores = at_lengths(problem, problem.lengths, lambda split, length: returns(student, split, length))
        about = {"weights": student.weights, "hidden": student.hidden, **record}
        return MethodResult(scores, problem.zoo_steps + problem.pair_steps + steps, about)


@METHODS.register("student")
class RecurrentStudent(_Students):
    """The size of a policy."""

    summary = "GRU distilled from the experts on its own states (DAgger); the size of phi_0"


@METHODS.register("wide-student")
class WideRecurrentStudent(_Students):
    """Four times the size of a policy."""

    summary = "GRU distilled from the experts on its own states (DAgger); four times the size of phi_0"

    size: Annotated[Number, Field(gt=0)] = 4.0
    """Most weights, as a multiple of those of a policy."""

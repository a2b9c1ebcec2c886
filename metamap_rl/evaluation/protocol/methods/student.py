"""Recurrent students of the experts, at two sizes."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from metamap_agents.runtime.seeds import EVALUATION_SEED
from metamap_envs.settings import Number, Whole
from metamap_rl.evaluation.baselines.student import (
    Student,
    StudentConfig,
    hidden_size,
    student_returns,
    train_student,
)
from metamap_rl.evaluation.protocol.methods.base import METHODS, Method, MethodResult, at_lengths
from metamap_rl.evaluation.protocol.problem import Problem

__all__ = ["RecurrentStudent", "WideRecurrentStudent"]


class _Students(Method):
    """A GRU distilled from the training experts on its own states (DAgger), as in RMA and RAPTOR.

    It reads the same D as the mapper, which sets its hidden state, and then acts in the evaluation episodes, each from
    that hidden state, which goes on through the episode: unlike a mapped policy it keeps reading while it acts.
    """

    signal = "D, then its own episode, in its memory"

    size: Annotated[Number, Field(gt=0)] = 1.0
    """Most weights, as a multiple of those of a policy."""
    rounds: Annotated[Whole, Field(ge=1)] = 6
    """Rounds of DAgger; in the first the experts act. The best round on validation tasks is kept."""
    episodes: Annotated[Whole, Field(ge=1)] = 2
    """Episodes of each training task in a round."""
    updates: Annotated[Whole, Field(ge=1)] = 400
    """Updates in a round."""
    batch: Annotated[Whole, Field(ge=1)] = 32
    """Sequences in an update."""
    learning_rate: Annotated[Number, Field(gt=0)] = 3e-3
    """Initial learning rate; falls to 0."""

    def measure(self, problem: Problem, seed: int) -> MethodResult:
        """See `Method`."""
        pairs = problem.training_pairs
        settings = {name: getattr(self, name) for name in ("rounds", "episodes", "updates", "batch", "learning_rate")}

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
            StudentConfig(hidden=hidden_size(problem.base, self.size), seed=seed, **settings),
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

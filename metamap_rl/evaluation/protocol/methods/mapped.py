"""The mapper, its controls, and context-conditioned policies."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Annotated, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from metamap_agents.policy.base import BasePolicy
from metamap_agents.policy.initial import random_actor
from metamap_agents.policy.spec import PolicySpec
from metamap_envs.settings import Number, Whole
from metamap_rl.data.examples import Examples
from metamap_rl.evaluation.privileged import privileged_phis
from metamap_rl.evaluation.protocol.methods.base import METHODS, Method, MethodResult, MethodReturns, at_lengths
from metamap_rl.evaluation.protocol.problem import Problem
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.training.from_experts import on_policy

__all__ = [
    "CheckedMapper",
    "ContextPolicy",
    "MapperMethod",
    "PrivilegedMapper",
    "Shuffled",
    "WideContextPolicy",
    "train_context_policy",
    "train_protocol_mapper",
]


Choice = TypeVar("Choice")

_STARTS: tuple[Literal["phi-0", "mean-expert"], ...] = ("phi-0", "mean-expert")
_RATES = (1e-3, 5e-3)


def train_protocol_mapper(problem: Problem, seed: int) -> Mapper:
    """Train the mapper of one seed, with model selection on validation tasks."""
    pairs = problem.training_pairs
    options = {"survey": problem.survey, "visit": on_policy(pairs, problem.base, num_threads=1)}
    return problem.trained(seed, pairs, problem.validation_pairs, options=options)


def _scored(
    problem: Problem, policy: Mapper, seed: int, lengths: Sequence[int], spec: PolicySpec | None = None
) -> list[MethodReturns]:
    """Scores of policies generated from D of each length; ``spec`` if their architecture differs from the family's."""

    def returns(split: str, length: int) -> NDArray[np.float64]:
        return problem.returns(split, problem.generated(split, seed, length, policy), spec)

    return at_lengths(problem, lengths, returns)


@METHODS.register("mapper")
class MapperMethod(Method):
    """The mapper without self-check."""

    summary = "weights generated from D in one forward pass"
    signal = "D"
    needs_mapper = True

    def measure(self, problem: Problem, seed: int) -> MethodResult:
        """See `Method`."""
        scores = at_lengths(problem, problem.lengths, lambda split, length: problem.mapped(split, seed, length))
        return MethodResult(
            scores, problem.mapper_steps, {"chosen_update": problem.mapper(seed).record.get("chosen_update")}
        )


@METHODS.register("checked-mapper")
class CheckedMapper(Method):
    """The mapper with self-check, as in `metamap_rl.adapt`."""

    summary = "the mapper, or phi_0 where its self-check says so"
    signal = "D"
    needs_mapper = True
    needs_check = True

    def measure(self, problem: Problem, seed: int) -> MethodResult:
        """See `Method`."""
        mapper = problem.mapper(seed)
        base = {split: problem.returns(split, problem.base.phi) for split in problem.splits}

        def returns(split: str, length: int) -> NDArray[np.float64]:
            rollouts = problem.rollouts(split, seed)
            verdicts = [mapper.judge(rollouts.rollout(task, 0).head(length)) for task in range(len(rollouts))]
            served = np.array([verdict is None or not verdict.fallback for verdict in verdicts])
            return np.where(served[:, None], problem.mapped(split, seed, length), base[split])

        return MethodResult(at_lengths(problem, problem.positive_lengths, returns), problem.mapper_steps)


@METHODS.register("shuffled")
class Shuffled(Method):
    """Control: the mapper given the D of the next task of the split."""

    summary = "the mapper, given another task's D"
    signal = "another task's D"
    needs_mapper = True

    def measure(self, problem: Problem, seed: int) -> MethodResult:
        """See `Method`; not defined for a split of one task."""

        def returns(split: str, length: int) -> NDArray[np.float64]:
            return problem.returns(split, np.roll(problem.generated(split, seed, length), -1, axis=0))

        several = [split for split in problem.splits if len(problem.tasks(split)) > 1]
        scores = [MethodReturns(split, k, returns(split, k)) for split in several for k in problem.positive_lengths]
        return MethodResult(scores, problem.mapper_steps)


@METHODS.register("privileged-mapper")
class PrivilegedMapper(Method):
    """The privileged mapper, given the true parameters. No upper bound."""

    summary = "privileged mapper: given the true parameters in place of D; no upper bound"
    signal = "the true parameters"

    def measure(self, problem: Problem, seed: int) -> MethodResult:
        """See `Method`."""
        privileged = problem.privileged(seed)
        scores = [
            MethodReturns(split, None, problem.returns(split, privileged_phis(privileged, problem.tasks(split))))
            for split in problem.splits
        ]
        return MethodResult(scores, problem.zoo_steps)


@METHODS.register("context-policy")
class ContextPolicy(Method):
    """Policy of (observation, z(D)), initialised with phi_0; encoder, data and training as for the mapper."""

    summary = "policy(observation, z), same encoder, cloning the experts; the size of phi_0"
    signal = "D"

    starts: tuple[Literal["phi-0", "mean-expert"], ...] = Field(default=_STARTS, min_length=1)
    """Candidate initial weights; the best ones on validation tasks are used."""
    learning_rates: tuple[Annotated[Number, Field(gt=0)], ...] = Field(default=_RATES, min_length=1)
    """Candidate learning rates; chosen likewise."""

    def measure(self, problem: Problem, seed: int) -> MethodResult:
        """See `Method`."""
        best, policy = train_context_policy(problem, seed, self.starts, self.learning_rates)
        record = {"chosen_update": policy.record["chosen_update"], "start": best[0], "learning_rate": best[1]}
        return MethodResult(_scored(problem, policy, seed, problem.lengths), problem.mapper_steps, record)


def train_context_policy(
    problem: Problem,
    seed: int,
    starts: Sequence[str] = _STARTS,
    learning_rates: Sequence[float] = _RATES,
) -> tuple[tuple[str, float], Mapper]:
    """Train a context policy from each start ("phi-0", "mean-expert") with each learning rate.

    Returns:
        Start and learning rate of the best one on validation tasks, and that policy: a mapper whose generated weights
        are those of the policy with z as its input.
    """
    source, validation = problem.examples("train"), problem.examples("validation")
    mean = problem.training_pairs.phi.mean(axis=0, dtype=np.float64).astype(np.float32)
    bases = {"phi-0": problem.base, "mean-expert": replace(problem.base, phi=mean, critic={})}

    def train(choice: tuple[str, float]) -> Mapper:
        return _train_contextual(problem, seed, source, validation, bases[choice[0]], learning_rate=choice[1])

    return _chosen(problem, seed, itertools.product(starts, learning_rates), train)


@METHODS.register("wide-context-policy")
class WideContextPolicy(Method):
    """The same with a wider network, from random weights."""

    summary = "policy(observation, z), same encoder, cloning the experts; wider, from random weights"
    signal = "D"

    hidden: tuple[Whole, ...] = Field(default=(256, 256), min_length=1)
    """Hidden layers."""
    learning_rates: tuple[Annotated[Number, Field(gt=0)], ...] = Field(default=(1e-3, 5e-3), min_length=1)
    """Candidate learning rates; the best one on validation tasks is used."""

    def measure(self, problem: Problem, seed: int) -> MethodResult:
        """See `Method`."""
        spec = replace(problem.base.spec, hidden=self.hidden)
        base = replace(problem.base, spec=spec, phi=random_actor(spec, seed), critic={})
        source, validation = (_of_another_shape(problem.examples(split), base) for split in ("train", "validation"))

        def train(rate: float) -> Mapper:
            return _train_contextual(problem, seed, source, validation, base, learning_rate=rate)

        best, policy = _chosen(problem, seed, self.learning_rates, train, spec)
        record = {"chosen_update": policy.record["chosen_update"], "weights": spec.size, "learning_rate": best}
        return MethodResult(
            _scored(problem, policy, seed, problem.positive_lengths, spec), problem.mapper_steps, record
        )


def _chosen(
    problem: Problem,
    seed: int,
    choices: Iterable[Choice],
    train: Callable[[Choice], Mapper],
    spec: PolicySpec | None = None,
) -> tuple[Choice, Mapper]:
    """The choice whose policy has the highest mean return on validation tasks, and that policy; one is not measured."""
    found = [(choice, train(choice)) for choice in choices]
    if len(found) == 1:
        return found[0]

    def score(policy: Mapper) -> float:
        returns = [
            problem.returns("validation", problem.generated("validation", seed, length, policy), spec).mean()
            for length in problem.positive_lengths
        ]
        return float(np.mean(returns))

    return max(found, key=lambda pair: score(pair[1]))


def _train_contextual(
    problem: Problem,
    seed: int,
    examples: Examples,
    validation: Examples,
    base: BasePolicy,
    *,
    learning_rate: float,
) -> Mapper:
    """Behaviour cloning with the mapper's training loop: same batches, lengths, survey and model selection."""
    return problem.trained(
        seed,
        examples,
        validation,
        base=base,
        shape={"hypernetwork": "context"},
        options={"survey": problem.survey},
        loss="behaviour",
        learning_rate=learning_rate,
        dagger_rounds=0,
    )


def _of_another_shape(examples: Examples, base: BasePolicy) -> Examples:
    """The same behaviour, for a network of another architecture than the experts'."""
    return replace(examples, phi=torch.tensor(base.phi).expand(len(examples), -1).contiguous())

"""The mapper, its controls, and policies that read the same context beside the observation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from metamap_agents.policy.base import BasePolicy
from metamap_agents.policy.initial import random_actor
from metamap_agents.policy.spec import PolicySpec
from metamap_envs.settings import Whole
from metamap_rl.data.examples import Examples
from metamap_rl.evaluation.evaluate import generate
from metamap_rl.evaluation.privileged import told_phis, train_oracle
from metamap_rl.evaluation.protocol.methods.base import METHODS, Measured, Method, Scored, at_lengths
from metamap_rl.evaluation.protocol.problem import Problem
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.training.from_experts import on_policy
from metamap_rl.training.loop import train

__all__ = ["ContextPolicy", "MapperMethod", "Oracle", "Shuffled", "WideContextPolicy", "train_protocol_mapper"]


def train_protocol_mapper(problem: Problem, seed: int) -> Mapper:
    """The mapper of one seed, its checkpoint chosen on validation tasks."""
    recipe = problem.config.mapper
    return train(
        problem.training_pairs,
        problem.base,
        validation=problem.validation_pairs,
        survey=problem.survey,
        config=replace(recipe.training, seed=seed),
        mapper_config=recipe.shape,
        visit=on_policy(problem.training_pairs, problem.base, num_threads=1),
        **problem.about,
    )


def _learned_from(problem: Problem) -> int:
    return problem.zoo_steps + problem.pair_steps + problem.survey_steps


def _generated(problem: Problem, mapper: Mapper, split: str, seed: int, length: int) -> NDArray[np.float32]:
    """phi_hat [T, P] from the first steps of D; phi_0 from none."""
    if not length:
        return np.tile(mapper.base.phi, (len(problem.tasks(split)), 1))
    return generate(mapper, problem.rollouts(split, seed), 0, length)


def _scored(
    problem: Problem, mapper: Mapper, seed: int, lengths: Sequence[int], spec: PolicySpec | None = None
) -> list[Scored]:
    """Scores of what is generated from D of each length; ``spec`` where it is not the family's network."""

    def returns(split: str, length: int) -> NDArray[np.float64]:
        return problem.returns(split, _generated(problem, mapper, split, seed, length), spec)

    return at_lengths(problem, lengths, returns)


@METHODS.register("mapper")
class MapperMethod(Method):
    """The subject of it all."""

    summary = "weights generated from D in one forward pass"
    signal = "D"
    needs_mapper = True

    def measure(self, problem: Problem, seed: int) -> Measured:
        """See `Method`."""
        mapper = problem.mapper(seed)
        return Measured(
            _scored(problem, mapper, seed, problem.lengths),
            _learned_from(problem),
            {"chosen_update": mapper.record["chosen_update"]},
        )


@METHODS.register("shuffled")
class Shuffled(Method):
    """The control of whether D matters: the D of the next task of the split."""

    summary = "the mapper, given another task's D"
    signal = "another task's D"
    needs_mapper = True

    def measure(self, problem: Problem, seed: int) -> Measured:
        """See `Method`; a split of one task has no other."""
        mapper = problem.mapper(seed)

        def returns(split: str, length: int) -> NDArray[np.float64]:
            return problem.returns(split, np.roll(_generated(problem, mapper, split, seed, length), -1, axis=0))

        scores = at_lengths(problem, problem.positive_lengths, returns)
        several = {split for split in problem.splits if len(problem.tasks(split)) > 1}
        return Measured([score for score in scores if score.split in several], _learned_from(problem))


@METHODS.register("oracle")
class Oracle(Method):
    """The privileged mapper, given the true parameters: what it misses is not in reading D. No upper bound."""

    summary = "privileged mapper: given the true parameters in place of D; no upper bound"
    signal = "the true parameters"

    def measure(self, problem: Problem, seed: int) -> Measured:
        """See `Method`."""
        recipe = problem.config.mapper
        oracle = train_oracle(
            problem.training_pairs,
            problem.base,
            validation=problem.validation_pairs,
            config=replace(recipe.training, seed=seed, dagger_rounds=0),
            mapper_config=recipe.shape,
            **problem.about,
        )
        scores = [
            Scored(split, None, problem.returns(split, told_phis(oracle, problem.tasks(split))))
            for split in problem.splits
        ]
        return Measured(scores, problem.zoo_steps)


@METHODS.register("context-policy")
class ContextPolicy(Method):
    """policy(o, z(D)) of the size of phi_0, from phi_0, with the mapper's encoder, data, survey and updates."""

    summary = "policy(observation, z), same encoder, cloning the experts; the size of phi_0, from phi_0"
    signal = "D"

    def measure(self, problem: Problem, seed: int) -> Measured:
        """See `Method`."""
        policy = _train_contextual(problem, seed, problem.examples("train"), problem.examples("validation"))
        record = {"chosen_update": policy.record["chosen_update"]}
        return Measured(_scored(problem, policy, seed, problem.lengths), _learned_from(problem), record)


@METHODS.register("wide-context-policy")
class WideContextPolicy(Method):
    """The same with a network of its own size, from random weights: not held back by the small policy's width."""

    summary = "policy(observation, z), same encoder, cloning the experts; wider, from random weights"
    signal = "D"

    hidden: tuple[Whole, ...] = Field(default=(256, 256), min_length=1)
    """Widths of its hidden layers."""

    def measure(self, problem: Problem, seed: int) -> Measured:
        """See `Method`."""
        spec = replace(problem.base.spec, hidden=self.hidden)
        base = replace(problem.base, spec=spec, phi=random_actor(spec, seed), critic={})
        policy = _train_contextual(
            problem,
            seed,
            _of_another_shape(problem.examples("train"), base),
            _of_another_shape(problem.examples("validation"), base),
            base,
        )
        record = {"chosen_update": policy.record["chosen_update"], "weights": spec.size}
        return Measured(_scored(problem, policy, seed, problem.positive_lengths, spec), _learned_from(problem), record)


def _train_contextual(
    problem: Problem, seed: int, examples: Examples, validation: Examples, base: BasePolicy | None = None
) -> Mapper:
    """Behaviour cloning with the mapper's own loop: batches, lengths, survey and choice are the same."""
    recipe = problem.config.mapper
    shared: dict[str, Any] = {"validation": validation, "survey": problem.survey, **problem.about}
    return train(
        examples,
        base or problem.base,
        config=replace(recipe.training, seed=seed, loss="behaviour", dagger_rounds=0),
        mapper_config=replace(recipe.shape, hypernetwork="context"),
        **shared,
    )


def _of_another_shape(examples: Examples, base: BasePolicy) -> Examples:
    """The same behaviour to clone, for a network of other weights than the experts'."""
    return replace(examples, phi=torch.tensor(base.phi).expand(len(examples), -1).contiguous())

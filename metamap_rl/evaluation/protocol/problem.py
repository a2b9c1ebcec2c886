"""Shared data of all methods of a family: tasks, experts, D, and evaluation of policies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metamap_agents.experts.expert import Expert
from metamap_agents.experts.universal import UniversalPolicy
from metamap_agents.experts.zoo import Zoo
from metamap_agents.policy.acting import BatchedPolicy
from metamap_agents.policy.base import BasePolicy
from metamap_agents.policy.evaluation import evaluate_policies, random_returns
from metamap_agents.policy.policies import Policies
from metamap_agents.policy.spec import PolicySpec
from metamap_agents.runtime.seeds import EVALUATION_SEED
from metamap_envs.errors import MetaMapError
from metamap_envs.family import Family
from metamap_envs.parameters import Split
from metamap_envs.task import Task
from metamap_rl.data.examples import Examples, ExampleSource
from metamap_rl.data.pairs import Pairs
from metamap_rl.data.rollouts import Rollouts
from metamap_rl.data.survey import Survey
from metamap_rl.evaluation.privileged import privileged_examples
from metamap_rl.evaluation.protocol.settings import SharedSettings
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.probing.actors import ActorMixture
from metamap_rl.probing.collecting import collect
from metamap_rl.probing.documents import probe_to_json
from metamap_rl.probing.mixture import ActorPool, collect_mixture, supported
from metamap_rl.probing.probes import PROBES, Probe
from metamap_rl.training.checkpoint import digest
from metamap_rl.training.loop import TrainingData, train
from metamap_rl.training.pipeline import survey_of, training_pairs

__all__ = ["PROBE_SEED", "Problem", "fingerprint"]

_MEMORY = 8
"""Rollouts of each training task in a memory, as many as a mapper is trained on."""

PROBE_SEED, _STORED_SEED = 3_000_000, 3_500_000
"""Seeds of D, of test tasks and of training tasks: disjoint from all other seeds."""


class Problem:
    """One family under the protocol, with cached data.

    Args:
        zoo: zoo with experts.
        config: settings of the protocol.
        mappers: folder of the family's mappers, by seed.
    """

    def __init__(self, zoo: Zoo, config: SharedSettings, mappers: Path) -> None:
        self.zoo = zoo
        self.config = config
        self.base = zoo.base
        self.probe: Probe = PROBES.get(config.probe)()
        self.num_threads = 1
        found = zoo.experts()
        self._experts = {split.value: [one for one in found if one.task.split == split] for split in Split}
        self._mappers = mappers
        self._share()

    def _share(self) -> None:
        """Prepare data that several methods use."""
        self._rollouts = cache(self._collect)
        self._loaded: Callable[[int], Mapper] = cache(self._load)
        self._mapped = cache(lambda split, seed, length: self.returns(split, self.generated(split, seed, length)))

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits of the protocol of which the zoo has experts."""
        return tuple(split for split in self.config.splits if self.experts(split))

    def experts(self, split: str) -> list[Expert]:
        """Finished experts of a split, in order of task ids."""
        return self._experts[split]

    def tasks(self, split: str) -> tuple[Task, ...]:
        """Tasks of a split."""
        return tuple(expert.task for expert in self.experts(split))

    @property
    def lengths(self) -> tuple[int, ...]:
        """Lengths of D, ascending."""
        return tuple(sorted(set(self.config.lengths)))

    @property
    def positive_lengths(self) -> tuple[int, ...]:
        """Lengths above 0."""
        return tuple(length for length in self.lengths if length)

    # D ----------------------------------------------------------------------------------------------------------

    def rollouts(self, split: str, seed: int) -> Rollouts:
        """D of every task of a split, of the longest length, [T, 1, n]; different for every seed.

        Raises:
            MetaMapError: the protocol has no length above 0.
        """
        return self._rollouts(split, seed)

    def stored(self, seed: int) -> Rollouts:
        """D of the training experts' tasks, as if stored with the experts, of the same source as D of test tasks."""
        return self._from_source(self.tasks("train"), _STORED_SEED + seed)

    def memory(self, seed: int) -> Rollouts:
        """R independent D of each training expert's task, as if stored with the experts [T, R, n]; see `stored`."""
        return self._from_source(self.tasks("train"), _STORED_SEED + seed, _MEMORY)

    def _collect(self, split: str, seed: int) -> Rollouts:
        return self._from_source(self.tasks(split), PROBE_SEED + seed)

    @cached_property
    def pool(self) -> ActorPool:
        """Policies that may have collected D."""
        return ActorPool.of_zoo(self.zoo)

    @property
    def _mixture(self) -> ActorMixture | None:
        """What the mappers' D came from in training."""
        return self.config.mapper.collected_by

    def _from_source(self, tasks: Sequence[Task], seed: int, repeats: int = 1) -> Rollouts:
        """D of tasks, collected by those that the settings name."""
        if self.config.d_from == "probe":
            return self._probed(tasks, seed, repeats)
        return collect_mixture(
            ActorMixture.source(self.config.d_from, self._mixture),
            self.pool,
            self.probe,
            tasks,
            steps=self._longest(),
            repeats=repeats,
            seed=seed,
            num_threads=self.num_threads,
        )

    def _longest(self) -> int:
        if not self.positive_lengths:
            raise MetaMapError("the protocol has no length of D above 0")
        return self.lengths[-1]

    def _probed(self, tasks: Sequence[Task], seed: int, repeats: int = 1) -> Rollouts:
        return collect(
            self.probe,
            tasks,
            self.base,
            steps=self._longest(),
            repeats=repeats,
            seed=seed,
            num_threads=self.num_threads,
        )

    def generated(self, split: str, seed: int, length: int, mapper: Mapper | None = None) -> NDArray[np.float32]:
        """phi_hat [T, P] of the mapper of a seed, or another, from the first transitions of D; phi_0 for an empty D.

        Each is mapped separately, as in `metamap_rl.adapt`: in a batch the last bits would depend on the others.
        """
        mapper = mapper or self.mapper(seed)
        if not length:
            return np.tile(mapper.base.phi, (len(self.tasks(split)), 1))
        rollouts = self.rollouts(split, seed)
        return np.stack([mapper.generate(rollouts.rollout(task, 0).head(length)) for task in range(len(rollouts))])

    def mapped(self, split: str, seed: int, length: int) -> NDArray[np.float64]:
        """Returns of every episode [T, E] of policies generated by the mapper of a seed."""
        return self._mapped(split, seed, length)

    @cached_property
    def training_pairs(self) -> Pairs:
        """Pairs of the training experts."""
        return self._pairs("train")

    @cached_property
    def validation_pairs(self) -> Pairs:
        """Pairs of the validation experts."""
        return self._pairs("validation")

    def _pairs(self, split: str) -> Pairs:
        aligned = self.config.mapper.aligned
        return training_pairs(self.zoo, split, self.probe, aligned=aligned, actors=self._supported)

    @cached_property
    def _supported(self) -> ActorMixture | None:
        return None if self._mixture is None else supported(self._mixture, self.pool)

    def examples(self, split: str) -> Examples:
        """Examples for cloning the experts of "train" or "validation".

        Half of the states are visited by experts, half in rollouts D, labelled with the expert's actions: on its own
        states alone an expert's actions are often independent of the task, since the states already determine it.
        """
        pairs = self.training_pairs if split == "train" else self.validation_pairs
        seen = pairs.rollouts.observations.reshape(len(pairs), -1, self.base.spec.observation_size)
        count = min(pairs.states.shape[1], seen.shape[1])
        chosen = seen[:, np.linspace(0, seen.shape[1] - 1, count).astype(np.int64)]
        actions = BatchedPolicy(self.base.policies(pairs.phi)).means(chosen)
        inputs = self.base.normalizer.apply(chosen).astype(np.float32)
        return pairs.examples(self.base).widened(torch.from_numpy(inputs), torch.from_numpy(actions))

    @cached_property
    def survey(self) -> Survey | None:
        """Rollouts of tasks without experts."""
        return survey_of(self.zoo, self.probe, count=self.config.mapper.survey_tasks, actors=self._supported)

    def mapper(self, seed: int) -> Mapper:
        """Load the mapper of a seed, trained before.

        Raises:
            MetaMapError: it was not trained.
        """
        return self._loaded(seed)

    def privileged(self, seed: int) -> Mapper:
        """The privileged mapper of a seed."""
        source, held_out = (privileged_examples(p, self.base) for p in (self.training_pairs, self.validation_pairs))
        return self.trained(seed, source, held_out, shape={"bottleneck": False}, dagger_rounds=0)

    def trained(
        self,
        seed: int,
        source: ExampleSource,
        validation: ExampleSource,
        *,
        base: BasePolicy | None = None,
        shape: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        **training: Any,
    ) -> Mapper:
        """Train as the protocol says, but for some settings of shape and training; the checkpoint is chosen.

        Args:
            seed: of the training.
            source: training tasks.
            validation: tasks to choose on.
            base: base policy; default the zoo's.
            shape: other settings of `MapperConfig`.
            options: ``survey`` and ``visit`` of `metamap_rl.training.loop.TrainingData`.
            **training: other settings of `TrainConfig`.
        """
        recipe, family = self.config.mapper, self.zoo.family.name
        return train(
            TrainingData(
                source,
                base or self.base,
                family,
                probe_to_json(self.probe),
                validation=validation,
                actors=self._supported,
                **(options or {}),
            ),
            config=replace(recipe.training, seed=seed, **training),
            mapper_config=replace(recipe.shape, **(shape or {})),
        )

    def mapper_folder(self, seed: int) -> Path:
        """Folder of the mapper of a seed."""
        return self._mappers / f"seed-{seed}"

    def _load(self, seed: int) -> Mapper:
        return Mapper.load(self.mapper_folder(seed))

    @property
    def family(self) -> Family:
        """The family."""
        return self.zoo.family

    @property
    def universal(self) -> UniversalPolicy:
        """The universal policy.

        Raises:
            MetaMapError: there is none.
        """
        return self.zoo.universal

    # measuring ---------------------------------------------------------------------------------------------------

    def returns(
        self, split: str, phis: NDArray[np.float32], spec: PolicySpec | None = None, episodes: int | None = None
    ) -> NDArray[np.float64]:
        """Returns of every episode [T, E] of policies [T, P], or of one [P].

        ``spec`` defaults to the family's, ``episodes`` to the protocol's.
        """
        return evaluate_policies(
            self.tasks(split),
            Policies(spec or self.base.spec, self.base.normalizer, phis),
            episodes=episodes or self.config.episodes,
            seed=EVALUATION_SEED,
            num_threads=self.num_threads,
        ).returns

    def references(self, split: str) -> dict[str, Any]:
        """Tasks, and returns of every episode of random actions, base policy and experts, as JSON values.

        Methods are run on the first of the same reset seeds.
        """
        tasks, count = self.tasks(split), max(self.config.episodes, self.config.reference_episodes)
        phis = np.stack([expert.phi for expert in self.experts(split)])
        return {
            "tasks": [task.to_json() for task in tasks],
            "random": random_returns(tasks, episodes=count, num_threads=self.num_threads).tolist(),
            "base": self.returns(split, self.base.phi, episodes=count).tolist(),
            "expert": self.returns(split, phis, episodes=count).tolist(),
        }

    # budgets, in environment steps -------------------------------------------------------------------------------

    @property
    def base_steps(self) -> int:
        """Environment steps of phi_0, including the universal policy if phi_0 is derived from it."""
        record = self.base.record
        parent = self.zoo.universal.record if record.get("mean_parent", {}).get("taken") else {}
        return int(record.get("steps", 0)) + int(parent.get("steps", 0))

    @property
    def universal_steps(self) -> int:
        """Environment steps of phi_0 and the universal policy."""
        return int(self.base.record.get("steps", 0)) + int(self.universal.record.get("steps", 0))

    @property
    def zoo_steps(self) -> int:
        """Environment steps of phi_0, the universal policy, and the experts of training and validation tasks."""
        parent = int(self.zoo.universal.record.get("steps", 0)) if self.zoo.has_universal else 0
        experts = [*self.experts("train"), *self.experts("validation")]
        return (
            int(self.base.record.get("steps", 0))
            + parent
            + sum(int(expert.record.get("steps", 0)) for expert in experts)
        )

    @property
    def pair_steps(self) -> int:
        """Environment steps of the rollouts D of training and validation tasks, and the experts' states."""
        return sum(
            pairs.rollouts.rewards.size + 10 * len(pairs) * self.zoo.family.horizon
            for pairs in (self.training_pairs, self.validation_pairs)
        )

    @property
    def survey_steps(self) -> int:
        """Environment steps of the survey."""
        return 0 if self.survey is None else int(np.prod(self.survey.features.shape[:3]))

    @property
    def mapper_steps(self) -> int:
        """Environment steps of a mapper's training data."""
        return self.zoo_steps + self.pair_steps + self.survey_steps


def fingerprint(zoo: Zoo) -> str:
    """Hash of base policy and experts, to detect results of another zoo."""
    phis = {expert.task.id: expert.phi for expert in zoo.experts()}
    return digest({"base": zoo.base.phi, **phis})

"""Evaluation of trained mappers on unseen tasks, with base policy, experts and controls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from metamap_agents.experts.expert import Expert
from metamap_agents.experts.universal import UniversalPolicy
from metamap_agents.experts.zoo import Zoo
from metamap_agents.runtime.torch_state import torch_threads
from metamap_envs.errors import MetaMapError
from metamap_envs.family import Family
from metamap_envs.parameters import parse_split
from metamap_envs.registry import get_family
from metamap_envs.settings import parse
from metamap_rl.adaptation.bundled import find_mapper
from metamap_rl.common.config import Config, Positive
from metamap_rl.data.rollouts import Rollouts
from metamap_rl.evaluation.protocol.methods import METHODS
from metamap_rl.evaluation.protocol.problem import PROBE_SEED, Problem
from metamap_rl.evaluation.protocol.record import evaluation_of
from metamap_rl.evaluation.protocol.settings import REFERENCE_EPISODES, SharedSettings
from metamap_rl.evaluation.scores import Evaluation, MethodScores
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.probing.actors import ActorMixture, DSource
from metamap_rl.probing.documents import probe_from_json, probe_identity
from metamap_rl.probing.mixture import ActorPool
from metamap_rl.training.config import LENGTHS

__all__ = ["LENGTHS", "Evaluation", "EvaluationConfig", "MethodScores", "evaluate", "evaluate_mappers"]

OnMethod = Callable[[str], None]

_SPLIT = "given"
_SETTINGS: dict[str, dict[str, Any]] = {"likeliest-expert": {"features": ("quadratic",), "ridges": (0.1,)}}
"""Settings of methods; the protocol chooses these on validation tasks."""


@dataclass(frozen=True)
class EvaluationConfig(Config):
    """Lengths and source of D, and numbers of episodes, of an evaluation of mappers.

    Raises:
        MetaMapError: no lengths, a negative one, an unknown source of D, or a number out of range.
    """

    called: ClassVar[str] = "evaluation"

    lengths: tuple[int, ...] = LENGTHS
    """Lengths of D in transitions."""
    episodes: Positive = 10
    """Episodes per task and method; 10 in the protocol."""
    reference_episodes: Positive = REFERENCE_EPISODES
    """Episodes per task of random actions, phi_0 and experts; never fewer than `episodes`, which are on the first of
    the same reset seeds."""
    d_from: DSource = "probe"
    """Who collects D: "probe", "service", "service-noisy", "expert", "excitation" or "mixture"; see
    `metamap_rl.probing.actors.ActorMixture.source`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        ActorMixture.source(self.d_from)
        if not self.lengths or min(self.lengths) < 0:
            raise MetaMapError(f"lengths of D: expected at least one, none below 0, got {list(self.lengths)}")


def evaluate(
    mappers: Mapper | str | Path | Sequence[Mapper | str | Path],
    zoo: Zoo | str | Path,
    *,
    split: str = "test-in",
    config: EvaluationConfig | None = None,
    controls: bool = True,
    on_method: OnMethod | None = None,
    **settings: Any,
) -> Evaluation:
    """Evaluate mappers on a split of the zoo that they were trained on, beside base policy, experts and controls.

    As ``metamap mapper evaluate`` does; see `evaluate_mappers` for the methods.

    Args:
        mappers: a mapper, its folder, or the name of a bundled one; or several, retrained with different seeds.
        zoo: zoo of the mappers, or its folder, with experts of the split; its training experts are used for controls.
        split: "train", "validation", "test-in" or "test-out".
        config: lengths and source of D, numbers of episodes; default those of the protocol.
        controls: whether to run mean, nearest and likeliest expert, another task's D, and the universal policy.
        on_method: called with the name of each method before it runs.
        **settings: ``lengths``, ``episodes``, ``reference_episodes`` and ``d_from`` that replace those of ``config``.

    Raises:
        MetaMapError: no mapper, one of another family or zoo, no experts of the split, or a bad or unknown setting.
    """
    config = (config or EvaluationConfig()).changed(**settings)
    given = [mappers] if isinstance(mappers, Mapper | str | Path) else list(mappers)
    zoo = zoo if isinstance(zoo, Zoo) else Zoo.open(zoo)
    loaded = [_of_zoo(each, zoo) for each in given]
    experts = zoo.experts(parse_split(split))
    if not experts:
        raise MetaMapError(f"{zoo.root} has no {split} experts; `metamap experts train` makes them")
    return evaluate_mappers(
        loaded,
        experts,
        config=config,
        controls=controls,
        training_experts=zoo.experts("train") if controls else (),
        pool=None if config.d_from == "probe" else ActorPool.of_zoo(zoo),
        on_method=on_method,
    )


def _of_zoo(reference: Mapper | str | Path, zoo: Zoo) -> Mapper:
    """A mapper, after checking that it was trained on a zoo."""
    mapper = reference if isinstance(reference, Mapper) else find_mapper(reference)[0]
    name = "the mapper" if isinstance(reference, Mapper) else str(reference)
    if mapper.family != zoo.family.name:
        raise MetaMapError(f"{name} is of family {mapper.family!r}, {zoo.root} is of {zoo.family.name!r}")
    if not np.array_equal(mapper.base.phi, zoo.base.phi):
        raise MetaMapError(f"{name} was trained on another zoo: its base policy is not that of {zoo.root}")
    return mapper


@torch_threads(1)  # the networks are small; and for the same results on any number of cores
def evaluate_mappers(
    mappers: Sequence[Mapper],
    experts: Sequence[Expert],
    *,
    config: EvaluationConfig | None = None,
    controls: bool = True,
    methods: Sequence[str] = (),
    training_experts: Sequence[Expert] = (),
    pool: ActorPool | None = None,
    num_threads: int = 0,
    on_method: OnMethod | None = None,
    **settings: Any,
) -> Evaluation:
    """Evaluate mappers of one family, retrained with different seeds, on the tasks of given experts.

    Methods of `metamap_rl.evaluation.protocol.methods`: "mapper"; "checked-mapper", if all mappers have a self-check;
    with ``controls`` also "shuffled" and, if the mappers hold a universal policy, "universal-policy" (the oracle),
    "estimate" and "sysid"; with ``training_experts`` also "mean-expert", "nearest-expert" and "likeliest-expert". All
    use the same reset seeds. Mapper i uses the i-th of M independent rollouts of each task.

    Args:
        mappers: M mappers of one family, with the same base policy and probe.
        experts: experts of T tasks unseen by all mappers.
        config: lengths and source of D, numbers of episodes; default those of the protocol.
        controls: whether to run "shuffled" and the universal policy.
        methods: which of these to run; none for all that can be run.
        training_experts: training experts of the mappers.
        pool: policies that collect D other than the probe's; default the training experts and ``experts``.
        num_threads: threads of the simulator; 0 uses all cores.
        on_method: called with the name of each method before it runs.
        **settings: ``lengths``, ``episodes``, ``reference_episodes`` and ``d_from`` that replace those of ``config``.

    Raises:
        MetaMapError: no mappers or experts, a bad or unknown setting, or mappers and experts that do not match.
    """
    if not mappers or not experts:
        raise MetaMapError("an evaluation needs at least one mapper and one expert")
    config = (config or EvaluationConfig()).changed(**settings)
    _check_belonging(mappers, [*experts, *training_experts])
    shared = SharedSettings.model_construct(**config.flat(), splits=(_SPLIT,))
    problem = _Given(mappers, {_SPLIT: experts, "train": training_experts}, shared, num_threads)
    if config.d_from != "probe":
        problem.pool = pool or ActorPool.of(mappers[0].base, training_experts, experts, mappers[0].universal)
    tell = on_method or (lambda name: None)
    tell("references")
    evaluation = evaluation_of({"splits": {_SPLIT: problem.references(_SPLIT)}}, _SPLIT, config.episodes)
    read = bool(problem.positive_lengths)
    for name in _methods(problem, controls):
        if methods and name not in methods:
            continue
        tell(name)
        method = METHODS.get(name)(**_SETTINGS.get(name, {}))
        measured = [method.measure(problem, seed) for seed in range(len(mappers) if method.seeded else 1)]
        found = [(score.steps, score.returns) for one in measured for score in one.scores]
        evaluation.methods.extend(MethodScores.merged(name, found))
    return replace(evaluation, rollouts=problem.probed if read else None)


def _methods(problem: _Given, controls: bool) -> list[str]:
    """Names of the methods that given mappers and experts allow."""
    mappers, read = problem.mappers, bool(problem.positive_lengths)
    stored = bool(problem.experts("train"))
    methods = {
        "mapper": True,
        "checked-mapper": read and all(mapper.check is not None for mapper in mappers),
        "shuffled": read and controls and len(problem.tasks(_SPLIT)) > 1,
        "mean-expert": stored,
        "nearest-expert": read and stored,
        "likeliest-expert": read and stored,
        "universal-policy": controls,
        "estimate": read and controls and all(mapper.coordinates for mapper in mappers),
        "sysid": read and controls,
    }
    known = mappers[0].universal is not None
    asked = [name for name, wanted in methods.items() if wanted]
    return [name for name in asked if METHODS.get(name).lacking(problem.family, known) is None]


def _check_belonging(mappers: Sequence[Mapper], experts: Sequence[Expert]) -> None:
    """Raise an error for mappers and experts of different families, base policies or probes: they share rollouts."""
    first = mappers[0]
    for expert in experts:
        if expert.task.family != first.family:
            raise MetaMapError(f"the mapper is of family {first.family!r}, the experts are of {expert.task.family!r}")
        if expert.phi.shape != first.base.phi.shape:
            raise MetaMapError(f"the mapper makes {first.base.phi.size} weights, an expert has {expert.phi.size}")
    for mapper in mappers[1:]:
        if mapper.family != first.family:
            raise MetaMapError(f"the mappers are of different families, {first.family!r} and {mapper.family!r}")
        if mapper.base.spec != first.base.spec or not np.array_equal(mapper.base.phi, first.base.phi):
            raise MetaMapError("the mappers have different base policies: evaluate those of one zoo together")
        if probe_identity(mapper.probe) != probe_identity(first.probe):
            raise MetaMapError(f"the mappers have different probes, {first.probe} and {mapper.probe}")


class _Given(Problem):
    """Problem of given experts and mappers, by seed, without training costs."""

    base_steps = zoo_steps = pair_steps = survey_steps = universal_steps = 0

    def __init__(
        self,
        mappers: Sequence[Mapper],
        experts: dict[str, Sequence[Expert]],
        config: SharedSettings,
        num_threads: int,
    ) -> None:
        self.mappers, self.config, self.num_threads = mappers, config, num_threads
        self.base, self.probe = mappers[0].base, probe_from_json(mappers[0].probe)
        self._experts = {split: list(found) for split, found in experts.items()}
        self._share()

    @property
    def _mixture(self) -> ActorMixture | None:
        actors = self.mappers[0].actors
        return parse(ActorMixture, actors, "actors of the mapper") if actors else None

    @cached_property
    def probed(self) -> Rollouts:
        """D of all tasks, the i-th rollout of each for mapper i."""
        return self._from_source(self.tasks(_SPLIT), PROBE_SEED, len(self.mappers))

    @cached_property
    def _of_training(self) -> Rollouts:
        return self._from_source(self.tasks("train"), PROBE_SEED, len(self.mappers))

    def _collect(self, split: str, seed: int) -> Rollouts:
        return self.probed.repeat(seed)

    def stored(self, seed: int) -> Rollouts:
        """See `Problem`."""
        return self._of_training.repeat(seed)

    @property
    def family(self) -> Family:
        """See `Problem`."""
        return get_family(self.mappers[0].family)

    @property
    def universal(self) -> UniversalPolicy:
        """See `Problem`."""
        found = self.mappers[0].universal
        if found is None:
            raise MetaMapError("the mappers hold no universal policy")
        return found

    def mapper(self, seed: int) -> Mapper:
        """See `Problem`."""
        return self.mappers[seed]

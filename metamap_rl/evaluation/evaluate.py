"""The evaluation protocol: a mapper beside the base policy, the experts, and controls, on tasks it never saw."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from metamap_agents.experts.expert import Expert
from metamap_agents.policy.evaluation import EVALUATION_SEED, evaluate_policies, random_returns
from metamap_agents.runtime.torch_state import torch_threads
from metamap_envs.errors import MetaMapError
from metamap_envs.task import Task
from metamap_rl.data.rollouts import Rollouts
from metamap_rl.evaluation.privileged import told_phis
from metamap_rl.evaluation.scores import Evaluation, MethodScores, References
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.probing.collecting import collect
from metamap_rl.probing.documents import probe_from_json, probe_identity

__all__ = ["LENGTHS", "Evaluation", "MethodScores", "evaluate_mappers"]

LENGTHS = (0, 5, 10, 20, 50, 100, 200)
"""Steps of D at which generated policies are measured."""

_PROBE_SEED = 3_000_000  # far from the seeds of training, of states and of evaluation episodes

OnMethod = Callable[[str], None]


@torch_threads(1)  # the networks are small; and it is the same evaluation on any number of cores
def evaluate_mappers(
    mappers: Sequence[Mapper],
    experts: Sequence[Expert],
    *,
    lengths: Sequence[int] = LENGTHS,
    episodes: int = 10,
    controls: bool = True,
    training_experts: Sequence[Expert] = (),
    oracles: Sequence[Mapper] = (),
    num_threads: int = 0,
    on_method: OnMethod | None = None,
) -> Evaluation:
    """Measure mappers of one family, retrained with different seeds, on the tasks of some experts.

    Methods: "mapper" at each length; "checked mapper", which serves the base policy where the self-check says so, if
    all mappers have one; with ``controls`` also "shuffled" (D of another task: the next one) at each length; with
    ``training_experts`` "mean expert" (mean phi*) and "nearest expert" (phi* of the training task whose context is
    nearest, at the longest length, unless that is 0); with ``oracles`` (mappers that read true parameters) "oracle".
    All run on the same reset seeds. Mapper i reads the i-th of as many independent rollouts of each task.

    Args:
        mappers: M mappers of one family, with the same base policy and probe.
        experts: experts of T tasks that no mapper saw.
        lengths: steps of D.
        episodes: per task and method, at least 1; the protocol asks for 10.
        controls: whether to run "shuffled".
        training_experts: experts that the mappers were trained on.
        oracles: mappers that read a task's parameters instead of D.
        num_threads: threads of the simulator; 0 takes all cores.
        on_method: called with the name of each method before it runs.

    Raises:
        MetaMapError: no mappers, experts or lengths, a negative length, or mappers and experts that do not belong
            together.
    """
    if not mappers or not experts:
        raise MetaMapError("an evaluation needs at least one mapper and one expert")
    if not lengths or min(lengths) < 0:
        raise MetaMapError(f"lengths of D: expected at least one, none below 0, got {list(lengths)}")
    _check_belonging(mappers, [*experts, *training_experts])
    lengths = tuple(dict.fromkeys(lengths))
    run = _Run(mappers, experts, lengths, episodes, num_threads, on_method)
    evaluation = run.references()
    for steps in lengths:
        evaluation.methods.append(run.mapped("mapper", steps, shift=0))
    if all(mapper.check is not None for mapper in mappers):
        for steps in (length for length in lengths if length > 0):
            evaluation.methods.append(run.checked("checked mapper", steps, evaluation))
    if controls and len(experts) > 1:
        for steps in (length for length in lengths if length > 0):
            evaluation.methods.append(run.mapped("shuffled", steps, shift=1))
    if training_experts:
        evaluation.methods.append(run.mean_expert(training_experts))
        if run.longest:
            evaluation.methods.append(run.nearest_expert(training_experts))
    if oracles:
        evaluation.methods.append(run.oracle(oracles))
    return evaluation


def _check_belonging(mappers: Sequence[Mapper], experts: Sequence[Expert]) -> None:
    """Refuse mappers and experts of different families, base policies or probes: they run on one set of rollouts."""
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


class _Run:
    """What the methods of one evaluation share: tasks, rollouts, reset seeds."""

    def __init__(
        self,
        mappers: Sequence[Mapper],
        experts: Sequence[Expert],
        lengths: tuple[int, ...],
        episodes: int,
        num_threads: int,
        on_method: OnMethod | None,
    ) -> None:
        self.mappers = mappers
        self.experts = experts
        self.tasks = tuple(expert.task for expert in experts)
        self.base = mappers[0].base
        self.longest = max(lengths)
        self.episodes = episodes
        self.num_threads = num_threads
        self.on_method = on_method or (lambda name: None)
        self.rollouts = self._probe(self.tasks) if self.longest else None

    def _probe(self, tasks: Sequence[Task]) -> Rollouts:
        self.on_method("probe")
        return collect(
            probe_from_json(self.mappers[0].probe),
            tasks,
            self.base,
            steps=self.longest,
            repeats=len(self.mappers),
            seed=_PROBE_SEED,
            num_threads=self.num_threads,
        )

    def returns(self, phis: NDArray[np.float32]) -> NDArray[np.float64]:
        """Returns of every episode [T, E] of policies [T, P] or [P]."""
        return evaluate_policies(
            self.tasks,
            self.base.policies(phis),
            episodes=self.episodes,
            seed=EVALUATION_SEED,
            num_threads=self.num_threads,
        ).returns

    def references(self) -> Evaluation:
        """Random actions, base policy and experts."""
        self.on_method("references")
        references = References(
            random=random_returns(self.tasks, episodes=self.episodes, num_threads=self.num_threads),
            base=self.returns(self.base.phi),
            expert=self.returns(np.stack([expert.phi for expert in self.experts])),
        )
        return Evaluation.of(self.tasks, references, self.rollouts)

    def mapped(self, method: str, steps: int, shift: int) -> MethodScores:
        """Policies generated from the first ``steps`` transitions of D, or of the task ``shift`` places on."""
        self.on_method(f"{method}, {steps} steps")
        rows = []
        for seed, mapper in enumerate(self.mappers):
            phis = generate(mapper, self.rollouts, seed, steps) if self.rollouts else self._at_rest()
            rows.append(self.returns(np.roll(phis, -shift, axis=0)))
        return MethodScores.of(method, steps, np.stack(rows))

    def checked(self, method: str, steps: int, evaluation: Evaluation) -> MethodScores:
        """As "mapper", whose returns are known; the base policy's where the self-check falls back."""
        assert self.rollouts is not None, "needs a length above 0"
        (mapped,) = [one.episodes for one in evaluation.methods if (one.method, one.steps) == ("mapper", steps)]
        assert mapped is not None, "it has just been measured"
        assert evaluation.references is not None, "they have just been measured"
        rows = []
        for seed, mapper in enumerate(self.mappers):
            verdicts = [mapper.judge(self.rollouts.rollout(task, seed).head(steps)) for task in range(len(self.tasks))]
            served = np.array([verdict is None or not verdict.fallback for verdict in verdicts])
            rows.append(np.where(served[:, None], mapped[seed], evaluation.references.base))
        return MethodScores.of(method, steps, np.stack(rows))

    def _at_rest(self) -> NDArray[np.float32]:
        return np.tile(self.base.phi, (len(self.tasks), 1))

    def mean_expert(self, training: Sequence[Expert]) -> MethodScores:
        """One policy for all tasks: the mean phi* of the training experts."""
        self.on_method("mean expert")
        return MethodScores.of("mean expert", None, self.returns(mean_phi(training))[None])

    def nearest_expert(self, training: Sequence[Expert]) -> MethodScores:
        """The phi* of the training task whose context z is nearest to the task's, from the longest D."""
        self.on_method("nearest expert")
        assert self.rollouts is not None, "needs a length above 0"
        stored = self._probe([expert.task for expert in training])
        rows = []
        for seed, mapper in enumerate(self.mappers):
            here = contexts(mapper, self.rollouts, seed, self.longest)
            there = contexts(mapper, stored, seed, self.longest)
            rows.append(self.returns(nearest(here, there, training)))
        return MethodScores.of("nearest expert", self.longest, np.stack(rows))

    def oracle(self, oracles: Sequence[Mapper]) -> MethodScores:
        """Policies generated from the true parameters."""
        self.on_method("oracle")
        rows = [self.returns(told_phis(mapper, self.tasks)) for mapper in oracles]
        return MethodScores.of("oracle", None, np.stack(rows))


def generate(mapper: Mapper, rollouts: Rollouts, repeat: int, steps: int) -> NDArray[np.float32]:
    """phi_hat [T, P] from the first ``steps`` transitions of each task's rollout ``repeat``.

    Each is mapped by itself, as `metamap_rl.adapt` does: in one batch the last bits would depend on the other tasks.
    """
    found = [rollouts.rollout(task, repeat).head(steps) for task in range(len(rollouts))]
    return np.stack([mapper.generate(rollout) for rollout in found])


def mean_phi(experts: Sequence[Expert]) -> NDArray[np.float32]:
    """The mean phi* [P] of experts."""
    mean: NDArray[np.float64] = np.stack([expert.phi for expert in experts]).mean(axis=0, dtype=np.float64)
    return mean.astype(np.float32)


def nearest(here: torch.Tensor, there: torch.Tensor, experts: Sequence[Expert]) -> NDArray[np.float32]:
    """phi* [T, P] of the experts, of K tasks with contexts ``there`` [K, Z], that are nearest to ``here`` [T, Z]."""
    phis = np.stack([expert.phi for expert in experts])
    found: NDArray[np.float32] = phis[torch.cdist(here, there).argmin(dim=1).numpy()]
    return found


def contexts(mapper: Mapper, rollouts: Rollouts, repeat: int, steps: int) -> torch.Tensor:
    """Contexts z [T, Z] of the same transitions, each read by itself."""
    found = [rollouts.rollout(task, repeat).head(steps) for task in range(len(rollouts))]
    return torch.cat([mapper.read(rollout).z for rollout in found])

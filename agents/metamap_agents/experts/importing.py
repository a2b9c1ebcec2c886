"""Experts from policies of other tools: their weights where the architecture fits, else by distillation.

The loss of return is measured on shared reset seeds and stored with the expert.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from metamap_agents.experts.distillation import Distillation, DistillationResult, OnRound, distil
from metamap_agents.experts.expert import Expert
from metamap_agents.importers.base import ForeignPolicy
from metamap_agents.policy.acting import BatchedPolicy
from metamap_agents.policy.base import BasePolicy
from metamap_agents.policy.evaluation import (
    Episodes,
    clearly_better,
    evaluate_policies,
    random_returns,
    run_episodes,
)
from metamap_agents.runtime.seeds import EVALUATION_SEED
from metamap_agents.runtime.storage import library_versions
from metamap_agents.runtime.torch_state import TRAINING_THREADS, torch_threads
from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.registry import get_family
from metamap_envs.seeds import read_seed
from metamap_envs.task import Task

__all__ = ["EXACT", "METHODS", "ImportSettings", "Method", "extract", "import_expert"]

Method = Literal["auto", "extract", "distil"]
METHODS: tuple[Method, ...] = ("auto", "extract", "distil")

EXACT = 1e-4
"""Largest difference of actions in [-1, 1] between a policy and its extracted weights, on the states that it visits."""

_EPISODES_OF_ZOO = 10  # whose returns all experts of a zoo have


@dataclass(frozen=True)
class ImportSettings:
    """How a policy becomes an expert."""

    method: Method = "auto"
    """``extract`` takes over the weights, ``distil`` trains a student; ``auto`` extracts where that is exact."""
    episodes: int = 50
    """Episodes that measure the loss of return, at least 10."""
    distillation: Distillation = field(default_factory=Distillation)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise unknown_name("method", self.method, METHODS)
        if self.episodes < _EPISODES_OF_ZOO:
            raise MetaMapError(f"episodes: expected at least {_EPISODES_OF_ZOO}, got {self.episodes}")


@dataclass(frozen=True)
class _Made:
    """Weights of an expert, and how they were made."""

    phi: NDArray[np.float32]
    steps: int
    record: dict[str, Any]


def import_expert(
    task: Task,
    base: BasePolicy,
    policy: ForeignPolicy,
    settings: ImportSettings | None = None,
    *,
    seed: int = 0,
    num_threads: int = 1,
    on_round: OnRound | None = None,
) -> Expert:
    """Make an expert of a policy that another tool has trained.

    Args:
        task: the task that it was trained on.
        base: the zoo's base policy: network shape and normaliser, and the initial weights of a student.
        policy: the policy.
        settings: see `ImportSettings`.
        seed: of the distillation.
        num_threads: threads of the simulator; 0 takes all cores.
        on_round: called after each round of a distillation.

    Returns:
        The expert. Its record has ``imported``: format and digest of the file, ``method``, and ``loss``: the mean
        returns of both policies on the same reset seeds and their difference, absolute, with the standard error of
        the paired differences, in percent of the policy's return, and as a share of its lead over random actions.

    Raises:
        MetaMapError: a policy of another environment, weights that cannot be extracted where this was asked for, or
            actions that are not finite.
    """
    seed, settings = read_seed(seed), settings or ImportSettings()
    family = get_family(task.family)
    policy.check_sizes(family.name, family.observation_size, family.action_size)
    started = time.perf_counter()

    def distilled(reason: str) -> _Made:
        if settings.method == "extract":
            raise MetaMapError(f"{policy.path}: its weights cannot be taken over: {reason}")
        student = distil(
            task, base, policy.act, settings.distillation, seed=seed, num_threads=num_threads, on_round=on_round
        )
        return _distilled(student, settings, reason)

    with torch_threads(TRAINING_THREADS):
        theirs = _run(task, policy, settings.episodes, num_threads)
        found = "method 'distil'" if settings.method == "distil" else _extracted(base, policy, theirs)
        made = distilled(found) if isinstance(found, str) else found
    record = {"seed": seed, "steps": made.steps, "seconds": round(time.perf_counter() - started, 3)}
    return _measured(task, base, policy, made, theirs.returns[0], record, num_threads)


def _measured(
    task: Task,
    base: BasePolicy,
    policy: ForeignPolicy,
    made: _Made,
    theirs: NDArray[np.float64],
    record: dict[str, Any],
    num_threads: int,
) -> Expert:
    """The expert, with its loss of return against the returns [E] of the policy."""
    both, episodes = np.stack([made.phi, base.phi]), len(theirs)
    ours = evaluate_policies([task, task], base.policies(both), episodes=episodes, num_threads=num_threads).returns
    least = float(random_returns([task], num_threads=num_threads).mean())
    imported = {
        **policy.describe(),
        **made.record,
        "loss": _loss(theirs, ours[0], least) | {"base_return": float(ours[1].mean())},
        "worse_than_base": clearly_better(ours[1], theirs),
    }
    record = {
        **record,
        "imported": imported,
        "worse_than_teacher": clearly_better(theirs, ours[0]),
        "versions": library_versions(),
    }
    return Expert(task, made.phi, ours[0, :_EPISODES_OF_ZOO], ours[1, :_EPISODES_OF_ZOO], record)


def _run(task: Task, policy: ForeignPolicy, episodes: int, num_threads: int) -> Episodes:
    """Episodes of the policy on the reset seeds of all evaluations."""
    return run_episodes(
        [task],
        lambda observations: policy.act(observations[0])[None],
        episodes,
        EVALUATION_SEED,
        num_threads=num_threads,
        record=True,
    )


def _distilled(student: DistillationResult, settings: ImportSettings, reason: str) -> _Made:
    """A student's weights, with what is told of them."""
    about = {
        "settings": settings.distillation.model_dump(mode="json"),
        "losses": list(student.losses),
        "round_returns": list(student.returns),
        "round": student.chosen,
    }
    record = {"method": "distil", "reason": reason, "distillation": about}
    return _Made(student.phi, student.environment_steps, record)


def _extracted(base: BasePolicy, policy: ForeignPolicy, theirs: Episodes) -> _Made | str:
    """The weights, checked on the states that the policy visits, or why there are none."""
    phi = extract(policy, base)
    if isinstance(phi, str):
        return phi
    assert theirs.observations is not None, "they were recorded"
    alive = np.arange(theirs.observations.shape[2]) < theirs.lengths[0][:, None]
    states = theirs.observations[0][alive]
    ours = BatchedPolicy(base.policies(phi[None]))(states[None])[0]
    difference = float(np.abs(ours - policy.act(states)).max())
    if not difference <= EXACT:
        return f"its actions differ by up to {difference:.2g} on the states that it visits"
    return _Made(phi, 0, {"method": "extract", "largest_difference": difference, "states": len(states)})


def extract(policy: ForeignPolicy, base: BasePolicy) -> NDArray[np.float32] | str:
    """The weights of a policy as those of a zoo, or why there are none.

    Its normaliser is folded into the first layer and the zoo's taken out again; the range of its actions is folded into
    the last layer. Narrower layers are filled up with units that do nothing. A clip of normalised observations is left
    out.

    Args:
        policy: the policy.
        base: the zoo's base policy.

    Returns:
        float32 [P], on observations that the zoo's normaliser has normalised; or a part of a sentence.
    """
    spec, network = base.spec, policy.network
    if network is None:
        return "the layers of its model are not known"
    if network.squashed or network.limit < math.inf:
        return "its actions are squashed by tanh, those of the zoo are clipped"
    hidden = network.shape.hidden
    if hidden and network.activation != spec.activation:
        return f"its activation is {network.activation}, the zoo's {spec.activation}"
    if len(hidden) != len(spec.hidden) or any(map(int.__gt__, hidden, spec.hidden)):
        return f"its hidden layers are {list(hidden)}, the zoo's {list(spec.hidden)}"
    parts = {name: np.asarray(part, dtype=np.float64) for name, part in network.parts.items()}
    _refold(parts, policy, base)
    _rescale(parts, len(hidden), policy)
    return spec.join({name: _padded(parts[name], shape) for name, shape in spec.shapes.items()}).astype(np.float32)


def _refold(parts: dict[str, NDArray[np.float64]], policy: ForeignPolicy, base: BasePolicy) -> None:
    """From the policy's normaliser to the zoo's, in place."""
    weight, bias = parts["layers.0.weight"], parts["layers.0.bias"]
    if policy.scaling is not None:
        weight = weight / policy.scaling.std
        bias = bias - weight @ policy.scaling.mean
    parts["layers.0.bias"] = bias + weight @ base.normalizer.mean
    parts["layers.0.weight"] = weight * base.normalizer.std


def _rescale(parts: dict[str, NDArray[np.float64]], last: int, policy: ForeignPolicy) -> None:
    """From the range of the policy's actions to [-1, 1], in place."""
    middle, half = policy.affine()
    weight, bias = f"layers.{last}.weight", f"layers.{last}.bias"
    parts[weight] = parts[weight] / half[:, None]
    parts[bias] = (parts[bias] - middle) / half


def _padded(part: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    return np.pad(part, [(0, size - length) for length, size in zip(part.shape, shape, strict=True)])


def _loss(theirs: NDArray[np.float64], ours: NDArray[np.float64], least: float) -> dict[str, Any]:
    """What is lost of the return, from returns [E] on the same reset seeds."""
    differences = theirs - ours
    lost, lead = float(differences.mean()), float(theirs.mean()) - least
    return {
        "episodes": len(theirs),
        "policy_return": float(theirs.mean()),
        "expert_return": float(ours.mean()),
        "random_return": least,
        "lost": lost,
        "standard_error": float(differences.std(ddof=1) / math.sqrt(len(differences))),
        "percent": 100.0 * lost / abs(float(theirs.mean())) if theirs.mean() else None,
        "share_of_lead": lost / lead if lead > 0 else None,
        "policy_returns": theirs.tolist(),
        "expert_returns": ours.tolist(),
    }

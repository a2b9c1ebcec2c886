"""Methods of the experiment in service: what acts in N environments, made from a mapper and its rivals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_agents.experts.universal import UniversalPolicy
from metamap_envs.errors import MetaMapError
from metamap_envs.registry import get_family
from metamap_rl.adaptation.service.config import AdapterConfig
from metamap_rl.adaptation.service.trial import AdapterController, PolicyController, SwapCounter
from metamap_rl.adaptation.service.vector import VectorAdapter
from metamap_rl.evaluation.baselines.student import Student
from metamap_rl.evaluation.identification import IdentificationConfig, model_of
from metamap_rl.evaluation.service.rivals import IdentifyingController, ProbingController, other_windows
from metamap_rl.evaluation.service.student import StudentController
from metamap_rl.mapper.mapper import Mapper, Reading

__all__ = ["ADAPTER", "BASE", "ESTIMATE", "ORACLE", "SERVICE_METHODS", "SYSID", "ServiceMethod", "Subject"]

Floats = NDArray[np.float32]

BASE, ORACLE, ADAPTER, ESTIMATE, SYSID = "base policy", "oracle", "adapter", "estimate", "sysid"
_PROBE_STEPS, _PERIOD = 50, 200  # of periodic re-probing: the mean time between changes at a hazard of .005
_EVERY, _ITERATIONS = 10, 5  # of system identification
_UNCHECKED = AdapterConfig(fixed_window=50, check=False)


@dataclass(frozen=True, eq=False)
class Subject:
    """What the methods of one zoo are made of."""

    mapper: Mapper
    """Its base policy is that of all methods."""
    universal: UniversalPolicy
    """Oracle, and what estimates are given to."""
    context: Mapper | None = None
    """Context policy, trained as the mapper."""
    student: Student | None = None
    """Recurrent student."""
    seed: int = 0
    """Of the noise of probes."""


@dataclass(frozen=True, eq=False)
class ServiceMethod:
    """One method.

    Attributes:
        make: a controller of so many environments.
        summary: short description, for tables.
        settings: what decides its results, as JSON values.
        trained: which of the subject's parts it needs that have to be trained: "context", "student" or none.
        simulates: whether it identifies tasks with a simulator, which not all families offer.
    """

    make: Callable[[Subject, int], SwapCounter]
    summary: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    trained: str = ""
    simulates: bool = False

    def lacking(self, family: str) -> str | None:
        """What a family lacks for it; None if nothing."""
        if self.simulates and model_of(get_family(family)) is None:
            return "a simulator that starts from the observations"
        return None


def _adapter(
    summary: str, generator: Callable[[Subject], Any] | None = None, trained: str = "", **settings: Any
) -> ServiceMethod:
    """The adapter, or one that serves other policies from the same windows."""
    config = AdapterConfig(**settings)

    def make(subject: Subject, count: int) -> AdapterController:
        adapters = VectorAdapter(subject.mapper, count, config)
        if generator is not None:
            for adapter in adapters.adapters:
                adapter.generate = generator(subject)
        return AdapterController(adapters)

    return ServiceMethod(make, summary, config.flat(), trained)


def _estimating(subject: Subject) -> Callable[[Reading], Floats]:
    """The universal policy given the mapper's own estimates."""
    family = get_family(subject.mapper.family)

    def generate(reading: Reading) -> Floats:
        return subject.universal.expert_for(family.closest_task(subject.mapper.read_parameters(reading)))

    return generate


def _in_context(subject: Subject) -> Callable[[Reading], Floats]:
    """The context policy given the window, in its own units; its weights are those of a policy with z as its input."""
    mapper, context = subject.mapper, subject.context
    if context is None:
        raise MetaMapError("context policy: expected one that was trained for this zoo")

    def generate(reading: Reading) -> Floats:
        rows = context.standardised(reading.rows * mapper.feature_std + mapper.feature_mean)
        return context.generate(Reading(rows, context.encoder(rows, None)))

    return generate


def _oracle(delay: int) -> ServiceMethod:
    late = f", {delay} steps late" if delay else ", at once"
    return ServiceMethod(
        lambda subject, count: PolicyController(subject.mapper.base, count, subject.universal.expert_for, delay),
        f"universal policy given the true task{late}",
        {"delay": delay},
    )


def _probing(summary: str, period: int | None) -> ServiceMethod:
    return ServiceMethod(
        lambda subject, count: ProbingController(
            subject.mapper, count, steps=_PROBE_STEPS, period=period, seed=subject.seed
        ),
        summary,
        {"steps": _PROBE_STEPS, "period": period},
    )


def _identifying(rows: int, error: float = 0.0) -> ServiceMethod:
    config = IdentificationConfig(
        transitions=rows, screened=0, starts=2, evaluations=_ITERATIONS, model_error=error, from_reset=False
    )
    wrong = f"; masses, inertias and damping {error:+.0%}" if error else ""
    return ServiceMethod(
        lambda subject, count: IdentifyingController(
            subject.mapper.base, subject.universal, count, config, rows=rows, every=_EVERY
        ),
        f"system identification on the last {rows} transitions every {_EVERY} steps, then the universal policy{wrong}",
        {"rows": rows, "every": _EVERY, **config.model_dump(mode="json")},
        simulates=True,
    )


def _student(subject: Subject, count: int) -> StudentController:
    if subject.student is None:
        raise MetaMapError("student: expected one that was trained for this zoo")
    return StudentController(subject.student, count)


SERVICE_METHODS: dict[str, ServiceMethod] = {
    BASE: ServiceMethod(
        lambda subject, count: PolicyController(subject.mapper.base, count), "phi_0 throughout", {"policy": "base"}
    ),
    ORACLE: _oracle(0),
    **{f"oracle, {delay} steps late": _oracle(delay) for delay in (5, 20, 50)},
    ADAPTER: _adapter("the adapter with its default settings"),
    ESTIMATE: _adapter("the adapter's window, the mapper's estimates, then the universal policy", _estimating),
    "context policy": _adapter("the adapter's window, then a policy of (observation, z)", _in_context, "context"),
    "student": ServiceMethod(_student, "GRU distilled from the oracle while tasks change (DAgger)", trained="student"),
    **{
        f"window of {length}": _adapter(f"the last {length} transitions, unchecked", fixed_window=length, check=False)
        for length in (10, 20, 50)
    },
    "window of 50, estimate": _adapter(
        "the last 50 transitions, unchecked, the mapper's estimates, then the universal policy",
        _estimating,
        fixed_window=50,
        check=False,
    ),
    "window of 50 of another trial": ServiceMethod(
        lambda subject, count: other_windows(VectorAdapter(subject.mapper, count, _UNCHECKED)),
        "control: as `window of 50`, mapping the window of the next trial",
        _UNCHECKED.flat(),
    ),
    "mapped once": _probing(f"{_PROBE_STEPS} steps of the probe at the start, mapped once", None),
    "periodic re-probe": _probing(f"{_PROBE_STEPS} steps of the probe every {_PERIOD} steps, mapped", _PERIOD),
    SYSID: _identifying(20),
    "sysid, 10 rows": _identifying(10),
    "sysid, 50 rows": _identifying(50),
    "sysid, wrong model": _identifying(20, error=0.2),
    "another trial's window": ServiceMethod(
        lambda subject, count: other_windows(VectorAdapter(subject.mapper, count)),
        "control: the adapter, mapping the window of the next trial",
        AdapterConfig().flat(),
    ),
}
"""All methods by name, references first."""

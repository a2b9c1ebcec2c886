"""Whether the self-check keeps a generated policy from being worse than the base policy.

For each length of D: return of the generated policy less that of the base policy on the same task and reset seeds, with
and without the check, on the test tasks of the mapper's family; on test tasks from D that was made useless; and on
tasks of every other family with the same observations and actions, from D of such a task. Gains are in units of the
return; a check that falls back gains exactly 0. A pair of a task and a D is harmed where the generated policy is worse
by a paired test over the reset seeds (`metamap_rl.common.harm`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from metamap_agents.policy.evaluation import evaluate_policies
from metamap_envs.errors import unknown_name
from metamap_envs.registry import get_family, list_families
from metamap_envs.rollout import Rollout
from metamap_envs.settings import Seed, Settings, Whole
from metamap_envs.task import Task
from metamap_rl.adaptation.bundled import find_mapper
from metamap_rl.common.cells import Cell, check_settings, document_of
from metamap_rl.common.harm import measure_harm
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.mapper.selfcheck import Verdict
from metamap_rl.probing.collecting import collect
from metamap_rl.probing.documents import probe_from_json
from metamap_rl.results.alterations import DAMAGES
from metamap_rl.results.experiments.base import EXPERIMENTS
from metamap_rl.results.tables import cases_table
from metamap_rl.training.calibration import calibrate
from metamap_rl.training.checkpoint import digest

_PROBE_SEED = 8_000_000
_FAMILIES = "families"
_CASES = ("test-in", "test-out", *DAMAGES, _FAMILIES)

Positive = Annotated[Whole, Field(ge=1)]


@EXPERIMENTS.register("selfcheck")
class SelfCheckExperiment(Settings):
    """Whether the self-check keeps a generated policy from being worse than the base policy."""

    mapper: str
    """The name of a bundled mapper, or a folder; one without a self-check is calibrated."""
    lengths: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1, 2, 5, 20, 50)
    """Transitions of D."""
    tasks: Positive = 16
    """Of each split and family."""
    alarm_tasks: Positive = 512
    """Of either split, to count false alarms on."""
    rollouts: Positive = 3
    """Of each task."""
    episodes: Annotated[Whole, Field(ge=2)] = 10
    """Of each policy on each task."""
    seed: Seed = 0
    """Of the tasks; that of a zoo gives its tasks."""
    case: Annotated[tuple[str, ...], Field(min_length=1)] = _CASES
    """Cases to measure."""
    before: str | None = None
    """The same mapper with another self-check, to compare with on the same D and policies."""

    @field_validator("case")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in _CASES:
                raise unknown_name("case", name, _CASES)
        return value

    def batches(self, out: Path) -> Iterator[list[Cell]]:
        """One for each case; none for a split that the family does not have."""
        mapper, _ = find_mapper(self.mapper)
        settings = {
            **self.model_dump(mode="json", exclude={"mapper", "case", "before"}),
            "mapper": digest(mapper.arrays()),
            "before": None if self.before is None else digest(find_mapper(self.before)[0].arrays()),
        }
        family = get_family(mapper.family)
        jobs = {name: (family.name, name if name.startswith("test") else "test-in") for name in self.case}
        if jobs.pop(_FAMILIES, None):
            jobs |= {f"family {other}": (other, "test-in") for other in _families_of_same_shape(family.name)}
        if not family.space.has_outside:
            jobs.pop("test-out", None)
        yield [Cell(name, out / f"{name.replace(' ', '-')}.json", settings, job) for name, job in jobs.items()]

    def is_done(self, cell: Cell) -> bool:
        """Whether it is there, with these settings."""
        return check_settings(cell)

    def run(self, cell: Cell) -> dict[str, Any]:
        """Gains with and without the check, length by length."""
        mapper, (family, split) = _checked(self.mapper), cell.job
        tasks = get_family(family).sample(split, self.tasks, self.seed)
        rollouts = self._collect(mapper, tasks, self.rollouts)
        if (damage := DAMAGES.get(cell.name)) is not None:
            generator = np.random.default_rng(self.seed)
            rollouts = [[damage(one, generator) for one in row] for row in rollouts]
        found: dict[str, Any] = {"rows": self._rows(mapper, tasks, rollouts)}
        if cell.name == split:
            found["foreign"] = self._foreign(mapper, get_family(family).sample(split, self.alarm_tasks, self.seed))
        assert mapper.check is not None, "calibrated if it had none"
        check = {"least_steps": mapper.check.least_steps, "noise": mapper.check.noise, **mapper.check.record}
        return document_of(cell, {**found, "family": mapper.family, "check": check})

    def summary(self, documents: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """All cases."""
        first = next(iter(documents.values()))
        return {
            "mapper": self.mapper,
            "family": first["family"],
            "check": first["check"],
            "counted_as_foreign": {name: found["foreign"] for name, found in documents.items() if "foreign" in found},
            "cases": {name: found["rows"] for name, found in documents.items()},
            "settings": self.model_dump(mode="json", exclude={"before"}),
        }

    def table(self, document: Mapping[str, Any]) -> list[str]:
        """Cases and lengths in rows."""
        return cases_table(document)

    def _collect(self, mapper: Mapper, tasks: Sequence[Task], repeats: int) -> list[list[Rollout]]:
        """R rollouts of each task by the mapper's probe, as the mapper would get them."""
        probe, steps = probe_from_json(mapper.probe), max(self.lengths)
        found = collect(probe, tasks, mapper.base, steps=steps, repeats=repeats, seed=_PROBE_SEED)
        return [
            [replace(found.rollout(task, repeat), family=mapper.family, task=None) for repeat in range(repeats)]
            for task in range(len(tasks))
        ]

    def _foreign(self, mapper: Mapper, tasks: Sequence[Task]) -> dict[str, float]:
        """Share of rollouts that are out of distribution, by length; no policy is run, so there can be many tasks."""
        rollouts = self._collect(mapper, tasks, 1)
        verdicts = {steps: [mapper.judge(row[0].head(steps)) for row in rollouts] for steps in self.lengths}
        return {str(steps): float(np.mean([v.novelty > 1 for v in found if v])) for steps, found in verdicts.items()}

    def _returns(self, mapper: Mapper, tasks: Sequence[Task], phis: NDArray[np.float32]) -> NDArray[np.float64]:
        """Returns [T, R, E] of weights [T * R, P], or [T, 1, E] of the same for all [P]."""
        repeats = len(phis) // len(tasks) if phis.ndim > 1 else 1
        where = [task for task in tasks for _ in range(repeats)]
        found = evaluate_policies(where, mapper.base.policies(phis), episodes=self.episodes)
        return found.returns.reshape(len(tasks), repeats, -1)

    def _rows(
        self, mapper: Mapper, tasks: Sequence[Task], rollouts: Sequence[Sequence[Rollout]]
    ) -> list[dict[str, Any]]:
        before = None if self.before is None else find_mapper(self.before)[0]
        reference = self._returns(mapper, tasks, mapper.base.phi)
        noise = np.sqrt(2 * reference.var(axis=-1, ddof=1) / self.episodes)
        rows = []
        for steps in self.lengths:
            heads = [rollout.head(steps) for row in rollouts for rollout in row]
            found = self._returns(mapper, tasks, np.stack([mapper.generate(head) for head in heads]))
            verdicts = [verdict for verdict in map(mapper.judge, heads) if verdict is not None]
            harm = _harm(reference, found, verdicts)
            if before is not None:
                others = [verdict for verdict in map(before.judge, heads) if verdict is not None]
                harm["before"] = _harm(reference, found, others)["served"]
            rows.append({"steps": steps, **_gains((found - reference).mean(axis=-1), noise, verdicts), "harm": harm})
        return rows


@cache  # cells of one process share it
def _checked(reference: str) -> Mapper:
    """A mapper, calibrated if it has no self-check."""
    mapper, _ = find_mapper(reference)
    if mapper.check is None:
        mapper.check = calibrate(mapper)
    return mapper


def _families_of_same_shape(name: str) -> list[str]:
    """The other families with observations and actions of the same size."""
    family = get_family(name)
    sizes = (family.observation_size, family.action_size)
    others = [get_family(other) for other in list_families() if other != name]
    return [other.name for other in others if (other.observation_size, other.action_size) == sizes]


def _gains(gains: NDArray[np.float64], noise: NDArray[np.float64], verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Gains [T, R] with and without the check, and what the check said.

    Args:
        gains: of the generated policies over the base policy.
        noise: standard error of such a gain by task [T, 1].
        verdicts: T x R.
    """
    served = np.array([not verdict.fallback for verdict in verdicts]).reshape(gains.shape)
    novelty = np.array([verdict.novelty for verdict in verdicts])
    predicted = np.array([(v.predicted_return or 0.0) - (v.predicted_base_return or 0.0) for v in verdicts])
    return {
        "fallback": float(1 - served.mean()),
        "reasons": dict(Counter(_kind(verdict.fallback) for verdict in verdicts if verdict.fallback)),
        "foreign": float((novelty > 1).mean()),
        "novelty": np.quantile(novelty, [0.1, 0.5, 0.9]).tolist(),
        "mean_gain_unchecked": float(gains.mean()),
        "mean_gain": float((gains * served).mean()),
        "worst_gain_unchecked": float(gains.min()),
        "worst_gain": float((gains * served).min()),
        "two_standard_errors": float(2 * noise.mean()),
        "worse_unchecked": float((gains < -2 * noise).mean()),
        "worse": float((gains * served < -2 * noise).mean()),
        "error_of_predicted_gain": float(np.sqrt(np.square(predicted.reshape(gains.shape) - gains).mean())),
    }


def _harm(reference: NDArray[np.float64], found: NDArray[np.float64], verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Harm on all pairs of task and D, and on those whose policy is served (None where there are none).

    Args:
        reference: returns of the base policy [T, 1, E].
        found: of generated policies [T, R, E].
        verdicts: of the self-check, T x R.
    """
    served = np.array([not verdict.fallback for verdict in verdicts])
    base, generated = (array.reshape(-1, array.shape[-1]) for array in np.broadcast_arrays(reference, found))
    return {
        "all": asdict(measure_harm(base, generated)),
        "served": asdict(measure_harm(base[served], generated[served])) if served.any() else None,
    }


def _kind(reason: str) -> str:
    """A reason of `Verdict.fallback` without its numbers."""
    words = ("too few", "out of distribution", "is expected", "at every length")
    return next((word for word in words if word in reason), reason)

"""The experiment in service: tasks change while methods act, and nobody says when.

Choices are made on validation tasks, so that is the default split; the decision rule, written down before any run on
test tasks, is in `metamap_rl.evaluation.service.decision`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, field_validator

from metamap_agents.experts.universal import UniversalPolicy
from metamap_agents.experts.zoo import Zoo
from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.parameters import parse_split
from metamap_envs.registry import get_family
from metamap_envs.settings import Number, Seed, Settings, Whole
from metamap_rl.adaptation.bundled import find_mapper
from metamap_rl.adaptation.service.files import mapper_id
from metamap_rl.adaptation.service.trial import Trial, run_trial
from metamap_rl.common.cells import Cell, check_settings, document_of
from metamap_rl.evaluation.protocol.methods.mapped import train_context_policy
from metamap_rl.evaluation.protocol.problem import Problem
from metamap_rl.evaluation.protocol.settings import SharedSettings
from metamap_rl.evaluation.service.decision import DecisionRule
from metamap_rl.evaluation.service.figures import alarms_of
from metamap_rl.evaluation.service.methods import ADAPTER, BASE, ESTIMATE, ORACLE, SERVICE_METHODS, Subject
from metamap_rl.evaluation.service.rivals import IdentifyingController
from metamap_rl.evaluation.service.student import (
    ServiceStudentConfig,
    load_student,
    save_student,
    train_service_student,
)
from metamap_rl.evaluation.service.summary import summarise
from metamap_rl.evaluation.service.trials import ServiceTrials, draw_trials, schedule_of
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.results.experiments.base import EXPERIMENTS
from metamap_rl.results.service_tables import in_service_table
from metamap_rl.training.checkpoint import digest

__all__ = ["InService", "ServiceSchedule", "ServiceSubject"]

_DIGITS = 6  # of stored rewards
_FEW = (BASE, ADAPTER, ESTIMATE, ORACLE)


def _known(methods: tuple[str, ...]) -> tuple[str, ...]:
    for name in methods:
        if name not in SERVICE_METHODS:
            raise ValueError(str(unknown_name("method in service", name, SERVICE_METHODS)))
    return methods


class ServiceSubject(Settings):
    """A mapper and the zoo that it was trained on; its family is the mapper's."""

    mapper: str
    """Folder, or name of a bundled one; with the universal policy, its own or that of the zoo."""
    zoo: Path | None = None
    """With training and validation experts, which the context policy needs; without one it is left out."""
    without: tuple[str, ...] = ()
    """Methods that are left out for this subject, such as those that take long to train."""

    @field_validator("without")
    @classmethod
    def _check_without(cls, without: tuple[str, ...]) -> tuple[str, ...]:
        if found := sorted({BASE, ORACLE}.intersection(without)):
            raise ValueError(f"expected methods other than {BASE!r} and {ORACLE!r}, got {found}")
        return _known(without)


class ServiceSchedule(Settings):
    """When tasks change, and the methods that are run."""

    hazard: Annotated[Number, Field(ge=0, le=1)] = 0.0
    """Probability of a change before each step."""
    changes: tuple[Annotated[Whole, Field(ge=1)], ...] = ()
    """Steps before which there is a change."""
    methods: tuple[str, ...] = ()
    """Names of `SERVICE_METHODS`; none for those of the experiment."""

    _check_methods = field_validator("methods")(_known)


_SCHEDULES = {
    "main": ServiceSchedule(hazard=0.005),
    "hazard .01": ServiceSchedule(hazard=0.01, methods=_FEW),
    "one change": ServiceSchedule(changes=(1000,), methods=_FEW),
    "no change": ServiceSchedule(methods=_FEW),
}


@EXPERIMENTS.register("in-service")
class InService(Settings):
    """Trials in which tasks change and nobody says when: the adapter, its rivals, base policy and oracle."""

    subjects: Annotated[tuple[ServiceSubject, ...], Field(min_length=1)]
    """Mappers with their zoos, of one or several families; those of one family are resampled together."""
    schedules: Annotated[dict[str, ServiceSchedule], Field(min_length=1)] = _SCHEDULES
    """By name; the decision is about "main"."""
    methods: Annotated[tuple[str, ...], Field(min_length=2)] = tuple(SERVICE_METHODS)
    """Of schedules that name none: names of `SERVICE_METHODS`, among them base policy and oracle."""
    split: str = "validation"
    """Of the tasks."""
    trials: Annotated[Whole, Field(ge=2)] = 24
    """Of each subject and schedule."""
    steps: Annotated[Whole, Field(ge=1)] = 2000
    """Of a trial."""
    latency_steps: Annotated[Whole, Field(ge=1)] = 500
    """Of the trial of one environment in which a method's CPU time is measured."""
    seed: Seed = 0
    """Of tasks, changes and starts, and of training."""
    context: SharedSettings = SharedSettings()
    """How context policies are trained: as those of the protocol."""
    student: dict[str, Any] = Field(default_factory=dict)
    """Changes of the settings of `ServiceStudentConfig`."""
    rule: DecisionRule = DecisionRule()
    """The decision rule."""

    _check_methods = field_validator("methods")(_known)

    @field_validator("split")
    @classmethod
    def _check_split(cls, split: str) -> str:
        return parse_split(split).value

    # cells ------------------------------------------------------------------------------------------------------------

    def batches(self, out: Path) -> Iterator[list[Cell]]:
        """What has to be trained, then one cell for each subject, schedule and method.

        Raises:
            MetaMapError: a schedule without base policy and oracle, not a mapper, one without a universal policy, or a
                zoo with another base policy than the mapper's.
        """
        for name, schedule in self.schedules.items():
            if missing := [one for one in (BASE, ORACLE) if one not in self._methods(schedule)]:
                raise MetaMapError(
                    f"schedule {name!r}: expected the methods {BASE!r} and {ORACLE!r}, without {missing}"
                )
        for index in range(len(self.subjects)):
            self._check_subject(index)
        yield [cell for index in range(len(self.subjects)) for cell in self._training(index, out)]
        yield [cell for index in range(len(self.subjects)) for cell in self._measuring(index, out)]

    def _methods(self, schedule: ServiceSchedule) -> tuple[str, ...]:
        return schedule.methods or self.methods

    def _runs(self, index: int, method: str) -> bool:
        """Whether a subject has a method: not one that it does without, nor a context policy without a zoo."""
        subject = self.subjects[index]
        return method not in subject.without and (SERVICE_METHODS[method].trained != "context" or bool(subject.zoo))

    def _training(self, index: int, out: Path) -> list[Cell]:
        """Cells of the policies of one subject that have to be trained."""
        used = {
            SERVICE_METHODS[name].trained
            for one in self.schedules.values()
            for name in self._methods(one)
            if self._runs(index, name)
        }
        shared = {**self._made_of(index), "seed": self.seed}
        return [
            Cell(f"{index}, {part}", out / f"{index}-{part}.json", {**shared, **settings}, (part, index, out))
            for part, settings in self._trained.items()
            if part in used
        ]

    @property
    def _trained(self) -> dict[str, dict[str, Any]]:
        """Settings of what has to be trained, by name."""
        return {
            "student": {"student": self._student.flat()},
            "context": {"context": self.context.model_dump(mode="json")},
        }

    def _made_of(self, index: int) -> dict[str, str]:
        """What a subject's results are of: its mapper, and the universal policy where the mapper does not hold it."""
        mapper = self._mapper(index)
        found = {"mapper": mapper_id(mapper)}
        return found if mapper.universal else {**found, "universal": digest({"phi": self._universal(index).phi})}

    def _measuring(self, index: int, out: Path) -> list[Cell]:
        family = self._mapper(index).family
        shared = {
            **self._made_of(index),
            **self.model_dump(mode="json", include={"split", "trials", "steps", "latency_steps", "seed"}),
        }
        cells = []
        for name, schedule in self.schedules.items():
            when = schedule.model_dump(mode="json", exclude={"methods"})
            for method in self._methods(schedule):
                made = SERVICE_METHODS[method]
                if made.lacking(family) or not self._runs(index, method):
                    continue
                file = "-".join(re.findall(r"\w+", f"{index} {name} {method}"))
                settings = {**shared, **when, "method": method, "about": dict(made.settings), "subject": index}
                settings |= self._trained.get(made.trained, {})
                job = ("trial", index, out, name, method)
                cells.append(Cell(f"{index}, {name}, {method}", out / f"{file}.json", settings, job))
        return cells

    def is_done(self, cell: Cell) -> bool:
        """Whether it is there, with these settings."""
        return check_settings(cell)

    def run(self, cell: Cell) -> dict[str, Any]:
        """Train a rival, or run one method on all trials of a schedule."""
        kind, index, out, *rest = cell.job
        if kind == "student":
            student, record = train_service_student(self._mapper(index).base, self._universal(index), self._student)
            save_student(cell.path.with_suffix(".safetensors"), student)
            return document_of(cell, record)
        if kind == "context":
            return document_of(cell, self._train_context(index, cell.path.with_suffix("")))
        return document_of(cell, self._measured(index, out, *rest))

    # training ---------------------------------------------------------------------------------------------------------

    @cached_property
    def _student(self) -> ServiceStudentConfig:
        return ServiceStudentConfig(seed=self.seed).changed(**self.student)

    def _mapper(self, index: int) -> Mapper:
        return find_mapper(self.subjects[index].mapper)[0]

    def _check_subject(self, index: int) -> None:
        subject, base = self.subjects[index], self._mapper(index).base
        self._universal(index)
        if subject.zoo is None:
            return
        own = Zoo.open(subject.zoo).base
        if base.spec != own.spec or not np.array_equal(base.phi, own.phi):
            raise MetaMapError(f"subjects: {subject.zoo}: expected the base policy of the mapper {subject.mapper}")

    def _universal(self, index: int) -> UniversalPolicy:
        mapper, zoo = self._mapper(index), self.subjects[index].zoo
        found = mapper.universal or (Zoo.open(zoo).universal if zoo else None)
        if found is None:
            raise MetaMapError(
                f"subjects: {self.subjects[index].mapper}: expected a mapper with the universal policy, "
                "which the oracle is made of, or its zoo"
            )
        return found

    def _train_context(self, index: int, folder: Path) -> dict[str, Any]:
        place = self.subjects[index].zoo
        assert place is not None, "left out without one"
        choice, policy = train_context_policy(Problem(Zoo.open(place), self.context, folder), self.seed)
        policy.save(folder, overwrite=True)
        return {"start": choice[0], "learning_rate": choice[1], "chosen_update": policy.record["chosen_update"]}

    # trials -----------------------------------------------------------------------------------------------------------

    def _subject(self, index: int, out: Path, trained: str) -> Subject:
        mapper = self._mapper(index)
        context = Mapper.load(out / f"{index}-context") if trained == "context" else None
        student = load_student(out / f"{index}-student.safetensors", mapper.base) if trained == "student" else None
        return Subject(mapper, self._universal(index), context, student, self.seed)

    def _trials(self, index: int, schedule: str, *, steps: int, trials: int) -> ServiceTrials:
        """The trials of a subject: the same for all of its methods."""
        when = self.schedules[schedule]
        return draw_trials(
            get_family(self._mapper(index).family),
            schedule_of(self.split, hazard=when.hazard, changes=when.changes),
            steps=steps,
            trials=trials,
            entropy=[self.seed, index],
        )

    def _measured(self, index: int, out: Path, schedule: str, name: str) -> dict[str, Any]:
        method = SERVICE_METHODS[name]
        subject = self._subject(index, out, method.trained)
        trials = self._trials(index, schedule, steps=self.steps, trials=self.trials)
        controller = method.make(subject, self.trials)
        trial = run_trial(controller, trials.tasks, seeds=trials.seeds)
        found = {
            "family": subject.mapper.family,
            "trials": trials.digest,
            "changes": [np.flatnonzero(column).tolist() for column in trials.changed.T],
            "rewards": np.round(trial.rewards.T, _DIGITS).tolist(),
            "falls": trial.ended.sum(axis=0).tolist(),
            "swaps": [int(count) for count in controller.swaps],
            "seconds": float(trial.seconds.sum()),
            **_windows(trial, trials),
        }
        if isinstance(controller, IdentifyingController):
            found["identification"] = {"seconds": controller.seconds, "simulated": controller.simulated}
        alone = self._trials(index, schedule, steps=self.latency_steps, trials=1)
        latency = run_trial(method.make(subject, 1), alone.tasks, seeds=alone.seeds).seconds
        return {**found, "latency": {"median": float(np.median(latency)), "p99": float(np.quantile(latency, 0.99))}}

    # results ----------------------------------------------------------------------------------------------------------

    def summary(self, documents: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Figures of each family, schedule and method, and the decision."""
        families: dict[str, dict[str, dict[str, list[Mapping[str, Any]]]]] = {}
        for cell in [cell for index in range(len(self.subjects)) for cell in self._measuring(index, out)]:
            if cell.name in documents:
                document, (schedule, method) = documents[cell.name], cell.job[3:]
                of_schedule = families.setdefault(document["family"], {}).setdefault(schedule, {})
                of_schedule.setdefault(method, []).append(document)
        found = {
            family: {schedule: summarise(methods) for schedule, methods in schedules.items()}
            for family, schedules in families.items()
        }
        main = {family: schedules["main"] for family, schedules in found.items() if "main" in schedules}
        return {
            "settings": self.model_dump(mode="json", exclude={"subjects", "context"}),
            "families": found,
            "trained": {name: _training_record(one) for name, one in documents.items() if "trials" not in one},
            "decision": {"split": self.split, **self.rule.verdict(main)},
        }

    def table(self, document: Mapping[str, Any]) -> list[str]:
        """Methods in rows for each family and schedule, then the decision."""
        return in_service_table(document)


def _training_record(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in ("settings", "machine", "versions")}


def _windows(trial: Trial, trials: ServiceTrials) -> dict[str, Any]:
    """What an adapter's windows did in each trial; empty for other methods."""
    if not trial.beliefs[-1]:
        return {}
    changed, steps = trials.changed, np.arange(len(trial.beliefs))
    alarms = []
    for index in range(len(trials.seeds)):
        beliefs = [row[index] for row in trial.beliefs]
        begins = steps + 1 - np.array([belief.age for belief in beliefs])
        cut = np.diff([belief.changes for belief in beliefs], prepend=0) > 0
        alarms.append(alarms_of(begins, cut, changed[:, index]))
    generated = [[belief.served == "generated" for belief in row] for row in trial.beliefs]
    return {
        "cuts": [one.cuts for one in alarms],
        "false_alarms": [one.false for one in alarms],
        "quiet_steps": [one.quiet for one in alarms],
        "noticed": [one.noticed for one in alarms],
        "delays": [list(one.delays) for one in alarms],
        "rescues": [belief.rescues for belief in trial.beliefs[-1]],
        "generated": float(np.mean(generated)),
    }

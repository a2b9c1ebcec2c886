"""Schedules of tasks that change in mid-episode: at given steps, by chance, or by a drift of parameters.

A schedule is a document (`TaskSchedule`), the same for all environments. `metamap_envs.scheduled` puts it into effect:
in `ScheduledTasks` for one environment, and in `FamilyVectorEnv` for many.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from metamap_envs.errors import MetaMapError
from metamap_envs.parameters import parse_split
from metamap_envs.settings import Number, Settings, Whole, parse, read_document
from metamap_envs.task import CUSTOM_SPLIT, Task

__all__ = ["ALL", "Change", "Drift", "Resampling", "TaskSchedule"]

ALL = "all"
"""Instead of a list of parameters: all of them."""

_Step = Annotated[Whole, Field(ge=1)]
_OF_KIND = {"line": ("to", "over"), "walk": ("deviation",), "sinusoid": ("amplitude", "period")}


def _names(value: object) -> object:
    """A list of names, or "all" by itself."""
    return (value,) if isinstance(value, str) else value


class Change(Settings):
    """A change at a given step, or at every so many: some parameters get values, or are drawn anew."""

    step: _Step | None = None
    """Steps taken before it."""
    every: _Step | None = None
    """In place of step: at each multiple of so many steps."""
    parameters: dict[str, Number] | None = None
    """Values by parameter; the others stay."""
    draw: tuple[str, ...] | None = None
    """In place of parameters: names of those that are drawn from the split, or all."""

    _read_draw = field_validator("draw", mode="before")(_names)

    @model_validator(mode="after")
    def _check(self) -> Change:
        if self.step is None and self.every is None:
            raise ValueError("a change needs step or every")
        if self.step is not None and self.every is not None:
            raise ValueError("a change has either step or every, not both")
        if not self.parameters and not self.draw:
            raise ValueError("a change needs parameters with values, or draw with names or all")
        if self.parameters and self.draw:
            raise ValueError("a change has either parameters or draw, not both")
        return self

    def due(self, step: int) -> bool:
        """Whether it comes after so many steps."""
        return step == self.step if self.every is None else step % self.every == 0


class Resampling(Settings):
    """Before each step, with some probability, parameters are drawn anew from the split, as RMA resamples."""

    probability: Annotated[Number, Field(gt=0, le=1)]
    """Of each step; RMA's is 0.01."""
    parameters: tuple[str, ...] = (ALL,)
    """Names of those that are drawn, or all."""

    _read_parameters = field_validator("parameters", mode="before")(_names)


class Drift(Settings):
    """One continuous parameter that changes little by little, on its own scale: of ``scale: log`` its logarithm.

    A walk or a sinusoid that leads out of the range of the split is reflected at its ends; an angle goes round. Where a
    task lies outside of that range already, the range reaches up to there.
    """

    parameter: str
    """Its name."""
    kind: Literal["line", "walk", "sinusoid"]
    """To a value and no further; a random walk; to and fro around the value that it has."""
    start: Annotated[Whole, Field(ge=0)] = 0
    """Steps taken before it begins."""
    every: _Step = 1
    """The parameter changes once in so many steps."""
    to: Number | None = None
    """Of a line: where it ends."""
    over: _Step | None = None
    """Of a line: in so many steps."""
    deviation: Annotated[Number, Field(gt=0)] | None = None
    """Of a walk: standard deviation of each of its changes."""
    amplitude: Number | None = None
    """Of a sinusoid: greatest distance from the middle; its sign is where it goes first."""
    period: Annotated[Number, Field(gt=0)] | None = None
    """Of a sinusoid: steps of one oscillation."""

    @model_validator(mode="after")
    def _check(self) -> Drift:
        needed = _OF_KIND[self.kind]
        for name in ("to", "over", "deviation", "amplitude", "period"):
            given = getattr(self, name) is not None
            if given != (name in needed):
                problem = f"has no {name}" if given else f"needs {name}"
                raise ValueError(f"a drift of kind {self.kind} {problem}; it has {' and '.join(needed)}")
        return self


class TaskSchedule(Settings):
    """When and how the task changes while an environment runs. Frozen, as plain JSON values by `to_json`.

    A change comes before a step: the transition of that step is of the new task, and the observation before it of the
    old one. Nothing changes before the first step. Of several at the same step drift comes first, then resampling, then
    the changes in their order.

    All numbers that are drawn come from the seed of the environment's last seeded reset.
    """

    split: str = "train"
    """Where drawn values come from, and in whose range given and drifting values must be; "custom": in the range that
    the family admits at all, and nothing can be drawn."""
    clock: Literal["episode", "run"] = "episode"
    """Steps are counted from the start of each episode, and each starts with the environment's own task; or over all
    episodes, and a reset keeps the task, unless it has a seed or a task."""
    changes: tuple[Change, ...] = ()
    """At given steps."""
    resample: Resampling | None = None
    """By chance."""
    drift: tuple[Drift, ...] = ()
    """Little by little, one for a parameter."""

    @field_validator("split")
    @classmethod
    def _check_split(cls, split: str) -> str:
        return split if split == CUSTOM_SPLIT else parse_split(split).value

    @model_validator(mode="after")
    def _check(self) -> TaskSchedule:
        drifting = [drift.parameter for drift in self.drift]
        for name in drifting:
            if drifting.count(name) > 1:
                raise ValueError(f"the parameter {name!r} has several drifts; expected one")
        if self.split == CUSTOM_SPLIT and (self.resample or any(change.draw for change in self.changes)):
            raise ValueError(
                "nothing can be drawn from the split 'custom'; name train, validation, test-in or test-out"
            )
        return self

    @classmethod
    def read(cls, path: str | Path) -> TaskSchedule:
        """Read a YAML file.

        Raises:
            MetaMapError: no such file, no YAML, or not a schedule; the sentence names the key.
        """
        return parse(cls, read_document(path), str(path))

    @classmethod
    def from_json(cls, document: object) -> TaskSchedule:
        """Read plain values, as `to_json` gives them or a YAML file has them.

        Raises:
            MetaMapError: not a schedule; the sentence names the key.
        """
        if not isinstance(document, Mapping):
            raise MetaMapError(f"schedule: expected a mapping of settings, got {type(document).__name__}")
        return parse(cls, dict(document), "schedule")

    @classmethod
    def of_tasks(cls, tasks: Mapping[int, Task], *, clock: Literal["episode", "run"] = "episode") -> TaskSchedule:
        """The schedule of whole tasks at given steps.

        Args:
            tasks: by the number of steps taken before each.
            clock: see the attribute.

        Raises:
            MetaMapError: a step below 1.
        """
        changes = [{"step": step, "parameters": dict(task.parameters)} for step, task in tasks.items()]
        return cls.from_json({"split": CUSTOM_SPLIT, "clock": clock, "changes": changes})

    def to_json(self) -> dict[str, Any]:
        """The schedule as plain JSON values, without what is at its default."""
        return self.model_dump(mode="json", exclude_defaults=True)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that may change, or ("all",)."""
        found = [drift.parameter for drift in self.drift]
        found += self.resample.parameters if self.resample else ()
        for change in self.changes:
            found += change.draw or tuple(change.parameters or ())
        return (ALL,) if ALL in found else tuple(dict.fromkeys(found))

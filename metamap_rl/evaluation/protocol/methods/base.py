"""Interface of methods.

To add one, write a module in `metamap_rl.evaluation.protocol.methods` with a subclass of `Method`, whose fields are its
settings, and register it with ``@METHODS.register("name")``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any, ClassVar, TypeVar, get_type_hints

import numpy as np
from numpy.typing import NDArray
from pydantic import create_model

from metamap_envs.family import Family
from metamap_envs.settings import Number, Settings, Whole
from metamap_rl.common.config import Config, bare
from metamap_rl.common.registry import Registry
from metamap_rl.evaluation.identification import model_of
from metamap_rl.evaluation.protocol.problem import Problem

__all__ = ["METHODS", "Method", "MethodResult", "MethodReturns", "at_lengths", "takes"]

Made = TypeVar("Made", bound="Method")
Trainer = TypeVar("Trainer", bound=Config)


@dataclass(frozen=True)
class MethodReturns:
    """Returns of one method on one split."""

    split: str
    steps: int | None
    """k, environment steps on the task; None if it uses none."""
    returns: NDArray[np.float64]
    """Return of every episode [T, E]."""


@dataclass(frozen=True)
class MethodResult:
    """Results of a method with one seed."""

    scores: list[MethodReturns]
    training_steps: int
    """Environment steps before the task, including those of the zoo if it learns from experts."""
    record: dict[str, Any] = field(default_factory=dict)
    """Further results, as JSON values."""


class Method(Settings, ABC):
    """A method of obtaining a policy for a new task.

    It may train on training tasks and select on validation tasks; on a test task it has at most k environment steps.
    """

    summary: ClassVar[str]
    """Short description, for tables."""
    signal: ClassVar[str]
    """Learning signal at test time, for tables."""
    seeded: ClassVar[bool] = True
    """Whether it depends on the seed; if not, it is run once."""
    needs_mapper: ClassVar[bool] = False
    """Whether it uses the mapper of the seed."""
    needs_universal: ClassVar[bool] = False
    """Whether it uses the zoo's universal policy; zoos without one are left out."""
    needs_state: ClassVar[bool] = False
    """Whether it simulates from observations; families whose observations do not hold the state are left out, unless
    there is a simpler one that models all but what is hidden."""
    by_default: ClassVar[bool] = True
    """Whether it is part of runs that name no methods; not if it is for few families."""
    needs_check: ClassVar[bool] = False
    """Whether that mapper must have a self-check; mappers of a run have none."""

    @classmethod
    def lacking(cls, family: Family, has_universal: bool) -> str | None:
        """What a family or its zoo lacks for this method; None if nothing."""
        if cls.needs_universal and not has_universal:
            return "a universal policy, which the experts do not have"
        if cls.needs_state and model_of(family) is None:
            return "the full state, which the family's observations do not hold"
        return None

    @abstractmethod
    def measure(self, problem: Problem, seed: int) -> MethodResult:
        """Train, and evaluate on all splits at all lengths of D."""

    def filled(self, config: Trainer, **others: Any) -> Trainer:
        """A copy of the config of a baseline with this method's settings of the same names, and others."""
        own = {item.name for item in fields(config)} & type(self).model_fields.keys()
        return replace(config, **{name: getattr(self, name) for name in own}, **others)


def takes(config: Config, *names: str) -> Callable[[type[Made]], type[Made]]:
    """Decorate a method: it has these settings of the config of a baseline, whose values are the defaults."""
    hints = get_type_hints(type(config), include_extras=True)

    def decorate(method: type[Made]) -> type[Made]:
        settings: dict[str, Any] = {}
        for name in names:
            kind, bounds = bare(hints[name])
            settings[name] = (Annotated[(Whole if kind is int else Number, *bounds)], getattr(config, name))
        about: Any = {"__base__": method, "__module__": method.__module__, "__doc__": method.__doc__}
        made: type[Made] = create_model(method.__name__, **about, **settings)
        return made

    return decorate


METHODS: Registry[type[Method]] = Registry("method")


def at_lengths(
    problem: Problem, lengths: Iterable[int], returns: Callable[[str, int], NDArray[np.float64]]
) -> list[MethodReturns]:
    """Scores on every split at every length."""
    return [MethodReturns(split, length, returns(split, length)) for split in problem.splits for length in lengths]

"""What acts in experiments on one family: the policies of zoos, and methods in service made of mappers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from metamap_agents.experts.zoo import Zoo
from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.parameters import parse_split
from metamap_envs.settings import Seed, Settings
from metamap_rl.adaptation.bundled import find_mapper
from metamap_rl.adaptation.service.files import mapper_id
from metamap_rl.adaptation.service.trial import Controller, PolicyController
from metamap_rl.evaluation.service.methods import ADAPTER, BASE, ESTIMATE, ORACLE, SERVICE_METHODS, Subject
from metamap_rl.training.checkpoint import digest

__all__ = ["UNIVERSAL", "Pilots"]

UNIVERSAL = "universal policy"


class Pilots(Settings):
    """Settings of an experiment in which zoos and mappers of one family act on the same tasks."""

    family: str
    """The family."""
    zoos: dict[str, Path] = Field(default_factory=dict)
    """Zoos of the family by a name for each: base policy, and universal policy given the true parameters at once."""
    mappers: dict[str, str] = Field(default_factory=dict)
    """Folders of mappers of the family that hold their universal policy, by a name for each."""
    methods: tuple[str, ...] = (BASE, ORACLE, ADAPTER, ESTIMATE, "mapped once")
    """What is made of each mapper: names of methods in service."""
    split: str = "test-in"
    """Of the tasks."""
    seed: Seed = 0
    """Of tasks and starts."""

    @field_validator("split")
    @classmethod
    def _check_split(cls, split: str) -> str:
        return parse_split(split).value

    @field_validator("methods")
    @classmethod
    def _check_methods(cls, methods: tuple[str, ...]) -> tuple[str, ...]:
        for name in methods:
            if name not in SERVICE_METHODS:
                raise ValueError(str(unknown_name("method in service", name, SERVICE_METHODS)))
        return methods

    def pilots(self) -> dict[str, dict[str, Any]]:
        """What decides the actions of each pilot, by its name.

        Raises:
            MetaMapError: a zoo or mapper of another family, or one without a universal policy.
        """
        found: dict[str, dict[str, Any]] = {}
        for name in self.zoos:
            zoo = self._zoo(name)
            policies = {"policies": digest({"base": zoo.base.phi, "universal": zoo.universal.phi})}
            found |= {f"{name}: {policy}": policies for policy in (BASE, UNIVERSAL)}
        for name in self.mappers:
            made_of = {"mapper": mapper_id(self._subject(name).mapper)}
            for method in self.methods:
                found[f"{name}: {method}"] = {**made_of, "about": dict(SERVICE_METHODS[method].settings)}
        return found

    def controller(self, pilot: str, count: int) -> Controller:
        """A pilot of `pilots` in so many environments."""
        name, _, method = pilot.rpartition(": ")
        if name in self.zoos and method in (BASE, UNIVERSAL):
            zoo = self._zoo(name)
            return PolicyController(zoo.base, count, zoo.universal.expert_for if method == UNIVERSAL else None)
        return SERVICE_METHODS[method].make(self._subject(name), count)

    def _zoo(self, name: str) -> Zoo:
        zoo = Zoo.open(self.zoos[name])
        if zoo.family.name != self.family:
            raise MetaMapError(f"zoos: {name}: expected one of {self.family!r}, got one of {zoo.family.name!r}")
        return zoo

    def _subject(self, name: str) -> Subject:
        mapper = find_mapper(self.mappers[name])[0]
        if mapper.family != self.family or mapper.universal is None:
            raise MetaMapError(
                f"mappers: {name}: expected a mapper of {self.family!r} with its universal policy, got one of "
                f"{mapper.family!r} {'without' if mapper.universal is None else 'with'} it"
            )
        return Subject(mapper, mapper.universal, seed=self.seed)

"""Config of a run of the protocol."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from metamap_agents.experts.recipes import load_recipe
from metamap_envs.errors import MetaMapError
from metamap_envs.parameters import Split, parse_split
from metamap_envs.registry import get_family
from metamap_envs.settings import Seed, Settings, Whole, parse, read_document
from metamap_rl.evaluation.protocol.methods import METHODS, Method
from metamap_rl.evaluation.protocol.settings import SharedSettings
from metamap_rl.evaluation.scores import method_name
from metamap_rl.probing.probes import PROBES

__all__ = ["LearningConfig", "ProtocolConfig", "load_protocol"]

_METHODS_OF_RUNS = tuple(
    name for name in METHODS.names() if METHODS.get(name).by_default and not METHODS.get(name).needs_check
)
STARTS = ("phi-0", "scratch", "phi-hat")
"""Initial policies of PPO in the comparison of adaptation with learning."""


class LearningConfig(Settings):
    """Settings of adaptation against learning: PPO on single tasks, by initial policy."""

    tasks: Annotated[Whole, Field(ge=1)] = 4
    """Number of test-in tasks, the first ones whose experts beat the base policy."""
    starts: tuple[str, ...] = STARTS
    """Initial policies of PPO: phi-0, scratch (random weights), phi-hat (the mapper's policy)."""
    steps: Annotated[Whole, Field(ge=1)] = 200_000
    """Environment steps of each training, rounded up to whole rollouts."""
    length: Annotated[Whole, Field(ge=1)] = 50
    """Length of D of the mapped policy in the comparison."""
    settings: dict[str, dict[str, Any]] = Field(
        default_factory=lambda: {
            "recipe": {},
            "quick": {"n_envs": 8, "n_steps": 64, "batch_size": 128, "learning_rate": 1e-3},
        }
    )
    """Settings of PPO by name, as changes of the family's expert recipe; the comparison uses those with the fewest
    environment steps. From scratch only the first are run, as changes of the base recipe.
    """


class ProtocolConfig(SharedSettings):
    """Families x methods x seeds x lengths of D."""

    families: tuple[str, ...]
    """Names of families, or paths of YAML declarations."""
    methods: tuple[str, ...] = Field(default_factory=lambda: _METHODS_OF_RUNS)
    """Names of methods; default all that need no self-check and are for most families."""
    zoos: Annotated[Whole, Field(ge=1)] = 1
    """Number of zoos of each family, in folders FAMILY-0, FAMILY-1, ...; with one its folder is FAMILY. Each has base
    policy, experts, survey and test tasks of its own."""
    seen_seeds: tuple[Seed, ...] = ()
    """Seeds of zoos whose test tasks were measured before the design was final: told apart from newly drawn ones."""
    seeds: Annotated[Whole, Field(ge=1)] = 5
    """Number of seeds: methods are retrained, with another D; base policy, experts and survey are shared."""
    seeds_of: dict[str, Annotated[Whole, Field(ge=1)]] = Field(default_factory=dict)
    """Number of seeds for slow methods, by name."""
    first_seed: Seed = 0
    """First seed; the others follow."""
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Settings of methods by name."""
    learning: LearningConfig | None = LearningConfig()
    """PPO on single tasks; null for no such comparison."""

    @field_validator("methods", mode="before")
    @classmethod
    def _names_of_methods(cls, value: object) -> object:
        return list(map(_method_name, value)) if isinstance(value, list | tuple) else value

    @field_validator("settings", "seeds_of", mode="before")
    @classmethod
    def _by_names_of_methods(cls, value: object) -> object:
        return {_method_name(name): one for name, one in value.items()} if isinstance(value, Mapping) else value

    def check(self) -> None:
        """Check what pydantic cannot: names, and settings of methods.

        Raises:
            MetaMapError: an unknown name, or an invalid setting.
        """
        if not self.families or not self.methods or not self.lengths:
            raise MetaMapError("a protocol needs at least one family, one method and one length of D")
        for family in self.families:
            get_family(family)
        for split in self.splits:
            if parse_split(split) not in (Split.TEST_IN, Split.TEST_OUT):
                raise MetaMapError(f"splits: expected test-in or test-out, got {split!r}: the others choose and train")
        PROBES.get(self.probe)
        for name in (*self.methods, *self.settings, *self.seeds_of):
            if self.method(name).needs_check:
                raise MetaMapError(f"method {name} needs mappers with a self-check: `metamap mapper evaluate` runs it")
        if "rl2" in self.methods and find_spec("sb3_contrib") is None:
            raise MetaMapError("method rl2 needs sb3-contrib: pip install 'metamap-rl[contrib]', or leave it out")
        if self.learning is not None:
            self._check_learning(self.learning)

    def _check_learning(self, learning: LearningConfig) -> None:
        """Check the settings of learning before methods are run."""
        if not set(learning.starts) <= set(STARTS):
            raise MetaMapError(f"learning: starts: expected some of {', '.join(STARTS)}, got {learning.starts}")
        if "mapper" in self.methods and learning.length not in self.lengths:
            raise MetaMapError(
                f"learning: length: expected one of the lengths of D, {list(self.lengths)}, got {learning.length}"
            )
        if not learning.settings:
            raise MetaMapError("learning: settings: expected at least one, by name, such as {recipe: {}}")
        for family in self.families:
            for changes in learning.settings.values():
                load_recipe(get_family(family).name, "expert", **changes)

    def method(self, name: str) -> Method:
        """A method with its settings.

        Raises:
            MetaMapError: an unknown method or setting.
        """
        return parse(METHODS.get(name), self.settings.get(name, {}), f"settings of method {name!r}")

    def all_seeds(self) -> range:
        """The seeds."""
        return range(self.first_seed, self.first_seed + self.seeds)

    def seeds_for(self, name: str) -> range:
        """The seeds of a method: one if it does not depend on a seed."""
        count = self.seeds_of.get(name, self.seeds) if self.method(name).seeded else 1
        return self.all_seeds()[:count]


def _method_name(value: object) -> object:
    return method_name(value) if isinstance(value, str) else value


def load_protocol(path: str | Path, **changes: Any) -> ProtocolConfig:
    """Load a config from a YAML file.

    Args:
        path: the file.
        **changes: values that replace the file's.

    Raises:
        MetaMapError: no such file, not YAML, or an unknown key, name or value.
    """
    config = parse(ProtocolConfig, {**read_document(path), **changes}, str(path))
    config.check()
    return config

"""Streams of ``kind: environments``: any Gymnasium environments in turn, without experts and without a mapper.

::

    streams:
      gravity:
        kind: environments
        environments:
          - Pendulum-v1
          - {id: Pendulum-v1, kwargs: {g: 2.0}, name: moon}
        rounds: 2
        reference: {sb3: ppo, steps: 50000}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from metamap_envs.errors import MetaMapError
from metamap_envs.settings import Number, Settings, Whole, parse
from metamap_rl.bench.entry import ExternalSettings
from metamap_rl.bench.worlds import GymWorld
from metamap_rl.stream.config import SeedSettings
from metamap_rl.stream.kinds.base import ordered

__all__ = ["KIND", "EnvironmentChoice", "EnvironmentStream", "EnvironmentStreamConfig"]

KIND = "environments"

Count = Annotated[Whole, Field(ge=1)]

_DEFAULT_REFERENCE: dict[str, Any] = {
    "sb3": "ppo",
    "steps": 51200,
    "settings": {"n_envs": 8, "n_steps": 128, "batch_size": 256},
}


def _from_id(value: object) -> object:
    return {"id": value} if isinstance(value, str) else value


class _Choice(Settings):
    id: Annotated[str, Field(min_length=1)]
    """Gymnasium id; "module:Id" imports the module first."""
    kwargs: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the constructor."""
    max_episode_steps: Annotated[Whole, Field(ge=1)] | None = None
    """Time limit, in place of the registered one."""
    name: Annotated[str, Field(min_length=1)] | None = None
    """Name in the report; by default id and arguments."""
    random: Number | None = None
    """Return with score 0; by default that of uniform random actions, measured."""
    single_task: Number | None = None
    """Return with score 1; by default that of the stream's ``reference``, trained on this environment alone."""

    def model_post_init(self, context: Any) -> None:
        """Check that the scale is one."""
        if self.random is not None and self.single_task is not None and self.single_task <= self.random:
            raise MetaMapError(
                f"single_task: expected more than random = {self.random:g}, got {self.single_task:g}: scores are "
                "(J - random) / (single_task - random)"
            )

    def world(self) -> GymWorld:
        """The environment."""
        limit = {} if self.max_episode_steps is None else {"max_episode_steps": self.max_episode_steps}
        return GymWorld.of(self.label, self.id, {**self.kwargs, **limit})

    @property
    def label(self) -> str:
        """Name in the report."""
        if self.name is not None:
            return self.name
        arguments = ", ".join(f"{key}={value}" for key, value in self.kwargs.items())
        return f"{self.id}({arguments})" if arguments else self.id


EnvironmentChoice = Annotated[_Choice, BeforeValidator(_from_id)]
"""An environment with its arguments; the id alone will do."""


class EnvironmentStream(Settings):
    """A stream of Gymnasium environments, and how it is measured."""

    kind: Literal["environments"] = "environments"
    environments: Annotated[tuple[EnvironmentChoice, ...], Field(min_length=1)]
    """In order of arrival."""
    held_out: tuple[EnvironmentChoice, ...] = ()
    """Environments that are measured and never trained on."""
    rounds: Count = 1
    """How often the list comes."""
    order: Annotated[Whole, Field(ge=0)] = 0
    """Number of the permutation of the list, as in `metamap_rl.stream.kinds.base.ordered`; set by the benchmark."""
    mixed_spaces: bool = False
    """Whether observations and actions may differ in size. Algorithms of Stable-Baselines3 then have one model for each
    pair of spaces; a user's learner has to tell by ``env``.
    """
    episodes: Count = 10
    """Episodes of each environment and measurement."""
    map_steps: Annotated[Whole, Field(ge=0)] = 50
    """Transitions of D that `StreamLearner.policy` gets, with uniform random actions."""
    reference: dict[str, Any] = Field(default_factory=lambda: dict(_DEFAULT_REFERENCE))
    """A learner of ``sb3:``; its return after ``steps`` on an environment alone has score 1 there."""
    stop_after: Count | None = None
    """Number of arrivals after which the stream ends; None for all."""

    def model_post_init(self, context: Any) -> None:
        """Check constraints between keys."""
        for label, same in _by_label((*self.environments, *self.held_out)).items():
            if any(one.world() != same[0].world() for one in same):
                raise MetaMapError(f"environments: two different ones have the name {label!r}")
        self.reference_settings()

    def reference_settings(self) -> ExternalSettings:
        """The learner whose return has score 1."""
        found = parse(ExternalSettings, self.reference, "reference")
        if found.sb3 is None:
            raise MetaMapError("reference: expected an algorithm of Stable-Baselines3 (sb3: ppo)")
        return found

    @property
    def arriving(self) -> list[_Choice]:
        """The environments as they arrive."""
        once = [self.environments[index] for index in _permutation(len(self.environments), self.order)]
        return (once * self.rounds)[: self.stop_after]

    def choices(self) -> dict[GymWorld, _Choice]:
        """All distinct environments, held-out ones included."""
        return {one.world(): one for one in (*self.arriving, *self.held_out)}

    def check_spaces(self) -> None:
        """Make each environment once.

        Raises:
            MetaMapError: one cannot be made or acted in, or spaces differ without ``mixed_spaces``.
        """
        first, *others = self.choices()
        for other in (first, *others):
            if other.spaces != first.spaces and not self.mixed_spaces:
                raise MetaMapError(
                    f"{other.label} has {_described(other)}, but {first.name!r} has {_described(first)}: environments "
                    "of a stream need the same spaces, or mixed_spaces: true, with one model for each pair of spaces"
                )


class EnvironmentStreamConfig(Settings):
    """The config of a cell on such a stream, as its result records it."""

    name: str
    stream: EnvironmentStream
    seeds: SeedSettings = SeedSettings()
    """``stream`` and ``learner`` are the cell's seed; ``evaluation`` that of reset states and random actions."""

    def resolved(self) -> dict[str, Any]:
        """All settings as JSON values."""
        return self.model_dump(mode="json")


def _permutation(count: int, order: int) -> list[int]:
    return [int(name) for name in ordered([str(index) for index in range(count)], order)]


def _by_label(choices: Sequence[_Choice]) -> Mapping[str, list[_Choice]]:
    found: dict[str, list[_Choice]] = {}
    for one in choices:
        found.setdefault(one.label, []).append(one)
    return found


def _described(world: GymWorld) -> str:
    observations, actions = world.spaces
    return f"observations {observations.shape} and actions {actions}"

"""Shared settings of the methods of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, field_validator

from metamap_envs.errors import MetaMapError
from metamap_envs.parameters import Split
from metamap_envs.settings import Settings, Whole, parse
from metamap_rl.probing.actors import DSource
from metamap_rl.training.config import LENGTHS, MapperRecipe
from metamap_rl.training.pipeline import PROBE_STEPS

__all__ = ["MAPPER", "REFERENCE_EPISODES", "SHARED", "SharedSettings", "recorded_mapper"]

REFERENCE_EPISODES = 50
"""Episodes per task of random actions, phi_0 and experts."""

MAPPER = MapperRecipe().changed(updates=2000)
"""Settings of the protocol's mappers, contextual policies and privileged mappers."""


class SharedSettings(Settings):
    """Settings shared by all families, methods and seeds of a run."""

    lengths: tuple[Annotated[Whole, Field(ge=0, le=PROBE_STEPS)], ...] = LENGTHS
    """Lengths of D in transitions."""
    episodes: Annotated[Whole, Field(ge=1)] = 10
    """Episodes per task and policy, on shared reset seeds."""
    reference_episodes: Annotated[Whole, Field(ge=1)] = REFERENCE_EPISODES
    """Episodes per task of random actions, phi_0 and experts; never fewer than `episodes`, which are the first."""
    splits: tuple[str, ...] = (Split.TEST_IN.value, Split.TEST_OUT.value)
    """Splits to evaluate; a split without experts in a family's zoo is skipped."""
    probe: str = "base-policy"
    """Probe of the mappers."""
    d_from: DSource = "probe"
    """Who collects the D of the test tasks: probe, service (the expert of another training task, in mid-episode),
    service-noisy, expert, excitation or mixture; see `metamap_rl.probing.actors.ActorMixture.source`."""
    mapper: MapperRecipe = MAPPER
    """Settings of mappers by name, as changes of `MAPPER`."""

    @field_validator("mapper", mode="before")
    @classmethod
    def _read_mapper(cls, value: object) -> object:
        return value if isinstance(value, MapperRecipe) else _complete(value)


SHARED = tuple(SharedSettings.model_fields)
"""Names of the families."""


def recorded_mapper(document: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of mappers in a stored document: without a word about actors, D came from the probe alone."""
    return {"actors": "probe", **MapperRecipe.flattened(document)}


def _complete(mapper: object) -> MapperRecipe:
    """Validate the settings of mappers; defaults are those of `MAPPER`.

    Raises:
        MetaMapError: an unknown name, an invalid value, or a seed, which the run sets.
    """
    if not isinstance(mapper, Mapping):
        raise MetaMapError(f"expected a mapping of settings, got {mapper!r}")
    recipe = parse(MapperRecipe, {**MAPPER.flat(), **MapperRecipe.flattened(mapper)}, "mapper")
    if recipe.training.seed != MAPPER.training.seed:
        raise MetaMapError("mapper: seed: expected none, the seeds of a run are first_seed and seeds")
    return recipe

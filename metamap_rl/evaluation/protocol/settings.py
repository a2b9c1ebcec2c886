"""What the methods of a run of the protocol have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, field_validator

from metamap_envs.errors import MetaMapError
from metamap_envs.parameters import Split
from metamap_envs.settings import Settings, Whole, parse
from metamap_rl.training.config import MapperRecipe
from metamap_rl.training.pipeline import PROBE_STEPS

__all__ = ["LENGTHS", "MAPPER", "SHARED", "SharedSettings"]

LENGTHS = (0, 5, 10, 20, 50, 100, 200)
"""Steps of D at which generated policies are measured."""

MAPPER = MapperRecipe().changed(updates=2000)
"""How the protocol trains mappers, and the contextual policies and privileged mappers beside them."""


class SharedSettings(Settings):
    """What all families, methods and seeds of a run have in common."""

    lengths: tuple[Annotated[Whole, Field(ge=0, le=PROBE_STEPS)], ...] = LENGTHS
    """Steps of D."""
    episodes: Annotated[Whole, Field(ge=1)] = 10
    """For each task and policy, on reset seeds that all share."""
    splits: tuple[str, ...] = (Split.TEST_IN.value, Split.TEST_OUT.value)
    """Tasks to measure on; a split of which a zoo has no expert is left out for its family."""
    probe: str = "base-policy"
    """How D is collected."""
    mapper: MapperRecipe = MAPPER
    """How mappers are trained: settings by their names that are not as in `MAPPER`."""

    @field_validator("mapper", mode="before")
    @classmethod
    def _read_mapper(cls, value: object) -> object:
        return value if isinstance(value, MapperRecipe) else _complete(value)


SHARED = tuple(SharedSettings.model_fields)
"""Their names."""


def _complete(mapper: object) -> MapperRecipe:
    """Read the settings of mappers; what is left out is as in `MAPPER`.

    Raises:
        MetaMapError: an unknown name, a bad value, or a seed: those of a run are its own.
    """
    if not isinstance(mapper, Mapping):
        raise MetaMapError(f"expected a mapping of settings, got {mapper!r}")
    recipe = parse(MapperRecipe, {**MAPPER.flat(), **MapperRecipe.flattened(mapper)}, "mapper")
    if recipe.training.seed != MAPPER.training.seed:
        raise MetaMapError("mapper: seed: expected none, the seeds of a run are first_seed and seeds")
    return recipe

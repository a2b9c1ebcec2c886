"""The shape of a mapper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import ConfigDict

from metamap_envs.errors import MetaMapError
from metamap_envs.settings import STRICT, Whole, parse
from metamap_rl.encoders import ENCODERS
from metamap_rl.hypernetworks import HYPERNETWORKS

__all__ = ["MapperConfig"]


@dataclass(frozen=True)
class MapperConfig:
    """Shape of a mapper.

    Raises:
        MetaMapError: an unknown encoder or hypernetwork, or a size that is not a whole number in range.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    encoder: str = "pooling"
    """Name of the encoder, D -> z."""
    hypernetwork: str = "modulation"
    """Name of the hypernetwork, z -> change of the weights."""
    context_size: Whole = 32
    """Size of the context z, at least 2 (a normalised z of size 1 says nothing)."""
    encoder_hidden: Whole = 128
    """Width of the encoder's hidden layers."""
    hypernetwork_hidden: Whole = 128
    """Width of the hypernetwork's hidden layers."""
    bottleneck: bool = False
    """Whether the hypernetwork sees of z only the task's coordinates, as read from it: a smooth function of a few
    numbers is learned from fewer experts than one of all of z. Needs a survey, which teaches to read."""

    def __post_init__(self) -> None:
        ENCODERS.get(self.encoder)
        HYPERNETWORKS.get(self.hypernetwork)
        for name, least in (("context_size", 2), ("encoder_hidden", 1), ("hypernetwork_hidden", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise MetaMapError(f"{name}: expected a whole number >= {least}, got {value!r}")

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> MapperConfig:
        """Build it from a mapping of some or all fields.

        Raises:
            MetaMapError: a key that is no field, with the closest one, or a bad value.
        """
        return parse(cls, document, "mapper config")

"""The shape of a mapper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge

from metamap_rl.common.config import Config, Count, Positive, renamed

__all__ = ["MapperConfig"]


@renamed(hidden="hypernetwork_hidden")
@dataclass(frozen=True)
class MapperConfig(Config):
    """Shape of a mapper.

    Raises:
        MetaMapError: an unknown encoder or hypernetwork, or a size that is not a whole number in range.
    """

    called: ClassVar[str] = "mapper config"

    encoder: str = "pooling"
    """Encoder, the network D -> z: attention, gru, linear or pooling."""
    hypernetwork: str = "modulation"
    """Hypernetwork, z -> change of the weights: chunked, context, modulation, residual or skip."""
    context_size: Annotated[int, Ge(2)] = 32
    """Size of the context z, at least 2 (a normalised z of size 1 is constant)."""
    encoder_hidden: Positive = 128
    """Width of the encoder's hidden layers."""
    hypernetwork_hidden: Positive = 128
    """Width of the hypernetwork's hidden layers."""
    bottleneck: bool = False
    """Use only the coordinates estimated from z as input of the hypernetwork: a function of a few numbers needs fewer
    experts than one of all of z. Needs survey tasks."""

    forward_model: Count = 0
    """Unknowns of a forward model, whose inversion by least squares is read beside the encoder; 0 for no model. It is
    fitted to the survey before the mapper is trained. Needs survey tasks."""

    reward: bool = True
    """Use the rewards of D. With false they are ignored in training and at deployment, for robots that cannot observe
    their reward."""

    def __post_init__(self) -> None:
        from metamap_rl.encoders import ENCODERS
        from metamap_rl.hypernetworks import HYPERNETWORKS

        ENCODERS.get(self.encoder)
        HYPERNETWORKS.get(self.hypernetwork)
        super().__post_init__()

"""The networks of a mapper, from its config."""

from __future__ import annotations

from torch import Tensor, nn

from metamap_agents.policy.spec import PolicySpec
from metamap_rl.encoders import ENCODERS, Encoder
from metamap_rl.encoders.parts import bounded_head
from metamap_rl.hypernetworks import HYPERNETWORKS, Hypernetwork
from metamap_rl.mapper.config import MapperConfig

__all__ = ["build_networks"]


def build_networks(
    config: MapperConfig, feature_size: int, spec: PolicySpec, coordinate_count: int
) -> tuple[Encoder, Hypernetwork, nn.Module, nn.Module]:
    """Build a mapper's encoder, hypernetwork, reader (z to standardised coordinates) and embedder (coordinates to z).

    A reader without coordinates and an embedder without a bottleneck have no parameters.
    """
    encoder = ENCODERS.get(config.encoder)(feature_size, config.context_size, config.encoder_hidden)
    hypernetwork = HYPERNETWORKS.get(config.hypernetwork)(config.context_size, spec, config.hypernetwork_hidden)
    # Linear, so that the coordinates are easy to use for the hypernetwork as well.
    reader = nn.Linear(config.context_size, coordinate_count) if coordinate_count else _Nothing()
    embedder = (
        bounded_head(coordinate_count, config.context_size, config.encoder_hidden) if config.bottleneck else _Nothing()
    )
    return encoder, hypernetwork, reader, embedder


class _Nothing(nn.Module):
    """Reader of a mapper without coordinates, [B, Z] to [B, 0], and embedder of one without a bottleneck."""

    def forward(self, z: Tensor) -> Tensor:
        return z[:, :0]

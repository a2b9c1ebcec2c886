"""The networks of a mapper, from its config."""

from __future__ import annotations

from torch import Tensor, nn

from metamap_agents.policy.spec import PolicySpec
from metamap_rl.data.layout import TransitionLayout
from metamap_rl.encoders import ENCODERS, Encoder
from metamap_rl.encoders.parts import bounded_head
from metamap_rl.hypernetworks import HYPERNETWORKS, Hypernetwork
from metamap_rl.mapper.config import MapperConfig
from metamap_rl.mapper.forward_model import ForwardModel, InformedEncoder

__all__ = ["build_networks"]


def build_networks(
    config: MapperConfig, feature_size: int, spec: PolicySpec, coordinate_count: int
) -> tuple[Encoder, Hypernetwork, nn.Module, nn.Module]:
    """Build a mapper's encoder, hypernetwork, reader (z to standardised coordinates) and embedder (coordinates to z).

    A reader without coordinates and an embedder without a bottleneck have no parameters.

    Raises:
        MetaMapError: a forward model of feature rows that are no transitions.
    """
    encoder = ENCODERS.get(config.encoder)(feature_size, config.context_size, config.encoder_hidden)
    hypernetwork = HYPERNETWORKS.get(config.hypernetwork)(config.context_size, spec, config.hypernetwork_hidden)
    # Linear, so that the coordinates are easy to use for the hypernetwork as well.
    reader = nn.Linear(config.context_size, coordinate_count) if coordinate_count else _Nothing()
    embedder = (
        bounded_head(coordinate_count, config.context_size, config.encoder_hidden) if config.bottleneck else _Nothing()
    )
    if config.forward_model:  # last, so that all other initial weights are those of a mapper without one
        encoder = _informed(encoder, config, feature_size, spec)
    return encoder, hypernetwork, reader, embedder


def _informed(encoder: Encoder, config: MapperConfig, feature_size: int, spec: PolicySpec) -> Encoder:
    """An encoder with a forward model beside it."""
    layout = TransitionLayout.of(spec)
    layout.check(feature_size, "forward_model")
    model = ForwardModel(layout, config.forward_model, config.encoder_hidden, reward=config.reward)
    return InformedEncoder(encoder, model, config.context_size, config.encoder_hidden)


class _Nothing(nn.Module):
    """Reader of a mapper without coordinates, [B, Z] to [B, 0], and embedder of one without a bottleneck."""

    def forward(self, z: Tensor) -> Tensor:
        return z[:, :0]

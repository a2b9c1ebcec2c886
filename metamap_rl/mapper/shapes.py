"""Shapes of the arrays of a mapper, from its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from metamap_agents.policy.base import BasePolicy
from metamap_agents.policy.spec import PolicySpec
from metamap_envs.errors import MetaMapError
from metamap_rl.mapper import artifact
from metamap_rl.mapper.config import MapperConfig
from metamap_rl.mapper.networks import build_networks
from metamap_rl.mapper.selfcheck import SelfCheck

__all__ = ["expected_shapes"]


def expected_shapes(config: MapperConfig, manifest: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the expected shape of each array by name, from a manifest, without allocating memory."""
    base = BasePolicy.shapes(manifest["base"])
    features, coordinates = (manifest["feature_size"],), (len(manifest["coordinates"]),)
    spec = PolicySpec.from_json(manifest["base"]["spec"])
    try:
        with torch.device("meta"):
            networks = build_networks(config, manifest["feature_size"], spec, len(manifest["coordinates"]))
    except (RuntimeError, TypeError) as error:  # raised by torch for sizes that are too large
        raise MetaMapError(f"{artifact.MANIFEST_FILE}: describes networks of an impossible size") from error
    parts = nn.ModuleDict(zip(("encoder", "hypernetwork", "reader", "embedder"), networks, strict=True))  # type: ignore[arg-type]  # registered networks are modules
    described = manifest.get("check")
    check = {} if described is None else SelfCheck.shapes(described, spec, config.context_size)
    return {
        **{f"base.{name}": shape for name, shape in base.items()},
        **{f"check.{name}": shape for name, shape in check.items()},
        **{name: tuple(tensor.shape) for name, tensor in parts.state_dict().items()},
        "feature_mean": features,
        "feature_std": features,
        "weight_scale": base["phi"],
        "coordinate_mean": coordinates,
        "coordinate_std": coordinates,
    }

"""Zips of Stable-Baselines3 and sb3-contrib: PPO, A2C, TRPO, SAC, TQC, TD3 and DDPG."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray

from metamap_agents.importers.base import IMPORTERS, ForeignPolicy, ImportOptions, Network
from metamap_agents.sb3.foreign_zip import actor_critic_parts, sequential_parts
from metamap_agents.sb3.rl_zoo import ACTIVATIONS
from metamap_agents.sb3.zip_contents import FLATTEN, ZipContents, read_zip
from metamap_envs.errors import MetaMapError, unknown_name

__all__ = ["StableBaselines3"]

_HARMLESS = (
    *("net_arch", "activation_fn", "log_std_init", "ortho_init", "optimizer_class", "optimizer_kwargs"),
    *("share_features_extractor", "normalize_images", "full_std", "lr_schedule"),
    *("use_sde", "use_expln", "squash_output", "clip_mean", "n_critics", "n_quantiles"),
)
"""Keys of ``policy_kwargs`` that are read here, or that change nothing between an observation and the mean action."""
_OFF: dict[str, tuple[Any, ...]] = {
    "features_extractor_class": (FLATTEN,),
    "features_extractor_kwargs": (None, {}),
}
_SAC_NAME = re.compile(
    r"actor\.((latent_pi\.\d+|mu(\.0)?|log_std)\.(weight|bias)|log_std)|critic(_target)?\.qf\d+\.\d+\.(weight|bias)"
)
_TD3_NAME = re.compile(r"actor(_target)?\.mu\.\d+\.(weight|bias)|critic(_target)?\.qf\d+\.\d+\.(weight|bias)")
_CLIP_MEAN = 2.0  # SB3's default


@dataclass(frozen=True)
class _Kind:
    """One of SB3's policy classes."""

    name: str
    activation: str
    parts: Callable[[ZipContents], dict[str, NDArray[Any]]]
    squashed: bool


def _of_actor_critic(found: ZipContents) -> dict[str, NDArray[Any]]:
    return actor_critic_parts(found.state, found.path)


def _of_sac(found: ZipContents) -> dict[str, NDArray[Any]]:
    _check_names(found, _SAC_NAME)
    head = "actor.mu.0" if "actor.mu.0.weight" in found.state else "actor.mu"
    return sequential_parts(found.state, "actor.latent_pi", head, found.path)


def _of_td3(found: ZipContents) -> dict[str, NDArray[Any]]:
    _check_names(found, _TD3_NAME)
    return sequential_parts(found.state, "actor.mu", None, found.path)


def _check_names(found: ZipContents, known: re.Pattern[str]) -> None:
    for name in found.state:
        if not known.fullmatch(str(name)):
            raise MetaMapError(f"{found.path}: {name}: expected a plain MlpPolicy, which has no such weights")


_KINDS: Mapping[str, _Kind] = {
    "stable_baselines3.common.policies": _Kind("PPO or A2C of Stable-Baselines3", "tanh", _of_actor_critic, False),
    "stable_baselines3.sac.policies": _Kind("SAC of Stable-Baselines3", "relu", _of_sac, True),
    "sb3_contrib.tqc.policies": _Kind("TQC of sb3-contrib", "relu", _of_sac, True),
    "stable_baselines3.td3.policies": _Kind("TD3 or DDPG of Stable-Baselines3", "relu", _of_td3, True),
}
"""By the module of the policy's class, which the zip tells as text."""


@IMPORTERS.register("sb3")
class StableBaselines3:
    """A zip of Stable-Baselines3 or sb3-contrib.

    The policy acts as ``load(path).predict(observation, deterministic=True)`` does, with any ``net_arch``, with gSDE
    or without, or the zip is refused. ``VecNormalize`` is stored in another file, which the options name.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".zip",)

    def __call__(self, path: Path, options: ImportOptions) -> ForeignPolicy:
        """See `metamap_agents.importers.base.Importer`."""
        found = read_zip(path)
        kind = _KINDS.get(found.policy_module or "")
        if kind is None:
            raise MetaMapError(
                f"{path}: expected the MlpPolicy of PPO, A2C, SAC, TD3 or TQC, its policy is a class of "
                f"{found.policy_module or 'nowhere'}"
            )
        size = found.observation_size()
        parts = kind.parts(found)
        found.check_settings(_OFF, _HARMLESS)
        squashed = kind.squashed or found.settings.get("squash_output") is True
        network = Network(parts, _activation(found, kind), _limit(found, kind), squashed, str(path))
        low, high = options.range(network.shape.action_size, found.action_range())
        return ForeignPolicy(
            kind=kind.name,
            path=path,
            observation_size=size,
            low=low,
            high=high,
            outputs=network,
            unit=squashed,
            scaling=options.scaling(),
            network=network,
            details={"gsde": found.settings.get("use_sde") is True},
        )


def _limit(found: ZipContents, kind: _Kind) -> float:
    """With gSDE, SAC and TQC clip the mean action before it is squashed."""
    if kind.parts is not _of_sac or "actor.mu.0.weight" not in found.state:
        return math.inf
    limit = found.settings.get("clip_mean", _CLIP_MEAN)
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 < limit < math.inf:
        raise MetaMapError(f"{found.path}: clip_mean: expected a positive number, got {limit!r}")
    return float(limit)


def _activation(found: ZipContents, kind: _Kind) -> str:
    text = found.settings.get("activation_fn")
    if text is None:
        return kind.activation
    for name, module in ACTIVATIONS.items():
        if text == str(module):
            return name
    raise unknown_name(f"activation in {found.path}:", text, map(str, ACTIVATIONS.values()))

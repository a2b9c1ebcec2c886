"""Adaptation: from a rollout of a new environment to a policy for it, in one forward pass."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from metamap_agents.policy.acting import WeightPolicy
from metamap_agents.policy.base import BasePolicy
from metamap_agents.policy.spec import PolicySpec
from metamap_agents.runtime.storage import check_arrays, load_arrays, save_arrays
from metamap_agents.runtime.torch_state import torch_threads
from metamap_envs.errors import MetaMapError
from metamap_envs.identity import is_family
from metamap_envs.registry import get_family
from metamap_envs.rollout import Rollout
from metamap_envs.seeds import read_seed
from metamap_envs.settings import parse
from metamap_envs.space_notes import space_notes
from metamap_envs.spaces import action_space, observation_space
from metamap_envs.values import read_whole
from metamap_rl.adaptation.bundled import find_mapper
from metamap_rl.adaptation.env_spaces import EnvSpaces
from metamap_rl.adaptation.explaining import explain
from metamap_rl.adaptation.plain import PlainPolicy
from metamap_rl.adaptation.record import Adaptation
from metamap_rl.adaptation.stored_family import know_family
from metamap_rl.adaptation.vectors import alterations_of, as_env
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.probing.collecting import probe_env
from metamap_rl.probing.documents import probe_from_json

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

__all__ = ["Adaptation", "AdaptedPolicy", "Source", "adapt"]

Source = Rollout | gym.Env[Any, Any] | VectorEnv[Any, Any, Any]
"""Where D comes from; also a `VecEnv` of Stable-Baselines3, which is not imported for this."""

_FORMAT = "metamap-policy-1"
_FORMAT_WITH_SPACES = "metamap-policy-2"
"""Format of a policy in the spaces of an environment that differ from its family's."""


class AdaptedPolicy(WeightPolicy):
    """A generated policy with SB3's ``predict``, and export.

    Args:
        base: base policy, with architecture, normaliser, and noise and critic for fine-tuning.
        phi: generated weights, float32 [P], on normalised observations.
        adaptation: record of the adaptation.
        spaces: spaces of the environment, if they differ from the family's; `predict` then uses them.
        rollout: D that it was generated from; None if loaded from a file, which does not contain it.
    """

    def __init__(
        self,
        base: BasePolicy,
        phi: NDArray[np.float32],
        adaptation: Adaptation,
        spaces: EnvSpaces | None = None,
        rollout: Rollout | None = None,
    ) -> None:
        super().__init__(base.policies(phi), *_family_spaces(adaptation.family, base.spec, spaces))
        self.base = base
        self.phi = phi
        self.adaptation = adaptation
        self.spaces = spaces
        self.rollout = rollout

    def __repr__(self) -> str:
        about = self.adaptation
        confidence = None if about.confidence is None else math.floor(100.0 * about.confidence) / 100.0
        return (
            f"AdaptedPolicy({about.family!r}, transitions={about.steps}, confidence={confidence}, "
            f"served={about.served!r})"
        )

    def explain(self) -> str:
        """What D was read as and why this policy is served, in a few lines, each with a label.

        Estimated parameters with the values of training, how usual D was, the returns that the self-check expects, the
        served policy and the reason, the distance from the base policy, notes about the environment.
        """
        return explain(self.adaptation, self.rollout)

    def acting_in(self, env: gym.Env[Any, Any]) -> AdaptedPolicy:
        """This policy with the spaces of an environment, if they differ from the family's.

        For declared families, which scale, flatten and select; see `metamap_envs.FamilySpaces`.

        Raises:
            MetaMapError: the environment does not match the family.
        """
        spaces = EnvSpaces.of(env, self.adaptation.family)
        return AdaptedPolicy(self.base, self.phi, self.adaptation, spaces, self.rollout)

    def predict(
        self,
        observation: NDArray[Any] | dict[str, NDArray[Any]],
        state: tuple[NDArray[Any], ...] | None = None,
        episode_start: NDArray[Any] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[Any], tuple[NDArray[Any], ...] | None]:
        """SB3's ``predict``, in ``spaces`` if set; see `WeightPolicy`."""
        if self.spaces is None:
            return super().predict(observation, state, episode_start, deterministic)
        flat, single = self.spaces.flat(observation)
        actions, state = super().predict(flat, state, episode_start, deterministic)
        taken = self.spaces.taken(actions)
        return (taken[0] if single else taken), state

    def save(self, path: str | Path) -> None:
        """Save the weights and the base policy to one ``.safetensors`` file.

        Raises:
            MetaMapError: the name does not end in .safetensors, or the file cannot be written.
        """
        arrays = {"phi_hat": self.phi, **{f"base.{name}": array for name, array in self.base.to_arrays().items()}}
        about = {"adaptation": vars(self.adaptation), "base": self.base.describe()}
        if self.spaces is not None:
            about["spaces"] = self.spaces.to_json()
        written = _FORMAT if self.spaces is None else _FORMAT_WITH_SPACES
        save_arrays(path, arrays, {"format": written, "about": json.dumps(about, sort_keys=True)})

    @classmethod
    def load(cls, path: str | Path) -> AdaptedPolicy:
        """Load a policy written by `save`.

        Raises:
            MetaMapError: not such a file, or inconsistent content.
        """
        arrays, metadata = load_arrays(path)
        if metadata.get("format") not in (_FORMAT, _FORMAT_WITH_SPACES):
            raise MetaMapError(f"{path}: expected format {_FORMAT!r}, the file has {metadata.get('format')!r}")
        try:
            about = json.loads(metadata["about"])
            description, adaptation = about["base"], parse(Adaptation, about["adaptation"], "adaptation")
            spaces = EnvSpaces.from_json(about["spaces"]) if metadata["format"] == _FORMAT_WITH_SPACES else None
            shapes = {f"base.{name}": shape for name, shape in BasePolicy.shapes(description).items()}
        except MetaMapError as error:
            raise MetaMapError(f"{path}: {error}") from None
        except (KeyError, TypeError, ValueError, AttributeError):
            raise MetaMapError(f"{path}: its description is damaged; adapt again to write a new file") from None
        check_arrays(arrays, {"phi_hat": shapes["base.phi"], **shapes}, str(path))
        if not np.isfinite(arrays["phi_hat"]).all():
            raise MetaMapError(f"{path}: phi_hat holds values that are not finite")
        base = {name.removeprefix("base."): array for name, array in arrays.items() if name.startswith("base.")}
        return cls(BasePolicy.from_arrays(base, description, str(path)), arrays["phi_hat"], adaptation, spaces)

    def save_sb3(self, path: str | Path) -> None:
        """Save a ``.zip`` for SB3's ``PPO.load``, with raw observations as input and the same actions.

        Actions are the same with ``predict(..., deterministic=True)``, which is this policy's default. If the spaces of
        the environment differ from the family's, the model has the former if they are flat and of floats, else the
        latter, and acts in ``metamap_envs.FamilySpaces(env, family)``.

        Raises:
            MetaMapError: the name does not end in .zip, or the file cannot be written.
        """
        self.plain().save_sb3(path)

    def plain(self) -> PlainPolicy:
        """The policy as other programs take it, for `metamap_rl.export`: raw observations in, clipped actions out."""
        title = f"policy for {self.adaptation.family}: {self.adaptation.sentence()}"
        return PlainPolicy.of(self.adaptation.family, self.base, self.phi, self.spaces, title)


def _family_spaces(name: str, spec: PolicySpec, spaces: EnvSpaces | None) -> tuple[Box, Box]:
    """Observations and actions of a family, also of a declared one that is unknown here, whose actions are in [-1, 1].

    Raises:
        MetaMapError: an unknown family, and no spaces of an environment to act in.
    """
    if spaces is not None and not is_family(name):
        seen = Box(-np.inf, np.inf, (spec.observation_size,), np.float64)
        return seen, Box(-1.0, 1.0, (spec.action_size,), np.float32)
    family = get_family(name)
    return observation_space(family), action_space(family)


def adapt(
    mapper: Mapper | str | Path,
    source: Source | VecEnv,
    *,
    steps: int | None = None,
    seed: int = 0,
    check: bool = True,
) -> AdaptedPolicy:
    """Generate a policy for a new environment from a few transitions, without gradient steps.

    Args:
        mapper: a mapper, its folder, or the name of a family with a bundled one.
        source: D, collected by the mapper's probe; or a Gymnasium environment, in which the probe is run: with the
            family's spaces or, of a declared family, those of its environment. Of a vector, Gymnasium's or SB3's, whose
            environments have one task, D is that of the first; the others take the same actions.
        steps: number of transitions: the first ones of a rollout (default all), or to collect in an environment
            (default 50).
        seed: seed of the probe; not used with a rollout.
        check: whether to serve the base policy if the mapper's self-check rejects D, or if a wrapper of the environment
            changes the scale of rewards or observations while D is collected. Other wrappers that alter them are named
            in ``adaptation.notes``.

    Returns:
        The policy, with the spaces of the environment or, from a rollout, of the family; without transitions the base
        policy. ``rollout`` contains D.

    Raises:
        MetaMapError: not a mapper, neither a rollout nor environments, environments of different tasks, a rollout of
            another family or shape, more steps than it has, NaN, or an invalid seed.
    """
    seed = read_seed(seed)
    if isinstance(mapper, str | Path):
        mapper, _ = find_mapper(mapper)
    if steps is not None:
        steps = read_whole("steps", steps)
    if isinstance(source, Rollout):
        return _mapped(mapper, source if steps is None else source.head(steps), check=check)
    env = as_env(source)
    if env is None:
        raise _no_source(source)
    know_family(mapper, env)
    count = 50 if steps is None else steps
    probe = probe_from_json(mapper.probe)
    rollout = probe_env(probe, env, mapper.base, family=mapper.family, steps=count, seed=seed)
    policy = _heed_env(_mapped(mapper, rollout, check=check), env, check=check)
    return policy.acting_in(env)


def _no_source(given: object) -> MetaMapError:
    advice = ""
    if isinstance(given, str | Path):
        advice = (
            f": read_rollout({str(given)!r}, family).rollout reads a recording, gymnasium.make makes an environment"
        )
    return MetaMapError(
        "adapt: expected a Rollout, or a Gymnasium environment or a vector of them, as of gym.make(), got "
        f"{type(given).__name__}{advice}"
    )


def _heed_env(policy: AdaptedPolicy, env: gym.Env[Any, Any], *, check: bool) -> AdaptedPolicy:
    """Note what is unusual about an environment's wrappers and spaces; serve the base policy if a scale drifts.

    Args:
        policy: policy generated from D of that environment.
        env: the environment; not stepped.
        check: whether the base policy may be served.
    """
    found = alterations_of(env, policy.adaptation.family)
    spaces = space_notes(env, get_family(policy.adaptation.family))
    about = replace(policy.adaptation, notes=(*(str(one) for one in found), *spaces))
    drifting = " and ".join(str(one) for one in found if one.drifts)
    if not drifting or not check:
        return AdaptedPolicy(policy.base, policy.phi, about, rollout=policy.rollout)
    confidence = None if about.confidence is None else 0.0
    about = replace(
        about, distance=0.0, confidence=confidence, fallback=f"{drifting}; adapt to the environment without"
    )
    return AdaptedPolicy(policy.base, policy.base.phi.copy(), about, rollout=policy.rollout)


@torch_threads(1)  # for the same policy on any number of cores
def _mapped(mapper: Mapper, rollout: Rollout, *, check: bool) -> AdaptedPolicy:
    """Map D; serve the base policy if the self-check rejects D."""
    started = time.perf_counter()
    reading = mapper.read(rollout)
    phi = mapper.generate(reading)
    milliseconds = 1000.0 * (time.perf_counter() - started)
    verdict = mapper.judge(reading) if check else None
    if verdict is not None and verdict.fallback:
        phi = mapper.base.phi.copy()
    change = (phi - mapper.base.phi) / mapper.weight_scale.numpy()
    distance = float(np.sqrt(np.mean(np.square(change))))
    about = Adaptation(mapper.family, len(rollout), milliseconds, distance, mapper.read_parameters(reading))
    if verdict is not None:
        about = replace(
            about,
            confidence=verdict.confidence,
            fallback=verdict.fallback,
            predicted_return=verdict.predicted_return,
            predicted_base_return=verdict.predicted_base_return,
            novelty=verdict.novelty,
        )
    return AdaptedPolicy(mapper.base, phi, about, rollout=rollout)

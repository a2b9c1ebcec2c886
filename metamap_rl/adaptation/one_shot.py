"""Adaptation: from a rollout of a new environment to a policy for it, in one forward pass."""

from __future__ import annotations

import json
import time
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from metamap_agents.policy.acting import WeightPolicy
from metamap_agents.policy.base import BasePolicy
from metamap_agents.policy.evaluation import evaluate_policies
from metamap_agents.runtime.seeds import EVALUATION_SEED
from metamap_agents.runtime.storage import check_arrays, load_arrays, save_arrays
from metamap_agents.runtime.torch_state import torch_threads
from metamap_envs.errors import MetaMapError
from metamap_envs.family_spaces import FamilySpaces, name_of
from metamap_envs.registry import get_family
from metamap_envs.rollout import Rollout
from metamap_envs.seeds import read_seed
from metamap_envs.settings import STRICT, parse
from metamap_envs.space_notes import space_notes
from metamap_envs.spaces import action_space, observation_space
from metamap_envs.task import Task
from metamap_envs.values import read_whole
from metamap_rl.adaptation.bundled import find_mapper
from metamap_rl.adaptation.env_spaces import EnvSpaces
from metamap_rl.adaptation.plain import PlainPolicy
from metamap_rl.adaptation.wrappers import alterations
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.probing.collecting import probe_env
from metamap_rl.probing.documents import probe_from_json

__all__ = [
    "Adaptation",
    "AdaptedPolicy",
    "adapt",
    "measure_in_env",
    "measure_on_task",
]

_FORMAT = "metamap-policy-1"
_FORMAT_WITH_SPACES = "metamap-policy-2"
"""Format of a policy in the spaces of an environment that differ from its family's."""


@dataclass(frozen=True)
class Adaptation:
    """Record of an adaptation.

    Attributes:
        family: name of the family.
        steps: number of transitions of D; with 0 the policy is the base policy.
        milliseconds: time from transitions to weights.
        distance: root mean square of phi_hat - phi_0 in units of the mapper's weight scale; 0 for the base policy.
        read: estimates of the family's parameters by name, for display: the policy does not depend on them. Empty
            without transitions, or if the mapper was trained without a survey.
        confidence: of the self-check, in [0, 1], that the generated policy beats the base policy; None if D was not
            checked, because ``check`` is false or the mapper has no self-check.
        fallback: reason for serving the base policy; "" if the generated policy is served.
        predicted_return: expected return of the generated policy, whichever is served; None if D was not checked or is
            empty.
        predicted_base_return: expected return of the base policy; None likewise.
        notes: warnings about the given environment, a sentence each: wrappers that alter rewards or observations; types
            and bounds that differ from those that a declared family has in its own environment.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    family: str
    steps: int
    milliseconds: float
    distance: float
    read: dict[str, float] = field(default_factory=dict)
    confidence: float | None = None
    fallback: str = ""
    predicted_return: float | None = None
    predicted_base_return: float | None = None
    notes: tuple[str, ...] = ()

    def sentence(self) -> str:
        """Human-readable summary."""
        return "; ".join([self._served(), *(note for note in self.notes if note not in self.fallback)])

    @property
    def served(self) -> Literal["base", "generated"]:
        """Human-readable name of the served policy."""
        return "base" if self.fallback or not self.steps else "generated"

    def _served(self) -> str:
        if self.served == "base":
            return f"the base policy is served: {self.fallback or 'there are no transitions'}"
        if self.confidence is None or self.predicted_return is None or self.predicted_base_return is None:
            return "the generated policy is served, unchecked"
        confidence = f"{self.confidence:.2f}" if self.confidence < 0.995 else "above 0.99"
        return (
            f"the generated policy is served, confidence {confidence}: "
            f"a return of {self.predicted_return:.1f} is expected, of the base policy {self.predicted_base_return:.1f}"
        )


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
        family = get_family(adaptation.family)
        ours = observation_space(family), action_space(family)
        super().__init__(base.policies(phi), *ours)
        self.base = base
        self.phi = phi
        self.adaptation = adaptation
        self.spaces = spaces
        self.rollout = rollout

    def __repr__(self) -> str:
        return f"AdaptedPolicy({self.adaptation.family!r}, {self.phi.size} weights: {self.adaptation.sentence()})"

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


def adapt(
    mapper: Mapper | str | Path,
    source: Rollout | gym.Env[Any, Any],
    *,
    steps: int | None = None,
    seed: int = 0,
    check: bool = True,
) -> AdaptedPolicy:
    """Generate a policy for a new environment from a few transitions, without gradient steps.

    Args:
        mapper: a mapper, its folder, or the name of a family with a bundled one.
        source: D, collected by the mapper's probe; or a Gymnasium environment, in which the probe is run: with the
            family's spaces or, of a declared family, those of its environment.
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
        MetaMapError: not a mapper, neither a rollout nor one environment, a rollout of another family or shape, more
            steps than it has, NaN, or an invalid seed.
    """
    seed = read_seed(seed)
    if isinstance(mapper, str | Path):
        mapper, _ = find_mapper(mapper)
    given: object = source
    if not isinstance(given, Rollout | gym.Env):
        found = type(given).__name__
        raise MetaMapError(f"adapt: expected a Rollout or one Gymnasium environment, as of gym.make(), got {found}")
    if steps is not None:
        steps = read_whole("steps", steps)
    if isinstance(source, Rollout):
        return _mapped(mapper, source if steps is None else source.head(steps), check=check)
    count = 50 if steps is None else steps
    probe = probe_from_json(mapper.probe)
    rollout = probe_env(probe, source, mapper.base, family=mapper.family, steps=count, seed=seed)
    policy = _heed_env(_mapped(mapper, rollout, check=check), source, check=check)
    return policy.acting_in(source)


def _heed_env(policy: AdaptedPolicy, env: gym.Env[Any, Any], *, check: bool) -> AdaptedPolicy:
    """Note what is unusual about an environment's wrappers and spaces; serve the base policy if a scale drifts.

    Args:
        policy: policy generated from D of that environment.
        env: the environment; not stepped.
        check: whether the base policy may be served.
    """
    found = alterations(env, policy.adaptation.family)
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
        )
    return AdaptedPolicy(mapper.base, phi, about, rollout=rollout)


def measure_on_task(policy: AdaptedPolicy, task: Task, episodes: int = 10) -> dict[str, list[float]]:
    """Measure returns of "base" and "generated" policy, one per episode, on the same reset seeds in the fast simulator.

    Raises:
        MetaMapError: a task of another family, or ``episodes`` below 1.
    """
    get_family(policy.adaptation.family).check_task(task)
    phis = np.stack([policy.base.phi, policy.phi])
    found = evaluate_policies([task, task], policy.base.policies(phis), episodes=episodes)
    return {"base": found.returns[0].tolist(), "generated": found.returns[1].tolist()}


def measure_in_env(policy: AdaptedPolicy, env: gym.Env[Any, Any], episodes: int = 10) -> dict[str, list[float]]:
    """Measure returns of "base" and "generated" policy, one per episode, on the same reset seeds in one environment.

    Episodes are truncated at the family's horizon.

    Raises:
        MetaMapError: ``episodes`` below 1, or an environment whose spaces differ from the family's or that returns
            invalid values such as NaN.
    """
    if episodes < 1:
        raise MetaMapError(f"the number of episodes must be at least 1, got {episodes}")
    family = get_family(policy.adaptation.family)
    view = FamilySpaces(env, family)
    starts: dict[str, list[NDArray[np.float64]]] = {}
    returns: dict[str, list[float]] = {}
    for name, phi in (("base", policy.base.phi), ("generated", policy.phi)):
        one = WeightPolicy(policy.base.policies(phi), view.observation_space, view.action_space)
        seeds = range(EVALUATION_SEED, EVALUATION_SEED + episodes)
        found = [_episode(one, view, seed, family.horizon) for seed in seeds]
        starts[name], returns[name] = [start for start, _ in found], [total for _, total in found]
    if not np.array_equal(starts["base"], starts["generated"]):
        warnings.warn(
            f"environment {name_of(env)!r}: two resets with the same seed start differently, so base and generated "
            "policy were not measured on the same episodes",
            stacklevel=2,
        )
    return returns


def _episode(
    policy: WeightPolicy, env: gym.Env[Any, Any], seed: int, horizon: int
) -> tuple[NDArray[np.float64], float]:
    """Run one episode; returns its first observation and its return."""
    start, _ = env.reset(seed=seed)
    observation, total = start, 0.0
    for _ in range(horizon):
        action, _ = policy.predict(observation)
        observation, reward, terminated, truncated, _ = env.step(action)
        total += float(reward)
        if terminated or truncated:
            break
    return start, total

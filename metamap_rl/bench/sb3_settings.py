"""Settings of Stable-Baselines3's algorithms in the format of rl-zoo's hyperparameter files, with validation.

Numbers may be text; ``lin_3e-4`` decays linearly to zero over the steps on a task; ``policy_kwargs`` is a mapping or
rl-zoo's ``dict(net_arch=[64, 64], activation_fn=nn.ReLU)``, with activations by name; ``normalize`` is true, false or
the arguments of ``VecNormalize``; ``noise_type`` and ``noise_std`` are action noise. Nothing is evaluated.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import NoneType
from typing import Any, get_args, get_origin

import numpy as np
from stable_baselines3.common.noise import ActionNoise, NormalActionNoise, OrnsteinUhlenbeckActionNoise

from metamap_agents.sb3.rl_zoo import read_falling, read_number, read_policy_kwargs, read_python
from metamap_envs.errors import MetaMapError, unknown_name

__all__ = ["SB3Settings"]

_OURS = ("env", "seed", "device", "verbose", "tensorboard_log", "stats_window_size", "_init_setup_model")
_NOT_READ = {
    "n_timesteps": "the learner's `steps` says how long it trains on each task",
    "env_wrapper": "a benchmark's environments are those of its families",
    "vec_env_wrapper": "a benchmark's environments are those of its families",
    "frame_stack": "a benchmark's environments are those of its families",
    "env_kwargs": "a benchmark's environments are those of its families",
    "monitor_kwargs": "a benchmark measures by itself",
    "callback": "code is not read from a file",
    "action_noise": "noise_type and noise_std say it",
    "replay_buffer_class": "code is not read from a file",
    "rollout_buffer_class": "code is not read from a file",
}
"""Unsupported keys of rl-zoo and SB3, with the reason; they may be null."""
_POLICIES = ("MlpPolicy", "LinearPolicy")
_NOISES: dict[str, type[ActionNoise]] = {
    "normal": NormalActionNoise,
    "ornstein-uhlenbeck": OrnsteinUhlenbeckActionNoise,
}
_LEAST: dict[str, float] = {
    **dict.fromkeys(("n_steps", "batch_size", "n_epochs", "buffer_size", "train_freq", "n_delta", "policy_delay"), 1),
    **dict.fromkeys(("learning_starts", "gamma", "gae_lambda", "tau", "learning_rate", "clip_range"), 0),
}
_MOST: dict[str, float] = dict.fromkeys(("gamma", "gae_lambda", "tau"), 1)
_NORMALIZE = {"norm_obs": bool, "norm_reward": bool, "clip_obs": float, "clip_reward": float, "gamma": float}


@dataclass(frozen=True)
class SB3Settings:
    """Parsed settings of a learner."""

    arguments: dict[str, Any]
    """Arguments of the algorithm, except for those below, environment and seed."""
    falling: dict[str, float] = field(default_factory=dict)
    """Arguments that decay linearly to zero over the steps on a task, with their initial values."""
    normalize: dict[str, Any] | None = None
    """Arguments of ``VecNormalize``; None for none."""
    noise: tuple[str, float] | None = None
    """Type and standard deviation of the action noise."""

    @classmethod
    def read(cls, algorithm: type[Any], settings: Mapping[str, Any]) -> SB3Settings:
        """Parse a learner's ``settings:``.

        Args:
            algorithm: class of the algorithm.
            settings: settings by rl-zoo's or SB3's names.

        Raises:
            MetaMapError: an unknown or unsupported name, or a value of the wrong type or range.
        """
        name = algorithm.__name__
        given = dict(settings)
        known = {
            key: parameter.annotation
            for key, parameter in inspect.signature(algorithm.__init__).parameters.items()
            if key not in ("self", *_OURS)
        }
        noise, normalize = _noise(given, known, name), _normalize(given, name)
        arguments: dict[str, Any] = {"policy": "MlpPolicy"}
        falling: dict[str, float] = {}
        for key, value in given.items():
            what = f"{name}: {key}"
            if key in _OURS:
                raise MetaMapError(f"{what}: is set by the benchmark, so it cannot be a setting")
            if key in _NOT_READ:
                if value not in (None, {}) and (key, value) != ("frame_stack", 1):
                    raise MetaMapError(f"{what}: is not supported: {_NOT_READ[key]}")
            elif key not in known:
                readable = (*known, "normalize", "noise_type", "noise_std", "n_envs")
                raise MetaMapError(f"{name}: {unknown_name('setting', key, set(readable) - set(_NOT_READ))}")
            elif key == "policy":
                if value not in _POLICIES:
                    raise MetaMapError(f"{what}: {unknown_name('policy', value, _POLICIES)}")
                arguments[key] = value
            elif key == "policy_kwargs":
                arguments[key] = {} if value is None else read_policy_kwargs(value, what)
            else:
                kinds = set(_kinds(known[key]))
                if Callable in kinds and isinstance(value, str):
                    read = read_falling(value, what)
                    assert read is not None  # of text
                    falls, arguments[key] = read
                    if falls:
                        falling[key] = arguments.pop(key)
                else:
                    arguments[key] = _typed(value, kinds, what)
                _check_range(key, falling.get(key, arguments.get(key)), what)
        if normalize is not None and normalize.get("norm_reward", True) and "gamma" in arguments:
            normalize.setdefault("gamma", arguments["gamma"])  # as rl-zoo does
        return cls(arguments, falling, normalize, noise)

    def action_noise(self, size: int) -> ActionNoise | None:
        """Make the action noise for ``size`` actions."""
        if self.noise is None:
            return None
        kind, std = self.noise
        noise: ActionNoise = _NOISES[kind](np.zeros(size), np.full(size, std))  # type: ignore[call-arg]
        return noise


def _kinds(annotation: Any) -> Iterator[Any]:
    """Types in an annotation, without element types of containers."""
    origin = get_origin(annotation)
    if origin is None:
        yield annotation
    elif origin in (dict, tuple, list, type):
        yield origin
    elif origin is Callable:
        yield Callable
    else:
        for part in get_args(annotation):
            yield from _kinds(part)


def _typed(value: object, kinds: set[Any], what: str) -> Any:
    """Convert a value to one of the types of an argument.

    Raises:
        MetaMapError: a value of another type.
    """
    read = read_python(value, what)
    if isinstance(read, list) and tuple in kinds:
        read = tuple(read)
    numbers = kinds & {int, float}
    if isinstance(read, str) and str not in kinds and numbers:
        read = read_number(read, what)
    if isinstance(read, float) and float not in kinds and int in kinds and read.is_integer():
        read = int(read)
    fits = type(read) in kinds or (type(read) is int and float in kinds) or (read is None and NoneType in kinds)
    if not fits:
        named = sorted(getattr(kind, "__name__", str(kind)) for kind in kinds if kind is not Callable)
        raise MetaMapError(f"{what}: expected {' or '.join(named)}, got {value!r}")
    if type(read) in (int, float):
        read_number(read, what)
    return read


def _check_range(key: str, value: object, what: str) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return
    if not _LEAST.get(key, value) <= value <= _MOST.get(key, value):
        most = f" and at most {_MOST[key]:g}" if key in _MOST else ""
        raise MetaMapError(f"{what}: expected at least {_LEAST.get(key, 0):g}{most}, got {value!r}")


def _normalize(given: dict[str, Any], name: str) -> dict[str, Any] | None:
    """Pop ``normalize`` from the settings: the arguments of ``VecNormalize``, or None.

    Raises:
        MetaMapError: neither true, false nor such arguments.
    """
    value = given.pop("normalize", None)
    what = f"{name}: normalize"
    value = {"true": True, "false": False}.get(value.lower(), value) if isinstance(value, str) else value
    if value is None or isinstance(value, bool):
        return {} if value else None
    read = read_python(value, what)
    if not isinstance(read, Mapping):
        raise MetaMapError(f"{what}: expected true, false or dict(norm_obs=..., norm_reward=...), got {value!r}")
    for key, item in read.items():
        if key not in _NORMALIZE:
            raise MetaMapError(f"{what}: {unknown_name('argument of VecNormalize', key, _NORMALIZE)}")
        if _NORMALIZE[key] is bool and not isinstance(item, bool):
            raise MetaMapError(f"{what}.{key}: expected true or false, got {item!r}")
    return {key: item if _NORMALIZE[key] is bool else read_number(item, f"{what}.{key}") for key, item in read.items()}


def _noise(given: dict[str, Any], known: Mapping[str, Any], name: str) -> tuple[str, float] | None:
    """Pop ``noise_type`` and ``noise_std`` from the settings.

    Raises:
        MetaMapError: an unknown type, a standard deviation below 0, or an algorithm without action noise.
    """
    kind, std = given.pop("noise_type", None), given.pop("noise_std", None)
    if kind is None:
        if std is not None:
            raise MetaMapError(f"{name}: noise_std: goes with a noise_type")
        return None
    if "action_noise" not in known:
        raise MetaMapError(f"{name}: noise_type: this algorithm has no action noise")
    if kind not in _NOISES:
        raise MetaMapError(f"{name}: {unknown_name('noise_type', kind, _NOISES)}")
    number = read_number(0 if std is None else std, f"{name}: noise_std")
    if number < 0:
        raise MetaMapError(f"{name}: noise_std: expected at least 0, got {std!r}")
    return kind, number

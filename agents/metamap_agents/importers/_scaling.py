"""Statistics with which another tool normalises observations, and the files that hold them."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metamap_agents.runtime.pickles import Instance, read_pickle, to_array
from metamap_agents.runtime.storage import load_arrays
from metamap_agents.runtime.torch_files import BROKEN
from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.files import refuse_pipes

__all__ = ["Scaling", "read_scaling", "read_vec_normalize"]

_PACKAGES = frozenset({"collections", "gym", "gymnasium", "numpy", "stable_baselines3"})
_CLASS = "stable_baselines3.common.vec_env.vec_normalize.VecNormalize"
_NAMES = ("mean", "var", "std", "epsilon", "clip")
_EPSILON = 1e-8  # of Gymnasium's NormalizeObservation and of SB3's VecNormalize
_LARGEST = 16 * 1024**2  # bytes of all arrays


@dataclass(frozen=True, eq=False)
class Scaling:
    """``clip((observation - mean) / std, -clip, clip)``.

    Attributes:
        mean: [O].
        std: [O], positive.
        clip: positive; infinity for none.

    Raises:
        MetaMapError: other shapes, a value that is not finite, or a std or clip that is not positive.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    clip: float = math.inf

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            values = np.asarray(getattr(self, name), dtype=np.float64)
            if values.ndim != 1 or not np.isfinite(values).all():
                raise MetaMapError(f"{name}: expected finite numbers of shape (O,), got shape {values.shape}")
            object.__setattr__(self, name, values)
        if self.mean.shape != self.std.shape:
            raise MetaMapError(f"mean has shape {self.mean.shape}, std {self.std.shape}")
        if not (self.std > 0).all() or not self.clip > 0:
            raise MetaMapError("expected a standard deviation and a clip that are positive")

    def apply(self, observations: ArrayLike) -> NDArray[np.float64]:
        """Normalise observations [..., O]."""
        return np.clip((np.asarray(observations, np.float64) - self.mean) / self.std, -self.clip, self.clip)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        clip = self.clip if math.isfinite(self.clip) else None
        return {"mean": self.mean.tolist(), "std": self.std.tolist(), "clip": clip}


def read_scaling(path: Path) -> Scaling | None:
    """Read statistics from a file; None if it says that observations are not normalised.

    Args:
        path: a ``VecNormalize`` that SB3 saved (``.pkl``), or ``.npz`` or ``.safetensors`` with ``mean`` [O], ``var``
            or ``std`` [O] and, optionally, ``epsilon``, which is added to ``var`` (1e-8), and ``clip``.

    Raises:
        MetaMapError: no such file, another format, or values that are no statistics.
    """
    if path.suffix == ".pkl":
        return read_vec_normalize(path)
    if path.suffix == ".safetensors":
        return _from_arrays(load_arrays(path)[0], path)
    if path.suffix == ".npz":
        return _from_arrays(_npz(path), path)
    raise MetaMapError(
        f"{path}: expected the statistics of a normaliser in a file that ends in .pkl (VecNormalize), .npz or "
        ".safetensors"
    )


def read_vec_normalize(path: Path) -> Scaling | None:
    """Read the observation statistics of a ``VecNormalize`` without unpickling; None if it leaves observations alone.

    Raises:
        MetaMapError: no such file, another pickle, or statistics of dictionaries of observations.
    """
    found = read_pickle(path, _PACKAGES)
    if not isinstance(found, Instance) or found.name != _CLASS or not isinstance(found.state, dict):
        name = f" of {found.name}" if isinstance(found, Instance) else ""
        raise MetaMapError(f"{path}: expected a VecNormalize of Stable-Baselines3, got a pickle{name}")
    state = found.state
    if state.get("norm_obs", True) is False:
        return None
    statistics = state.get("obs_rms")
    if not isinstance(statistics, Instance) or not isinstance(statistics.state, dict):
        raise MetaMapError(f"{path}: expected the statistics of one array of observations, it has those of several")
    values = {name: statistics.state.get(name) for name in ("mean", "var")}
    values |= {"epsilon": state.get("epsilon"), "clip": state.get("clip_obs")}
    return _from_arrays({name: to_array(value, f"{path}: {name}") for name, value in values.items()}, path)


def _npz(path: Path) -> dict[str, NDArray[Any]]:
    refuse_pipes(path)
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _LARGEST:
                raise MetaMapError(f"{path} unpacks to more than {_LARGEST} bytes: not the statistics of a normaliser")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: np.asarray(arrays[name]) for name in arrays.files}
    except FileNotFoundError as error:
        raise MetaMapError(f"{path}: no such file") from error
    except MetaMapError:
        raise
    except BROKEN as error:
        raise MetaMapError(f"{path}: expected an .npz file of numbers, it is broken or something else") from error


def _from_arrays(arrays: Mapping[str, NDArray[Any]], path: Path) -> Scaling:
    for name, array in arrays.items():
        if name not in _NAMES:
            raise MetaMapError(f"{path}: {unknown_name('array', name, _NAMES)}")
        if array.dtype.kind not in "fiu":
            raise MetaMapError(f"{path}: {name}: expected numbers, got {array.dtype}")
    if "mean" not in arrays or ("var" in arrays) == ("std" in arrays):
        raise MetaMapError(f"{path}: expected mean and one of var and std, there are {sorted(arrays)}")
    epsilon, clip = _number(arrays, "epsilon", _EPSILON, path), _number(arrays, "clip", math.inf, path)
    with np.errstate(invalid="ignore"):  # a negative variance is refused as NaN
        std = np.sqrt(arrays["var"] + epsilon) if "var" in arrays else arrays["std"]
    try:
        return Scaling(arrays["mean"], std, clip)
    except MetaMapError as error:
        raise MetaMapError(f"{path}: {error}") from None


def _number(arrays: Mapping[str, NDArray[Any]], name: str, default: float, path: Path) -> float:
    value = arrays.get(name, np.array(default))
    if value.size != 1:
        raise MetaMapError(f"{path}: {name}: expected one number, got shape {value.shape}")
    return float(value.reshape(()))

"""Pickles, which are not read: opening one may run any code."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from metamap_envs.errors import MetaMapError
from metamap_rl.data.readers.base import READERS, Reader, Recording

__all__ = ["Pickle"]


@READERS.register("pickle")
class Pickle(Reader):
    """Refuses pickles, such as replay buffers of Stable-Baselines3, and says how to save them instead."""

    suffixes: ClassVar[tuple[str, ...]] = (".pkl", ".pickle", ".pt", ".pth", ".joblib", ".npy")

    def __call__(self, path: Path) -> Recording:
        """Refuse.

        Raises:
            MetaMapError: always.
        """
        if path.suffix == ".npy":
            raise MetaMapError(f"{path}: expected arrays by name: np.savez('d.npz', observations=..., actions=...)")
        raise MetaMapError(
            f"{path}: is a pickle, which may run code when it is opened and is not read; in the program that made it, "
            "save_rollout('d.safetensors', rollout_from_buffer(FAMILY, model.replay_buffer)) writes a buffer of "
            "Stable-Baselines3, and np.savez('d.npz', observations=..., actions=..., rewards=...) arrays"
        )

"""Random generators of a stream: one for each use at each stage, so that no state has to be saved."""

from __future__ import annotations

import zlib

import numpy as np
import torch

from metamap_envs.seeds import read_seed

__all__ = ["derive", "numpy_generator", "torch_generator"]


def derive(seed: int, stage: int, purpose: str) -> int:
    """A seed in [0, 2^31) for one use at one stage."""
    return int(numpy_generator(seed, stage, purpose).integers(2**31))


def numpy_generator(seed: int, stage: int, purpose: str) -> np.random.Generator:
    """A NumPy generator for one use at one stage."""
    return np.random.default_rng([read_seed(seed), stage, zlib.crc32(purpose.encode())])


def torch_generator(seed: int, stage: int, purpose: str) -> torch.Generator:
    """A torch generator for one use at one stage."""
    return torch.Generator().manual_seed(derive(seed, stage, purpose))

"""Global state of a process that training changes and restores: torch's threads, the global random generators."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from metamap_envs.seeds import read_seed

__all__ = ["TRAINING_THREADS", "global_generators_kept", "isolated_training", "torch_threads"]

TRAINING_THREADS = 1
"""Threads of torch in training: with small networks more gain nothing, and slow down tenfold on shared cores."""


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Set the number of torch's threads within a block; processes that share cores use one each."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def global_generators_kept(seed: int | None = None) -> Iterator[None]:
    """Restore the global generators of Python, NumPy and torch after a block; SB3 seeds and draws from them.

    Args:
        seed: seed of torch's generator within the block, for code that draws from it without seeding it.
    """
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  (SB3's choice, not ours)
    with torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.manual_seed(read_seed(seed))
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


@contextmanager
def isolated_training(seed: int | None = None) -> Iterator[None]:
    """Train within a block on `TRAINING_THREADS`, and restore threads and global generators afterwards.

    Args:
        seed: see `global_generators_kept`.
    """
    with torch_threads(TRAINING_THREADS), global_generators_kept(seed):
        yield

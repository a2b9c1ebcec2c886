"""What training changes in a process and puts back: torch's threads, the global random generators."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from metamap_envs.seeds import read_seed

__all__ = ["global_generators_kept", "torch_threads"]


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Set torch's threads for a while; processes that share cores take one each."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def global_generators_kept(seed: int | None = None) -> Iterator[None]:
    """SB3 seeds and draws from the global generators of Python, NumPy and torch: put them back afterwards.

    Args:
        seed: of torch's in the meantime, for what draws from it without seeding it.
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

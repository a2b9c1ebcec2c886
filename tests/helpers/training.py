"""Training in one call, as most tests need it."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from metamap_agents.policy.base import BasePolicy
from metamap_rl.data.examples import ExampleSource
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.training import loop
from metamap_rl.training.loop import TrainingData

__all__ = ["train"]


def train(source: ExampleSource, base: BasePolicy, **settings: Any) -> Mapper:
    """`metamap_rl.training.loop.train`; the fields of `TrainingData` are given beside the other settings."""
    names = {item.name for item in fields(TrainingData)}
    data = {name: value for name, value in settings.items() if name in names}
    rest = {name: value for name, value in settings.items() if name not in names}
    return loop.train(TrainingData(source, base, **data), **rest)


def stopped_and_resumed(data: TrainingData, checkpoint: Path, stop: int, **settings: Any) -> Mapper:
    """Train, with an exception after ``stop`` updates, then go on from the checkpoint; settings of `train`."""

    def halt(done: int, *_: Any) -> None:
        if done == stop:
            raise StopError

    with pytest.raises(StopError):
        loop.train(data, checkpoint=checkpoint, on_update=halt, **settings)
    return loop.train(data, checkpoint=checkpoint, **settings)


class StopError(Exception):
    """Raised in the middle of a training."""

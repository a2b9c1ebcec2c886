"""Training in one call, as most tests need it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

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

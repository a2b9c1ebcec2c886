"""Surveys made of pairs."""

from __future__ import annotations

import torch

from helpers.synthetic import FAMILY, base_policy, pairs
from metamap_envs.registry import get_family
from metamap_rl.data.survey import Survey
from metamap_rl.training.from_experts import task_coordinates


def survey_of_pairs(count: int, seed: int) -> Survey:
    source = pairs(count, seed)
    features = source.examples(base_policy()).features
    space = get_family(FAMILY).space
    return Survey(features, torch.from_numpy(task_coordinates(source.tasks)), space.coordinate_names)

"""Pipeline from a zoo of experts to a mapper, used by the command line and the scripts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from metamap_agents.experts.zoo import Zoo
from metamap_agents.runtime.torch_state import torch_threads
from metamap_envs.errors import MetaMapError, unknown_name
from metamap_rl.data.pairs import Pairs
from metamap_rl.data.survey import Survey
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.probing.actors import ActorMixture
from metamap_rl.probing.documents import probe_from_json, probe_to_json
from metamap_rl.probing.mixture import ActorPool, supported
from metamap_rl.probing.probes import Probe
from metamap_rl.probing.probes.planned import BasePolicyProbe
from metamap_rl.probing.probes.touring import TourProbe
from metamap_rl.probing.tour import tour_of
from metamap_rl.training.calibration import calibrate
from metamap_rl.training.config import CalibrationConfig, MapperRecipe
from metamap_rl.training.from_experts import build_pairs, build_survey, on_policy
from metamap_rl.training.in_service import in_service
from metamap_rl.training.loop import TrainingData, train
from metamap_rl.training.rounds import Serve

__all__ = [
    "probe_for",
    "survey_of",
    "train_mapper",
    "training_pairs",
]

OnUpdate = Callable[[int, int, Mapping[str, float]], None]

PROBE_STEPS = 200
"""Transitions of training rollouts, and longest D for measurements."""

TOUR_STOPS = 4
"""Number of policies of a tour made of a zoo's experts."""

SERVED_TASKS = 160
"""Tasks without experts of a round in service, or as many as the survey has."""

CALIBRATION = CalibrationConfig()
"""Default calibration of the self-check."""

_PAIR_SEEDS = {"train": 11, "validation": 12}  # probes of training and validation tasks use different seeds


def training_pairs(
    zoo: Zoo,
    split: str,
    probe: Probe,
    *,
    steps: int = PROBE_STEPS,
    repeats: int = 8,
    aligned: bool = False,
    actors: ActorMixture | None = None,
) -> Pairs:
    """Build pairs (D, phi*) of all finished experts of "train" or "validation", with other settings of `build_pairs`.

    In D of "validation" the task does not change: mappers are chosen by D that has one right answer. For families with
    few training settings (`ParameterSpace.training_share`), "validation" consists of other rollouts of those.

    Raises:
        MetaMapError: another split, or the zoo has no expert of it.
    """
    if split not in _PAIR_SEEDS:
        raise unknown_name("split to learn from", split, _PAIR_SEEDS)
    experts = zoo.experts("train" if zoo.family.space.training_share is not None else split)
    if not experts:
        raise MetaMapError(f"{zoo.root} has no {split} experts; `metamap experts train` makes them")
    if split == "validation" and actors is not None:
        actors = actors.without_changes()
    seed = _PAIR_SEEDS[split]
    return build_pairs(zoo, experts, probe, steps=steps, repeats=repeats, seed=seed, aligned=aligned, actors=actors)


def survey_of(
    zoo: Zoo, probe: Probe, *, count: int, steps: int = PROBE_STEPS, actors: ActorMixture | None = None
) -> Survey | None:
    """Collect rollouts of ``count`` training-split tasks without experts; None for 0 tasks."""
    return build_survey(zoo, probe, count=count, steps=steps, seed=zoo.seed, actors=actors) if count else None


@contextmanager
def probe_for(zoo: Zoo, document: Mapping[str, Any], stops: int = TOUR_STOPS) -> Iterator[Probe]:
    """Make a probe, as `probe_from_json`; a missing tour is made of the zoo's experts.

    The tour is in a temporary folder, deleted at the end of the block; a saved mapper contains a copy.

    Args:
        zoo: zoo of the mapper to train.
        document: name and settings of the probe.
        stops: number of policies of such a tour.

    Raises:
        MetaMapError: as `probe_from_json`, or the zoo has no training experts for a tour.
    """
    probe = probe_from_json(document)
    if not isinstance(probe, TourProbe) or probe.tour:
        yield probe
        return
    with TemporaryDirectory() as folder:
        tour_of(zoo, stops).save(folder)
        yield replace(probe, tour=folder)


def train_mapper(
    zoo: Zoo,
    *,
    recipe: MapperRecipe | None = None,
    probe: Probe | None = None,
    calibration: CalibrationConfig | None = CALIBRATION,
    checkpoint: Path | None = None,
    on_update: OnUpdate | None = None,
    on_stage: Callable[[str], None] | None = None,
) -> Mapper:
    """Train a mapper on a zoo's training experts, with model selection on the validation experts, and calibrate it.

    Args:
        zoo: zoo with experts of both splits.
        recipe: networks, training and survey.
        probe: probe of the mapper, one of the actors that collect D; default the base policy with noise.
        calibration: settings of the self-check's calibration; None for no self-check.
        checkpoint: checkpoint file, written regularly; if it exists, training resumes from it.
        on_update: called after every update.
        on_stage: called with each stage of the calibration before it begins.

    Raises:
        MetaMapError: the zoo has no training or no validation experts, training diverged, or rounds in service of a
            family whose tasks cannot change in mid-episode.
    """
    recipe, probe = recipe or MapperRecipe(), probe or BasePolicyProbe()
    actors = recipe.collected_by
    if actors is not None and zoo.experts("train"):  # without any, `training_pairs` says so
        actors = supported(actors, ActorPool.of_zoo(zoo))
    with torch_threads(1):  # the networks are small; and for the same mapper on any number of cores
        pairs = training_pairs(zoo, "train", probe, aligned=recipe.aligned, actors=actors)
        data = TrainingData(
            pairs,
            zoo.base,
            zoo.family.name,
            probe_to_json(probe),
            validation=training_pairs(zoo, "validation", probe, aligned=recipe.aligned, actors=actors),
            survey=survey_of(zoo, probe, count=recipe.survey_tasks, actors=actors),
            visit=on_policy(pairs, zoo.base),
            serve=_serving(zoo, pairs, recipe, actors) if recipe.training.service_rounds else None,
            actors=actors,
        )
        mapper = train(
            data, config=recipe.training, mapper_config=recipe.shape, checkpoint=checkpoint, on_update=on_update
        )
        mapper.universal = zoo.universal if zoo.has_universal else None
        pool = None if actors is None else ActorPool.of_zoo(zoo)
        mapper.check = calibrate(mapper, calibration, pool=pool, on_stage=on_stage) if calibration else None
        return mapper


def _serving(zoo: Zoo, pairs: Pairs, recipe: MapperRecipe, actors: ActorMixture | None) -> Serve:
    """Rounds in service, with the mixture's share of rollouts that span a change."""
    return in_service(
        pairs,
        ActorPool.of_zoo(zoo),
        survey_tasks=min(SERVED_TASKS, recipe.survey_tasks),
        change_share=0.0 if actors is None else actors.change_share,
        seed=recipe.training.seed,
    )

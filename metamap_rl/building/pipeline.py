"""STAGES of a build, each of which goes on with what its folder already holds."""

from __future__ import annotations

from pathlib import Path

from metamap_agents.experts.filling import TaskCounts, fill_zoo
from metamap_agents.experts.recipes import Stage
from metamap_agents.experts.zoo import Zoo
from metamap_envs.errors import MetaMapError
from metamap_rl.building.plan import BuildPlan, OnStage
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.training.pipeline import train_mapper

__all__ = ["MAPPER", "ZOO", "fill", "make_mapper", "train_policies"]

MAPPER, ZOO = "mapper", "zoo"
"""Folders of mapper and zoo in the folder of a build."""

_FIRST: dict[Stage, str] = {"base": "base policy", "parent": "universal policy"}
_CHECKPOINT = "checkpoint.safetensors"
_PARTS = ("probing", "fitting the novelty model", "running base and generated policies")
"""STAGES of the calibration."""


def train_policies(folder: Path, plan: BuildPlan, tell: OnStage) -> Zoo:
    """Train base policy and universal policy, where the zoo of a folder lacks them.

    Raises:
        MetaMapError: the folder holds another zoo, or another process is training one of them.
    """
    return fill_zoo(
        folder / ZOO,
        plan.family,
        TaskCounts(0, 0, 0, 0),
        seed=plan.seed,
        overrides=plan.overrides,
        on_first=lambda stage, done, total: tell(_FIRST[stage], done, total),
    )


def fill(folder: Path, plan: BuildPlan, tell: OnStage) -> Zoo:
    """Train base policy, universal policy and experts, where the zoo of a folder lacks them.

    Raises:
        MetaMapError: as `train_policies`, or another process is training some of the experts.
    """
    zoo = train_policies(folder, plan, tell)
    missing = len(zoo.missing(plan.counts.tasks(zoo)))
    tell("experts", 0, missing)
    fill_zoo(
        zoo.root,
        plan.family,
        plan.counts,
        seed=plan.seed,
        workers=plan.workers,
        overrides=plan.overrides,
        on_expert=lambda done, _, expert: tell("experts", done, missing),
    )
    if left := len(zoo.missing(plan.counts.tasks(zoo))):
        raise MetaMapError(
            f"{zoo.root}: another process is training {left} of the experts; start again when it is done"
        )
    return zoo


def make_mapper(folder: Path, zoo: Zoo, plan: BuildPlan, tell: OnStage) -> Mapper:
    """Train and calibrate the mapper of a folder, or load it.

    Raises:
        MetaMapError: another process is training it, training diverged, or the checkpoint is of another run.
    """
    with zoo.claim(MAPPER) as ours:
        if not ours:
            raise MetaMapError(f"another process is training the mapper of {folder}; wait for it to finish")
        if (folder / MAPPER / "mapper.json").is_file():
            return Mapper.load(folder / MAPPER)
        tell("rollouts", 0, 1)
        mapper = train_mapper(
            zoo,
            recipe=plan.recipe,
            calibration=plan.calibration,
            checkpoint=folder / _CHECKPOINT,
            on_update=lambda done, total, _: tell("mapper", done, total),
            on_stage=lambda stage: tell("self-check", _PARTS.index(stage), len(_PARTS)),
        )
        mapper.save(folder / MAPPER, overwrite=True)
        (folder / _CHECKPOINT).unlink(missing_ok=True)
        return mapper

"""A mapper from a family: its zoo of experts is filled first, and the mapper is trained on it."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec

from metamap_agents.experts.filling import RecipeOverrides, TaskCounts, fill_zoo
from metamap_agents.experts.zoo import Zoo
from metamap_envs.errors import MetaMapError
from metamap_envs.family import Family
from metamap_envs.registry import get_family, is_family_file, load_family
from metamap_envs.seeds import read_seed
from metamap_envs.values import shown
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.training import loop
from metamap_rl.training.config import CalibrationConfig, MapperRecipe
from metamap_rl.training.pipeline import CALIBRATION, train_mapper

__all__ = ["train"]

P = ParamSpec("P")

_ZOO_FILE = "zoo.json"


def _also_from_pairs(function: Callable[P, Mapper]) -> Callable[P, Mapper]:
    """Let the training loop be called by this name, which it had before; for one release."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Mapper:
        data: Any = args[0] if args else kwargs.get("data")
        if not isinstance(data, loop.TrainingData):
            return function(*args, **kwargs)
        message = "train(TrainingData) is now metamap_rl.training.loop.train and will go in the next release"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return loop.train(*args, **kwargs)  # type: ignore[arg-type]

    return wrapper


@_also_from_pairs
def train(
    source: Family | Zoo | str | Path,
    zoo: str | Path | None = None,
    *,
    counts: TaskCounts | None = None,
    overrides: RecipeOverrides | None = None,
    recipe: MapperRecipe | None = None,
    calibration: CalibrationConfig | None = CALIBRATION,
    seed: int = 0,
    workers: int = 0,
) -> Mapper:
    """Train a mapper: base policy, universal policy and experts of a family, then the mapper, then its self-check.

    As ``metamap experts train`` and ``metamap mapper train`` do. What a zoo has already is not trained again.

    Args:
        source: a family, its name, or the YAML file that declares it; or a zoo or its folder, which is taken as it is.
        zoo: folder for the family's base policy and experts; not with a zoo as the source.
        counts: experts of each split; default that of `TaskCounts`. Needs a family.
        overrides: settings that replace those of the family's recipes. Needs a family.
        recipe: networks, training and survey of the mapper; default with ``seed``.
        calibration: settings of the self-check's calibration; None for no self-check.
        seed: of the zoo and of the default recipe.
        workers: processes that train experts; 0 takes all cores.

    Returns:
        The mapper; `Mapper.save` writes it to a folder.

    Raises:
        MetaMapError: neither a family nor a zoo, no folder for a family's zoo, settings of a family beside a zoo, or as
            `train_mapper`.
    """
    seed = read_seed(seed)
    found = _zoo_of(source)
    if found is None:
        family = _family_of(source)
        if zoo is None:
            raise MetaMapError(f"train: expected a folder for base policy and experts of {family.name!r}: zoo=FOLDER")
        found = fill_zoo(
            zoo,
            family.name,
            counts or TaskCounts(),
            seed=seed,
            workers=workers,
            overrides=overrides or RecipeOverrides(),
        )
    elif zoo is not None or counts is not None or overrides is not None:
        raise MetaMapError("train: zoo, counts and overrides belong to a family; a zoo is taken as it is")
    return train_mapper(found, recipe=recipe or MapperRecipe().changed(seed=seed), calibration=calibration)


def _zoo_of(source: object) -> Zoo | None:
    if isinstance(source, Zoo):
        return source
    is_path = isinstance(source, str | Path) and str(source) != ""
    return Zoo.open(source) if is_path and (Path(source) / _ZOO_FILE).is_file() else None  # type: ignore[arg-type]


def _family_of(source: object) -> Family:
    if isinstance(source, Family):
        return source
    if not isinstance(source, str | Path) or not str(source):
        raise MetaMapError(f"train: expected a family, its name or YAML file, or a zoo, got {shown(source)}")
    if isinstance(source, Path) and source.is_dir():
        raise MetaMapError(f"train: {source} is no zoo: it has no {_ZOO_FILE}")
    return load_family(source) if is_family_file(str(source)) else get_family(str(source))

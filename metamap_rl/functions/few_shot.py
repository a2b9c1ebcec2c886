"""The general map with the interface of scikit-learn: fitted on many tasks, it turns a few points into an estimator."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from metamap_agents.runtime.storage import read_json, write_json
from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.seeds import read_seed
from metamap_rl.common.folders import whole_folder
from metamap_rl.evaluation.baselines.episodes import FewShotBatch
from metamap_rl.functions.arrays import HIDDEN, ArrayTasks, Units, read_tables
from metamap_rl.functions.base import FUNCTIONS, FunctionFamily
from metamap_rl.functions.benchmarks import training_of
from metamap_rl.functions.estimators import FewShotClassifier, FewShotRegressor
from metamap_rl.functions.examples import FreshTasks, as_examples, common_start
from metamap_rl.functions.one_versus_rest import OneVersusRest
from metamap_rl.mapper.config import MapperConfig
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.training.config import TrainConfig
from metamap_rl.training.loop import OnUpdate, TrainingData, train

__all__ = ["FewShotMap", "Tasks"]

Tasks = str | FunctionFamily | Sequence[tuple[ArrayLike, ArrayLike]]
"""Name of a registered family of functions, a family, or a table (x, y) for each task."""

_FILE, _FORMAT = "few-shot.json", "metamap-few-shot-1"
_OUTCOMES = ("auto", "classification", "regression")
_VALIDATION_TASKS = 300
_SHAPES = {
    True: MapperConfig(
        encoder="linear", hypernetwork="skip", context_size=192, encoder_hidden=192, hypernetwork_hidden=64
    ),
    False: MapperConfig(hypernetwork="residual", context_size=64, encoder_hidden=256, hypernetwork_hidden=256),
}
_LENGTHS = (1, 2, 3, 5, 10, 20, 50)


class FewShotMap:
    """A map from a few points of a task to the weights of a network for it, learned from many tasks.

    Args:
        outcome: "classification", "regression", or "auto": regression if the targets are floating-point numbers.
        hidden: hidden units of the generated network, of each class; default (40, 40), for classes (6,).
        updates: updates of training; default that of a registered family's benchmark, else 3000.
        points: numbers of points in D in training; default up to half of the shortest table.
        learning_rate: peak learning rate; default as for updates.
        shape: networks of the mapper; default by outcome.
        seed: seed of the initial mapper and every batch.
    """

    def __init__(
        self,
        *,
        outcome: str = "auto",
        hidden: Sequence[int] | None = None,
        updates: int | None = None,
        points: Sequence[int] | None = None,
        learning_rate: float | None = None,
        shape: MapperConfig | None = None,
        seed: int = 0,
    ) -> None:
        seed = read_seed(seed)
        self.outcome, self.hidden, self.updates, self.points = outcome, hidden, updates, points
        self.learning_rate, self.shape, self.seed = learning_rate, shape, seed

    @classmethod
    def _names(cls) -> tuple[str, ...]:
        return tuple(inspect.signature(cls).parameters)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the arguments of the constructor, as in scikit-learn; ``deep`` is ignored."""
        return {name: getattr(self, name) for name in self._names()}

    def set_params(self, **params: Any) -> FewShotMap:
        """Set arguments of the constructor, for the next :meth:`fit`.

        Raises:
            MetaMapError: an unknown one; nothing is set.
        """
        for name in params:
            if name not in self._names():
                raise unknown_name("parameter", name, self._names(), of="FewShotMap")
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        """Show the arguments that are not the default."""
        default = inspect.signature(type(self)).parameters
        changed = {name: value for name, value in self.get_params().items() if value != default[name].default}
        return f"FewShotMap({', '.join(f'{name}={value!r}' for name, value in changed.items())})"

    def fit(self, tasks: Tasks, *, on_update: OnUpdate | None = None) -> FewShotMap:
        """Train on tasks: tables (x [n, I], y [n] or [n, A]), or a family of functions, which draws new ones.

        Of tables, the last tenth is kept for choosing among mappers in training.

        Raises:
            MetaMapError: an unknown family, tables that do not fit one another, or a parameter out of range.
        """
        seed = read_seed(self.seed)
        if self.outcome not in _OUTCOMES:
            raise unknown_name("outcome", self.outcome, _OUTCOMES)
        if not isinstance(self.shape, MapperConfig | None):
            raise MetaMapError(f"shape: expected a MapperConfig or None, got {self.shape!r}")
        family, units = self._read(tasks)
        classes = family.ways > 0
        learned = OneVersusRest(family, _whole("hidden", self.hidden) or HIDDEN[True]) if classes else family
        base = common_start(learned, seed)
        config, shape = self._settings(family, classes, seed)
        generator = torch.Generator().manual_seed(seed + 1)
        queries = config.states_per_task
        points = max(config.validation_lengths)
        held_out = learned.draw(generator, tasks=_VALIDATION_TASKS, points=points, queries=queries, split="validation")
        data = TrainingData(
            FreshTasks(learned, config.lengths[-1], seed),
            base,
            learned.name,
            validation=as_examples(learned, held_out, base),
        )
        self.mapper_ = train(data, config=config, mapper_config=shape, on_update=on_update)
        self.family_, self.units_, self.classification_ = learned, units, classes
        return self

    def adapt(self, x: ArrayLike, y: ArrayLike) -> FewShotClassifier | FewShotRegressor:
        """Return an estimator for the task of a few points, in one forward pass.

        Raises:
            MetaMapError: not fitted, or points that do not fit the training tasks.
        """
        self.check_fitted()
        return (FewShotClassifier if self.classification_ else FewShotRegressor)(self).fit(x, y)

    def check_fitted(self) -> None:
        """Raise an error before :meth:`fit`."""
        if not hasattr(self, "mapper_"):
            raise MetaMapError("FewShotMap: not fitted: call fit(tasks), or FewShotMap.load(folder)")

    @torch.no_grad()
    def weights(self, episodes: FewShotBatch) -> torch.Tensor:
        """Return generated weights [B, P] for episodes in the family's units."""
        found: torch.Tensor = self.mapper_(self.family_.features(episodes))
        if not found.isfinite().all():
            raise MetaMapError("the generated weights are not finite: the points are far outside the training tasks")
        return found

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write the fitted map into a folder: a mapper's files and few-shot.json. No code and no pickle.

        The folder is written whole or not at all; one that is overwritten is replaced once the new one is complete.

        Raises:
            MetaMapError: not fitted, or the folder is not empty and ``overwrite`` is not set.
        """
        self.check_fitted()
        params = {**self.get_params(), "shape": None}  # the mapper has it
        units = self.units_.to_json()
        document = {"format": _FORMAT, "params": params, "classification": self.classification_, "units": units}
        with whole_folder(Path(folder), overwrite=overwrite) as unfinished:
            self.mapper_.save(unfinished)
            write_json(unfinished / _FILE, document)

    @classmethod
    def load(cls, folder: str | Path, *, family: FunctionFamily | None = None) -> FewShotMap:
        """Read a map written by :meth:`save`; ``family`` is needed for one that is not registered.

        Raises:
            MetaMapError: not such a folder, or a damaged one.
        """
        path = Path(folder) / _FILE
        if not path.is_file():
            raise MetaMapError(f"{folder}: expected a saved FewShotMap, it has no {_FILE}")
        document = read_json(path)
        if not isinstance(document, dict) or document.get("format") != _FORMAT:
            raise MetaMapError(f"{path}: expected format {_FORMAT}")
        try:
            found = cls(**document["params"])
            found.units_ = Units.from_json(document["units"])
            found.classification_ = document["classification"] is True
        except (KeyError, TypeError, ValueError) as error:
            raise MetaMapError(f"{path}: damaged: {error}") from None
        found.mapper_ = Mapper.load(folder)
        found.shape = found.mapper_.config
        if not _fit_together(found):
            raise MetaMapError(f"{path}: damaged: its units do not fit the mapper beside it")
        found.family_ = _family_of(found, family)
        return found

    def _read(self, tasks: Tasks) -> tuple[FunctionFamily, Units]:
        """The family, and units of inputs and outputs: those of tables are standardised, a family's are its own."""
        if isinstance(tasks, Iterable) and not isinstance(tasks, str):
            return read_tables(list(tasks), self.outcome, _whole("hidden", self.hidden))
        family = FUNCTIONS.get(tasks)() if isinstance(tasks, str) else tasks
        if not hasattr(family, "spec"):
            raise MetaMapError(f"tasks: expected tables (x, y), or a family of functions or its name, got {tasks!r}")
        kind = "classification" if family.ways else "regression"
        if self.outcome not in ("auto", kind):
            raise MetaMapError(
                f"outcome: expected {kind!r} or 'auto' for the family {family.name!r}, got {self.outcome!r}"
            )
        if self.hidden is not None and not family.ways:
            raise MetaMapError(f"hidden: expected None, the family {family.name!r} has a network of its own")
        return family, Units.identity(family.spec.observation_size, family.spec.action_size)

    def _settings(self, family: FunctionFamily, classes: bool, seed: int) -> tuple[TrainConfig, MapperConfig]:
        """Settings of training and mapper: of the family's benchmark, if it has one, but for what was given."""
        known = training_of(family.name)
        config = known or TrainConfig(
            loss="behaviour", updates=3000, batch_tasks=64, states_per_task=max(20, 4 * family.ways), weight_decay=0.0
        )
        points = _whole("points", self.points) or (known.lengths if known else _usual_points(family))
        config = replace(config, seed=seed, lengths=points)
        if isinstance(family, ArrayTasks) and max(points) >= family.shortest:
            raise MetaMapError(
                f"points: expected numbers below {family.shortest}, the rows of the shortest table, got {max(points)}"
            )
        if known is None:
            config = replace(config, validation_lengths=points)
        updates = config.updates if self.updates is None else self.updates
        rate = config.learning_rate if self.learning_rate is None else self.learning_rate
        return replace(config, updates=updates, learning_rate=rate), self.shape or _SHAPES[classes]


def _whole(name: str, values: Sequence[int] | None) -> tuple[int, ...] | None:
    """A sequence that was given; its numbers are checked where they are used."""
    if not isinstance(values, Iterable | None):
        raise MetaMapError(f"{name}: expected whole numbers, such as (10, 20), got {values!r}")
    return None if values is None else tuple(values)


def _fit_together(found: FewShotMap) -> bool:
    """Whether the units of a loaded map are those of its mapper, whose networks of classes read two scores beside x."""
    spec, units, scores = found.mapper_.base.spec, found.units_, 2 if found.classification_ else 0
    if spec.observation_size != units.inputs.observation_size + scores:
        return False
    return found.classification_ or bool(
        units.mean.shape == units.std.shape == (spec.action_size,)
        and np.isfinite(units.mean).all()
        and np.isfinite(units.std).all()
    )


def _usual_points(family: FunctionFamily) -> tuple[int, ...]:
    """Numbers of points: multiples of the classes, and at most half of the shortest table."""
    if not isinstance(family, ArrayTasks):
        return tuple(max(1, family.ways) * count for count in (1, 2, 5, 10))
    most = family.shortest // 2
    return tuple(count for count in _LENGTHS if count <= most) or (1,)


def _family_of(found: FewShotMap, family: FunctionFamily | None) -> FunctionFamily:
    """What reads D for a loaded map."""
    name, spec = found.mapper_.family, found.mapper_.base.spec
    if family is None and name not in (*FUNCTIONS.names(), ArrayTasks.name):
        raise MetaMapError(f"the map is of {name!r}, which is not a registered family of functions: give family=")
    if family is None:
        own = ArrayTasks.empty(found.units_.inputs.observation_size, spec.action_size)
        family = own if name == own.name else FUNCTIONS.get(name)()
    return OneVersusRest(family, spec.hidden) if found.classification_ else family

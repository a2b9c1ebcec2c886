"""External learners: settings, and loading of user code.

A user's learner is a folder with ``learner.yaml`` and Python modules::

    format: metamap-learner-1
    name: mine                      # letters, digits, - and _
    entry: my_module:MyLearner      # a class with the three methods of `StreamLearner`
    steps: 20000                    # environment steps on each task
    settings: {size: 64}            # arguments of the class, besides seed
"""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.seeds import read_seed
from metamap_envs.settings import Settings, Whole, parse, read_document
from metamap_rl.bench.contract import METHODS, N_STEPS, StreamLearner, check_rollout

__all__ = ["ExternalSettings", "LearnerFolder", "is_external", "make_external", "read_folder"]

_PREFIX = "metamap_bench_"
"""Prefix of the names of learners' main modules."""

_FOLDER = "__metamap_folder__"
"""Attribute of a learner's main module with its folder."""


_CARRY = ("all", "weights", "nothing", "per-task")


def _none_for_all(value: object) -> object:
    if value is not None and value not in _CARRY:
        raise unknown_name("choice", value, _CARRY)
    return None if value == "all" else value  # as results have it that are older than this setting


class ExternalSettings(Settings):
    """Settings of an external learner: ``sb3`` or ``entry``."""

    sb3: str | None = None
    """Name of an algorithm of Stable-Baselines3 (ppo, a2c, sac, td3, ddpg, dqn) or sb3-contrib (tqc, trpo, crossq, ars,
    qrdqn)."""
    entry: str | None = None
    """``module:Class``, or ``file.py:Class``, which is copied into the benchmark."""
    folder: str | None = None
    """Folder of the module or file; without it, the module is imported from the Python path."""
    steps: Annotated[Whole, Field(ge=1)] = 20_000
    """Environment steps on each task."""
    points: Annotated[Whole, Field(ge=1)] = 5
    """Points of each learning curve after the first."""
    alone: bool = True
    """Whether to also train a new learner on each task, as the baseline of FT_auc and ABC. Doubles the time."""
    carry: Annotated[Literal["weights", "nothing", "per-task"] | None, BeforeValidator(_none_for_all)] = None
    """What a learner takes from one task to the next. None, or all: everything that it keeps, a replay buffer included.
    weights: the same with the replay buffer emptied (``sb3:`` only). nothing: a new learner at each arrival. per-task:
    a learner for each task, which is told at each measurement: nothing is forgotten, and nothing shared.
    """
    settings: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the class, or of the algorithm and ``n_envs``, the number of parallel environments."""

    def model_post_init(self, context: Any) -> None:
        """Check constraints between keys."""
        if (self.sb3 is None) == (self.entry is None):
            raise MetaMapError("expected either sb3 or entry")
        if self.points > self.steps:
            raise MetaMapError(f"points: expected at most steps = {self.steps}, got {self.points}")
        check_finite(self.settings, "settings")
        if self.sb3 is None and self.carry == "weights":
            raise MetaMapError("carry: weights is for learners of sb3; a user's learner keeps what it likes")
        if self.sb3 in N_STEPS:
            n_steps, n_envs = self.settings.get("n_steps", N_STEPS[self.sb3]), self.settings.get("n_envs", 1)
            if all(type(one) in (int, float) and one == int(one) for one in (n_steps, n_envs)):
                check_rollout(self.sb3, "n_steps", int(n_steps), "n_envs", int(n_envs), self.steps)


class LearnerFolder(Settings):
    """Content of ``learner.yaml``."""

    format: Literal["metamap-learner-1"] = "metamap-learner-1"
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    entry: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]
    steps: Annotated[Whole, Field(ge=1)] = 20_000
    points: Annotated[Whole, Field(ge=1)] = 5
    alone: bool = True
    settings: dict[str, Any] = Field(default_factory=dict)

    def model_post_init(self, context: Any) -> None:
        """Check that settings are finite, for JSON."""
        check_finite(self.settings, "settings")


@dataclass(frozen=True)
class _Entry:
    module: str
    name: str


def is_external(settings: Mapping[str, Any]) -> bool:
    """Whether settings are those of an external learner."""
    return "sb3" in settings or "entry" in settings


def check_finite(value: object, place: str) -> None:
    """Raise an error for infinity and NaN in free settings, which JSON cannot represent.

    Raises:
        MetaMapError: a number is not finite.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise MetaMapError(f"{place}: expected a finite number, got {value}")
    if isinstance(value, Mapping):
        for key, item in value.items():
            check_finite(item, f"{place}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            check_finite(item, f"{place}[{index}]")


def read_folder(folder: Path) -> LearnerFolder:
    """Read ``learner.yaml`` of a user's learner.

    Raises:
        MetaMapError: no such file, or an invalid key or value.
    """
    path = folder / "learner.yaml"
    if not path.is_file():
        raise MetaMapError(f"{folder}: not a learner folder: it has no learner.yaml")
    return parse(LearnerFolder, read_document(path), str(path))


def make_external(settings: ExternalSettings, seed: int) -> StreamLearner:
    """Make an external learner.

    Raises:
        MetaMapError: no such algorithm, module or class, a class without the three methods, or invalid settings.
    """
    seed = read_seed(seed)
    if settings.sb3 is not None:
        from metamap_rl.bench.sb3 import SB3Learner

        cleared = settings.carry == "weights"
        return SB3Learner(settings.sb3, seed=seed, budget=settings.steps, buffer_cleared=cleared, **settings.settings)
    assert settings.entry is not None  # checked by ExternalSettings
    module, _, name = settings.entry.partition(":")
    kind = _load(_Entry(module, name), None if settings.folder is None else Path(settings.folder))
    missing = [method for method in METHODS if not callable(getattr(kind, method, None))]
    if missing:
        raise MetaMapError(f"{settings.entry}: expected a class with {', '.join(METHODS)}; it has no {missing[0]}")
    try:
        learner: StreamLearner = kind(seed=seed, **settings.settings)
    except TypeError as error:
        raise MetaMapError(f"{settings.entry}: cannot be made with these settings ({error})") from error
    return learner


def _load(entry: _Entry, folder: Path | None) -> Any:
    """Load the class, from a file of the folder or from the Python path.

    Raises:
        MetaMapError: not found, or an error on import.
    """
    try:
        if folder is None:
            module = importlib.import_module(entry.module)
        else:
            folder = folder.resolve()
            path = folder.joinpath(*entry.module.removesuffix(".py").split(".")).with_suffix(".py")
            # A unique name: two learners may both have a `learner.py`.
            name = f"{_PREFIX}{abs(hash(str(path)))}"
            spec = importlib.util.spec_from_file_location(name, path)
            if not path.is_file() or spec is None or spec.loader is None:
                raise MetaMapError(f"{path}: no such file")
            module = importlib.util.module_from_spec(spec)
            _forget_helpers()
            setattr(module, _FOLDER, folder)
            sys.modules[name] = module
            sys.path.insert(0, str(folder))  # for imports of modules in its folder
            try:
                spec.loader.exec_module(module)
            finally:
                sys.path.remove(str(folder))
    except (ImportError, SyntaxError) as error:
        raise MetaMapError(f"{entry.module}: cannot be imported ({error})") from error
    if not hasattr(module, entry.name):
        raise MetaMapError(f"{entry.module}: it has no {entry.name}")
    return getattr(module, entry.name)


def _forget_helpers() -> None:
    """Remove modules in the folders of previously loaded learners from ``sys.modules``.

    Two learners may both have a `utils.py`. Modules are kept until the next learner is loaded, for pickling and for
    imports in methods.
    """
    mains = {name for name in sys.modules if name.startswith(_PREFIX)}
    folders = [vars(sys.modules[name])[_FOLDER] for name in mains]
    for name, module in list(sys.modules.items()):
        if name not in mains and any(place.is_relative_to(folder) for place in _places(module) for folder in folders):
            del sys.modules[name]


def _places(module: object) -> list[Path]:
    """The file of a module, or the folders of a namespace package."""
    names = getattr(module, "__dict__", {})  # without triggering lazy attributes
    file = names.get("__file__")
    return [Path(place) for place in ([file] if file else names.get("__path__") or ()) if isinstance(place, str)]

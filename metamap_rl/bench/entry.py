"""Learners that are not ours: what a benchmark asks of one, and how it gets hold of it.

A user's own learner is a folder with ``learner.yaml`` and Python beside it::

    format: metamap-learner-1
    name: mine                      # letters, digits, - and _
    entry: my_module:MyLearner      # a class with the three methods of `StreamLearner`
    steps: 20000                    # environment steps that it may take on each task
    settings: {size: 64}            # arguments of the class, beside seed
"""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from metamap_envs.errors import MetaMapError
from metamap_envs.seeds import read_seed
from metamap_envs.settings import Settings, Whole, parse, read_document
from metamap_rl.bench.contract import METHODS, N_STEPS, StreamLearner, check_rollout

__all__ = ["ExternalSettings", "LearnerFolder", "is_external", "make_external", "read_folder"]

_PREFIX = "metamap_bench_"
"""How the names of learners' main modules begin."""

_FOLDER = "__metamap_folder__"
"""Where a learner's main module says in which folder it lies."""


class ExternalSettings(Settings):
    """A learner that is not the mapper's: ``sb3`` or ``entry``."""

    sb3: str | None = None
    """Name of an algorithm of Stable-Baselines3 (ppo, a2c, sac, td3, ddpg) or sb3-contrib (tqc, trpo, crossq, ars)."""
    entry: str | None = None
    """``module:Class``."""
    folder: str | None = None
    """Where the module is; without it, it is imported."""
    steps: Annotated[Whole, Field(ge=1)] = 20_000
    """Environment steps on each task."""
    points: Annotated[Whole, Field(ge=1)] = 5
    """Points of each learning curve after the first."""
    alone: bool = True
    """Whether a new learner is trained on each task besides, as the baseline of FT_auc and ABC. Doubles the time."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the class, or of the algorithm, with ``n_envs`` for how many environments run at once."""

    def model_post_init(self, context: Any) -> None:
        """Check what concerns several keys."""
        if (self.sb3 is None) == (self.entry is None):
            raise MetaMapError("expected either sb3 or entry")
        if self.points > self.steps:
            raise MetaMapError(f"points: expected at most steps = {self.steps}, got {self.points}")
        check_finite(self.settings, "settings")
        if self.sb3 in N_STEPS:
            n_steps, n_envs = self.settings.get("n_steps", N_STEPS[self.sb3]), self.settings.get("n_envs", 1)
            if all(type(one) in (int, float) and one == int(one) for one in (n_steps, n_envs)):
                check_rollout(self.sb3, "n_steps", int(n_steps), "n_envs", int(n_envs), self.steps)


class LearnerFolder(Settings):
    """What ``learner.yaml`` says."""

    format: Literal["metamap-learner-1"] = "metamap-learner-1"
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    entry: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]
    steps: Annotated[Whole, Field(ge=1)] = 20_000
    points: Annotated[Whole, Field(ge=1)] = 5
    alone: bool = True
    settings: dict[str, Any] = Field(default_factory=dict)

    def model_post_init(self, context: Any) -> None:
        """Check the settings, which documents must be able to hold."""
        check_finite(self.settings, "settings")


@dataclass(frozen=True)
class _Entry:
    module: str
    name: str


def is_external(settings: Mapping[str, Any]) -> bool:
    """Whether a learner's settings are those of one that is not the mapper's."""
    return "sb3" in settings or "entry" in settings


def check_finite(value: object, place: str) -> None:
    """Refuse infinity and NaN in free settings: a cell's document cannot hold them.

    Raises:
        MetaMapError: there is one.
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
        MetaMapError: there is none, or it says something that is not admitted.
    """
    path = folder / "learner.yaml"
    if not path.is_file():
        raise MetaMapError(f"{folder}: not the folder of a learner: there is no learner.yaml in it")
    return parse(LearnerFolder, read_document(path), str(path))


def make_external(settings: ExternalSettings, seed: int) -> StreamLearner:
    """Make a learner that is not the mapper's.

    Raises:
        MetaMapError: no such algorithm, module or class, a class without the three methods, or settings refused.
    """
    seed = read_seed(seed)
    if settings.sb3 is not None:
        from metamap_rl.bench.sb3 import SB3Learner

        return SB3Learner(settings.sb3, seed=seed, budget=settings.steps, **settings.settings)
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
    """The class, from a file of the folder or from wherever Python finds the module.

    Raises:
        MetaMapError: it is not there, or fails to import.
    """
    try:
        if folder is None:
            module = importlib.import_module(entry.module)
        else:
            folder = folder.resolve()
            path = folder.joinpath(*entry.module.split(".")).with_suffix(".py")
            # A name of its own: two learners may both have a `learner.py`.
            name = f"{_PREFIX}{abs(hash(str(path)))}"
            spec = importlib.util.spec_from_file_location(name, path)
            if not path.is_file() or spec is None or spec.loader is None:
                raise MetaMapError(f"{path}: no such file")
            module = importlib.util.module_from_spec(spec)
            _forget_helpers()
            setattr(module, _FOLDER, folder)
            sys.modules[name] = module
            sys.path.insert(0, str(folder))  # for what it imports from beside it
            try:
                spec.loader.exec_module(module)
            finally:
                sys.path.remove(str(folder))
    except (ImportError, SyntaxError) as error:
        raise MetaMapError(f"{entry.module}: cannot be imported ({error})") from error
    if not hasattr(module, entry.name):
        raise MetaMapError(f"{entry.module}: there is no {entry.name} in it")
    return getattr(module, entry.name)


def _forget_helpers() -> None:
    """Take what learners loaded earlier have imported from beside them out of ``sys.modules``.

    Two learners may both have a `utils.py`. Modules stay there until the next learner is loaded, since pickling, and an
    import within a method, look them up by name; a learner that has imported them keeps them anyway.
    """
    mains = {name for name in sys.modules if name.startswith(_PREFIX)}
    folders = [vars(sys.modules[name])[_FOLDER] for name in mains]
    for name, module in list(sys.modules.items()):
        if name not in mains and any(place.is_relative_to(folder) for place in _places(module) for folder in folders):
            del sys.modules[name]


def _places(module: object) -> list[Path]:
    """The file of a module, or the folders of a package without one."""
    names = getattr(module, "__dict__", {})  # nothing that a lazy module would have to make first
    file = names.get("__file__")
    return [Path(place) for place in ([file] if file else names.get("__path__") or ()) if isinstance(place, str)]

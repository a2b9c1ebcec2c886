"""Changes of the task in a running environment of a declared family: what can be set there is set, the rest refused."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, Protocol

import gymnasium as gym
import numpy as np

from metamap_envs.errors import MetaMapError
from metamap_envs.from_gymnasium.snapshot import as_lists, numbers_of, quiet
from metamap_envs.from_gymnasium.targets import Argument, Attribute, ModelField, Target
from metamap_envs.parameters import ParameterSpace
from metamap_envs.task import Task
from metamap_envs.user_env import close_user_env

__all__ = ["LiveChanges"]

_MOST_MODELS = 8
_STEPS = 20
_PARTS = ("", "opt", "stat")
"""Of a model: its own arrays, its options, its statistics."""


class Declared(Protocol):
    """What `LiveChanges` needs of a `GymnasiumFamily`, where each of these is described."""

    @property
    def name(self) -> str: ...

    @property
    def space(self) -> ParameterSpace: ...

    @property
    def targets(self) -> Mapping[str, Target]: ...

    def task(self, parameters: Mapping[str, object] | None = None) -> Task: ...

    def make(self, task: Task) -> gym.Env[Any, Any]: ...

    def model(self, task: Task) -> Any: ...


class LiveChanges:
    """Writes another task into running environments of one family.

    Fields of the MuJoCo model get the numbers that differ between the models of the two tasks, each made as
    `GymnasiumFamily.make` does, so that what the compiler derives from them goes along. Attributes are set. What an
    environment derives from them in its own ``reset`` follows with the next one. Refused are:

    * arguments of the constructor;
    * fields and attributes from which the constructor derives other numbers (CartPole's ``polemass_length``), as a
      comparison of environments made with different values shows;
    * those that a running environment does not read, as a trial shows.

    Args:
        family: whose environments are changed.
    """

    def __init__(self, family: Declared) -> None:
        self._family = family
        self._obstacles: dict[str, str] = {}
        self._models: dict[Task, Any] = {}

    def check(self, before: Task, after: Task) -> None:
        """Refuse a change that a running environment cannot take.

        Raises:
            MetaMapError: the sentence names the parameter and the reason.
        """
        for name in _changed(before, after):
            self.check_parameter(name)
        self._difference(before, after)

    def check_parameter(self, name: str) -> None:
        """Refuse a parameter that a running environment cannot take, after a trial of it the first time.

        Raises:
            MetaMapError: the sentence names the parameter and the reason.
        """
        if name not in self._obstacles:
            with quiet():
                self._obstacles[name] = self._obstacle(name)
        if self._obstacles[name]:
            raise MetaMapError(
                f"family {self._family.name!r}: the parameter {name!r} cannot change in mid-episode: "
                f"{self._obstacles[name]}; give the task to reset()"
            )

    def apply(self, env: gym.Env[Any, Any], before: Task, after: Task) -> None:
        """Write a change that was checked into an environment; its state stays as it is."""
        base: Any = env.unwrapped
        for part, name, where, values in self._difference(before, after):
            owner = getattr(base.model, part) if part else base.model
            if where is None:
                setattr(owner, name, values)
            else:
                getattr(owner, name)[where] = values
        for name in _changed(before, after):
            target = self._family.targets[name]
            if isinstance(target, Attribute):
                setattr(base, target.name, target.result(after[name]))

    # obstacles ------------------------------------------------------------------------------------------------------

    def _obstacle(self, name: str) -> str:
        """Why a parameter cannot change in mid-episode, as a clause; empty if it can."""
        target = self._family.targets[name]
        if isinstance(target, Argument):
            return f"it is the argument {target.name!r} of the constructor, which has made the environment with it"
        parameter = next(each for each in self._family.space.parameters if each.name == name)
        default = self._family.task()
        ends = (
            {min(parameter.choices), max(parameter.choices)} if parameter.choices else {parameter.low, parameter.high}
        )
        for value in sorted(ends - {parameter.default}):
            task = self._family.task({name: value})
            if found := self._kept(default, task, target) or self._unread(default, task):
                return found
        return ""

    def _kept(self, default: Task, task: Task, target: ModelField | Attribute) -> str:
        """What the constructor keeps of a value beside the target itself, as a clause."""
        made = [self._numbers(each) for each in (default, default, task)]
        own, again, other = ({key: each[key] for key in each if not _is_target(key, target)} for each in made)
        if own.keys() != again.keys() or own.keys() != other.keys():
            return "the constructor makes an environment with other attributes"
        derived = sorted(key for key in own if own[key] == again[key] and own[key] != other[key])
        return f"the constructor derives {derived[0].rpartition('.')[2]!r} from it" if derived else ""

    def _unread(self, default: Task, task: Task) -> str:
        """Whether environments differ from a reset on but not from a change on, as a clause."""
        trials = kept, made, changed = [_Trial(self._family.make(each)) for each in (default, task, default)]
        for trial in trials * _STEPS:
            trial.step()
        found = ""
        if kept.seen == changed.seen != made.seen:  # it has an effect, and nothing is left to chance
            self.apply(changed.env, default, task)
            for trial in [kept, changed] * _STEPS:
                trial.step()
            found = "a running environment does not read it" if kept.seen == changed.seen else ""
        for trial in trials:
            close_user_env(trial.env, self._family.name)
        return found

    def _numbers(self, task: Task) -> dict[str, Any]:
        env = self._family.make(task)
        numbers = numbers_of(env)
        close_user_env(env, self._family.name)
        return numbers

    # models -----------------------------------------------------------------------------------------------------------

    def _model(self, task: Task) -> Any:
        """The model of a task as it is made; never stepped or written to."""
        if task not in self._models:
            while len(self._models) >= _MOST_MODELS:
                del self._models[next(iter(self._models))]
            self._models[task] = self._family.model(task)
        return self._models[task]

    @cached_property
    def _fields(self) -> frozenset[str]:
        return frozenset(name for name, target in self._family.targets.items() if isinstance(target, ModelField))

    def _difference(self, before: Task, after: Task) -> list[tuple[str, str, Any, Any]]:
        """Numbers of the model that differ between two tasks: (part, name, where or None, values).

        Raises:
            MetaMapError: the models differ in something else.
        """
        if not self._fields & set(_changed(before, after)):
            return []
        old, new = self._model(before), self._model(after)
        found = list(_differences(old, new))
        trial = copy.copy(old)
        for part, name, where, values in found:
            owner = getattr(trial, part) if part else trial
            if where is None:
                setattr(owner, name, values)
            else:
                getattr(owner, name)[where] = values
        if _bytes(trial) != _bytes(new):
            raise MetaMapError(
                f"family {self._family.name!r}: task {after.describe()} cannot be set in mid-episode: its model is "
                "compiled anew and differs in more than numbers; give the task to reset()"
            )
        return found


class _Trial:
    """An environment under random actions, the same in each trial, and what it has given so far."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        self.env = env
        env.action_space.seed(0)
        self.seen: list[str] = []
        self._over = False
        self._note(lambda: self.env.reset(seed=0)[0])

    def step(self) -> None:
        if not self._over:
            self._note(lambda: self.env.step(self.env.action_space.sample()))

    def _note(self, call: Callable[[], Any]) -> None:
        try:
            result = call()
        except Exception as error:  # noqa: BLE001  # of the environment's own code, which tells of it where it is used
            result, self._over = repr(error), True
        if isinstance(result, tuple):
            result = [as_lists(result[0]), *map(float, result[1:4])]
            self._over = any(result[2:])
        self.seen.append(repr(result))


def _changed(before: Task, after: Task) -> list[str]:
    """Names of the parameters that differ."""
    return [name for (name, old), (_, new) in zip(before.parameters, after.parameters, strict=True) if old != new]


def _is_target(place: str, target: ModelField | Attribute) -> bool:
    """Whether a number of an environment is what a change writes."""
    parts = place.split(".")
    return "model" in parts[:-1] if isinstance(target, ModelField) else parts[-1] == target.name


def _differences(old: Any, new: Any) -> Iterator[tuple[str, str, Any, Any]]:
    for part in _PARTS:
        before, now = (getattr(model, part) if part else model for model in (old, new))
        for name in dir(before):
            if name.startswith(("_", "tex_")):
                continue
            one, other = getattr(before, name), getattr(now, name)
            if isinstance(one, np.ndarray) and one.shape == other.shape:
                where = one != other
                if where.any():
                    yield part, name, where, other[where].copy()
            elif part and isinstance(one, int | float) and one != other:
                yield part, name, None, other


def _bytes(model: Any) -> bytes:
    import mujoco

    content = np.empty(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, content)
    return content.tobytes()

"""Snapshots of users' environments, from which a copy continues in this process or in another.

Environments copy themselves in many ways, and most lose what a task has written into them: Gymnasium's EzPickle makes
a new one from the constructor's arguments. So a copy is made for the task first, then given the original's attributes.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from typing import Any

import cloudpickle
import gymnasium as gym
from gymnasium.utils import EzPickle

__all__ = ["Snapshot", "restore", "snapshot"]

_MADE_ANEW = ("env", "spec", "_cached_spec", "_ezpickle_args", "_ezpickle_kwargs", "mujoco_renderer")
"""Attributes that a copy has of its own making."""
_WINDOWS = ("pygame", "glfw", "mujoco.renderer")
"""Modules whose objects draw pictures: a copy opens them anew."""
_HOOKS = ("__reduce__", "__reduce_ex__", "__getstate__", "__deepcopy__")


@dataclass(frozen=True)
class Snapshot:
    """Attributes of an environment and its wrappers.

    Attributes:
        content: pickled attributes; empty if they cannot be copied.
        reason: why they cannot be copied, as a clause.
    """

    content: bytes = b""
    reason: str = ""


def snapshot(env: gym.Env[Any, Any]) -> Snapshot:
    """Take what a copy needs to go on in mid-episode."""
    members = _members(env)
    base = members[-1]
    if reason := _copies_itself(base):
        return Snapshot(reason=reason)
    states = [
        {name: value for name, value in vars(member).items() if name not in _MADE_ANEW and not _draws(value)}
        for member in members
    ]
    try:
        return Snapshot(_dump(states, members))
    except Exception as error:  # noqa: BLE001  # a user's objects may raise anything
        kind = type(base).__name__
        for name, value in (item for state in states for item in state.items()):
            try:
                _dump(value, members)
            except Exception:  # noqa: BLE001
                return Snapshot(reason=f"its attribute {name!r} of type {type(value).__name__} cannot be copied")
        return Snapshot(reason=f"{kind} cannot be copied ({type(error).__name__})")


def restore(env: gym.Env[Any, Any], taken: Snapshot) -> None:
    """Give an environment that was made alike, and not yet used, what `snapshot` took."""
    members = _members(env)
    states = _Reader(io.BytesIO(taken.content), members).load()
    for member, state in zip(members, states, strict=True):
        own = vars(member)
        for name in [name for name in own if name not in state and name not in _MADE_ANEW and not _draws(own[name])]:
            del own[name]
        own.update(state)
    base: Any = members[-1]
    renderer = vars(base).get("mujoco_renderer")
    if renderer is not None:
        renderer.model, renderer.data = base.model, base.data


def _members(env: gym.Env[Any, Any]) -> list[gym.Env[Any, Any]]:
    """The wrappers, outermost first, and the environment itself."""
    members = [env]
    while isinstance(members[-1], gym.Wrapper):
        members.append(members[-1].env)
    return members


def _copies_itself(base: gym.Env[Any, Any]) -> str:
    """Why attributes are not all there is to an environment, as a clause; "" if they are."""
    kind = type(base)
    if any(getattr(each, "__slots__", ()) for each in kind.__mro__):
        return f"{kind.__name__} keeps attributes in __slots__"
    owners = {next(each for each in kind.__mro__ if hook in vars(each)) for hook in _HOOKS if hasattr(kind, hook)}
    owners -= {object, gym.Env}
    if owners == {EzPickle}:  # Gymnasium's own environments of MuJoCo use it though their attributes are all there is
        return "" if _has_mujoco(base) else f"{kind.__name__} copies itself by making a new one"
    return f"{kind.__name__} copies itself in its own way" if owners else ""


def _has_mujoco(base: Any) -> bool:
    import mujoco

    model, data = getattr(base, "model", None), getattr(base, "data", None)
    return isinstance(model, mujoco.MjModel) and isinstance(data, mujoco.MjData)


def _draws(value: object) -> bool:
    return type(value).__module__.startswith(_WINDOWS)


class _Writer(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
    """Leaves out the environment itself, to which its attributes may refer."""

    def __init__(self, file: io.BytesIO, members: list[gym.Env[Any, Any]]) -> None:
        super().__init__(file)
        self._places = {id(member): place for place, member in enumerate(members)}

    def persistent_id(self, obj: object) -> int | None:
        return self._places.get(id(obj))


class _Reader(pickle.Unpickler):
    """Puts the copy in where the original was left out."""

    def __init__(self, file: io.BytesIO, members: list[gym.Env[Any, Any]]) -> None:
        super().__init__(file)
        self._members = members

    def persistent_load(self, pid: int) -> gym.Env[Any, Any]:
        return self._members[pid]


def _dump(value: object, members: list[gym.Env[Any, Any]]) -> bytes:
    file = io.BytesIO()
    _Writer(file, members).dump(value)
    return file.getvalue()

"""Interception of the MuJoCo models that an environment's constructor loads, to compile other values into them.

An environment reads its model itself, from a file or a text, so that the values of a task are compiled in where the
model is read: what the compiler and the constructor derive from them is that of an environment which was written so.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gymnasium as gym

__all__ = ["Load", "loads", "shares_model", "source_of"]

Change = Callable[[Any, Any], Any]
"""From the (specification, model compiled from it) to the changed model."""


@dataclass
class Load:
    """A model that a constructor compiled.

    Attributes:
        spec: returns a new `mujoco.MjSpec` of what it was compiled from.
        model: the model that the constructor got.
        own: the model without changes; ``model`` itself where nothing was changed.
    """

    spec: Callable[[], Any]
    model: Any
    own: Any


_LOCK = threading.RLock()
_LOADERS = {"from_xml_path": ("filename", "from_file"), "from_xml_string": ("xml", "from_string")}
"""Loaders of `mujoco.MjModel`: their first argument, and the loader of `mujoco.MjSpec` that reads the same."""


@contextmanager
def loads(change: tuple[int, Change] | None = None) -> Iterator[list[Load]]:
    """Note the models that are compiled within the block by this thread, in order.

    Args:
        change: the number of a load and what to do to it. None: only note them.
    """
    import mujoco

    found: list[Load] = []
    thread, busy = threading.get_ident(), False

    def noted(spec: Callable[[], Any], compiled: Callable[[], Any]) -> Any:
        nonlocal busy
        if busy or threading.get_ident() != thread:
            return compiled()
        busy = True
        try:
            own = model = compiled()
            if change is not None and change[0] == len(found):
                model = change[1](spec(), own)
            found.append(Load(spec, model, own))
            return model
        finally:
            busy = False

    def loader(name: str, first: str, read: Callable[..., Any]) -> Callable[..., Any]:
        original = getattr(mujoco.MjModel, name)

        def load(*args: Any, **kwargs: Any) -> Any:
            given = {**dict(zip((first, "assets", "vfs"), args, strict=False)), **kwargs}
            given = {key: value for key, value in given.items() if value is not None}
            include = {"include": given["assets"]} if "assets" in given else {}
            return noted(lambda: read(**given, **include), lambda: original(**given))

        return load

    compile_spec = mujoco.MjSpec.compile

    def compiled_spec(self: Any, *args: Any, **kwargs: Any) -> Any:
        return noted(self.copy, lambda: compile_spec(self, *args, **kwargs))

    with _LOCK:
        originals = {name: mujoco.MjModel.__dict__[name] for name in _LOADERS}
        for name, (first, same) in _LOADERS.items():
            setattr(mujoco.MjModel, name, staticmethod(loader(name, first, getattr(mujoco.MjSpec, same))))
        mujoco.MjSpec.compile = compiled_spec
        try:
            yield found
        finally:
            for name, original in originals.items():
                setattr(mujoco.MjModel, name, original)
            mujoco.MjSpec.compile = compile_spec


def source_of(found: list[Load], model: object) -> int | None:
    """Number of the load that gave a model; None if it was made otherwise, e.g. read from a binary file."""
    return next((number for number, load in enumerate(found) if load.model is model), None)


def shares_model(one: gym.Env[Any, Any], other: gym.Env[Any, Any]) -> bool:
    """Whether two environments hold the same model object, e.g. one that their module compiled when it was imported."""
    models = [getattr(env.unwrapped, "model", None) for env in (one, other)]
    return hasattr(models[0], "opt") and models[0] is models[1]

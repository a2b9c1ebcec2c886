"""Terms that a user writes in Python."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.from_gymnasium.user_modules import import_user_module
from metamap_envs.mjcf.binding import Binding, Measure, Step
from metamap_envs.mjcf.terms.base import Quantity, RewardTerm, quantity, reward
from metamap_envs.settings import STRICT
from metamap_envs.state import State
from metamap_envs.user_env import failure

__all__ = ["PythonQuantity", "PythonReward"]

_PATTERN = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"


class _Call(BaseModel):
    """A function of a module, and what it reads.

    Attributes:
        function: "module:function"; the module may lie beside the declaration. That imports the module.
        arguments: more arguments of the function, by name.
        sites: sites whose places it reads, as ``state.readouts["site NAME"]``, [N, 3].
        bodies: the same of bodies, ``state.readouts["body NAME"]``.
        sensors: sensors that it reads, ``state.readouts["sensor NAME"]``, [N, size].
    """

    model_config = STRICT

    function: str = Field(pattern=_PATTERN)
    arguments: dict[str, Any] = {}
    sites: tuple[str, ...] = ()
    bodies: tuple[str, ...] = ()
    sensors: tuple[str, ...] = ()

    def _function(self, binding: Binding) -> Callable[[Any], NDArray[Any]]:
        for kind in ("site", "body"):
            for name in self.sites if kind == "site" else self.bodies:
                binding.place(kind, name)
        for name in self.sensors:
            binding.sensor(name)
        module, _, name = self.function.partition(":")
        import_user_module(module, f"term {self.function!r}", binding.folder)
        found = getattr(sys.modules[module], name, None)
        if not callable(found):
            functions = [key for key, value in vars(sys.modules[module]).items() if callable(value) and key[0] != "_"]
            raise unknown_name("function", name, functions, of=f"module {module!r}")
        return lambda given: self._called(found, given)

    def _called(self, function: Callable[..., Any], given: Any) -> NDArray[Any]:
        """Numbers that the function gives, [N] or [N, k].

        Raises:
            MetaMapError: it raises, or gives something else, or a number that is not finite.
        """
        count = len((given.after if isinstance(given, Step) else given).qpos)
        try:
            found = np.asarray(function(given, **self.arguments))
        except Exception as error:
            raise MetaMapError(f"term {self.function!r}: {failure(error)}") from error
        if found.dtype.kind not in "biuf" or found.ndim not in (1, 2) or len(found) != count:
            shape = f"{found.dtype} of shape {found.shape}"
            raise MetaMapError(f"term {self.function!r}: expected numbers of {count} environments, got {shape}")
        if not np.isfinite(found).all():
            raise MetaMapError(f"term {self.function!r}: expected finite numbers, got {found[~np.isfinite(found)][0]}")
        return found.astype(np.float64, copy=False)


@quantity("python")
class PythonQuantity(_Call, Quantity):
    """Numbers [N] or [N, k] of a state, by ``function(state, **arguments)``; in ends, true or not 0 ends an episode."""

    short: ClassVar[str] = "function"
    flags: ClassVar[bool] = True

    def bind(self, binding: Binding) -> Measure:
        """Import the function."""
        function = self._function(binding)

        def of(state: State) -> NDArray[np.float64]:
            found = function(state)
            return found[:, None] if found.ndim == 1 else found

        return Measure(of)


@reward("python")
class PythonReward(_Call, RewardTerm):
    """Values [N] of a step, by ``function(step, **arguments)``; see `metamap_envs.mjcf.binding.Step`."""

    short: ClassVar[str] = "function"
    places: ClassVar[bool] = True

    def bind(self, binding: Binding) -> Callable[[Step], NDArray[np.float64]]:
        """Import the function."""
        function = self._function(binding)

        def of(step: Step) -> NDArray[np.float64]:
            found = function(step)
            if found.ndim != 1:
                raise MetaMapError(
                    f"term {self.function!r}: expected one number for each environment, got {found.shape}"
                )
            return found

        return of

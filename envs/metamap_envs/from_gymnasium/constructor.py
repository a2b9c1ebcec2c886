"""Arguments and attributes of an environment's constructor: which there are, their own values, and others in place."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from metamap_envs.errors import MetaMapError, unknown_name

__all__ = ["argument_default", "argument_names", "as_number", "attribute_value", "with_attributes"]


def as_number(value: object) -> bool | int | float | None:
    """A scalar of any library, or a 0-d array, as a Python number; None for anything else."""
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        value = value.item()
    return value if isinstance(value, bool | int | float) else None


# arguments -----------------------------------------------------------------------------------------------------------


def argument_names(creator: Callable[..., Any]) -> tuple[dict[str, Any], bool]:
    """Named arguments of an environment's constructor with their defaults, and whether it takes any other.

    ``**kwargs`` are followed to the base classes, as in Gymnasium's MuJoCo environments, and `functools.partial` to
    the function or class in it, whose arguments it gives other defaults or takes away.
    """
    if isinstance(creator, functools.partial):
        names, others = argument_names(creator.func)
        kept = dict(list(names.items())[len(creator.args) :])
        return {**kept, **creator.keywords}, others
    functions: list[Any] = [creator]
    if inspect.isclass(creator):
        functions = [vars(cls)["__init__"] for cls in creator.__mro__ if "__init__" in vars(cls)]
    names = {}
    for function in functions:
        if function is object.__init__:
            return names, False
        parameters = inspect.signature(function).parameters.values()
        for parameter in parameters:
            named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            if named and parameter.name != "self":
                names.setdefault(parameter.name, parameter.default)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return names, False
    return names, True


def argument_default(name: str, creator: Any, fixed: Mapping[str, Any]) -> bool | int | float | None:
    """What the environment is given for an argument, from its id, its declaration or the signature; None if unknown.

    Raises:
        MetaMapError: the constructor has no such argument.
    """
    known, others = argument_names(creator)
    if name not in known and name not in fixed and not others:
        raise unknown_name("argument of the environment's constructor", name, known)
    return as_number(fixed.get(name, known.get(name)))


# attributes ----------------------------------------------------------------------------------------------------------


def attribute_value(name: str, env: gym.Env[Any, Any], creator: Any) -> bool | int | float:
    """An environment's own value of an attribute that can be given another while it is made.

    Raises:
        MetaMapError: there is no such attribute, it is not a number, or it cannot be set.
    """
    if not inspect.isclass(_innermost(creator)):
        raise MetaMapError(
            f"attribute {name!r}: this environment is made by a function, not by a class, so its attributes cannot be "
            "set while it is made; use an argument"
        )
    base = env.unwrapped
    found = inspect.getattr_static(base, name, None)
    if isinstance(found, property):
        hidden = [key for key in vars(base) if key.strip("_") == name and as_number(vars(base)[key]) is not None]
        hint = f"; declare attribute: {hidden[0]}" if hidden else ""
        raise MetaMapError(f"attribute {name!r}: it is computed from others (a property){hint}")
    slots = [key for cls in type(base).__mro__ for key in np.atleast_1d(getattr(cls, "__slots__", ()))]
    held = [*vars(base), *slots, *(key for cls in type(base).__mro__ for key in vars(cls))]
    numbers = {key for key in held if key[:2] != "__" and _holds_number(base, key)}
    if name not in numbers:
        raise unknown_name("attribute of the environment that is a number", name, numbers)
    own = as_number(getattr(base, name))
    assert own is not None, "it is one of the numbers"
    return own


def _holds_number(base: Any, name: str) -> bool:
    if isinstance(inspect.getattr_static(base, name, None), property):
        return False
    return as_number(getattr(base, name, None)) is not None


def _innermost(creator: Any) -> Any:
    return _innermost(creator.func) if isinstance(creator, functools.partial) else creator


def with_attributes(creator: Any, values: Mapping[str, Any], of_class: Mapping[str, Any] | None = None) -> Any:
    """A subclass of an environment whose constructor finds other values in some of the attributes that it sets.

    What the constructor itself derives from an attribute (CartPole's `polemass_length` from `length`) is derived from
    the new value, and so the environment is the one that its author would have written with that value. An attribute
    of the class has the new value from the start.

    Args:
        creator: the environment's class, or a `functools.partial` of it.
        values: by attribute.
        of_class: more attributes of the class, whatever the constructor sets.
    """
    if isinstance(creator, functools.partial):
        inner = with_attributes(creator.func, values, of_class)
        return functools.partial(inner, *creator.args, **creator.keywords)

    class Changed(creator):  # type: ignore[misc]  # the class is known at run time only
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.__dict__["_metamap_constructed"] = True

        def __setattr__(self, name: str, value: Any) -> None:
            changed = name in values and "_metamap_constructed" not in self.__dict__
            super().__setattr__(name, values[name] if changed else value)

    for name, value in [*values.items(), *(of_class or {}).items()]:
        if as_number(inspect.getattr_static(creator, name, None)) is not None or name in (of_class or {}):
            setattr(Changed, name, value)
    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        setattr(Changed, name, getattr(creator, name))
    return Changed

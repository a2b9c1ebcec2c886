"""The two kinds of terms, and the registry that they enter by a class decorator."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from numpy.typing import NDArray
from pydantic import BaseModel

from metamap_envs.mjcf.binding import Binding, Measure, Step
from metamap_envs.settings import STRICT, Number

__all__ = ["QUANTITIES", "REWARDS", "Quantity", "RewardTerm", "Term", "quantity", "reward"]


class Term(BaseModel):
    """A term: its fields are the keys that it has in the file.

    Attributes:
        short: the field that is meant where the file gives something else than a mapping; empty for none.
    """

    model_config = STRICT

    short: ClassVar[str] = ""


class Quantity(Term):
    """Numbers of the state, for observation and ends.

    Attributes:
        flags: whether an episode ends without declared bounds, where a number is not 0.
    """

    flags: ClassVar[bool] = False

    @abstractmethod
    def bind(self, binding: Binding) -> Measure:
        """Look up names in the model.

        Raises:
            MetaMapError: there is no such object.
        """


class RewardTerm(Term):
    """A term of the reward: the larger, the better, so that costs are negative by themselves.

    Attributes:
        weight: factor on it.
        label: its name in ``info``. Default: "reward_" and the term's own.
        places: whether it depends on where in the world the robot is.
        remembers: whether it depends on more than the states and the action of one step.
    """

    places: ClassVar[bool] = False
    remembers: ClassVar[bool] = False

    weight: Number = 1.0
    label: str | None = None

    @abstractmethod
    def bind(self, binding: Binding) -> Callable[[Step], NDArray[Any]]:
        """Look up names in the model; gives a function from a step to values [N].

        Raises:
            MetaMapError: there is no such object or parameter.
        """


QUANTITIES: dict[str, type[Quantity]] = {}
REWARDS: dict[str, type[RewardTerm]] = {}
_Q = TypeVar("_Q", bound=type[Quantity])
_R = TypeVar("_R", bound=type[RewardTerm])


def quantity(name: str) -> Callable[[_Q], _Q]:
    """Class decorator: register a term of observation and ends under a name."""

    def register(cls: _Q) -> _Q:
        assert name not in QUANTITIES, f"{name} is registered twice"
        QUANTITIES[name] = cls
        return cls

    return register


def reward(name: str) -> Callable[[_R], _R]:
    """Class decorator: register a term of the reward under a name."""

    def register(cls: _R) -> _R:
        assert name not in REWARDS, f"{name} is registered twice"
        REWARDS[name] = cls
        return cls

    return register

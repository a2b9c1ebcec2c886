"""Whether an argument or attribute has an effect: compares environments with two values of it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from metamap_envs.errors import MetaMapError
from metamap_envs.from_gymnasium.snapshot import episodes, numbers_of

if TYPE_CHECKING:
    from metamap_envs.from_gymnasium.family import GymnasiumFamily
    from metamap_envs.from_gymnasium.targets import Argument, Attribute
    from metamap_envs.parameters import Parameter

__all__ = ["TRIAL_STEPS", "same_behaviour"]

TRIAL_STEPS = 40
"""Steps after which two environments that did the same are taken for equal."""
_FEW_STEPS = 2


@dataclass(frozen=True)
class _Trial:
    """Numbers of an environment as it was made, what it did, and its numbers in the end."""

    made: dict[str, Any]
    done: list[Any]
    end: dict[str, Any]


def same_behaviour(
    family: GymnasiumFamily, parameter: Parameter, target: Argument | Attribute, values: Sequence[float]
) -> tuple[float, float] | None:
    """Two values of an argument or attribute with which an environment does the same.

    Args:
        family: of the environments.
        parameter: the one that is tried.
        target: what it writes.
        values: to try.

    Returns:
        The first two with which observations, rewards, ends and all numbers but the target itself were equal in a
        trial; None if there are none. It may still have a late or a rare effect.

    Raises:
        MetaMapError: what the constructor derives from it tells other values apart, and these not.
    """
    trials = [_trial(family, parameter, target, value, _FEW_STEPS) for value in values]
    longer: dict[int, Any] = {}
    found = None
    for one, other in itertools.combinations(range(len(values)), 2):
        if trials[one] != trials[other]:
            continue
        for index in {one, other} - longer.keys():
            longer[index] = _trial(family, parameter, target, values[index], TRIAL_STEPS // 2)
        if longer[one] != longer[other]:
            continue
        made = [trial.made for trial in trials]
        keys = set.intersection(*(set(each) for each in made))
        telling = next((key for key in sorted(keys) if any(each[key] != made[one][key] for each in made)), None)
        if telling is not None:
            raise MetaMapError(
                f"parameter {parameter.name!r}: {values[one]:g} and {values[other]:g} make environments that do the "
                f"same: the constructor rounds or clips the {target.label} in {telling.rpartition('.')[2]!r}; declare "
                "choices or a range that it tells apart"
            )
        found = found or (values[one], values[other])
    return found


def _trial(
    family: GymnasiumFamily, parameter: Parameter, target: Argument | Attribute, value: float, steps: int
) -> _Trial:
    """Make an environment with a value and run two episodes of so many steps."""
    env = family.make(family.task({parameter.name: value}))
    made = _others(numbers_of(env), target)
    done: list[Any] = []
    try:
        done.extend(repr(each) for each in episodes(env, steps))
    except Exception as error:  # noqa: BLE001  # of the environment's own code, which tells of it where it is used
        done.append(repr(error))
    trial = _Trial(made, done, _others(numbers_of(env), target))
    env.close()
    return trial


def _others(numbers: dict[str, Any], target: Argument | Attribute) -> dict[str, Any]:
    return {key: value for key, value in numbers.items() if key.rpartition(".")[2].strip("_") != target.name.strip("_")}

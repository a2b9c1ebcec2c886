"""Whether the values of a declared parameter reach the environment: tried out when a family is declared."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from metamap_envs.errors import MetaMapError, one_line
from metamap_envs.from_gymnasium.behaviour import TRIAL_STEPS, same_behaviour
from metamap_envs.from_gymnasium.constructor import argument_names, as_number
from metamap_envs.from_gymnasium.fields import ModelField, read
from metamap_envs.from_gymnasium.making import creator_of, make_env
from metamap_envs.from_gymnasium.snapshot import episodes, first_steps, held_number, numbers_of, quiet
from metamap_envs.from_gymnasium.targets import Argument, Attribute, Target

if TYPE_CHECKING:
    from metamap_envs.from_gymnasium.family import GymnasiumFamily
    from metamap_envs.parameters import Parameter

__all__ = ["check_overlaps", "check_taken"]

_NEAR = 1e-3  # of a range: two values this close are two tasks
_MOST_CHOICES = 8


# two parameters ------------------------------------------------------------------------------------------------------


def check_overlaps(targets: Mapping[str, Target], model: Any) -> None:
    """Refuse parameters that write the same number of a model, or one that another would have to be declared with.

    Raises:
        MetaMapError: two parameters overlap.
    """
    fields = {name: target for name, target in targets.items() if isinstance(target, ModelField)}
    places = {name: {place for place, _ in target.places(model)} for name, target in fields.items()}
    for one, other in itertools.combinations(fields, 2):
        shared = sorted(places[one] & places[other])
        if shared:
            kind, number, field, _ = shared[0]
            of = f" of {kind} {getattr(model, kind)(number).name!r}" if kind != "option" else ""
            goes = "; the inertia goes with the mass" if field == "inertia" else ""
            raise MetaMapError(f"the parameters {one!r} and {other!r} write the same thing: {field!r}{of}{goes}")


# every value of a parameter ------------------------------------------------------------------------------------------


def check_taken(family: GymnasiumFamily) -> None:
    """Make environments with values from all over the parameters' ranges, and look whether they have them.

    Raises:
        MetaMapError: an environment with a value cannot be made or stepped, does not have it, loses it in `reset`, or
            is the same with another value.
    """
    parameters = {parameter.name: parameter for parameter in family.space.parameters}
    fields = [name for name, target in family.targets.items() if isinstance(target, ModelField)]
    unseen: list[str] = []
    with quiet():
        for end in ("low", "high"):
            values = {name: getattr(parameters[name], end) for name in fields}
            values = {name: value for name, value in values.items() if value != parameters[name].default}
            try:
                _try_fields(family, values)
            except MetaMapError:
                for name, value in values.items():
                    with _blamed(name, value):
                        _try_fields(family, {name: value})
        runs = len(fields) < len(parameters) and _runs(family)
        for name, target in family.targets.items():
            if isinstance(target, ModelField):
                continue
            parameter = parameters[name]
            if isinstance(target, Attribute):
                _try_attribute(family, parameter, target, runs)
            else:
                _try_argument(family, parameter, target, runs)
            if runs and (same := same_behaviour(family, parameter, target, _probes(parameter))):
                unseen.append(f"{name!r} at {same[0]:g} and {same[1]:g}")
            if len(parameters) > 1:
                _check_independent(family, parameter)
    if unseen:
        warnings.warn(
            f"family {family.name!r}: in a trial of {TRIAL_STEPS} steps {family.base_id} does the same with the "
            f"parameter {', with '.join(unseen)}: it may have no effect, or only a late or a rare one",
            stacklevel=2,
        )


def _try_fields(family: GymnasiumFamily, values: Mapping[str, float]) -> None:
    """Raises MetaMapError if the environment's own code sets a field again in `reset` or `step`."""
    targets = [family.targets[name] for name in values]
    if not targets:
        return
    env = family.make(family.task(dict(values)))
    model = env.unwrapped.model  # type: ignore[attr-defined]
    places = [(target, place) for target in targets for place, _ in target.places(model)]  # type: ignore[union-attr]
    before = [read(model, place) for _, place in places]
    lost: Target | None = None
    with suppress(Exception):  # whether it can be stepped at all is not asked here
        for _ in episodes(env):
            after = env.unwrapped.model  # type: ignore[attr-defined]
            lost = next((t for (t, place), own in zip(places, before, strict=True) if read(after, place) != own), None)
            if lost is not None:
                break
    env.close()
    if lost is not None:
        raise MetaMapError(
            f"{lost.label}: the environment's own code sets it again in reset or step, so that a task's value is lost"
        )


def _try_attribute(family: GymnasiumFamily, parameter: Parameter, target: Attribute, runs: bool) -> None:
    for value in _probes(parameter)[::2]:
        with _blamed(parameter.name, value):
            env, expected = family.make(family.task({parameter.name: value})), target.result(value)
            base = env.unwrapped
            if (found := as_number(getattr(base, target.name))) != expected:
                raise MetaMapError(
                    f"{target.label} is {found} after {expected} was set: the constructor does not set it as an "
                    "attribute, or makes another number of it; use an argument"
                )
            for _ in episodes(env) if runs else ():
                if (found := as_number(getattr(base, target.name))) != expected:
                    raise MetaMapError(
                        f"{target.label} is {found} after resets and steps, as the environment's own code sets it "
                        "there: it is state, not a parameter"
                    )
            env.close()
    _check_no_argument(family, parameter, target)


def _check_no_argument(family: GymnasiumFamily, parameter: Parameter, target: Attribute) -> None:
    """Refuse an attribute that is an argument, too, where the constructor derives more from the argument itself."""
    argument = next(
        (each for each in argument_names(creator_of(family.spec))[0] if each == target.name.strip("_")), None
    )
    values = [value for value in _probes(parameter) if value != parameter.default]
    if argument is None or not values:
        return
    try:
        passed = numbers_of(make_env(family.spec, {**family.arguments, argument: target.result(values[-1])}))
    except MetaMapError:  # the argument means something else
        return
    written, again = (numbers_of(family.make(family.task({parameter.name: values[-1]}))) for _ in range(2))
    steady = [key for key in passed.keys() & written.keys() if written[key] == again[key]]  # a constructor may draw
    if any(passed[key] != written[key] for key in steady):
        raise MetaMapError(
            f"parameter {parameter.name!r}: {target.label} is an argument of the constructor as well, from which it "
            f"derives other numbers; declare argument: {argument}"
        )


def _try_argument(family: GymnasiumFamily, parameter: Parameter, target: Argument, runs: bool) -> None:
    """Two values must be two environments: some constructors clip, round or ignore what they are given."""
    seen: list[tuple[float, Any]] = []
    for value in _probes(parameter):
        with _blamed(parameter.name, value):
            env = family.make(family.task({parameter.name: value}))
            found: Any = held_number(env, target.name)
            if found is None or isinstance(found, bool):
                found = numbers_of(env)
                found["run"] = repr(first_steps(env)) if runs else ""
            elif runs:
                first_steps(env)
            env.close()
        for other, same in seen:
            if found == same:
                raise MetaMapError(
                    f"parameter {parameter.name!r}: {other:g} and {value:g} make the same environment: its constructor "
                    f"ignores, rounds or clips the {target.label}; declare choices or a range that it tells apart"
                )
        seen.append((value, found))


def _check_independent(family: GymnasiumFamily, parameter: Parameter) -> None:
    """Refuse another parameter of something that this one sets as well."""
    own, value = family.task(), max(parameter.low, parameter.high, key=lambda end: abs(end - parameter.default))
    before, after = (family.make(task) for task in (own, family.task({parameter.name: value})))
    for name, target in family.targets.items():
        if name == parameter.name:
            continue
        if isinstance(target, ModelField):
            models = [getattr(env.unwrapped, "model", None) for env in (before, after)]
            changed = not target.scale and any(
                read(models[0], place) != read(models[1], place) for place, _ in target.places(models[0])
            )
        else:
            held = [getattr(env.unwrapped, target.name, None) for env in (before, after)]
            of_argument = isinstance(family.targets[parameter.name], Argument)
            changed = isinstance(target, Attribute) and of_argument and as_number(held[0]) != as_number(held[1])
        if changed:
            raise MetaMapError(
                f"the parameters {parameter.name!r} and {name!r} write the same thing: "
                f"the {family.targets[parameter.name].label} changes {target.label}, too"
            )
    for env in (before, after):
        env.close()


# trying out ----------------------------------------------------------------------------------------------------------


def _probes(parameter: Parameter) -> list[float]:
    """Values all over the range, in close pairs, each second one an end or inside."""
    if parameter.choices:
        return [each for choice in parameter.choices[:_MOST_CHOICES] for each in (choice,)]
    ends = [end for interval in parameter.train + parameter.out for end in interval]
    low, high = min(ends), max(ends)
    if low == high:
        return [low]
    near, inside = _NEAR * (high - low), low + 0.381966 * (high - low)
    return [low, low + near, inside, inside + near, high, high - near]


def _runs(family: GymnasiumFamily) -> bool:
    """Whether the environment can be stepped at its own values."""
    try:
        env = family.make(family.task())
        first_steps(env)
        env.close()
    except Exception:  # noqa: BLE001  (the environment's own code may raise anything, and is told elsewhere)
        return False
    return True


@contextmanager
def _blamed(name: str, value: float) -> Iterator[None]:
    """Turn whatever a parameter's value makes the environment raise into a sentence about it."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  (the environment's own code may raise anything)
        raise MetaMapError(f"parameter {name!r} at {value:g}: {one_line(error)}") from None

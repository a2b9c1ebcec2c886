"""A trial of a family of an MJCF model when it is declared: its values can be compiled, its terms fit and agree."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError
from metamap_envs.mjcf.family import MjcfFamily
from metamap_envs.simulator import Simulator
from metamap_envs.state import State

__all__ = ["try_out"]

_STEPS = 3


def try_out(family: MjcfFamily) -> None:
    """Compile the ends of all ranges, simulate a few steps, and write how many numbers each measure gives.

    Raises:
        MetaMapError: MuJoCo refuses a value; a term gives numbers of a wrong shape, or other ones for an environment
            alone than among others.
    """
    _try_values(family)
    simulator = Simulator(family, [family.task()] * 2, 1)
    generator = np.random.default_rng(0)
    for index in range(2):
        simulator.start(index, np.random.default_rng(index))
    simulator.forward(np.arange(2))
    before = simulator.state()
    type(family).sizes = tuple(_numbers(measure.of, before).shape[1] for measure in family.measures)
    for _ in range(_STEPS):
        actions = generator.uniform(-1.0, 1.0, (2, family.action_size)).astype(np.float32)
        simulator.step(actions)
        after = simulator.state()
        _try_terms(family, before, after, actions, simulator.values)
        before = after


def _try_values(family: MjcfFamily) -> None:
    """Raises MetaMapError where the compiler refuses a value; the sentence names the parameter."""
    changed = [each for each in family.space.parameters if each.name in family.physics_parameters]
    for end in ("low", "high"):
        try:
            family.model(family.task({each.name: getattr(each, end) for each in changed}))
        except MetaMapError:
            for each in changed:
                value = getattr(each, end)
                try:
                    family.model(family.task({each.name: value}))
                except MetaMapError as error:
                    raise MetaMapError(f"parameter {each.name!r} at {value:g}: {error}") from None
            raise


def _try_terms(family: MjcfFamily, before: State, after: State, actions: NDArray[Any], values: NDArray[Any]) -> None:
    """Raises MetaMapError if the terms of two environments at once are not those of each alone."""
    together = _outcome(family, before, after, actions, values)
    for row in range(2):
        part = slice(row, row + 1)
        alone = _outcome(family, _rows(before, part), _rows(after, part), actions[part], values[part])
        for name, numbers in together.items():
            if alone[name].shape != numbers[part].shape or not np.allclose(
                alone[name], numbers[part], rtol=1e-9, atol=1e-12, equal_nan=True
            ):
                raise MetaMapError(
                    f"{name}: an environment alone has other numbers than among others: a function of Python must "
                    "treat each row of its arrays for itself"
                )


def _outcome(
    family: MjcfFamily, before: State, after: State, actions: NDArray[Any], values: NDArray[Any]
) -> dict[str, NDArray[Any]]:
    _, terms = family.reward(before, after, actions, values)
    ends = {f"end[{index}]": end.reached(after) for index, end in enumerate(family.ends)}
    measures = {f"observation[{index}]": _numbers(each.of, after) for index, each in enumerate(family.measures)}
    return {**measures, **terms, **ends}


def _numbers(of: Any, state: State) -> NDArray[Any]:
    found: NDArray[Any] = of(state)
    return found


def _rows(state: State, part: slice) -> State:
    return State(state.qpos[part], state.qvel[part], {key: value[part] for key, value in state.readouts.items()})

"""The lists of terms of a declaration, bound to its model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from metamap_envs.errors import MetaMapError
from metamap_envs.mjcf.binding import Binding, Measure
from metamap_envs.mjcf.declaration import ModelDeclaration
from metamap_envs.mjcf.family import End, RewardPart
from metamap_envs.mjcf.terms import read_end, read_quantity, read_reward
from metamap_envs.mjcf.terms.base import RewardTerm

__all__ = ["Lists", "read_lists"]

_TAKEN = ("task", "diverged", "episode", "final_obs", "final_info", "final_observation", "TimeLimit.truncated")
"""Keys of infos that are no terms."""


@dataclass(frozen=True)
class Lists:
    """Observation, reward and ends of a family.

    Attributes:
        measures: of the observation.
        parts: of the reward.
        ends: of episodes.
        end_measures: those that the ends are of.
        rewards: the terms of the reward.
        canonical: all terms by list, with all their keys, as JSON values.
    """

    measures: tuple[Measure, ...]
    parts: tuple[RewardPart, ...]
    ends: tuple[End, ...]
    end_measures: tuple[Measure, ...]
    rewards: tuple[RewardTerm, ...]
    canonical: Mapping[str, Sequence[Any]]

    def hold_state(self, binding: Binding) -> bool:
        """Whether observations hold all of the state that physics, reward and ends depend on.

        A place along a horizontal axis, of a joint at the root, need not be observed where nothing depends on it.
        """
        seen = {place for measure in self.measures for place in measure.qpos}
        moving = {place for measure in self.measures for place in measure.qvel}
        hidden = set(range(binding.model.nq)) - seen
        if len(moving) != binding.model.nv or binding.model.na or any(term.remembers for term in self.rewards):
            return False
        if not hidden:
            return True
        depends = any(term.places for term in self.rewards)
        depends |= any(not (each.qpos or each.qvel) or hidden & {*each.qpos} for each in self.end_measures)
        return not depends and hidden <= _along_the_ground(binding.model)


def read_lists(declaration: ModelDeclaration, binding: Binding) -> Lists:
    """Read the terms of a declaration and bind them to its model.

    Raises:
        MetaMapError: the sentence names the list and the place in it.
    """
    observation, measures = [], []
    for index, item in enumerate(declaration.observation):
        place = f"observation[{index}]"
        name, term = read_quantity(item, place)
        with _at(place, name):
            measures.append(term.bind(binding))
        observation.append({name: term.model_dump()})
    if binding.used:
        raise MetaMapError(f"observation: {min(binding.used)!r} is a parameter, and would not be hidden")
    reward, parts, terms = [], list[RewardPart](), list[RewardTerm]()
    for index, item in enumerate(declaration.reward):
        place = f"reward[{index}]"
        name, gain = read_reward(item, place)
        with _at(place, name):
            label = _label(name, gain, [part.label for part in parts])
            parts.append(RewardPart(label, gain.weight, gain.bind(binding)))
        terms.append(gain)
        reward.append({name: gain.model_dump()})
    end, ends, end_measures = [], list[End](), list[Measure]()
    for index, item in enumerate(declaration.end):
        place = f"end[{index}]"
        name, term, (low, high) = read_end(item, place)
        with _at(place, name):
            end_measures.append(term.bind(binding))
        ends.append(End(end_measures[-1].of, low, high))
        end.append({name: {**term.model_dump(), "low": low, "high": high}})
    canonical = {"observation": observation, "reward": reward, "end": end}
    return Lists(tuple(measures), tuple(parts), tuple(ends), tuple(end_measures), tuple(terms), canonical)


def _label(name: str, term: RewardTerm, taken: Sequence[str]) -> str:
    """Name of a term of the reward in infos, each once."""
    label = term.label
    if label is None:
        own = str(getattr(term, "function", name)).rpartition(":")[2]
        same = [each for each in taken if each.partition("__")[0] == f"reward_{own}"]
        return f"reward_{own}" + (f"__{len(same) + 1}" if same else "")
    if label in taken or label in _TAKEN or label.startswith("_") or not label.isprintable() or not label:
        raise MetaMapError(f"label: expected a name that nothing else in infos has, got {label!r}")
    return label


@contextmanager
def _at(place: str, name: str) -> Iterator[None]:
    try:
        yield
    except MetaMapError as error:
        raise MetaMapError(f"{place}.{name}: {error}") from None


def _along_the_ground(model: mujoco.MjModel) -> set[int]:
    """Elements of qpos that move the whole robot at right angles to gravity, above nothing but planes."""
    kinds, gravity = mujoco.mjtJoint, model.opt.gravity
    still = [geom for geom in range(model.ngeom) if model.body_weldid[model.geom_bodyid[geom]] == 0]
    if any(model.geom_type[geom] != mujoco.mjtGeom.mjGEOM_PLANE.value for geom in still):
        return set()
    found: set[int] = set()
    for joint in range(model.njnt):
        if model.body_parentid[model.jnt_bodyid[joint]] != 0:
            continue
        address = int(model.jnt_qposadr[joint])
        if model.jnt_type[joint] == kinds.mjJNT_FREE.value:
            found |= {address + axis for axis in range(3) if _level(np.eye(3)[axis], gravity)}
        elif model.jnt_type[joint] == kinds.mjJNT_SLIDE.value and _level(model.jnt_axis[joint], gravity):
            found.add(address)
    return found


def _level(axis: Any, gravity: Any) -> bool:
    return bool(abs(axis @ gravity) <= 1e-9 * (1.0 + np.abs(gravity).max()))

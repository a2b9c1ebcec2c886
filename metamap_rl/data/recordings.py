"""Recordings of any format as rollouts of a family."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError
from metamap_envs.family import Family
from metamap_envs.registry import get_family
from metamap_envs.rollout import Rollout
from metamap_rl.data.columns import ROLES, ColumnMapping, Taken, check_units, take
from metamap_rl.data.readers import Recording, read_recording
from metamap_rl.data.readers.base import is_pickle
from metamap_rl.data.rewards import recompute_rewards
from metamap_rl.data.rollout_files import is_rollout, load_rollout

__all__ = ["Recorded", "read_rollout", "rollout_of"]

_GAP = 1.5  # time steps; a larger one is a gap
_OTHER_STEP = 0.05  # relative difference of time steps that is told
_ROUNDING = 1e-3  # of the range of actions


@dataclass(frozen=True, eq=False)
class Recorded:
    """A recording as a rollout.

    Attributes:
        rollout: the transitions.
        observations: names of the columns of an observation [O].
        actions: names of the columns of an action [A].
        episodes: number of episodes.
        seconds: median time between two rows; None if the recording does not tell it.
        notes: what was left out or derived, and what looks unusual, a sentence each.
    """

    rollout: Rollout
    observations: tuple[str, ...]
    actions: tuple[str, ...]
    episodes: int
    seconds: float | None = None
    notes: tuple[str, ...] = ()


def read_rollout(
    path: str | Path, family: str | None = None, mapping: ColumnMapping | None = None, *, needs_rewards: bool = True
) -> Recorded:
    """Read a recording of any format in `READERS` as a rollout.

    Args:
        path: file or folder.
        family: name of the family; None for the one that the file tells.
        mapping: roles and units of columns; None for the usual names.
        needs_rewards: whether missing rewards that cannot be computed are an error; else they are 0.

    Raises:
        MetaMapError: no such file, no reader for it, a damaged one, columns that do not fit the family, missing
            rewards, or NaN.
    """
    mapping, path = mapping or ColumnMapping(), Path(path)
    if path.suffix == ".safetensors" and mapping == ColumnMapping() and path.is_file() and not is_pickle(path):
        own = _own(path, family)
        if own is not None:
            return own
    recording = read_recording(path)
    told = recording.about.get("family")
    if family is None and told is None:
        raise MetaMapError(f"{path}: does not tell its family; name it: --family FAMILY")
    if family is not None and told is not None and told != family:
        raise MetaMapError(f"{path}: is a rollout of {told!r}, expected one of {family!r}")
    return rollout_of(recording, family or told or "", mapping, needs_rewards=needs_rewards)


def _own(path: Path, family: str | None) -> Recorded | None:
    """A rollout of this project as it was saved, with its task; None for another file."""
    from metamap_agents.runtime.storage import load_arrays

    _, metadata = load_arrays(path)
    if not is_rollout(metadata):
        return None
    rollout = load_rollout(path)
    if family is not None and rollout.family != family:
        raise MetaMapError(f"{path}: is a rollout of {rollout.family!r}, expected one of {family!r}")
    ends = rollout.terminated | rollout.truncated
    seen, acted = (
        tuple(f"{role}[{index}]" for index in range(getattr(rollout, role).shape[1]))
        for role in ("observations", "actions")
    )
    return Recorded(rollout, seen, acted, episodes=int(ends[:-1].sum()) + 1 if len(rollout) else 0)


def rollout_of(
    recording: Recording, family: str, mapping: ColumnMapping | None = None, *, needs_rewards: bool = True
) -> Recorded:
    """Make a rollout of the columns of a recording.

    Without next observations they are those of the next row of the episode, and the last row of each episode, as well
    as a row before a gap in time, is no transition.

    Args:
        recording: the columns.
        family: name of the family.
        mapping: roles and units of columns; None for the usual names.
        needs_rewards: whether missing rewards that cannot be computed are an error; else they are 0.

    Raises:
        MetaMapError: as `read_rollout`.
    """
    return _Assembly(recording, get_family(family), mapping or ColumnMapping()).made(needs_rewards)


class _Assembly:
    """One recording on its way to a rollout."""

    def __init__(self, recording: Recording, family: Family, mapping: ColumnMapping) -> None:
        self.family, self.source, self.notes = family, recording.source, list(recording.notes)
        self.taken: dict[str, Taken] = {}
        for role in ROLES:
            seen = self.taken.get("observations")
            like = seen.labels if seen is not None and role == "next_observations" else None
            if (found := take(recording, mapping, role, like)) is not None:
                self.taken[role] = found
        for role, size in (("observations", family.observation_size), ("actions", family.action_size)):
            if role not in self.taken:
                names = ", ".join(recording.columns)
                raise MetaMapError(
                    f"{self.source}: no column for {role}: expected one called {' or '.join(ROLES[role][:4])}, or "
                    f"--columns {role}=NAME,NAME,...; there are {names or 'no columns'}"
                )
            self._check_width(role, size)
        if "next_observations" in self.taken:
            self._check_width("next_observations", family.observation_size)
        check_units(recording, mapping, (label for each in self.taken.values() for label in each.labels))
        self.count = len(self.taken["actions"].values)
        self._split_last_observation()
        for role, found in self.taken.items():
            if len(found.values) != self.count:
                raise MetaMapError(
                    f"{self.source}: {role}: expected {self.count} rows, as actions have, got {len(found.values)}"
                )
        self.seconds = self._seconds(recording.seconds)

    def _check_width(self, role: str, size: int) -> None:
        labels = self.taken[role].labels
        if len(labels) != size:
            listed = ", ".join(labels[:20]) + (", ..." if len(labels) > 20 else "")
            raise MetaMapError(
                f"{self.source}: {role}: expected {size} columns, those of {self.family.name!r}, got {len(labels)}: "
                f"{listed}"
            )

    def _split_last_observation(self) -> None:
        """Of one episode with one more observation than actions, make next observations."""
        seen = self.taken["observations"]
        if len(seen.values) == self.count + 1 and "next_observations" not in self.taken:
            self.taken["observations"] = Taken(seen.labels, seen.values[:-1])
            self.taken["next_observations"] = Taken(seen.labels, seen.values[1:])

    def _seconds(self, told: float | None) -> float | None:
        """Median time between two rows, compared with the family's."""
        if "time" in self.taken and self.count > 1:
            steps = np.diff(self._column("time"))
            forward = steps[steps > 0]
            if not len(forward):
                raise MetaMapError(f"{self.source}: time: expected times that increase, they do nowhere")
            told = float(np.median(forward))
        if told is None or not self.family.frame_skip:
            return told
        expected = self.family.step_seconds
        if abs(told / expected - 1.0) > _OTHER_STEP:
            self.notes.append(
                f"rows are {told:.4g} s apart, steps of {self.family.name!r} take {expected:.4g} s: resample the "
                f"recording to {expected:.4g} s"
            )
        return told

    def _column(self, role: str) -> NDArray[np.float64]:
        values = self.taken[role].values[:, 0].astype(np.float64)
        if not np.isfinite(values).all():
            raise MetaMapError(f"{self.source}: {self.taken[role].labels[0]}: {_place(values)}")
        return values

    def _flags(self, role: str) -> NDArray[np.bool_]:
        if role not in self.taken:
            return np.zeros(self.count, dtype=np.bool_)
        values = self._column(role)
        wrong = np.flatnonzero(~np.isin(values, (0.0, 1.0)))
        if len(wrong):
            label = self.taken[role].labels[0]
            raise MetaMapError(f"{self.source}: {label}: expected 0 or 1, got {values[wrong[0]]:g} in row {wrong[0]}")
        return values.astype(np.bool_)

    def _last_rows(self, ends: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which rows are the last of an episode [n]: by its column if there is one, else by flags, and by the time."""
        last = ends.copy()
        if "episode" in self.taken:
            names = self._column("episode")
            last[:-1] = names[:-1] != names[1:]
        if "time" in self.taken and self.count > 1:
            steps = np.diff(self._column("time"))
            last[:-1] |= steps <= 0
            if "next_observations" not in self.taken and self.seconds is not None:
                gaps = (steps > _GAP * self.seconds) & ~last[:-1]
                if gaps.any():
                    first = int(np.flatnonzero(gaps)[0])
                    self.notes.append(
                        f"{_counted(int(gaps.sum()), 'gap')} in time, first after row {first}: no transition spans it"
                    )
                last[:-1] |= gaps
        if self.count:
            last[-1] = True
        return last

    def made(self, needs_rewards: bool) -> Recorded:
        terminated, truncated, done = (self._flags(role) for role in ("terminated", "truncated", "done"))
        terminated |= done & ~truncated
        last = self._last_rows(terminated | truncated)
        kept = np.ones(self.count, dtype=np.bool_)
        cuts = np.append(last[:-1], False)[: self.count]  # the recording's end is not that of its episode
        if "next_observations" not in self.taken and self.count:
            kept, cuts = ~last, np.append(cuts[1:], False)
            self.notes.append(
                "next observations are those of the next row, so the last row of "
                f"{_counted(int(last.sum()), 'episode')} is left out"
            )
        if not kept.any():
            raise MetaMapError(f"{self.source}: has no transitions ({_counted(self.count, 'row')})")
        truncated |= cuts & ~terminated
        arrays = {role: self.taken[role].values for role in ("observations", "actions")}
        arrays["next_observations"] = (
            self.taken["next_observations"].values
            if "next_observations" in self.taken
            else np.concatenate([arrays["observations"][1:], arrays["observations"][-1:]])
        )
        if "rewards" in self.taken:
            arrays["rewards"] = self.taken["rewards"].values[:, 0]
        chosen: dict[str, Any] = {name: self._numbers(name, array, kept) for name, array in arrays.items()}
        if "rewards" not in chosen:
            chosen["rewards"] = self._rewards(chosen, needs_rewards)
        self._check_actions(chosen["actions"])
        flags: dict[str, Any] = {"terminated": terminated[kept], "truncated": truncated[kept]}
        rollout = Rollout(self.family.name, **chosen, **flags)
        episodes = int((rollout.terminated | rollout.truncated)[:-1].sum()) + 1
        seen, acted = (self.taken[role].labels for role in ("observations", "actions"))
        return Recorded(rollout, seen, acted, episodes, self.seconds, tuple(self.notes))

    def _numbers(self, role: str, array: NDArray[Any], kept: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Rows that are transitions, in float32, without NaN."""
        with np.errstate(over="ignore"):
            values = array[kept].astype(np.float32)
        if not np.isfinite(values).all():
            table = values.reshape(len(values), -1)
            row, column = (int(index[0]) for index in np.nonzero(~np.isfinite(table)))
            label = self.taken[role if role in self.taken else "observations"].labels[column]
            place = f"row {np.flatnonzero(kept)[row]} has {table[row, column]}"
            raise MetaMapError(f"{self.source}: {label}: expected numbers, {place}")
        return values

    def _rewards(self, arrays: dict[str, NDArray[Any]], needed: bool) -> NDArray[np.float32]:
        """Rewards that the recording does not have."""
        if not needed:
            return np.zeros(len(arrays["actions"]), dtype=np.float32)
        found = recompute_rewards(self.family, arrays["observations"], arrays["actions"], arrays["next_observations"])
        if found is None:
            raise MetaMapError(
                f"{self.source}: no column for rewards, and those of {self.family.name!r} cannot be computed from "
                "observations and actions alone: record them (--columns rewards=NAME), or train a mapper that does not "
                "read them (MapperConfig(reward=False))"
            )
        self.notes.append(f"rewards are computed with the formula of {self.family.name!r}")
        return found

    def _check_actions(self, actions: NDArray[np.float32]) -> None:
        """Note actions outside of the family's range."""
        low, high = self.family.action_range
        beyond = np.maximum(actions - high, low - actions).max(axis=0) > _ROUNDING * (high - low)
        for index in np.flatnonzero(beyond):
            label, column = self.taken["actions"].labels[index], actions[:, index]
            self.notes.append(
                f"{label}: is in [{column.min():.4g}, {column.max():.4g}], actions of {self.family.name!r} are in "
                f"[{low[index]:g}, {high[index]:g}]: give the command before it is scaled to the actuator, or "
                f"--units {label}=FACTOR"
            )


def _place(values: NDArray[Any]) -> str:
    row = int(np.flatnonzero(~np.isfinite(values))[0])
    return f"expected numbers, row {row} has {values[row]}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"

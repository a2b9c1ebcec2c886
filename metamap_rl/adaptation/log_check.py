"""How usual a recording is for the family of a mapper, column by column, and what may be wrong with it.

Wrong units and wrong orders of columns are looked for by trying: each likely slip is undone, and the self-check's model
of transitions says whether they are less surprising then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import pi
from os.path import commonprefix
from typing import NamedTuple

import mujoco
import numpy as np
import torch
from numpy.typing import NDArray

from metamap_envs.registry import get_family
from metamap_envs.rollout import Rollout
from metamap_rl.data.layout import TransitionLayout
from metamap_rl.data.recordings import Recorded
from metamap_rl.mapper.mapper import Mapper

__all__ = ["Column", "LogCheck", "check_log"]

_ROWS = 50
"""Transitions that are looked at."""

_FAR = 6.0
"""Distance from the usual mean, and ratio of standard deviations, in which units are doubted."""

_LESS_SURPRISE = 3.0
"""How much lower the surprise of a transition, summed over its numbers, must be without a slip that is told."""

_LESS_SURPRISING_OUTCOME = 2.0
"""How much lower that of its outcome alone must be: observations may be unusual because of the policy that acts."""

_LESS_SURPRISING_INPUT = 0.25
"""How much lower that of observation and action must be with columns in another order."""

_EXPLAINED = 0.15
"""How far above the typical surprise that of outcomes may be, relative to it, once all slips are undone."""

_MOST_SLIPS = 8
_BATCH = 64  # slips that are tried at once
_DEGREES = pi / 180.0
_FACTORS = (_DEGREES, 1.0 / _DEGREES, 1e-3, 1e3)

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Column:
    """One column of a recording beside D of the mapper's training.

    Attributes:
        name: of the column.
        role: "observations", "actions" or "rewards".
        mean: its mean.
        std: its standard deviation.
        usual_mean: mean in training.
        usual_std: standard deviation in training.
        distance: root mean square of its distance from the usual mean, in usual standard deviations; about 1 is usual.
        surprise: how surprising it and its change are to the self-check once the slips that are told are undone, out of
            distribution above 1; None without a self-check.
    """

    name: str
    role: str
    mean: float
    std: float
    usual_mean: float
    usual_std: float
    distance: float
    surprise: float | None

    @property
    def remark(self) -> str:
        """What is unusual, in a few words; "" if nothing is."""
        if self.distance > _FAR:
            return f"{self.distance:.3g} sd from usual"
        if self.surprise is not None and self.surprise > 1.0:
            return "surprising"
        if self.std < self.usual_std / (_FAR * _FAR):
            return "hardly varies"
        return ""


@dataclass(frozen=True)
class LogCheck:
    """How usual a recording is.

    Attributes:
        columns: observations, actions and rewards, in this order.
        warnings: what may be wrong, a sentence each, with the remedy.
    """

    columns: tuple[Column, ...]
    warnings: tuple[str, ...]


class _Slip(NamedTuple):
    """Something that may have gone wrong; the fields undo it."""

    sentence: str
    observations: NDArray[np.intp]
    """Order of the columns [O]."""
    actions: NDArray[np.intp]
    """Order of the columns [A]."""
    seen_scale: NDArray[np.float64]
    """Factors [O]."""
    action_scale: NDArray[np.float64]
    """Factors [A]."""
    reward_scale: float = 1.0

    @property
    def reorders(self) -> bool:
        """Whether it is one of the order of columns."""
        return bool((np.diff(self.observations) != 1).any() or (np.diff(self.actions) != 1).any())

    def arrays(self, rollout: Rollout) -> tuple[Floats, Floats, Floats, Floats]:
        """Observations, actions, rewards and next observations without it."""
        seen, following = (
            (array * self.seen_scale)[:, self.observations].astype(np.float32)
            for array in (rollout.observations, rollout.next_observations)
        )
        actions = (rollout.actions * self.action_scale)[:, self.actions].astype(np.float32)
        return seen, actions, rollout.rewards * np.float32(self.reward_scale), following

    def undone(self, rollout: Rollout) -> Rollout:
        """The rollout without it."""
        return Rollout(rollout.family, *self.arrays(rollout), rollout.terminated, rollout.truncated)


def check_log(mapper: Mapper, recorded: Recorded) -> LogCheck:
    """Compare a recording with D of a mapper's training.

    Args:
        mapper: a mapper of the recording's family; units and orders of columns are checked if it has a self-check.
        recorded: the recording; its first 50 transitions are looked at.
    """
    rollout = recorded.rollout.head(min(_ROWS, len(recorded.rollout)))
    names = (*recorded.observations, *recorded.actions, *(("rewards",) if mapper.config.reward else ()))
    warnings, mended = _slips(mapper, rollout, names)
    columns = _columns(mapper, rollout, names, mended)
    if not warnings:
        odd = [column for column in columns if column.distance > _FAR]
        if len(odd) > len(columns) // 2:
            warnings.append(
                f"{len(odd)} of {len(columns)} columns are far from those of {mapper.family!r}: a recording of another "
                "robot, or other units?"
            )
        else:
            warnings += [
                f"{column.name}: mean {column.mean:.3g}, usual {column.usual_mean:.3g} ± {column.usual_std:.3g}: check "
                "sensor, sign and units"
                for column in odd
            ]
    return LogCheck(columns, tuple(warnings))


def _columns(mapper: Mapper, rollout: Rollout, names: tuple[str, ...], mended: Rollout) -> tuple[Column, ...]:
    """Statistics of each column, and its surprise in the rollout without slips."""
    count_seen, count_actions = mapper.base.spec.observation_size, mapper.base.spec.action_size
    wide = [rollout.observations, rollout.actions, *([rollout.rewards[:, None]] if mapper.config.reward else [])]
    values = np.concatenate(wide, axis=1).astype(np.float64)
    kept = [*range(count_seen + count_actions), count_seen + count_actions + 1][: len(names)]
    mean, std = (part.numpy().astype(np.float64)[kept] for part in (mapper.feature_mean, mapper.feature_std))
    surprise = _surprise_by_column(mapper, mended)
    roles = ["observations"] * count_seen + ["actions"] * count_actions + ["rewards"]
    distance = np.sqrt(np.square((values - mean) / std).mean(axis=0))
    return tuple(
        Column(
            name,
            roles[at],
            float(values[:, at].mean()),
            float(values[:, at].std()),
            float(mean[at]),
            float(std[at]),
            float(distance[at]),
            None if surprise is None else float(surprise[at]),
        )
        for at, name in enumerate(names)
    )


def _surprise_by_column(mapper: Mapper, rollout: Rollout) -> NDArray[np.float64] | None:
    """Surprise of observations with their change, actions and reward [O + A + 1], in units of its limit."""
    check = mapper.check
    if check is None:
        return None
    reading = mapper.read(rollout)
    rows, z = reading.rows[0].numpy()[: check.lengths[-1]], reading.z[0].numpy()
    typical, spread, limit = (check.at(name, len(rows)) for name in ("typical", "spread", "limit"))
    found = np.maximum(0.0, (check.surprise(rows, z).mean(axis=0) - typical) / spread / limit)
    seen, acted = mapper.base.spec.observation_size, mapper.base.spec.action_size
    changes = found[seen + acted + 1 :]
    return np.concatenate([np.maximum(found[:seen], changes), found[seen : seen + acted + 1]])


# slips ----------------------------------------------------------------------------------------------------------------


def _slips(mapper: Mapper, rollout: Rollout, names: tuple[str, ...]) -> tuple[list[str], Rollout]:
    """Slips that explain the recording, the most likely first, and the rollout without them.

    Each is undone before the next is looked for.
    """
    sentences: list[str] = []
    if mapper.check is None:
        return sentences, rollout
    nothing = _nothing(mapper)
    (cost,), mended = _costs(mapper, rollout, [nothing]), rollout
    for _ in range(_MOST_SLIPS):
        slips = list(_possible(mapper, mended, names))
        costs = _costs(mapper, mended, slips)
        drops = cost - costs
        # Columns in their places are less surprising themselves, not only in what follows from them.
        likely = np.array([not slip.reorders for slip in slips]) | (drops[:, 0] > _LESS_SURPRISING_INPUT)
        likely &= (drops.sum(axis=1) >= _LESS_SURPRISE) & (drops[:, 1] >= _LESS_SURPRISING_OUTCOME)
        if not likely.any():
            break
        best = int(np.where(likely, costs.sum(axis=1), np.inf).argmin())
        sentences.append(slips[best].sentence)
        cost, mended = costs[best], slips[best].undone(mended)
    first = TransitionLayout.of(mapper.base.spec).state_action.stop
    typical = float(mapper.check.at("typical", len(rollout))[first:].sum())
    if cost[1] > (1.0 + _EXPLAINED) * typical + 1.0:  # what is left is not explained: something else is wrong
        return [], rollout
    return sentences, mended


@torch.no_grad()
def _costs(mapper: Mapper, rollout: Rollout, slips: Sequence[_Slip]) -> NDArray[np.float64]:
    """Surprise of a transition without each of H slips, mean over the rollout.

    Returns:
        [H, 2]: summed over observation and action, and over the outcome.
    """
    assert mapper.check is not None, "the caller looks"
    layout, found = TransitionLayout.of(mapper.base.spec), []
    for start in range(0, len(slips), _BATCH):
        parts = [slip.arrays(rollout) for slip in slips[start : start + _BATCH]]
        packed = layout.pack(*(np.stack(arrays) for arrays in zip(*parts, strict=True)))
        rows = mapper.standardised(torch.from_numpy(packed))
        surprise = mapper.check.surprise(rows.numpy(), mapper.encoder(rows, None).numpy()).mean(axis=1)
        first = layout.state_action.stop
        found.append(np.stack([surprise[:, :first].sum(axis=1), surprise[:, first:].sum(axis=1)], axis=1))
    return np.concatenate(found).astype(np.float64) if found else np.zeros((0, 2))


def _nothing(mapper: Mapper) -> _Slip:
    """No slip."""
    seen, acted = mapper.base.spec.observation_size, mapper.base.spec.action_size
    return _Slip("", np.arange(seen), np.arange(acted), np.ones(seen), np.ones(acted))


def _possible(mapper: Mapper, rollout: Rollout, names: tuple[str, ...]) -> Iterator[_Slip]:
    """Slips to try."""
    nothing = _nothing(mapper)
    yield from _units(mapper, rollout, names, nothing)
    yield from _orders(rollout.family, names, nothing)


def _units(mapper: Mapper, rollout: Rollout, names: tuple[str, ...], nothing: _Slip) -> Iterator[_Slip]:
    """Factors of single columns, of all observations and of all actions, where a column is far too wide or narrow.

    Columns that hardly move surprise no one, so that a factor that is not called for would always seem to help.
    """
    columns = _columns(mapper, rollout, names, rollout)
    seen, acted = len(nothing.observations), len(nothing.actions)
    groups = {"all observations": names[:seen], "all actions": names[seen : seen + acted]}
    for factor in _FACTORS:
        fits = np.array([_called_for(column, factor) for column in columns])
        for at in np.flatnonzero(fits[:seen]):
            scale = np.where(np.arange(seen) == at, factor, 1.0)
            yield nothing._replace(sentence=_unit_sentence(names[at], factor), seen_scale=scale)
        for at in np.flatnonzero(fits[seen : seen + acted]):
            scale = np.where(np.arange(acted) == at, factor, 1.0)
            yield nothing._replace(sentence=_unit_sentence(names[seen + at], factor), action_scale=scale)
        if fits[seen + acted :].any():
            yield nothing._replace(sentence=_unit_sentence("rewards", factor), reward_scale=factor)
        if seen > 1 and fits[:seen].mean() > 0.5:
            sentence = _unit_sentence("all observations", factor, groups["all observations"])
            yield nothing._replace(sentence=sentence, seen_scale=np.full(seen, factor))
        if acted > 1 and fits[seen : seen + acted].mean() > 0.5:
            sentence = _unit_sentence("all actions", factor, groups["all actions"])
            yield nothing._replace(sentence=sentence, action_scale=np.full(acted, factor))


def _called_for(column: Column, factor: float) -> bool:
    """Whether a column needs such a factor by its statistics alone: in its units it would be usual."""
    if factor < 1.0:
        return column.distance > _FAR
    return column.std < column.usual_std / _FAR and column.distance < _FAR


def _unit_sentence(name: str, factor: float, columns: tuple[str, ...] = ()) -> str:
    """What seems wrong with a column, or with several, and the flag that mends it."""
    size, times = ("large", 1.0 / factor) if factor < 1.0 else ("small", factor)
    unit = "degrees" if factor == _DEGREES else f"{factor:.6g}"
    guess = {_DEGREES: ", as degrees are", 1e-3: ", as millimetres are"}.get(factor, "")
    seem = "seem" if columns or name == "rewards" else "seems"
    return f"{name} {seem} {times:,.4g} times too {size}{guess}: --units {_pattern(columns or (name,))}={unit}"


def _pattern(columns: tuple[str, ...]) -> str:
    """A name for several columns on the command line."""
    whole = {name.partition("[")[0] for name in columns}
    if len(columns) > 1 and len(whole) == 1:
        return whole.pop()
    prefix = commonprefix(columns)  # noqa: RUF071  # of characters
    return columns[0] if len(columns) == 1 else f"'{prefix}*'" if prefix else "COLUMN"


def _orders(family: str, names: tuple[str, ...], nothing: _Slip) -> Iterator[_Slip]:
    """Two columns in each other's place, or two joints with position, velocity and action; halves; the reverse."""
    seen, acted = len(nothing.observations), len(nothing.actions)
    for first in range(seen):
        for second in range(first):
            yield nothing._replace(
                sentence=_swap_sentence("observations", names[second], names[first]),
                observations=_swapped(seen, [(first, second)]),
            )
    for first in range(acted):
        for second in range(first):
            yield nothing._replace(
                sentence=_swap_sentence("actions", names[seen + second], names[seen + first]),
                actions=_swapped(acted, [(first, second)]),
            )
    joints = _joints(family)
    if joints is None or len(joints) < 2:
        return
    count = len(joints)
    orders = {f"joints {one} and {other}": [(one, other)] for one in range(count) for other in range(one)}
    orders["the two halves of the joints"] = [(one, one + count // 2) for one in range(count // 2)]
    orders["the joints from first to last"] = [(one, count - 1 - one) for one in range(count // 2)]
    for what, pairs in orders.items():
        columns = [(joints[one][part], joints[other][part]) for one, other in pairs for part in (0, 1)]
        yield nothing._replace(
            sentence=f"{what} seem to be exchanged: name columns of observations and actions in the family's order",
            observations=_swapped(seen, columns),
            actions=_swapped(acted, pairs),
        )


def _swapped(size: int, pairs: list[tuple[int, int]]) -> NDArray[np.intp]:
    order = np.arange(size)
    for one, other in pairs:
        order[[one, other]] = order[[other, one]]
    return order


def _swap_sentence(role: str, first: str, second: str) -> str:
    return f"{first} and {second} seem to be exchanged: name the columns in the family's order, --columns {role}=..."


def _joints(family: str) -> list[tuple[int, int]] | None:
    """Places of position and velocity of each actuated joint in an observation; None if they are not known."""
    found = get_family(family)
    hidden = found.unobserved_positions
    if hidden is None:
        return None
    model = found.base_model
    if (model.actuator_trntype != mujoco.mjtTrn.mjTRN_JOINT).any():
        return None
    joints = model.actuator_trnid[:, 0]
    places = [
        (int(model.jnt_qposadr[joint]) - hidden, int(model.nq) - hidden + int(model.jnt_dofadr[joint]))
        for joint in joints
    ]
    return places if all(position >= 0 and velocity < found.observation_size for position, velocity in places) else None

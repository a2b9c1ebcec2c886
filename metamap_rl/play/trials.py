"""Replays of trials: what controllers did while tasks changed, and what policies did in one task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_envs.family import Family
from metamap_envs.task import Task
from metamap_rl.adaptation.service.belief import Belief
from metamap_rl.adaptation.service.trial import Trial
from metamap_rl.play.describing import belief_json, setup_of
from metamap_rl.play.recording import Frame, Recording
from metamap_rl.play.scene import scene_of
from metamap_rl.viz.joints import conditions_of, joints_of

__all__ = ["PolicyLane", "replay_of", "replay_of_policies"]

_LANES = {
    "base": ("base", "base policy"),
    "adapter": ("generated", "generated policy: adapter in service"),
    "oracle": ("expert", "expert: universal policy, given the parameters"),
}
_EVERY = 5  # steps between two beliefs while the task stays


@dataclass(frozen=True, eq=False)
class PolicyLane:
    """What one policy did.

    Attributes:
        key: "base", "generated" or "expert".
        title: what it is, in a few words.
        trial: with positions; its first environment is shown.
    """

    key: str
    title: str
    trial: Trial


@dataclass(frozen=True)
class _Moment:
    """What a step brings, besides motion: news, and the adapter's state."""

    told: Mapping[str, Any]
    belief: Belief = field(default_factory=Belief)
    surprise: float | None = None


def replay_of(
    family: Family, tasks: Sequence[Task], trials: Mapping[str, Trial], surprises: Sequence[float | None] = ()
) -> dict[str, Any]:
    """Document of a replay of the first environment of trials that saw the same tasks.

    Args:
        family: of the tasks.
        tasks: task of each step [n].
        trials: by name: "base", "adapter" and perhaps "oracle", with positions; others are left out.
        surprises: of the adapter after each step [n]; empty where none was measured.
    """
    lanes = [PolicyLane(*_LANES[name], trials[name]) for name in _LANES if name in trials]
    beliefs = [row[0] for row in trials["adapter"].beliefs]
    moments = [
        _Moment({"belief": belief_json(belief)} if new or not step % _EVERY else {}, belief, surprise)
        for step, (belief, new, surprise) in enumerate(
            zip(beliefs, _changes(tasks), surprises or [None] * len(tasks), strict=True)
        )
    ]
    return _document(family, tasks, lanes, moments)


def replay_of_policies(
    family: Family, task: Task, lanes: Sequence[PolicyLane], *, transitions: int, sentence: str
) -> dict[str, Any]:
    """Document of a replay of policies that act in one task, each with the same start.

    Args:
        family: of the task.
        task: the task.
        lanes: from left to right.
        transitions: of D, from which the generated policy was mapped.
        sentence: where the generated policy comes from.
    """
    belief: dict[str, Any] = {
        "mode": "one-shot",
        "served": "generated",
        "sentence": sentence,
        "estimates": {},
        "confidence": None,
        "length": transitions,
    }
    steps = len(lanes[0].trial.rewards)
    return _document(family, [task] * steps, lanes, [_Moment({"belief": belief}), *[_Moment({})] * (steps - 1)])


def _changes(tasks: Sequence[Task]) -> list[bool]:
    """Whether the task is new in each step."""
    return [step == 0 or task != tasks[step - 1] for step, task in enumerate(tasks)]


def _document(
    family: Family, tasks: Sequence[Task], lanes: Sequence[PolicyLane], moments: Sequence[_Moment]
) -> dict[str, Any]:
    """A document of lanes from the moment of each step; changes of the task are told, too."""
    changes = _changes(tasks)
    returns = [_returns(lane.trial.rewards[:, 0], changes) for lane in lanes]
    episodes = [np.concatenate([[0], np.cumsum(lane.trial.ended[:-1, 0])]) for lane in lanes]
    scenes, joints, recording = _Scenes(family), joints_of(family), Recording(len(tasks))
    for step, (task, moment) in enumerate(zip(tasks, moments, strict=True)):
        news = dict(moment.told)
        if changes[step]:
            news |= {"task": dict(task.parameters), "conditions": conditions_of(family, task, joints), "code": ""}
            news["titles"] = [lane.title for lane in lanes]
        recording.add(
            Frame(
                step=step,
                positions=[lane.trial.positions[step + 1][0] for lane in lanes],
                rewards=[float(lane.trial.rewards[step, 0]) for lane in lanes],
                returns=[float(one[step]) for one in returns],
                episodes=[int(one[step]) for one in episodes],
                scene=scenes.index(task),
                surprise=moment.surprise,
                window=moment.belief.window,
                swaps=moment.belief.swaps,
                changes=moment.belief.changes,
                news=news,
            )
        )
    setup = setup_of(family, joints, [lane.key for lane in lanes])
    return {"setup": setup, "scenes": scenes.known, "recording": recording.to_json()}


def _returns(rewards: NDArray[np.float64], changes: Sequence[bool]) -> NDArray[np.float64]:
    """Sum of the rewards since the latest change, at each step [n]."""
    sums = np.cumsum(rewards)
    begin = np.maximum.accumulate(np.where(changes, np.arange(len(rewards)), 0))
    found: NDArray[np.float64] = sums - sums[begin] + rewards[begin]
    return found


class _Scenes:
    """Scenes of tasks, each once."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._of: dict[Task, int] = {}
        self.known: dict[int, dict[str, Any]] = {}

    def index(self, task: Task) -> int:
        if task not in self._of:
            scene = scene_of(self._family.model(task))
            same = [index for index, known in self.known.items() if known == scene]
            self._of[task] = same[0] if same else len(self.known)
            self.known[self._of[task]] = scene
        return self._of[task]

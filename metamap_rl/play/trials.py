"""Replays of trials of service: what controllers did while tasks changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_envs.family import Family
from metamap_envs.task import Task
from metamap_rl.adaptation.service.trial import Trial
from metamap_rl.play.describing import belief_json, setup_of
from metamap_rl.play.recording import Frame, Recording
from metamap_rl.play.scene import scene_of
from metamap_rl.viz.joints import conditions_of, joints_of

__all__ = ["replay_of"]

_LANES = {
    "base": ("base", "base policy"),
    "adapter": ("generated", "generated policy: adapter in service"),
    "oracle": ("expert", "expert: universal policy, given the parameters"),
}
_EVERY = 5  # steps between two beliefs while the task stays


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
    shown = {name: trials[name] for name in _LANES if name in trials}
    changes = [step == 0 or task != tasks[step - 1] for step, task in enumerate(tasks)]
    returns = [_returns(trial.rewards[:, 0], changes) for trial in shown.values()]
    episodes = [np.concatenate([[0], np.cumsum(trial.ended[:-1, 0])]) for trial in shown.values()]
    scenes, joints, recording = _Scenes(family), joints_of(family), Recording(len(tasks))
    for step, task in enumerate(tasks):
        belief = trials["adapter"].beliefs[step][0]
        news: dict[str, Any] = {} if step % _EVERY and not changes[step] else {"belief": belief_json(belief)}
        if changes[step]:
            news |= {"task": dict(task.parameters), "conditions": conditions_of(family, task, joints), "code": ""}
            news["titles"] = [_LANES[name][1] for name in shown]
        recording.add(
            Frame(
                step=step,
                positions=[trial.positions[step + 1][0] for trial in shown.values()],
                rewards=[float(trial.rewards[step, 0]) for trial in shown.values()],
                returns=[float(one[step]) for one in returns],
                episodes=[int(one[step]) for one in episodes],
                scene=scenes.index(task),
                surprise=surprises[step] if surprises else None,
                window=belief.window,
                swaps=belief.swaps,
                changes=belief.changes,
                news=news,
            )
        )
    setup = setup_of(family, joints, [_LANES[name][0] for name in shown])
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

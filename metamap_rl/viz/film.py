"""Films: robots side by side at 60 frames a second, with what is hidden marked on them, in one or more takes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError
from metamap_envs.family import Family
from metamap_envs.task import Task
from metamap_rl.viz.drawing import Drawer, Picture, Renderer, View, make_drawer
from metamap_rl.viz.frames import SIDE, Cell, Gauge, Lane, Layout, Tone
from metamap_rl.viz.joints import joints_of
from metamap_rl.viz.marks import Colour, Marks, marks_of, task_words
from metamap_rl.viz.reels import Reel
from metamap_rl.viz.video import OnFrame, Video, encode

__all__ = ["FPS", "Banner", "Take", "write_film"]

FPS = 60.0
"""Frames a second; between two steps of the simulation, positions are interpolated."""

_SMOOTHED = 0.3  # s over which a speed is averaged
_GEOMETRY = ("body_pos", "geom_size", "geom_pos", "geom_rgba", "site_pos")


@dataclass(frozen=True)
class Banner:
    """A line below the robots.

    Attributes:
        start: step from which on it is shown.
        text: the line; "{seconds}" stands for the time since the take began.
        tone: "alarm" frames the pictures, too.
    """

    start: int
    text: str
    tone: Tone = "plain"


@dataclass(frozen=True, eq=False)
class Take:
    """A stretch of a film.

    Attributes:
        tasks: task of each of n steps, at least one; the last holds for longer reels.
        reels: of each lane; one that is over holds its last place.
        banners: in the order of their starts.
        waiting: indices of lanes that are shown in the dark.
        hold: seconds for which the last frame stands.
    """

    tasks: Sequence[Task]
    reels: Sequence[Reel]
    banners: Sequence[Banner] = ()
    waiting: frozenset[int] = frozenset()
    hold: float = 0.0

    @property
    def steps(self) -> int:
        """Number of steps."""
        return max(len(reel) for reel in self.reels)

    def returns(self) -> list[NDArray[np.float64]]:
        """Sum of rewards since the latest change of the task, of each lane after each step [len + 1]."""
        changes = np.array([step for step in range(1, len(self.tasks)) if self.tasks[step] != self.tasks[step - 1]])
        found = []
        for reel in self.reels:
            sums = np.concatenate([[0.0], np.cumsum(reel.rewards)])
            since = np.zeros(len(sums), dtype=np.intp)
            for change in changes[changes < len(sums)]:
                since[change + 1 :] = change
            found.append(sums - sums[since])
        return found


def write_film(
    path: str | Path,
    family: Family,
    lanes: Sequence[Lane],
    takes: Sequence[Take],
    *,
    renderer: Renderer = "auto",
    on_frame: OnFrame | None = None,
) -> Video:
    """Write takes one after another as an mp4 (H.264).

    Args:
        path: must end in ``.mp4``; written whole or not at all.
        family: of all tasks.
        lanes: from left to right.
        takes: at least one, with a reel for each lane.
        renderer: MuJoCo's, a flat drawing in software, or the first that works.
        on_frame: progress.

    Raises:
        MetaMapError: another suffix, no takes, another number of reels, no ffmpeg, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix != ".mp4":
        raise MetaMapError(f"{path}: expected a name that ends in .mp4")
    if not takes or any(len(take.reels) != len(lanes) for take in takes):
        raise MetaMapError(f"film: expected at least one take, with {len(lanes)} reels each")
    film = _Film(family, lanes, takes, renderer)
    try:
        encode(path, film.frames(), film.count, film.layout.size, FPS, on_frame)
    finally:
        film.close()
    returns = tuple(float(one[-1]) for one in takes[-1].returns())
    return Video(path, film.count, FPS, film.layout.size, film.renderer, returns)


class _Film:
    """Draws the frames of a film."""

    def __init__(self, family: Family, lanes: Sequence[Lane], takes: Sequence[Take], renderer: Renderer) -> None:
        self._family, self._takes, self._asked = family, takes, renderer
        self.layout, self._joints = Layout(lanes), joints_of(family)
        self._model = family.model(takes[0].tasks[0])
        self._drawer: Drawer = make_drawer(self._model, *SIDE, renderer)
        self.renderer = self._drawer.name
        self._view = View.of(self._model)
        self._marks: dict[Task, tuple[Marks, list[tuple[str, Colour | None]]]] = {}
        self._latest: dict[int, tuple[object, Picture]] = {}
        self._speeds = [[self._speed(reel) for reel in take.reels] for take in takes]
        known = [speeds for take in self._speeds for speeds in take if speeds is not None]
        self._slowest = min((float(speeds.min()) for speeds in known), default=0.0)
        self._fastest = max((float(speeds.max()) for speeds in known), default=1.0)
        self.count = sum(len(self._places(take)) for take in takes)

    def close(self) -> None:
        self._drawer.close()

    def _places(self, take: Take) -> NDArray[np.float64]:
        """Step, with its fraction, of each frame."""
        seconds = take.steps * self._family.step_seconds
        moving = np.arange(math.ceil(seconds * FPS - 1e-9)) / FPS / self._family.step_seconds
        return np.concatenate([moving, np.full(1 + round(take.hold * FPS), float(take.steps))])

    def _speed(self, reel: Reel) -> NDArray[np.float64] | None:
        """Forward speed after each step [len + 1], m/s, a running mean; None for a robot that stays in place."""
        if not self._view.root or self._view.flies:
            return None
        model, seconds = self._model, self._family.step_seconds
        joint = int(model.body_jntadr[self._view.root])
        start, free = int(model.jnt_qposadr[joint]), model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_FREE.value
        moved = np.diff(reel.positions[:, start : start + (2 if free else 1)], axis=0)
        away = np.linalg.norm(moved, axis=1) if free else moved[:, 0]
        share = 1.0 - math.exp(-seconds / _SMOOTHED)
        speeds = np.zeros(len(reel) + 1)
        for step in range(len(reel)):
            jumped = step and reel.ended[step - 1]
            speeds[step + 1] = speeds[step] if jumped else speeds[step] + share * (away[step] / seconds - speeds[step])
        return speeds

    def frames(self) -> Iterator[Picture]:
        """Every frame, uint8 [height, width, 3]."""
        for take, speeds in zip(self._takes, self._speeds, strict=True):
            returns = take.returns()
            for place in self._places(take):
                yield self._frame(take, float(place), returns, speeds)

    def _frame(
        self,
        take: Take,
        place: float,
        returns: Sequence[NDArray[np.float64]],
        speeds: Sequence[NDArray[np.float64] | None],
    ) -> Picture:
        step = int(place)
        task = take.tasks[min(step, len(take.tasks) - 1)]
        self._look(task)
        marks, words = self._shown(task)
        cells = []
        for lane, reel in enumerate(take.reels):
            now, own = min(step, len(reel)), speeds[lane]
            caption = reel.captions[min(now, len(reel.captions) - 1)] if reel.captions else ""
            value = float(returns[lane][now]) if len(reel) else None
            speed = None if own is None or not len(reel) else float(own[now])
            picture = self._picture(lane, positions_at(self._model, reel, place), marks)
            cells.append(Cell(picture, value, caption, speed, lane in take.waiting))
        banner = max(
            (one for one in take.banners if one.start <= step), key=lambda one: one.start, default=Banner(0, "")
        )
        text = banner.text.replace("{seconds}", f"{place * self._family.step_seconds:.1f} s")
        return self.layout.compose(cells, (text, banner.tone), words, self._gauge(task))

    def _picture(self, lane: int, qpos: NDArray[np.float64], marks: Marks) -> Picture:
        """Drawing of a lane, made anew only where something moves."""
        key = qpos.tobytes(), marks
        if lane not in self._latest or self._latest[lane][0] != key:
            self._latest[lane] = key, self._drawer.draw(qpos, marks)
        return self._latest[lane][1]

    def _shown(self, task: Task) -> tuple[Marks, list[tuple[str, Colour | None]]]:
        """What a task hides, as marks and in words."""
        if task not in self._marks:
            given = self._family, task, self._joints
            self._marks[task] = marks_of(*given), task_words(*given)
        return self._marks[task]

    def _gauge(self, task: Task) -> Gauge:
        target = dict(task.parameters).get("target_velocity")
        return Gauge(min(0.0, self._slowest, target or 0.0), max(0.5, self._fastest, target or 0.0), target)

    def _look(self, task: Task) -> None:
        """Draw the model of a task from here on."""
        model = self._family.model(task)
        if _looks_different(self._model, model):
            self._drawer.close()
            self._drawer = make_drawer(model, *SIDE, self._asked)
            self._latest = {}
        self._model = model


def positions_at(model: mujoco.MjModel, reel: Reel, place: float) -> NDArray[np.float64]:
    """Positions [nq] between two steps; none between the end of an episode and the next one's."""
    step = min(int(place), len(reel))
    share = place - step
    found: NDArray[np.float64] = reel.positions[step].copy()
    if step >= len(reel) or share < 1e-9 or (step and reel.ended[step - 1]):
        return found
    moved = np.zeros(model.nv)
    mujoco.mj_differentiatePos(model, moved, 1.0, reel.positions[step], reel.positions[step + 1])
    mujoco.mj_integratePos(model, found, moved, share)
    return found


def _looks_different(one: mujoco.MjModel, other: mujoco.MjModel) -> bool:
    if one is other:
        return False
    return any(not np.array_equal(getattr(one, name), getattr(other, name)) for name in _GEOMETRY)

"""Recordings of what the player showed: positions in 16 bits, everything else as numbers; about 11 kB an episode."""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError

__all__ = ["Frame", "Recording"]

_LEVELS = 65_535  # of a number of 16 bits
_LONGEST = 20_000  # frames of a recording that was given no length


@dataclass(frozen=True)
class Frame:
    """One step of all lanes.

    Attributes:
        step: environment steps since the player began.
        positions: qpos of each lane [lanes][nq].
        rewards: of the step, of each lane.
        returns: since the last change of the task or restart, of each lane.
        episodes: number of the episode of each lane; no motion is drawn from one to the next.
        scene: index of the scene that is drawn.
        surprise: of the generated lane; None where it is unknown.
        window: transitions of the adapter's window; 0 in a one-shot.
        swaps: changes of the generated lane's weights so far.
        changes: changes of the task that the adapter found so far.
        news: what else is new since the frame before, by name; empty in most frames.
    """

    step: int
    positions: Sequence[NDArray[np.float64]]
    rewards: Sequence[float]
    returns: Sequence[float]
    episodes: Sequence[int]
    scene: int = 0
    surprise: float | None = None
    window: int = 0
    swaps: int = 0
    changes: int = 0
    news: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As JSON values, rounded to what can be seen."""
        return {
            "t": "frame",
            "n": self.step,
            "q": [np.round(one, 4).tolist() for one in self.positions],
            "d": [round(one, 3) for one in self.rewards],
            "r": [round(one, 2) for one in self.returns],
            "e": list(self.episodes),
            "s": self.scene,
            "u": None if self.surprise is None else round(self.surprise, 3),
            "w": self.window,
            "swaps": self.swaps,
            "changes": self.changes,
        }


class Recording:
    """The latest frames.

    Args:
        longest: number of frames that are kept.
    """

    def __init__(self, longest: int = _LONGEST) -> None:
        self.frames: deque[Frame] = deque(maxlen=longest)
        self._before: dict[str, Any] = {}

    def add(self, frame: Frame) -> None:
        """Append a frame; what the oldest one told stays known."""
        if len(self.frames) == self.frames.maxlen:
            self._before |= self.frames[0].news
        self.frames.append(frame)

    def to_json(self) -> dict[str, Any]:
        """As JSON values: columns of the frames, positions and rewards packed.

        Raises:
            MetaMapError: nothing was recorded.
        """
        frames = list(self.frames)
        if not frames:
            raise MetaMapError("recording: expected at least one step")
        lanes = range(len(frames[0].positions))
        news = [{"at": index, **frame.news} for index, frame in enumerate(frames) if frame.news]
        return {
            "count": len(frames),
            "q": [_packed(np.stack([frame.positions[lane] for frame in frames])) for lane in lanes],
            "d": _packed(np.array([frame.rewards for frame in frames])),
            "r": _packed(np.array([frame.returns for frame in frames])),
            "u": _packed(np.array([[-1.0 if frame.surprise is None else frame.surprise] for frame in frames])),
            "e": [_runs([frame.episodes[lane] for frame in frames]) for lane in lanes],
            "s": _runs([frame.scene for frame in frames]),
            "w": _packed(np.array([[frame.window] for frame in frames], dtype=np.float64)),
            "swaps": _runs([frame.swaps for frame in frames]),
            "changes": _runs([frame.changes for frame in frames]),
            "news": [{"at": 0, **self._before}, *news],
        }


def _packed(columns: NDArray[np.float64]) -> dict[str, Any]:
    """Columns [n, C] as 16-bit numbers between each column's ends, in base64."""
    low, high = columns.min(axis=0), columns.max(axis=0)
    span = high - low
    scaled = np.round((columns - low) / np.where(span > 0, span, 1.0) * _LEVELS).astype("<u2")
    return {
        "low": np.round(low, 6).tolist(),
        "span": np.round(span, 6).tolist(),
        "data": base64.b64encode(scaled.tobytes()).decode(),
    }


def _runs(values: Sequence[int]) -> list[list[int]]:
    """[index, value] wherever a value begins."""
    return [[index, value] for index, value in enumerate(values) if not index or value != values[index - 1]]

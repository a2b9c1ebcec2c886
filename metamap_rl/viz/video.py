"""Side-by-side videos: two policies on one task, from the same starts, with captions."""

from __future__ import annotations

import math
import secrets
import textwrap
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from metamap_agents.runtime.seeds import EVALUATION_SEED
from metamap_envs.env import FamilyEnv
from metamap_envs.errors import MetaMapError
from metamap_envs.registry import get_family
from metamap_envs.seeds import read_seed
from metamap_envs.task import Task
from metamap_rl.viz.drawing import Drawer, Picture, Renderer, make_drawer

__all__ = ["Film", "Predictor", "Side", "Video", "compare", "describe_task", "encode", "record_film"]

OnFrame = Callable[[int, int], None]
"""Called after each frame with (frames written, frames in all)."""

_SIDE = (384, 288)  # pixels of one picture, both even
_TOP, _LINE, _PAD = 36, 18, 8  # pixels: height of the captions above, of a line below, and space around text
_COLUMNS = 104  # characters of a line below
_LONGEST_FPS = 30.0  # of families with short steps, every second or third step is a frame
_SECONDS = 4.0  # short episodes are repeated, from other starts, until a video lasts as long
_BAR, _TEXT, _DIM = (24, 28, 34), (245, 245, 245), (176, 186, 196)


class Predictor(Protocol):
    """Anything with Stable-Baselines3's ``predict``."""

    def predict(self, observation: NDArray[Any], /) -> tuple[NDArray[Any], Any]:
        """Action [A] of an observation [O], and a state that is not used."""
        ...


@dataclass(frozen=True)
class Side:
    """One half of a video: a policy and its caption."""

    name: str
    policy: Predictor


@dataclass(frozen=True)
class Film:
    """A recorded episode.

    Attributes:
        positions: qpos at the start and after each of n steps, float64 [n + 1, nq].
        returns: return so far, float64 [n + 1].
    """

    positions: NDArray[np.float64]
    returns: NDArray[np.float64]


@dataclass(frozen=True)
class Video:
    """Description of a written video.

    Attributes:
        path: the file.
        frames: number of frames.
        fps: frames per second; the video runs in real time.
        size: width and height, pixels.
        renderer: the renderer, "mujoco" or "planar".
        returns: of each side's episodes, [2][episodes].
    """

    path: Path
    frames: int
    fps: float
    size: tuple[int, int]
    renderer: str
    returns: tuple[tuple[float, ...], tuple[float, ...]]


def record_film(task: Task, policy: Predictor, *, seed: int) -> Film:
    """Run one episode of the family's horizon, from the start that a reset with ``seed`` gives."""
    seed = read_seed(seed)
    env = FamilyEnv(task.family, task=task)
    observation, _ = env.reset(seed=seed)
    positions, returns = [env.data.qpos.copy()], [0.0]
    for _ in range(env.family.horizon):
        action, _ = policy.predict(observation)
        observation, reward, terminated, _, _ = env.step(action)
        positions.append(env.data.qpos.copy())
        returns.append(returns[-1] + reward)
        if terminated:
            break
    env.close()
    return Film(np.stack(positions), np.array(returns))


def compare(
    path: str | Path,
    task: Task,
    left: Side,
    right: Side,
    *,
    episodes: int = 0,
    seed: int = EVALUATION_SEED,
    renderer: Renderer = "auto",
    on_frame: OnFrame | None = None,
) -> Video:
    """Record two policies side by side on one task, each episode from the same start, as an mp4 (H.264).

    Args:
        path: must end in ``.mp4``; written whole or not at all.
        task: the task.
        left: shown on the left.
        right: shown on the right.
        episodes: number of episodes in sequence; 0 takes as many as last 4 seconds.
        seed: of the first episode's reset; episode e has ``seed + e``, as in the evaluation.
        renderer: MuJoCo's, a flat drawing in software, or the first that works.
        on_frame: progress.

    Raises:
        MetaMapError: another suffix, a negative number of episodes, no ffmpeg, or the file cannot be written.
    """
    seed = read_seed(seed)
    path = Path(path)
    if path.suffix != ".mp4":
        raise MetaMapError(f"{path}: expected a name that ends in .mp4")
    if episodes < 0:
        raise MetaMapError(f"the number of episodes must be 0 (as many as last {_SECONDS:g} s) or more, got {episodes}")
    family = get_family(task.family)
    stride = math.ceil(1.0 / (family.step_seconds * _LONGEST_FPS) - 1e-9)
    count = episodes or max(1, math.ceil(_SECONDS / (family.horizon * family.step_seconds) - 1e-9))
    films = [[record_film(task, side.policy, seed=seed + e) for e in range(count)] for side in (left, right)]
    places = _places(films, stride)
    layout = _Layout(task, (left.name, right.name))
    drawer = make_drawer(family.model(task), *_SIDE, renderer)
    try:
        frames = _frames(films, places, layout, drawer)
        fps = 1.0 / (family.step_seconds * stride)
        encode(path, frames, len(places), layout.size, fps, on_frame)
    finally:
        drawer.close()
    first, second = (tuple(float(film.returns[-1]) for film in side) for side in films)
    return Video(path, len(places), fps, layout.size, drawer.name, (first, second))


def _places(films: Sequence[Sequence[Film]], stride: int) -> list[tuple[int, int]]:
    """(episode, step) of each frame, including each last step; a side that ended earlier holds its last frame."""
    places = []
    for episode, pair in enumerate(zip(*films, strict=True)):
        last = max(len(film.returns) for film in pair) - 1
        places += [(episode, min(step, last)) for step in range(0, last + stride, stride)]
    return places


def _frames(
    films: Sequence[Sequence[Film]], places: Sequence[tuple[int, int]], layout: _Layout, drawer: Drawer
) -> Iterator[Picture]:
    """Draw every frame."""
    for episode, step in places:
        pictures, returns = [], []
        for side in films:
            film = side[episode]
            now = min(step, len(film.returns) - 1)
            pictures.append(drawer.draw(film.positions[now]))
            returns.append(float(film.returns[now]))
        number = f"episode {episode + 1} of {len(films[0])}" if len(films[0]) > 1 else ""
        yield layout.compose(pictures, returns, number)


class _Layout:
    """Layout of a frame: captions above, two pictures, the task below."""

    def __init__(self, task: Task, names: Sequence[str]) -> None:
        width, height = _SIDE
        lines = textwrap.wrap(describe_task(task), _COLUMNS, break_on_hyphens=False)
        below = 2 * _PAD + _LINE * (1 + len(lines))
        self.size = (2 * width, _TOP + height + below + below % 2)
        self._large, self._small = ImageFont.load_default(16), ImageFont.load_default(13)
        self._empty = Image.new("RGB", self.size, _BAR)
        pen = ImageDraw.Draw(self._empty)
        for side, name in enumerate(names):
            pen.text((side * width + _PAD, _TOP // 2), name, _TEXT, self._large, anchor="lm")
        for row, line in enumerate([f"{task.family}, both from the same start", *lines]):
            top = _TOP + height + _PAD + row * _LINE
            pen.text((_PAD, top), line, _DIM if row else _TEXT, self._small)

    def compose(self, pictures: Sequence[Picture], returns: Sequence[float], number: str) -> Picture:
        """One frame, uint8 [height, width, 3]."""
        width, height = _SIDE
        frame = self._empty.copy()
        pen = ImageDraw.Draw(frame)
        for side, (picture, value) in enumerate(zip(pictures, returns, strict=True)):
            frame.paste(Image.fromarray(picture), (side * width, _TOP))
            right = (side + 1) * width - _PAD
            pen.text((right, _TOP // 2), f"return {value:.1f}", _TEXT, self._large, anchor="rm")
        pen.line((width, 0, width, _TOP + height - 1), fill=_BAR, width=2)
        pen.text((2 * width - _PAD, _TOP + height + _PAD), number, _DIM, self._small, anchor="ra")
        return np.asarray(frame)


def describe_task(task: Task) -> str:
    """A task's parameters with their units, e.g. "target_velocity = 1.25 m/s"."""
    units = {parameter.name: parameter.unit for parameter in get_family(task.family).space.parameters}
    parts = [
        f"{name} = {value:.3g}{'' if units[name] in ('', '1') else f' {units[name]}'}"
        for name, value in task.parameters
    ]
    return ", ".join(parts)


def encode(
    path: Path,
    frames: Iterable[Picture],
    count: int,
    size: tuple[int, int],
    fps: float,
    on_frame: OnFrame | None,
) -> None:
    """Pass frames to ffmpeg one by one; the file gets its name when it is complete."""
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(8)}.tmp.mp4")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _send(_ffmpeg(temporary, size, fps), frames, count, on_frame)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:  # imageio_ffmpeg: no program, or it died
        raise MetaMapError(f"{path}: the video cannot be written ({error})") from error


def _ffmpeg(path: Path, size: tuple[int, int], fps: float) -> Generator[None, Any, None]:
    """Start an encoder."""
    writer: Generator[None, Any, None] = imageio_ffmpeg.write_frames(
        str(path),
        size,
        fps=fps,
        codec="libx264",
        pix_fmt_out="yuv420p",  # what every player knows; needs even sizes
        macro_block_size=2,
        quality=7,
        ffmpeg_log_level="error",
        output_params=["-movflags", "+faststart"],
    )
    return writer


def _send(writer: Generator[None, Any, None], frames: Iterable[Picture], count: int, on_frame: OnFrame | None) -> None:
    try:
        writer.send(None)  # starts ffmpeg
        for done, frame in enumerate(frames, start=1):
            writer.send(np.ascontiguousarray(frame))
            if on_frame is not None:
                on_frame(done, count)
    finally:
        writer.close()

"""Videos as files: H.264 by ffmpeg, written whole or not at all."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np

from metamap_envs.errors import MetaMapError
from metamap_rl.viz.drawing import Picture

__all__ = ["OnFrame", "Video", "encode"]

OnFrame = Callable[[int, int], None]
"""Called after each frame with (frames written, frames in all)."""


@dataclass(frozen=True)
class Video:
    """Description of a written film.

    Attributes:
        path: the file.
        frames: number of frames.
        fps: frames per second; robots move in real time.
        size: width and height, pixels.
        renderer: the renderer, "mujoco" or "planar".
        returns: return of each lane in the film's last take.
    """

    path: Path
    frames: int
    fps: float
    size: tuple[int, int]
    renderer: str
    returns: tuple[float, ...]


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

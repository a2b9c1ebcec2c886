"""Videos: pictures of both kinds, frames, captions, and files that appear whole."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
from numpy.typing import NDArray

from metamap_envs import FamilyEnv, MetaMapError, Task, get_family, list_families, opengl
from metamap_rl.viz import video
from metamap_rl.viz.drawing import MujocoDrawer, PlanarDrawer, View, make_drawer
from metamap_rl.viz.video import Side, Video, compare, record_film

SIZE = (160, 120)
ROBOTS = {get_family(name).embodiment: name for name in list_families()}  # those of one embodiment look alike


class Constant:
    """A policy that always does the same."""

    def __init__(self, family: str, value: float) -> None:
        self.action = np.full(get_family(family).action_size, value, dtype=np.float32)

    def predict(self, observation: NDArray[Any], /) -> tuple[NDArray[Any], None]:
        return self.action, None


def sides(family: str) -> tuple[Side, Side]:
    return Side("left", Constant(family, 0.0)), Side("right", Constant(family, 0.6))


def some_task(family: str) -> Task:
    return get_family(family).sample("test-in", 1, 0)[0]


def decode(made: Video) -> NDArray[np.uint8]:
    """All frames, uint8 [F, H, W, 3]."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(made.path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    width, height = made.size
    return np.frombuffer(raw, dtype=np.uint8).reshape(-1, height, width, 3)


@pytest.fixture(scope="session")
def opengl_works() -> bool:
    model = get_family("reacher-goal").base_model
    return make_drawer(model, *SIZE).name == "mujoco"


def test_a_reacher_is_seen_from_above_and_a_cheetah_is_followed_from_the_side() -> None:
    reacher = View.of(get_family("reacher-goal").base_model)
    assert (reacher.above, reacher.root) == (True, 0)
    assert 0.21 < reacher.half_height < 0.35  # the whole reach of the arm, and little more
    cheetah = View.of(get_family("cheetah-velocity").base_model)
    assert (cheetah.above, cheetah.root) == (False, 1)


@pytest.mark.parametrize("family", ROBOTS.values())
@pytest.mark.parametrize("kind", [MujocoDrawer, PlanarDrawer])
def test_both_drawers_show_how_the_robot_moves(
    family: str, kind: type[MujocoDrawer | PlanarDrawer], opengl_works: bool
) -> None:
    if kind is MujocoDrawer and not opengl_works:
        pytest.skip("no OpenGL here")
    film = record_film(some_task(family), Constant(family, 0.6), seed=0)
    drawer = kind(get_family(family).base_model, *SIZE)
    first, again, last = (drawer.draw(film.positions[index]) for index in (0, 0, -1))
    drawer.close()
    assert first.shape == (SIZE[1], SIZE[0], 3)
    assert first.dtype == np.uint8
    assert (first == again).all()
    assert (np.abs(first.astype(int) - last).max(axis=2) > 60).mean() > 0.005
    assert len(np.unique(first.reshape(-1, 3), axis=0)) > 15


def test_the_flat_drawing_shows_the_hidden_target() -> None:
    family = get_family("reacher-goal")
    drawer = PlanarDrawer(family.base_model, *SIZE)
    red = []
    for angle in (0.0, np.pi):
        env = FamilyEnv("reacher-goal", parameters={"goal_radius": 0.18, "goal_angle": angle})
        env.reset(seed=0)
        picture = drawer.draw(env.data.qpos).astype(int)
        place = np.argwhere((picture[..., 0] > 180) & (picture[..., 1] < 90) & (picture[..., 2] < 90))
        assert len(place) > 4
        red.append(place[:, 1].mean())
    assert red[0] > SIZE[0] / 2 > red[1]


def test_the_model_that_is_drawn_is_left_as_it_was() -> None:
    model = get_family("cheetah-velocity").base_model
    before = model.mat_reflectance.copy(), model.vis.quality.shadowsize
    make_drawer(model, *SIZE).close()
    assert (model.mat_reflectance == before[0]).all()
    assert model.vis.quality.shadowsize == before[1]


def test_where_opengl_fails_it_is_drawn_flat(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def fail(*_: object) -> None:
        tried.append(1)
        raise RuntimeError("no driver")

    monkeypatch.setattr("mujoco.Renderer", fail)
    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.setattr(opengl, "_failures", {"egl": ""})
    monkeypatch.setattr(opengl, "_use_in_mujoco", lambda back_end: None)
    model = get_family("reacher-goal").base_model
    assert make_drawer(model, *SIZE).name == "planar"
    with pytest.raises(MetaMapError, match=r"MUJOCO_GL=egl does not draw here .*no driver"):
        make_drawer(model, *SIZE, "mujoco")
    assert len(tried) == 1  # a second try in the same process can abort it
    with pytest.raises(MetaMapError, match="did you mean 'planar'"):
        make_drawer(model, *SIZE, "planer")  # type: ignore[arg-type]


def test_a_film_has_the_returns_of_the_environment() -> None:
    task, policy = some_task("reacher-goal"), Constant("reacher-goal", 0.1)
    film = record_film(task, policy, seed=3)
    env = FamilyEnv(task.family, task=task)
    env.reset(seed=3)
    rewards = [env.step(policy.action)[1] for _ in range(env.family.horizon)]
    assert film.returns == pytest.approx(np.cumsum([0.0, *rewards]))
    assert film.positions.shape == (51, env.model.nq)
    assert (film.positions[-1] == env.data.qpos).all()


@pytest.mark.parametrize("renderer", ["auto", "planar"])
def test_a_video_has_all_frames_and_two_different_halves(tmp_path: Path, renderer: video.Renderer) -> None:
    path = tmp_path / "folder" / "reacher.mp4"
    seen: list[tuple[int, int]] = []
    left, right = sides("reacher-goal")
    made = compare(
        path,
        some_task("reacher-goal"),
        left,
        right,
        episodes=2,
        renderer=renderer,
        on_frame=lambda done, total: seen.append((done, total)),
    )
    frames = decode(made)
    assert made.fps == pytest.approx(25.0)  # steps of 0.02 s, every second one
    assert len(frames) == made.frames == 2 * 26
    assert seen[-1] == (made.frames, made.frames)
    assert not frames.shape[1] % 2
    assert not frames.shape[2] % 2
    half = frames.shape[2] // 2
    top = slice(video._TOP, video._TOP + video._SIDE[1])
    difference = np.abs(frames[20, top, :half].astype(int) - frames[20, top, half:])
    assert (difference.max(axis=2) > 60).mean() > 0.005
    captions = frames[:, : video._TOP].astype(int)
    assert (captions.max(axis=(1, 2, 3)) > 200).all()
    assert np.abs(captions[0] - captions[-1]).max() > 100  # the running return
    assert [len(side) for side in made.returns] == [2, 2]
    assert made.returns[0] != made.returns[1]
    assert [entry.name for entry in path.parent.iterdir()] == ["reacher.mp4"]


@pytest.mark.slow
def test_a_video_of_a_cheetah_runs_in_real_time(tmp_path: Path) -> None:
    left, right = sides("cheetah-actuators")
    made = compare(tmp_path / "c.mp4", some_task("cheetah-actuators"), left, right, renderer="planar")
    assert (made.frames, made.fps) == (201, pytest.approx(20.0))
    assert len(decode(made)) == 201


def test_bad_requests_are_refused(tmp_path: Path) -> None:
    task, both = some_task("reacher-goal"), sides("reacher-goal")
    with pytest.raises(MetaMapError, match=r"ends in .mp4"):
        compare(tmp_path / "a.gif", task, *both)
    with pytest.raises(MetaMapError, match="number of episodes must be 0"):
        compare(tmp_path / "a.mp4", task, *both, episodes=-1)
    (tmp_path / "file").write_text("")
    with pytest.raises(MetaMapError, match="cannot be written"):
        compare(tmp_path / "file" / "a.mp4", task, *both, episodes=1, renderer="planar")


def test_a_stopped_video_leaves_nothing_behind(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    old = tmp_path / "a.mp4"
    old.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        compare(old, some_task("reacher-goal"), *sides("reacher-goal"), episodes=1, renderer="planar", on_frame=stop)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.mp4", b"old")]


def test_no_ffmpeg_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "missing"))
    with pytest.raises(MetaMapError, match="the video cannot be written"):
        compare(tmp_path / "a.mp4", some_task("reacher-goal"), *sides("reacher-goal"), episodes=1, renderer="planar")


def test_the_users_choice_of_opengl_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opengl, "_draws", lambda back_end: False)
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    opengl.choose_opengl()
    assert os.environ["MUJOCO_GL"] == "osmesa"
    monkeypatch.delenv("MUJOCO_GL")
    opengl.choose_opengl()
    assert os.environ["MUJOCO_GL"] == "off"

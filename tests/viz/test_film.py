"""Films: pictures of both kinds, takes, what is marked, and files that appear whole."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import imageio_ffmpeg
import mujoco
import numpy as np
import pytest
from numpy.typing import NDArray

from metamap_envs import FamilyEnv, MetaMapError, Task, get_family, list_families, opengl
from metamap_rl.viz.drawing import MujocoDrawer, PlanarDrawer, Renderer, View, make_drawer
from metamap_rl.viz.film import FPS, Banner, Take, positions_at, write_film
from metamap_rl.viz.frames import SIDE, Lane
from metamap_rl.viz.joints import joints_of
from metamap_rl.viz.marks import marks_of, task_words
from metamap_rl.viz.reels import Act, FilmedEnv, Reel, record_reel
from metamap_rl.viz.video import OnFrame, Video

SIZE = (160, 120)
ROBOTS = {get_family(name).embodiment: name for name in list_families()}  # those of one embodiment look alike


def constant(family: str, value: float) -> Act:
    """A policy that always does the same."""
    action = np.full(get_family(family).action_size, value, dtype=np.float32)
    return lambda observation: action


LANES = (Lane("base", "base policy"), Lane("generated", "generated policy"))


def filmed(
    path: Path,
    task: Task | None = None,
    *,
    steps: int = 6,
    hold: float = 0.0,
    renderer: Renderer = "planar",
    on_frame: OnFrame | None = None,
) -> Video:
    """A film of two constant policies."""
    task = task or some_task("reacher-goal")
    reels = [record_reel(task, constant(task.family, value), seed=0, steps=steps) for value in (0.0, 0.6)]
    take = Take([task], reels, [Banner(0, "one"), Banner(3, "two", "alarm")], hold=hold)
    return write_film(path, get_family(task.family), LANES, [take], renderer=renderer, on_frame=on_frame)


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


def test_a_robot_that_walks_in_any_direction_is_followed_in_any() -> None:
    ant = get_family("ant-goal").base_model
    view, data = View.of(ant), mujoco.MjData(ant)
    data.qpos[:2] = 3.0, -2.0
    mujoco.mj_kinematics(ant, data)
    np.testing.assert_allclose(view.centre_of(data)[:2], data.xpos[view.root, :2])
    assert view.centre_of(data)[2] == view.centre[2]  # and does not hop with it


@pytest.mark.parametrize("family", ROBOTS.values())
@pytest.mark.parametrize("kind", [MujocoDrawer, PlanarDrawer])
def test_both_drawers_show_how_the_robot_moves(
    family: str, kind: type[MujocoDrawer | PlanarDrawer], opengl_works: bool
) -> None:
    if kind is MujocoDrawer and not opengl_works:
        pytest.skip("no OpenGL here")
    film = record_reel(some_task(family), constant(family, 0.6), seed=0, steps=get_family(family).horizon)
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


@pytest.mark.parametrize("kind", [MujocoDrawer, PlanarDrawer])
@pytest.mark.parametrize(
    ("name", "hidden"),
    [
        ("cheetah-actuators", {"sign_fthigh": -1}),
        ("ant-goal", {"goal_radius": 0.5, "goal_angle": 0.0}),
        ("cheetah-direction", {"direction": -1}),
    ],
)
def test_what_is_hidden_is_red_on_the_robot_or_on_the_ground(
    kind: type[MujocoDrawer | PlanarDrawer], name: str, hidden: dict[str, float], opengl_works: bool
) -> None:
    if kind is MujocoDrawer and not opengl_works:
        pytest.skip("no OpenGL here")
    family = get_family(name)
    drawer = kind(family.base_model, *SIDE)
    qpos = family.base_model.qpos0
    marks = marks_of(family, family.task(hidden), joints_of(family))
    plain, marked, again = drawer.draw(qpos), drawer.draw(qpos, marks), drawer.draw(qpos)
    drawer.close()
    assert (plain == again).all(), "marks are those of one picture"
    differs = np.abs(plain.astype(int) - marked).max(axis=2) > 30
    assert differs.mean() > 0.0005
    red, green, _ = np.median(marked[differs].astype(int), axis=0)
    assert red > 1.5 * green


def test_a_task_in_words_has_broken_joints_first_and_no_parameter_twice() -> None:
    family = get_family("cheetah-velocity-actuators")
    task = family.task({"sign_bshin": -1, "strength_ffoot": 0.5, "target_velocity": 1.25})
    words = [text for text, _ in task_words(family, task, joints_of(family))]
    assert words == ["bshin flipped -1", "ffoot weak 0.5", "target_velocity 1.25 m/s"]


def test_a_reel_has_the_rewards_of_the_environment_and_its_ends() -> None:
    task, act = some_task("reacher-goal"), constant("reacher-goal", 0.1)
    horizon = get_family("reacher-goal").horizon
    reel = record_reel(task, act, seed=3, steps=horizon + 2)
    env = FamilyEnv(task.family, task=task)
    observation, _ = env.reset(seed=3)
    rewards = [float(env.step(act(observation))[1]) for _ in range(horizon)]
    assert reel.rewards[:horizon] == pytest.approx(rewards)
    assert (reel.positions[horizon] == env.data.qpos).all()
    assert np.flatnonzero(reel.ended).tolist() == [horizon - 1]
    assert reel.positions.shape == (horizon + 3, env.model.nq)


def test_nothing_moves_between_the_end_of_an_episode_and_the_next() -> None:
    env = FilmedEnv("ant-goal", get_family("ant-goal").task())
    env.reset(seed=0)
    for seed in (1, None):
        env.step(np.zeros(8))
        if seed is not None:
            env.reset(seed=seed)
    reel, model = env.reel(), env.model
    assert reel.ended.tolist() == [True, False]
    middle = positions_at(model, reel, 0.5)
    assert np.linalg.norm(middle[3:7]) == pytest.approx(1.0), "quaternions stay unit"
    assert (middle != reel.positions[0]).any()
    assert (positions_at(model, reel, 1.5) == reel.positions[1]).all()
    assert (positions_at(model, reel, 9.0) == reel.positions[2]).all()


@pytest.mark.parametrize("renderer", ["auto", "planar"])
def test_a_film_has_60_frames_a_second_and_two_different_halves(tmp_path: Path, renderer: Renderer) -> None:
    seen: list[tuple[int, int]] = []
    made = filmed(
        tmp_path / "folder" / "reacher.mp4",
        steps=30,
        hold=0.1,
        renderer=renderer,
        on_frame=lambda done, total: seen.append((done, total)),
    )
    frames = decode(made)
    assert made.fps == FPS == 60.0
    assert len(frames) == made.frames == 36 + 1 + 6  # 30 steps of .02 s, and what is held
    assert seen[-1] == (made.frames, made.frames)
    assert not frames.shape[1] % 2
    assert not frames.shape[2] % 2
    wide = SIDE[0]
    assert frames.shape[2] == 2 * wide
    difference = np.abs(frames[36, :, :wide].astype(int) - frames[36, :, wide:])
    assert (difference.max(axis=2) > 60).mean() > 0.005
    assert np.abs(frames[0].astype(int) - frames[36])[-82:].max() > 100, "the line below tells of the second banner"
    assert made.returns[0] != made.returns[1]
    assert [entry.name for entry in made.path.parent.iterdir()] == ["reacher.mp4"]


def test_returns_count_from_the_latest_change() -> None:
    family = get_family("reacher-goal")
    one, other = family.task(), family.task({"goal_angle": 2.0})
    reel = Reel(np.zeros((5, 4)), np.array([1.0, 2.0, 3.0, 4.0]), np.zeros(4, dtype=np.bool_))
    (found,) = Take([one, one, other, other], [reel]).returns()
    assert found.tolist() == [0.0, 1.0, 3.0, 3.0, 7.0]


def test_a_body_of_another_length_is_drawn_from_its_change_on(tmp_path: Path) -> None:
    family = get_family("cheetah-length")
    tasks = [family.task()] * 3 + [family.task({"torso_length": 0.5})] * 3
    reel = Reel(np.zeros((7, 9)), np.zeros(6), np.zeros(6, dtype=np.bool_))
    film = write_film(tmp_path / "a.mp4", family, LANES[:1], [Take(tasks, [reel])], renderer="planar")
    frames = decode(film)[:, 60:-82].astype(int)
    same, other = (np.abs(frames[0] - frames[index]).max(axis=2) > 60 for index in (7, -1))
    assert same.mean() < 0.001 < 0.005 < other.mean()


def test_bad_requests_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MetaMapError, match=r"ends in .mp4"):
        filmed(tmp_path / "a.gif")
    with pytest.raises(MetaMapError, match="at least one take"):
        write_film(tmp_path / "a.mp4", get_family("reacher-goal"), LANES, [])
    (tmp_path / "file").write_text("")
    with pytest.raises(MetaMapError, match="cannot be written"):
        filmed(tmp_path / "file" / "a.mp4")


def test_a_stopped_film_leaves_nothing_behind(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    old = tmp_path / "a.mp4"
    old.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        filmed(old, on_frame=stop)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.mp4", b"old")]


def test_no_ffmpeg_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "missing"))
    with pytest.raises(MetaMapError, match="the video cannot be written"):
        filmed(tmp_path / "a.mp4")


def test_the_users_choice_of_opengl_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opengl, "_draws", lambda back_end: False)
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    opengl.choose_opengl()
    assert os.environ["MUJOCO_GL"] == "osmesa"
    monkeypatch.delenv("MUJOCO_GL")
    opengl.choose_opengl()
    assert os.environ["MUJOCO_GL"] == "off"

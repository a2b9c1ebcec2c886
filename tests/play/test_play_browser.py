"""The player in a real browser: Debian's or any other Chromium, driven by playwright. Skipped where there is none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest

from helpers.waiting import HANGS, wait_for
from metamap_envs.registry import get_family
from metamap_rl.adaptation.bundled import find_mapper
from metamap_rl.play.page import write_replay
from metamap_rl.play.scene import scene_of
from metamap_rl.play.server import PlayServer
from metamap_rl.play.session import PlaySession


@pytest.fixture(scope="module")
def session() -> PlaySession:
    mapper, folder = find_mapper("cheetah-actuators")
    return PlaySession(mapper, source=folder)


@pytest.fixture(scope="module")
def url(session: PlaySession) -> Iterator[str]:
    """Address of a live player, served by a thread."""
    ready, done, found = threading.Event(), threading.Event(), []

    async def serve() -> None:
        async with PlayServer(session) as server:
            found.append(server.url)
            ready.set()
            await asyncio.to_thread(done.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    ready.wait()
    yield found[0]
    done.set()
    thread.join()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page of which the console must stay empty."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(1000 * HANGS)
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    yield page
    context.close()
    assert said == []


def until(page: Any, expression: str) -> None:
    """Wait until an expression is true; playwright's own way needs an eval, which the page forbids."""
    wait_for(lambda: page.evaluate(expression))


def slide(page: Any, where: str, value: float) -> None:
    """Move a slider."""
    page.locator(where).evaluate("(box, to) => { box.value = to; box.dispatchEvent(new Event('input')); }", value)


def running(page: Any) -> None:
    until(page, "player.frames.length > 5 && player.lanes.cards[1].joints.length == 6 && framesDrawn > 2")


def test_a_click_on_a_joint_breaks_it_and_the_generated_lane_rises_above_the_base_lane(page: Any, url: str) -> None:
    page.goto(url)
    running(page)
    at = page.evaluate("player.lanes.cards[1].joints.find(joint => joint.name === 'bshin').at")
    page.locator(".lane.generated canvas").click(position={"x": at[0], "y": at[1]})
    until(page, "player.marks.length == 1")
    changed = page.evaluate("player.setup.joints.filter(joint => player.state.conditions[joint.name] !== 'healthy')")
    assert len(changed) == 1, "the robot runs: the click may hit its neighbour"
    page.evaluate("player.ask({do: 'joint', joint: 'bshin', condition: 'flipped'})")
    page.locator("[data-joint=bshin].flipped").wait_for()
    until(page, "(frame => frame.n > player.marks.at(-1) + 20 && frame.r[1] > frame.r[0] + 5)(player.frames.at(-1))")
    assert page.evaluate("player.frames.some((frame, at) => at && frame.swaps > player.frames[at - 1].swaps)")
    assert "generated" in page.inner_text("#sentence")


def test_a_probe_is_scrubbed_and_left_again(page: Any, url: str) -> None:
    page.goto(url)
    running(page)
    page.click("#probe")
    page.locator("#length").wait_for()
    slide(page, "#steps", 7)
    until(page, "player.state.belief.length == 7")
    assert "7 transitions" in page.inner_text("#facts")
    page.click("#serve")
    until(page, "player.state.belief.mode == 'service'")


def test_a_slider_changes_the_task_and_a_second_page_shows_it(page: Any, url: str, browser: Any) -> None:
    page.goto(url)
    running(page)
    slide(page, "input[aria-label=strength_ffoot]", 0.2)
    until(page, "player.state.task.strength_ffoot < 0.6")
    other = browser.new_page()
    other.goto(url)
    until(other, "window.player?.state?.task.strength_ffoot < 0.6")
    other.close()
    page.click("#heal")
    until(page, "player.state.task.strength_ffoot == 1")


def test_narrow_and_dark(page: Any, url: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme="dark")
    page.goto(url)
    running(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    boxes = [page.locator(f".lane.{key} canvas").bounding_box() for key in ("base", "generated", "expert")]
    assert all(box["width"] > 340 for box in boxes)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 28)"


def test_a_replay_plays_without_a_network_and_does_not_glide_across_a_restart(
    page: Any, tmp_path: Path, browser: Any
) -> None:
    mapper, folder = find_mapper("cheetah-actuators")
    session = PlaySession(mapper, source=folder)
    shown = [session.step() for _ in range(30)]
    session.restart()
    shown += [session.step() for _ in range(30)]
    write_replay(tmp_path / "replay.html", session.document())
    assert (tmp_path / "replay.html").stat().st_size < 300_000
    page.context.set_offline(True)
    page.goto((tmp_path / "replay.html").as_uri())
    until(page, "framesDrawn > 2")
    page.click("#pause")
    for step in (0, 29, 59):
        place = page.evaluate(f"between(player.frames, {step})[0][1]")
        assert np.allclose(place, shown[step].positions[1], atol=1e-3)
    before, between = (page.evaluate(f"between(player.frames, {step})[0]") for step in (29, 29.9))
    assert before == between
    assert page.evaluate("between(player.frames, 28.5)[0]") != before
    slide(page, "#place", 59)
    until(page, "player.shown == 59")
    assert page.locator(".live:visible").count() == 0
    returns = page.inner_text(".lane.expert .return")
    assert f"{shown[-1].returns[2]:.1f}" in returns


@pytest.mark.parametrize("name", ["cheetah-velocity", "ant-goal", "reacher-goal", "swimmer-viscosity"])
def test_bodies_are_where_mujoco_has_them(page: Any, tmp_path: Path, name: str, session: PlaySession) -> None:
    if not session.recording.frames:
        session.step()
    write_replay(tmp_path / "replay.html", session.document())
    page.goto((tmp_path / "replay.html").as_uri())
    model = get_family(name).base_model
    data = mujoco.MjData(model)
    generator = np.random.default_rng(0)
    mujoco.mj_integratePos(model, data.qpos, generator.normal(size=model.nv), 1.0)
    mujoco.mj_kinematics(model, data)
    poses = page.evaluate("([scene, q]) => Kinematics.poses(scene, q)", [scene_of(model), data.qpos.tolist()])
    assert np.allclose([pose["pos"] for pose in poses], data.xpos, atol=1e-3)
    assert np.allclose(np.abs(np.vecdot([pose["quat"] for pose in poses], data.xquat)), 1.0, atol=1e-3)


def test_a_replay_in_another_page_is_small_tells_its_height_and_takes_the_theme(
    page: Any, session: PlaySession, tmp_path: Path
) -> None:
    session.step()
    write_replay(tmp_path / "replay.html", session.document())
    script = "addEventListener('message', event => { window.told = event.data.height; })"
    frame = '<iframe src="replay.html#embedded" style="width: 700px; height: 300px"></iframe>'
    (tmp_path / "page.html").write_text(f"<!doctype html><script>{script}</script>{frame}")
    page.goto((tmp_path / "page.html").as_uri())
    until(page, "window.told > 200")
    assert page.evaluate("told") < 600
    inner = page.frame(url="**/replay.html#embedded")
    assert not inner.is_visible("#panels")
    assert inner.is_visible("#pause")
    before = inner.evaluate("player.lanes.colours.sky")
    page.evaluate("document.querySelector('iframe').contentWindow.postMessage({theme: 'dark'}, '*')")
    wait_for(lambda: inner.evaluate("player.lanes.colours.sky") != before)
    assert inner.evaluate("document.documentElement.className") == "dark"

"""Sessions: lanes side by side, changes in mid-run, probes, recordings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3 import PPO

from metamap_envs.errors import MetaMapError
from metamap_rl.adaptation.bundled import find_mapper
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.play.describing import PROBE_STEPS
from metamap_rl.play.recording import Frame
from metamap_rl.play.session import PlaySession

NAMES = ("cheetah-actuators", "cheetah-velocity", "reacher-goal", "cheetah-direction")


@pytest.fixture(scope="module")
def mappers() -> dict[str, tuple[Mapper, Path]]:
    return {name: find_mapper(name) for name in NAMES}


def session_of(mappers: dict[str, tuple[Mapper, Path]], name: str = "cheetah-actuators") -> PlaySession:
    mapper, folder = mappers[name]
    return PlaySession(mapper, source=folder)


def run(session: PlaySession, steps: int) -> list[Frame]:
    return [session.step() for _ in range(steps)]


def test_all_lanes_start_in_one_state_and_the_same_again_after_a_restart(
    mappers: dict[str, tuple[Mapper, Path]],
) -> None:
    session = session_of(mappers)
    start = session._env.simulator.state().qpos
    assert (start == start[0]).all()
    run(session, 5)
    session.restart()
    assert (session._env.simulator.state().qpos == start).all()
    frame = session.step()
    assert set(frame.episodes) == {2}


def test_a_change_keeps_the_state_begins_the_returns_and_tells_the_expert_alone(
    mappers: dict[str, tuple[Mapper, Path]],
) -> None:
    session = session_of(mappers)
    before = run(session, 10)[-1]
    session.set_joint("bshin", "flipped")
    assert (session._env.simulator.state().qpos == np.stack(before.positions)).all()
    assert session.task["sign_bshin"] == -1
    after = session.step()
    assert after.returns == after.rewards
    assert after.episodes == before.episodes
    assert after.news["conditions"]["bshin"] == "flipped"
    assert after.news["task"]["sign_bshin"] == -1
    session.heal()
    assert session.task == session.family.task()


def test_a_flipped_joint_is_found_and_the_generated_lane_ends_above_the_base_lane(
    mappers: dict[str, tuple[Mapper, Path]],
) -> None:
    session = session_of(mappers)
    before = run(session, 60)[-1]
    session.set_joint("bshin", "flipped")
    frames = run(session, 100)
    assert frames[-1].changes > before.changes
    assert frames[-1].swaps > before.swaps
    assert min(frame.window for frame in frames) < before.window
    assert max(frame.surprise or 0.0 for frame in frames[:10]) > (before.surprise or 0.0)
    base, generated, _ = frames[-1].returns
    assert generated > base


def test_a_probe_serves_one_policy_and_the_length_of_d_can_be_changed(
    mappers: dict[str, tuple[Mapper, Path]],
) -> None:
    session = session_of(mappers)
    session.set_parameters({"sign_bfoot": -1.0})
    run(session, 2)
    session.probe()
    belief = session.step().news["belief"]
    assert belief["mode"] == "one-shot"
    assert belief["length"] == PROBE_STEPS
    assert belief["estimates"]["sign_bfoot"] < 0
    swaps = session.step().swaps
    session.set_length(3)
    frame = session.step()
    assert frame.news["belief"]["length"] == 3
    assert frame.swaps == swaps + 1
    assert "steps=3" in frame.news["code"]
    session.set_length(50)
    session.serve()
    run(session, 6)
    assert session.state()["belief"]["mode"] == "service"
    with pytest.raises(MetaMapError, match="probe"):
        session.set_length(3)


def test_without_a_universal_policy_the_nearest_expert_is_named(mappers: dict[str, tuple[Mapper, Path]]) -> None:
    session = session_of(mappers, "cheetah-direction")
    session.set_parameters({"direction": 1})
    first = session.state()["titles"][2]
    session.set_parameters({"direction": -1})
    assert first.startswith("nearest expert")
    assert session.state()["titles"][2] != first
    assert "expert" not in PlaySession(mappers["cheetah-direction"][0]).setup()["lanes"], "no bundle, no experts"


def test_what_holds_its_task_in_its_state_follows_it(mappers: dict[str, tuple[Mapper, Path]]) -> None:
    session = session_of(mappers, "reacher-goal")
    session.set_parameters({"goal_radius": 0.1, "goal_angle": 0.0})
    assert np.allclose([place[2:] for place in session.step().positions], [0.1, 0.0])


@pytest.mark.parametrize(
    ("change", "closest"),
    [
        (lambda one: one.set_parameters({"sign_bshim": 1.0}), "sign_bshin"),
        (lambda one: one.set_parameters({"strength_bshin": 7.0}), "2"),
        (lambda one: one.set_joint("bshim", "weak"), "bshin"),
        (lambda one: one.set_joint("bshin", "flip"), "flipped"),
    ],
)
def test_what_does_not_exist_is_refused_and_changes_nothing(
    mappers: dict[str, tuple[Mapper, Path]], change: Any, closest: str
) -> None:
    session = session_of(mappers)
    with pytest.raises(MetaMapError, match=closest):
        change(session)
    assert session.task == session.family.task()


def test_a_recording_is_small_json_and_tells_what_was_shown(mappers: dict[str, tuple[Mapper, Path]]) -> None:
    session = session_of(mappers)
    run(session, 100)
    session.set_joint("bfoot", "broken")
    frames = run(session, 100)
    document = session.document()
    text = json.dumps(document["recording"]["q"])
    assert len(text) < 3 * 1.05 * 200 * 9 * 2 * 4 / 3
    told = [news for news in document["recording"]["news"] if "conditions" in news]
    assert [news["at"] for news in told] == [0, 100]
    assert document["recording"]["count"] == 200
    assert document["setup"]["lanes"] == ["base", "generated", "expert"]
    assert json.loads(json.dumps(frames[-1].to_json()))["n"] == 200


def test_the_weights_that_act_are_saved_for_stable_baselines3(
    mappers: dict[str, tuple[Mapper, Path]], tmp_path: Path
) -> None:
    session = session_of(mappers)
    run(session, 20)
    session.save_policy(tmp_path / "policy.zip")
    model = PPO.load(tmp_path / "policy.zip", device="cpu")
    seen = session._observations[1]
    served = session._generated.adapter._served(seen)
    assert np.allclose(model.predict(seen, deterministic=True)[0], np.clip(served, -1, 1), atol=1e-4)


def test_the_lines_of_python_run(mappers: dict[str, tuple[Mapper, Path]], capsys: pytest.CaptureFixture[str]) -> None:
    session = session_of(mappers)
    session.set_joint("bfoot", "flipped")
    code = session.code().replace("range(1000)", "range(205)")
    exec(compile(code, "code", "exec"), {})
    assert "policy" in capsys.readouterr().out

"""MuJoCo's own viewer in a window, with the robot of the generated lane; keys 1 to 9 break its joints."""

from __future__ import annotations

import queue
import time

import mujoco

from metamap_envs.opengl import drawing
from metamap_rl.play.session import PlaySession

__all__ = ["cycle", "show"]


def show(session: PlaySession) -> None:
    """Run a session in MuJoCo's viewer until its window is closed.

    Raises:
        MetaMapError: no window can be opened here.
    """
    model = session.family.base_model
    data = mujoco.MjData(model)
    keys: queue.Queue[int] = queue.Queue()
    shown = [lane.key for lane in session.lanes].index("generated")
    with drawing(window=True):
        from mujoco import viewer

        handle = viewer.launch_passive(model, data, key_callback=keys.put)
    with handle:
        while handle.is_running():
            due = time.monotonic() + session.family.step_seconds
            while not keys.empty():
                cycle(session, keys.get() - ord("1"))
            frame = session.step()
            with handle.lock():
                data.qpos[:] = frame.positions[shown]
                mujoco.mj_forward(model, data)
            handle.sync()
            time.sleep(max(0.0, due - time.monotonic()))


def cycle(session: PlaySession, index: int) -> None:
    """Put a joint into its next condition; nothing where there is no such joint."""
    if not 0 <= index < len(session.joints):
        return
    joint = session.joints[index]
    conditions = list(joint.conditions)
    now = session.state()["conditions"][joint.name]
    session.set_joint(joint.name, conditions[(conditions.index(now) + 1) % len(conditions)])

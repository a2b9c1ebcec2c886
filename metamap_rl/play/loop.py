"""The thread that runs a session in real time and carries out what pages ask for."""

from __future__ import annotations

import json
import math
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from metamap_envs.errors import MetaMapError
from metamap_rl.play.messages import Clock, Request
from metamap_rl.play.recording import Frame
from metamap_rl.play.session import PlaySession

__all__ = ["PlayLoop", "Publish"]

Publish = Callable[[str, bool], None]
"""Called in the loop's thread with a message and whether it may be dropped for a slow page."""

_WAITING = 64  # requests that wait for the next step
_LATE = 0.25  # s behind real time, from which on lost time is not made up for
_FASTEST = 50.0  # frames a second that are sent


class PlayLoop(threading.Thread):
    """Steps a session in real time.

    Args:
        session: the session; only this thread touches it from `start` on, and others under ``lock``.
        publish: takes messages.

    Attributes:
        lock: held while the session is touched.
        failure: the error that ended the loop; None while it runs.
    """

    def __init__(self, session: PlaySession, publish: Publish) -> None:
        super().__init__(name="metamap-play", daemon=True)
        self.session, self._publish = session, publish
        self.lock = threading.Lock()
        self.clock = Clock()
        self.failure: BaseException | None = None
        self._requests: queue.Queue[Request] = queue.Queue(_WAITING)
        self._ended = threading.Event()
        self._scene = max(session.scenes)

    def ask(self, request: Request) -> None:
        """Carry out a request before the next step.

        Raises:
            MetaMapError: too many requests wait.
        """
        try:
            self._requests.put_nowait(request)
        except queue.Full:
            raise MetaMapError("too many requests at once; try again") from None

    def stop(self) -> None:
        """End the thread after its present step."""
        self._ended.set()
        self.join()

    def greeting(self) -> str:
        """First message for a page: everything but frames."""
        with self.lock:
            return self._all()

    def _all(self) -> str:
        session = self.session
        latest = max(session.scenes)
        scenes = {latest: session.scenes[latest]}
        return _text("hello", setup=session.setup(), scenes=scenes, state=session.state(), clock=vars(self.clock))

    def run(self) -> None:
        """See the class."""
        try:
            self._run()
        except BaseException as error:
            self.failure = error
            self._publish(_text("error", text=f"the player has stopped: {error}"), False)
            raise

    def _run(self) -> None:
        seconds = self.session.family.step_seconds
        every = max(1, math.ceil(1.0 / (seconds * _FASTEST) - 1e-9))
        due = time.monotonic()
        while not self._ended.is_set():
            self._carry_out_requests()
            if self.clock.paused:
                due = self._wait(time.monotonic() + 0.03)
                continue
            with self.lock:
                frame = self.session.step()
            self._send(frame, every)
            due = self._wait(max(due + seconds / self.clock.speed, time.monotonic() - _LATE))

    def _wait(self, until: float) -> float:
        self._ended.wait(max(0.0, until - time.monotonic()))
        return until

    def _carry_out_requests(self) -> None:
        while not self._requests.empty():
            request = self._requests.get_nowait()
            paused = self.clock.paused, self.clock.speed
            try:
                with self.lock:
                    request.carry_out(self.session, self.clock)
            except MetaMapError as error:
                self._publish(_text("error", text=str(error)), False)
            if self.clock.paused:  # no frame will tell
                self._publish(_text("news", **self.session.state()), False)
            if (self.clock.paused, self.clock.speed) != paused:
                self._publish(_text("clock", clock=vars(self.clock)), False)

    def _send(self, frame: Frame, every: int) -> None:
        if frame.scene != self._scene:
            self._scene = frame.scene
            self._publish(_text("scenes", scenes={frame.scene: self.session.scenes[frame.scene]}), False)
        if frame.news:
            self._publish(_text("news", **frame.news), False)
        if frame.step % every == 0:
            self._publish(json.dumps(frame.to_json(), separators=(",", ":")), True)


def _text(kind: str, **content: Any) -> str:
    return json.dumps({"t": kind, **content}, separators=(",", ":"))

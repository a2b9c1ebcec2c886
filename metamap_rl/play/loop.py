"""The thread that runs a session in real time and carries out what pages ask for."""

from __future__ import annotations

import json
import math
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from metamap_envs.errors import MetaMapError
from metamap_rl.play.messages import Clock, Request
from metamap_rl.play.recording import Frame
from metamap_rl.play.session import PlaySession

__all__ = ["PlayLoop", "Publish"]

_Result = TypeVar("_Result")

Publish = Callable[[str, bool], None]
"""Called in the loop's thread with a message and whether it may be dropped for a slow page."""

_WAITING = 64  # requests that wait for the next step
_LATE = 0.25  # s behind real time, from which on lost time is not made up for
_PAUSE = 0.002  # s between two steps that others have at least, on a machine that cannot keep up
_ANSWER = 0.5  # s between two looks at whether the thread that shall answer is alive
_FASTEST = 50.0  # frames a second that are sent


class PlayLoop(threading.Thread):
    """Steps a session in real time.

    Args:
        session: the session; from `start` on this thread alone touches it.
        publish: takes messages.

    Attributes:
        failure: the error that ended the loop; None while it runs.
    """

    def __init__(self, session: PlaySession, publish: Publish) -> None:
        super().__init__(name="metamap-play", daemon=True)
        self.session, self._publish = session, publish
        self.clock = Clock()
        self.failure: BaseException | None = None
        self._work: queue.Queue[tuple[Callable[[], Any], Future[Any]]] = queue.Queue(_WAITING)
        self._ended = threading.Event()
        self._scene = max(session.scenes)

    def ask(self, request: Request) -> None:
        """Carry out a request before the next step; what is wrong with it is published.

        Raises:
            MetaMapError: too many requests wait.
        """
        self._put(lambda: self._carry_out(request))

    def call(self, function: Callable[[PlaySession], _Result]) -> _Result:
        """Result of a function of the session, called between two steps.

        Raises:
            MetaMapError: too many requests wait, the player has stopped, or what the function raises.
        """
        future = self._put(lambda: function(self.session))
        while True:
            try:
                return future.result(_ANSWER)
            except TimeoutError:
                if not self.is_alive():
                    raise MetaMapError("the player has stopped") from None

    def _put(self, work: Callable[[], _Result]) -> Future[_Result]:
        future: Future[_Result] = Future()
        try:
            self._work.put_nowait((work, future))
        except queue.Full:
            raise MetaMapError("too many requests at once; try again") from None
        return future

    def stop(self) -> None:
        """End the thread after its present step."""
        self._ended.set()
        self.join()

    def greeting(self) -> str:
        """First message for a page: everything but frames."""
        return self.call(self._all)

    def _all(self, session: PlaySession) -> str:
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
            if not self.clock.paused:
                self._send(self.session.step(), every)
            due = max(due + seconds / self.clock.speed, time.monotonic() - _LATE)
            self._work_until(due)

    def _work_until(self, due: float) -> None:
        """Do what is asked for until the next step is due; all that waits by now in any case."""
        until = max(due, time.monotonic() + _PAUSE)
        while (left := until - time.monotonic()) > 0 and not self._ended.is_set():
            try:
                work, future = self._work.get(timeout=left)
            except queue.Empty:
                return
            try:
                future.set_result(work())
            except MetaMapError as error:
                future.set_exception(error)

    def _carry_out(self, request: Request) -> None:
        before = self.clock.paused, self.clock.speed
        try:
            request.carry_out(self.session, self.clock)
        except MetaMapError as error:
            self._publish(_text("error", text=str(error)), False)
        if self.clock.paused:  # no frame will tell
            self._publish(_text("news", **self.session.state()), False)
        if (self.clock.paused, self.clock.speed) != before:
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

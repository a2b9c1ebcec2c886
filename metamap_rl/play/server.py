"""The server of the player: the page, its messages over a WebSocket, and what is shared.

It listens on this machine alone unless a host is named, which needs a token. It answers only requests whose Host is its
own and whose Origin, if any, is the page that it served.
"""

from __future__ import annotations

import asyncio
import hmac
import http
import secrets
import socket
import tempfile
from collections import deque
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from metamap_envs.errors import MetaMapError
from metamap_rl.play.loop import PlayLoop
from metamap_rl.play.messages import LARGEST, read_request
from metamap_rl.play.page import page
from metamap_rl.play.session import PlaySession

__all__ = ["LOOPBACK", "PlayServer", "check_address"]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Hosts that need no token."""

_MOST_PAGES = 16
_MOST_WAITING = 256  # messages that must not be dropped, for one page
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # only with a token; what a browser on this machine opens


class _Page:
    """A connected page: what waits to be sent to it.

    Messages that must arrive wait in order; of frames only the latest one does, so that a slow page drops the others.
    """

    def __init__(self) -> None:
        self._waiting: deque[str] = deque()
        self._frame = ""
        self._some = asyncio.Event()
        self.overrun = False

    def put(self, message: str, droppable: bool) -> None:
        if droppable:
            self._frame = message
        else:
            self._waiting.append(message)
            self.overrun = len(self._waiting) > _MOST_WAITING
        self._some.set()

    async def get(self) -> list[str]:
        await self._some.wait()
        self._some.clear()
        found = [*self._waiting, *([self._frame] if self._frame else [])]
        self._waiting.clear()
        self._frame = ""
        return found


def check_address(host: str, port: int) -> None:
    """Refuse an address that cannot be listened on, before anything that takes long.

    Raises:
        MetaMapError: the host is unknown, or the port is taken or not allowed.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except OSError as error:
        raise _no_address(host, port, error) from error


def _no_address(host: str, port: int, error: OSError) -> MetaMapError:
    return MetaMapError(f"{host}:{port}: cannot be listened on ({error.strerror})")


def _own_address(host: str) -> str:
    """Address by which other machines reach this one, as far as it can tell; its name without a network."""
    family, far = (socket.AF_INET6, "2001:db8::1") if ":" in host else (socket.AF_INET, "192.0.2.1")
    with socket.socket(family, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect((far, 9))  # sends nothing: it chooses the interface
        except OSError:
            return socket.gethostname()
        return str(asked.getsockname()[0])


class PlayServer:
    """Serves a session, or a replay, to browsers.

    ::

        async with PlayServer(session) as server:
            print(server.url)
            await server.forever()

    Args:
        session: the session; its loop runs while the server does.
        replay: HTML of a replay, instead of a session.
        host: address to listen on.
        port: 0 takes a free one.
        token: needed in the address of every request; None makes one where the host is not this machine.

    Raises:
        MetaMapError: neither a session nor a replay.
    """

    def __init__(
        self,
        session: PlaySession | None = None,
        *,
        replay: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
    ) -> None:
        if (session is None) == (replay is None):
            raise MetaMapError("play: expected a session or a replay")
        self.host, self.port, self._replay = host, port, replay
        self.token = token or ("" if host in LOOPBACK else secrets.token_urlsafe(16))
        self._pages: set[_Page] = set()
        self._loop = None if session is None else PlayLoop(session, self._publish)
        self._server: Server | None = None

    # life -------------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> PlayServer:
        self._events = asyncio.get_running_loop()
        try:
            self._server = await serve(
                self._talk,
                self.host,
                self.port,
                process_request=self._answer,
                max_size=LARGEST,
                max_queue=32,
                compression=None,
                server_header=None,
            ).__aenter__()
        except OSError as error:
            raise _no_address(self.host, self.port, error) from error
        self.port = int(next(iter(self._server.sockets)).getsockname()[1])
        if self._loop is not None:
            self._loop.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._loop is not None:
            await asyncio.to_thread(self._loop.stop)
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def forever(self) -> None:
        """Serve until cancelled, or until the session fails.

        Raises:
            MetaMapError: the session failed.
        """
        while self._loop is None or self._loop.is_alive():
            await asyncio.sleep(0.2)
        raise MetaMapError(f"the player has stopped: {self._loop.failure}")

    @property
    def url(self) -> str:
        """Address of the page for this machine, with the token if it needs one."""
        return self._url(_EVERYWHERE.get(self.host, self.host))

    @property
    def other_url(self) -> str:
        """Address of the page for other machines, where it listens at all of this one's; "" else."""
        return self._url(_own_address(self.host)) if self.host in _EVERYWHERE else ""

    def _url(self, host: str) -> str:
        name = f"[{host}]" if ":" in host else host
        return f"http://{name}:{self.port}/" + (f"?token={self.token}" if self.token else "")

    # requests ---------------------------------------------------------------------------------------------------------

    async def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer a request for a file; None lets a WebSocket be opened."""
        refused = self._refusal(request)
        if refused:
            return _response(http.HTTPStatus.FORBIDDEN, refused.encode(), "text/plain")
        path = urlsplit(request.path).path
        if path == "/messages" and self._loop is not None:
            if len(self._pages) >= _MOST_PAGES:
                return _response(http.HTTPStatus.SERVICE_UNAVAILABLE, b"too many pages are open", "text/plain")
            return None
        try:
            return await asyncio.to_thread(self._file, path)
        except MetaMapError as error:
            return _response(http.HTTPStatus.SERVICE_UNAVAILABLE, str(error).encode(), "text/plain")

    def _refusal(self, request: Request) -> str:
        """Why a request is refused; "" if it is not."""
        hosts, origins = (request.headers.get_all(name) for name in ("Host", "Origin"))
        if len(hosts) > 1 or len(origins) > 1:
            return "expected one Host and one Origin"
        host = "".join(hosts)
        if self.host not in _EVERYWHERE and host not in self._own_hosts():
            return f"this server is {self.host}:{self.port}, not {host[:100]}"
        if origins and origins[0] != f"http://{host}":
            return f"requests from {origins[0][:100]} are not answered"
        given = parse_qs(urlsplit(request.path).query).get("token", [""])[0]
        if self.token and not hmac.compare_digest(given.encode(), self.token.encode()):
            return "the address needs the token that `metamap play` printed"
        return ""

    def _own_hosts(self) -> set[str]:
        names = {*LOOPBACK, self.host} if self.host in LOOPBACK else {self.host}
        return {f"[{name}]:{self.port}" if ":" in name else f"{name}:{self.port}" for name in names}

    def _file(self, path: str) -> Response:
        if path == "/" and self._replay is not None:
            return _response(http.HTTPStatus.OK, self._replay.encode(), "text/html")
        if self._loop is None:
            return _response(http.HTTPStatus.NOT_FOUND, b"there is only /", "text/plain")
        session = self._loop.session
        if path == "/":
            nonce = secrets.token_urlsafe(16)
            text = page(f"{session.family.name}: metamap play", nonce=nonce)
            return _response(http.HTTPStatus.OK, text.encode(), "text/html", nonce=nonce)
        if path == "/replay.html":
            document = self._loop.call(lambda session: session.document())
            text = page(f"{session.family.name}: replay", replay=document)
            return _response(http.HTTPStatus.OK, text.encode(), "text/html", name=f"{session.family.name}.html")
        if path == "/policy.zip":
            return _response(http.HTTPStatus.OK, self._policy(self._loop), "application/zip", name="policy.zip")
        return _response(http.HTTPStatus.NOT_FOUND, b"there is /, /replay.html and /policy.zip", "text/plain")

    def _policy(self, loop: PlayLoop) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "policy.zip"
            loop.call(lambda session: session.save_policy(path))
            return path.read_bytes()

    # messages ---------------------------------------------------------------------------------------------------------

    def _publish(self, message: str, droppable: bool) -> None:
        """From the loop's thread: to all pages."""
        self._events.call_soon_threadsafe(self._put, message, droppable)

    def _put(self, message: str, droppable: bool) -> None:
        for one in self._pages:
            one.put(message, droppable)

    async def _talk(self, connection: ServerConnection) -> None:
        """Serve one page until it is closed."""
        assert self._loop is not None, "without a session no page is connected"
        mine = _Page()
        self._pages.add(mine)
        try:
            await connection.send(await asyncio.to_thread(self._loop.greeting))
            sending = asyncio.create_task(self._send(connection, mine))
            try:
                await self._receive(connection, mine)
            finally:
                sending.cancel()
        except ConnectionClosed:
            pass
        finally:
            self._pages.discard(mine)

    async def _send(self, connection: ServerConnection, mine: _Page) -> None:
        while True:
            for message in await mine.get():
                await connection.send(message)
            if mine.overrun:
                await connection.close(1013, "too slow")

    async def _receive(self, connection: ServerConnection, mine: _Page) -> None:
        assert self._loop is not None, "without a session no page is connected"
        async for message in connection:
            try:
                self._loop.ask(read_request(message))
            except MetaMapError as error:
                mine.put(_error(str(error)), False)


def _error(text: str) -> str:
    import json

    return json.dumps({"t": "error", "text": text})


def _response(status: http.HTTPStatus, body: bytes, kind: str, *, nonce: str = "", name: str = "") -> Response:
    headers = Headers(
        {
            "Content-Type": f"{kind}; charset=utf-8" if kind.startswith("text/") else kind,
            "Content-Length": str(len(body)),
            "Connection": "close",
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
    )
    if nonce:
        headers["Content-Security-Policy"] = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; "
            "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
    if name:
        headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return Response(status.value, status.phrase, headers, body)

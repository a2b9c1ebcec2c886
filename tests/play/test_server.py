"""The server: pages, messages, who is let in, slow and closed pages."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from metamap_envs.errors import MetaMapError
from metamap_rl.adaptation.bundled import find_mapper
from metamap_rl.play.messages import LARGEST
from metamap_rl.play.page import page, read_replay, write_replay
from metamap_rl.play.server import PlayServer, _Page
from metamap_rl.play.session import PlaySession


@pytest.fixture(scope="module")
def session() -> Iterator[PlaySession]:
    mapper, folder = find_mapper("cheetah-actuators")
    return PlaySession(mapper, source=folder)


def served(act: Callable[[PlayServer], Awaitable[Any]], session: PlaySession | None = None, **settings: Any) -> Any:
    async def run() -> Any:
        async with PlayServer(session, **settings) as server:
            return await act(server)

    return asyncio.run(run())


async def status_of(port: int, *headers: str) -> int:
    """Status of a request with exactly these headers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write("\r\n".join(["GET / HTTP/1.1", *headers, "", ""]).encode())
    answer = await reader.readline()
    writer.close()
    return int(answer.split()[1])


async def fetched(url: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    def get() -> tuple[int, dict[str, str], bytes]:
        try:
            with urlopen(Request(url, headers=headers)) as answer:
                return answer.status, dict(answer.headers), answer.read()
        except HTTPError as refused:
            with refused:
                return refused.code, dict(refused.headers), refused.read()

    return await asyncio.to_thread(get)


def messages(server: PlayServer, **settings: Any) -> connect:
    address, _, query = server.url.partition("?")
    return connect(f"{address.replace('http', 'ws')}messages?{query}", **settings)


async def heard(page: ClientConnection, kind: str, wanted: Callable[[Any], bool] = lambda message: True) -> Any:
    """The first message of a kind that is as wanted."""
    while True:
        try:
            message = json.loads(await page.recv())
        except ConnectionClosed:
            break
        if message["t"] == kind and wanted(message):
            return message
    raise AssertionError(f"no {kind}")


def test_a_page_hears_everything_and_a_click_changes_the_task_of_every_page(session: PlaySession) -> None:
    async def act(server: PlayServer) -> None:
        async with messages(server) as one, messages(server) as other:
            hello = await heard(one, "hello")
            assert hello["setup"]["lanes"] == ["base", "generated", "expert"]
            first = await heard(one, "frame")
            await one.send(json.dumps({"do": "joint", "joint": "bshin", "condition": "flipped"}))
            for page in (one, other):
                await heard(page, "news", lambda news: news.get("conditions", {}).get("bshin") == "flipped")
            assert (await heard(one, "frame"))["n"] > first["n"]

    served(act, session)


def test_a_closed_page_ends_nothing_and_a_paused_player_still_answers(session: PlaySession) -> None:
    async def act(server: PlayServer) -> None:
        async with messages(server) as page:
            before = (await heard(page, "frame"))["n"]
        async with messages(server) as page:
            await heard(page, "frame", lambda frame: frame["n"] > before)
            await page.send(json.dumps({"do": "clock", "paused": True, "speed": 2}))
            assert (await heard(page, "clock"))["clock"] == {"paused": True, "speed": 2.0}
            await page.send(json.dumps({"do": "heal"}))
            news = await heard(page, "news", lambda news: set(news["conditions"].values()) == {"healthy"})
            assert news["task"]["sign_bshin"] == 1.0

    served(act, session)


def test_invalid_messages_are_answered_and_long_ones_end_the_connection(session: PlaySession) -> None:
    async def act(server: PlayServer) -> None:
        async with messages(server) as page:
            for bad in ("{}", "nonsense", '{"do": "joint", "joint": "bshim", "condition": "weak"}'):
                await page.send(bad)
                assert "\n" not in (await heard(page, "error"))["text"]
            await page.send("x" * (LARGEST + 1))
            with pytest.raises(AssertionError):
                await heard(page, "never")
            assert page.close_code == 1009

    served(act, session)


def test_files_are_whole_pages_and_nothing_else_is_there(session: PlaySession, tmp_path: Path) -> None:
    async def act(server: PlayServer) -> None:
        async with messages(server) as page:
            await heard(page, "frame")
        status, headers, body = await fetched(server.url)
        assert status == 200
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["Content-Security-Policy"].partition("nonce-")[2].partition("'")[0] in body.decode()
        status, _, replay = await fetched(server.url + "replay.html")
        assert status == 200
        (tmp_path / "replay.html").write_bytes(replay)
        assert read_replay(tmp_path) == replay.decode()
        assert "http://" not in replay.decode().replace("http://www.w3.org", "")
        status, _, policy = await fetched(server.url + "policy.zip")
        assert policy[:2] == b"PK"
        assert (await fetched(server.url + "../../etc/passwd"))[0] == 404

    served(act, session)


def test_other_hosts_and_origins_are_refused(session: PlaySession) -> None:
    async def act(server: PlayServer) -> None:
        own = server.url[7:].rstrip("/")
        assert (await fetched(server.url, Host="evil.example"))[0] == 403
        assert (await fetched(server.url, Origin="http://evil.example"))[0] == 403
        assert (await fetched(server.url, Origin=f"http://{own}"))[0] == 200
        assert (await fetched(server.url, Host=own.replace("127.0.0.1", "localhost")))[0] == 200
        with pytest.raises(InvalidStatus):
            async with messages(server, origin="http://evil.example"):
                pass
        assert await status_of(server.port, f"Host: {own}", f"Host: {own}") == 403
        assert await status_of(server.port, f"Host: {own}", f"Origin: http://{own}", "Origin: null") == 403

    served(act, session)


def test_another_host_needs_the_token(session: PlaySession) -> None:
    async def act(server: PlayServer) -> None:
        address = f"http://127.0.0.1:{server.port}/"
        assert (await fetched(address))[0] == 403
        assert (await fetched(address + "?token=wrong"))[0] == 403
        assert (await fetched(f"{address}?token={server.token}"))[0] == 200
        with pytest.raises(InvalidStatus):
            async with connect(address.replace("http", "ws") + "messages"):
                pass
        async with connect(f"{address.replace('http', 'ws')}messages?token={server.token}") as page:
            await heard(page, "hello")

    served(act, session, host="0.0.0.0")


def test_a_slow_page_loses_frames_and_nothing_else() -> None:
    async def act() -> list[str]:
        page = _Page()
        for step in range(1000):
            page.put(f"frame {step}", True)
            if step % 400 == 0:
                page.put(f"news {step}", False)
        return await page.get()

    assert asyncio.run(act()) == ["news 0", "news 400", "news 800", "frame 999"]


def test_a_replay_is_served_without_a_session(session: PlaySession) -> None:
    text = page("a replay", replay=session.document())

    async def act(server: PlayServer) -> None:
        assert (await fetched(server.url))[2].decode() == text
        assert (await fetched(server.url + "policy.zip"))[0] == 404

    served(act, None, replay=text)


def test_a_port_in_use_is_named() -> None:
    async def act(server: PlayServer) -> None:
        async with PlayServer(replay="x", port=server.port):
            pass

    with pytest.raises(MetaMapError, match=r"127\.0\.0\.1:\d+"):
        served(act, None, replay="x")


def test_files_that_are_no_replays_are_refused(tmp_path: Path, session: PlaySession) -> None:
    (tmp_path / "other.html").write_text("<html></html>")
    for path in (tmp_path / "other.html", tmp_path / "none.html", tmp_path):
        with pytest.raises(MetaMapError, match="expected a replay"):
            read_replay(path)
    with pytest.raises(MetaMapError, match=r"\.html"):
        write_replay(tmp_path / "replay.htm", session.document())


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_server_for_everyone_tells_addresses_that_can_be_opened(host: str) -> None:
    server = PlayServer(replay="x", host=host, port=8642, token="secret")
    assert server.url in ("http://127.0.0.1:8642/?token=secret", "http://[::1]:8642/?token=secret")
    assert "token=secret" in server.other_url
    assert not any(nowhere in server.other_url for nowhere in ("0.0.0.0", "[::]"))
    assert PlayServer(replay="x").other_url == ""

"""Play with a mapper's robots in a browser."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from metamap_rl.cli.command import Command
from metamap_rl.cli.console import note, say
from metamap_rl.cli.usage import Metavar, Positional

if TYPE_CHECKING:
    from metamap_rl.play.server import PlayServer
    from metamap_rl.play.session import PlaySession

__all__ = ["COMMANDS", "ORDER", "Play"]

ORDER = 5


@dataclass(frozen=True, kw_only=True)
class Play(Command):
    """Play with a mapper's robots in a browser: break a joint while it runs, and see the policy get new weights.

    Base policy, generated policy and expert run side by side from the same start. The page needs no GPU and no network;
    it is served to this machine alone, or with `--host` to others who have the token in the printed address. Ctrl-C
    ends it. `--replay` shows a recording, as the page shares it and `metamap run --out` writes it.
    """

    name: ClassVar[str] = "play"
    if_stopped: ClassVar[str] = "the player is closed"

    mapper: Annotated[Positional[str], Metavar("MAPPER")] = "cheetah-actuators"
    """Folder of the mapper, or the name of a bundled one."""

    parameters: Annotated[tuple[str, ...], Metavar("NAME=VALUE")] = ()
    """First task; other parameters have their defaults."""

    set: Annotated[tuple[str, ...], Metavar("KEY=VALUE")] = ()
    """Settings of the adapter, such as `blend=5` or `check=false`."""

    replay: Annotated[Path | None, Metavar("FILE")] = None
    """Show a recording instead: an HTML file of the player, or a folder of `metamap run --out`."""

    viewer: Literal["browser", "studio"] = "browser"
    """The page, or MuJoCo's own viewer, which needs a display: the generated policy alone, keys 1 to 9 break joints."""

    host: str = "127.0.0.1"
    """Address to listen on; another one than this machine's own needs the token."""

    port: int = 8642
    """Port to listen on; 0 takes a free one."""

    token: str | None = None
    """Token that the address must have; default: a new one where `--host` is given, else none."""

    open: bool = True
    """Do not open a browser."""

    def run(self) -> int:
        """Serve until stopped."""
        from metamap_envs.errors import MetaMapError

        if not 0 <= self.port <= 65_535:
            raise MetaMapError(f"--port: expected a number in [0, 65535], got {self.port}")
        if self.viewer == "studio":
            if self.replay is not None:
                raise MetaMapError("--replay: expected --viewer browser, the other one shows no recordings")
            from metamap_rl.play.window import show

            show(self._session())
            return 0
        asyncio.run(self._serve())
        return 0

    async def _serve(self) -> None:
        async with self._server() as server:
            self._tell(server)
            if self.open:
                await asyncio.to_thread(_open, server.url)
            await server.forever()

    def _server(self) -> PlayServer:
        from metamap_rl.play.page import read_replay
        from metamap_rl.play.server import PlayServer, check_address

        check_address(self.host, self.port)
        replay = None if self.replay is None else read_replay(self.replay)
        session = self._session() if replay is None else None
        return PlayServer(session, replay=replay, host=self.host, port=self.port, token=self.token)

    def _session(self) -> PlaySession:
        from metamap_envs.registry import get_family
        from metamap_envs.settings import parse
        from metamap_rl.adaptation.bundled import find_mapper
        from metamap_rl.adaptation.service.config import AdapterConfig
        from metamap_rl.cli.inputs import read_arguments, read_numbers
        from metamap_rl.play.session import PlaySession

        mapper, folder = find_mapper(self.mapper)
        config = parse(AdapterConfig, read_arguments(self.set, "--set"), "--set")
        task = get_family(mapper.family).task(read_numbers(self.parameters, "--parameters"))
        return PlaySession(mapper, source=folder, task=task, config=config, seed=self.seed)

    def _tell(self, server: PlayServer) -> None:
        from metamap_rl.cli.console import print_json

        others = server.other_url
        if self.json:
            print_json({"url": server.url, **({"other_url": others} if others else {})})
        else:
            say(f"playing at {server.url}")
            if others:
                say(f"for others  {others}")
            note("Ctrl-C ends it")


def _open(url: str) -> None:
    """Open a browser where there is a display; a text browser would take the terminal."""
    import webbrowser

    if sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(url)


COMMANDS = (Play,)

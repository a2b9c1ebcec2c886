"""Measures `metamap play`: frames a second in a headless Chromium beside the running adapter, first paint, kB a second.

    python scripts/bench_play.py --family cheetah-actuators --seconds 10

Needs a Chromium on the PATH (or CHROMIUM) and playwright (extra `dev`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import threading
import time
from typing import Any

from _browser import NO_BROWSER, find_chromium
from _running import run_script
from metamap_agents.runtime.storage import library_versions
from metamap_envs.errors import MetaMapError
from metamap_rl.adaptation.bundled import find_mapper
from metamap_rl.play.server import PlayServer
from metamap_rl.play.session import PlaySession


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", default="cheetah-actuators")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each repetition")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    mapper, folder = find_mapper(given.family)
    session = PlaySession(mapper, source=folder)
    with Served(session) as url:
        found = [measured(url, given.seconds) for _ in range(given.repeats)]
    document: dict[str, Any] = {"family": given.family, "lanes": len(session.lanes), "seconds": given.seconds}
    for key in found[0]:
        values = [one[key] for one in found]
        document[key] = {"median": round(statistics.median(values), 2), "low": min(values), "high": max(values)}
    document |= {"cores": os.cpu_count(), "load": os.getloadavg()[0], "versions": library_versions()}
    print(json.dumps(document, indent=1))


class Served:
    """A session that a thread serves while the block runs; gives the address."""

    def __init__(self, session: PlaySession) -> None:
        self._session = session
        self._ready, self._done = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),), daemon=True)

    async def _serve(self) -> None:
        async with PlayServer(self._session) as server:
            self._url = server.url
            self._ready.set()
            await asyncio.to_thread(self._done.wait)

    def __enter__(self) -> str:
        self._thread.start()
        self._ready.wait()
        return self._url

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def measured(url: str, seconds: float) -> dict[str, float]:
    """One page, opened and watched; a joint is flipped when the watch begins."""
    from playwright.sync_api import sync_playwright

    path = find_chromium()
    if path is None:
        raise MetaMapError(NO_BROWSER)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        sizes: list[int] = []
        page.on("websocket", lambda socket: socket.on("framereceived", lambda text: sizes.append(len(text))))
        page.goto(url)
        while not page.evaluate("player.frames.length > 5"):
            page.wait_for_timeout(50)
        page.evaluate("player.ask({do: 'joint', joint: player.setup.joints[0].name, condition: 'flipped'})")
        begin, drawn = time.perf_counter(), page.evaluate("[framesDrawn, player.frames.at(-1).n]")
        before = len(sizes)
        page.wait_for_timeout(1000 * seconds)
        after, passed = page.evaluate("[framesDrawn, player.frames.at(-1).n]"), time.perf_counter() - begin
        paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        page.evaluate("player.ask({do: 'heal'})")
        browser.close()
    return {
        "frames_per_second": round((after[0] - drawn[0]) / passed, 2),
        "steps_per_second": round((after[1] - drawn[1]) / passed, 2),
        "kilobytes_per_second": round(sum(sizes[before:]) / passed / 1000, 2),
        "first_paint_milliseconds": round(paint, 1),
    }


if __name__ == "__main__":
    run_script(main)

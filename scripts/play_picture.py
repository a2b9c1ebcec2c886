"""Makes docs/play.webp, the moving picture of the README: a joint of a running cheetah is flipped.

    python scripts/play_picture.py --out docs/play.webp

Runs a session of the player, writes its replay, and photographs that with a Chromium by playwright (extra `dev`).
"""

from __future__ import annotations

import argparse
import base64
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from _browser import NO_BROWSER, find_chromium
from _running import run_script
from metamap_agents.runtime.storage import write_bytes
from metamap_envs.errors import MetaMapError
from metamap_rl.adaptation.bundled import find_mapper
from metamap_rl.play.page import write_replay
from metamap_rl.play.session import PlaySession

_FAMILY, _JOINT, _CONDITION = "cheetah-actuators", "bshin", "flipped"
_BEFORE, _AFTER = 60, 120  # steps of 0.05 s
_EVERY = 0.08  # s between two pictures
_WIDTH = 1000  # pixels of the window: three robots side by side
_QUALITY = 70
_COMPOSE = """place => {
  player.playhead = place;
  player.draw(0);
  const top = 34, gap = 12, cards = player.lanes.cards, line = player.timeline.canvas;
  const [wide, high] = [cards[0].canvas.clientWidth, cards[0].canvas.clientHeight];
  const all = Object.assign(document.createElement("canvas"), {
    width: 3 * wide + 4 * gap, height: top + high + line.clientHeight + 34,
  });
  const pen = all.getContext("2d");
  pen.fillStyle = colour("paper");
  pen.fillRect(0, 0, all.width, all.height);
  const text = (words, x, y, font, shade, align) => {
    Object.assign(pen, { font: `${font} system-ui, sans-serif`, fillStyle: colour(shade), textAlign: align });
    pen.fillText(words, x, y);
  };
  cards.forEach((card, index) => {
    const left = gap + index * (wide + gap), key = player.setup.lanes[index];
    pen.drawImage(card.canvas, left, top, wide, high);
    text(NAMES[key], left, 22, "bold 16px", key, "left");
    text(card.ret.textContent, left + wide, 22, "bold 15px", "ink", "right");
    text(card.speed.textContent, left + 8, top + high - 8, "13px", "ink", "left");
  });
  pen.drawImage(line, gap, top + high + gap, all.width - 2 * gap, line.clientHeight);
  text(document.getElementById("legend").textContent, gap, all.height - 6, "12px", "dim", "left");
  return all.toDataURL("image/jpeg", 0.95);
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/play.webp"))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    session = played(given.seed)
    with tempfile.TemporaryDirectory() as folder:
        replay = Path(folder) / "replay.html"
        write_replay(replay, session.document())
        frames = [Image.open(io.BytesIO(png)).convert("RGB") for png in pictures(replay, session)]
    content = io.BytesIO()
    wait = round(1000 * _EVERY)
    frames[0].save(
        content, "WEBP", save_all=True, append_images=frames[1:], duration=wait, loop=0, quality=_QUALITY, method=4
    )
    write_bytes(given.out, content.getvalue())
    base, generated, expert = session.recording.frames[-1].returns
    print(f"{given.out}: {len(frames)} frames, {len(content.getvalue()) / 1e6:.2f} MB")
    print(f"returns since the change: base {base:.1f}, generated {generated:.1f}, expert {expert:.1f}")


def played(seed: int) -> PlaySession:
    mapper, folder = find_mapper(_FAMILY)
    session = PlaySession(mapper, source=folder, seed=seed)
    for step in range(_BEFORE + _AFTER):
        if step == _BEFORE:
            session.set_joint(_JOINT, _CONDITION)
        session.step()
    return session


def pictures(replay: Path, session: PlaySession) -> Iterator[bytes]:
    from playwright.sync_api import sync_playwright

    path = find_chromium()
    if path is None:
        raise MetaMapError(NO_BROWSER)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": _WIDTH, "height": 900}, color_scheme="light")
        page.goto(replay.as_uri())
        page.evaluate("player.paused = true")
        for index in range(int((_BEFORE + _AFTER) * session.family.step_seconds / _EVERY)):
            place = index * _EVERY / session.family.step_seconds
            yield base64.b64decode(page.evaluate(_COMPOSE, place).partition(",")[2])
        browser.close()


if __name__ == "__main__":
    run_script(main)

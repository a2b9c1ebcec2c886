"""What pages tell to run runs: blocks of Python and bash as they stand, commands at least up to their flags."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.waiting import HANGS
from metamap_rl.cli.groups import load_group
from metamap_rl.cli.usage import parse

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

NOT_RUN = {
    ("cluster.md", "#!/bin/bash"): "a Slurm cluster",
    ("cluster.md", "from metamap_agents.runtime.executors import make_executor"): "a Ray cluster",
    (
        "families.md",
        'policy = adapt("runs/my-mapper", gym.make("Pendulum-v1"))  # a mapper of pendulum-torque',
    ): "a mapper",
    ("import.md", "from metamap_agents import ImportOptions, Zoo, import_expert, read_policy"): "a zoo and a policy",
    ("own-mujoco.md", "def calm(step):  # - arm_terms:calm: {weight: 0.01}"): "a part of a file",
    ("own-robot.md", "import gymnasium as gym"): "the build of the page",
}
"""By page and first line: what a block needs that the page does not make in seconds."""

SLOW = {"README.md", "adaptation.md", "older-zoos.md", "export.md", "functions.md", "quickstart.md"}
SLOW |= {"service.md", "tutorial-deploy.md", "tutorial-log.md"}
"""Pages whose blocks take over five seconds."""

BEFORE = {
    "export.md": "metamap adapt cheetah-velocity --parameters target_velocity=1 --out adapted > /dev/null\n"
    "metamap export cheetah-velocity --to onnx --out mapper.onnx > /dev/null",
    "older-zoos.md": f"mkdir docs; ln -s {shlex.quote(str(ROOT / 'docs' / 'results'))} docs/results",
}
"""What a page's reader has done before its blocks, in bash."""

RUN_ALL = """
import json, subprocess, sys
here = {"__name__": "__main__"}
for language, text in json.load(open("blocks.json")):
    if language == "bash":
        subprocess.run(["bash", "-ec", text], check=True)
    else:
        exec(compile(text, "<a block of the page>", "exec"), here)
"""


def blocks(page: Path) -> list[tuple[str, str]]:
    """(Language, text) of the fenced blocks of a page, in order."""
    return re.findall(r"^```(\w+)\n(.*?)^```", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


def to_run(page: Path) -> list[tuple[str, str]]:
    return [
        (language, text)
        for language, text in blocks(page)
        if language in ("python", "bash")
        and (page.name, text.partition("\n")[0]) not in NOT_RUN
        and not text.startswith('"""A boat')  # a file of docs/examples, see test_examples
    ]


RUNNABLE = [
    pytest.param(page, marks=[pytest.mark.slow] if page.name in SLOW else [], id=page.name)
    for page in PAGES
    if to_run(page)
]


def write_files(page: Path, folder: Path) -> None:
    """The files that a page shows: blocks that begin with a comment of their name, or with a family's name."""
    for language, text in blocks(page):
        first = text.partition("\n")[0]
        if language == "yaml" and (
            named := re.match(r"# ([\w-]+\.ya?ml)$", first) or re.match(r"name: ([\w-]+)", first)
        ):
            name = named[1] if named[1].endswith("ml") else f"{named[1]}.yml"
            (folder / name).write_text(text)


@pytest.mark.parametrize("page", RUNNABLE)
def test_blocks_of_a_page_run_in_their_order(page: Path, tmp_path: Path) -> None:
    if page.name in ("export.md", "tutorial-deploy.md"):
        pytest.importorskip("onnxruntime", reason="needs metamap-rl[onnx]")
    write_files(page, tmp_path)
    found = to_run(page)
    if page.name in BEFORE:
        found.insert(0, ("bash", BEFORE[page.name]))
    if page.name == "export.md":
        found.insert(
            1, ("python", "import metamap_rl\nrollout = metamap_rl.load_rollout('adapted/rollout.safetensors')")
        )
    (tmp_path / "blocks.json").write_text(json.dumps(found))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=10 * HANGS,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def test_every_exception_is_of_a_block_that_there_is() -> None:
    there = {(page.name, text.partition("\n")[0]) for page in PAGES for _, text in blocks(page)}
    assert not NOT_RUN.keys() - there
    assert {*SLOW, *BEFORE} <= {page.name for page in PAGES}


def commands(page: Path) -> Iterator[str]:
    """Command lines of a page: in blocks that are indented or fenced, each at the start of its line."""
    for line in re.findall(r"^(?:    (?:\$ )?)?(metamap .+)$", page.read_text("utf-8"), flags=re.MULTILINE):
        yield from (part for part in re.split(r" && | \| |    +", line) if part.startswith("metamap "))


@pytest.mark.parametrize("page", [page for page in PAGES if any(commands(page))], ids=lambda page: page.name)
def test_commands_of_a_page_exist_with_their_flags(page: Path) -> None:
    for line in commands(page):
        if line.endswith(("writes a file to fill in", "\\")) or "takes at most" in line:  # output; a line that goes on
            continue
        words = [word for word in shlex.split(line, comments=True)[1:] if word != "..."]
        if words[0].startswith("--"):
            continue
        group = load_group(words[0])
        kind, rest = (group[""], words[1:]) if "" in group else (group[words[1]], words[2:])
        if "--help" not in rest:
            parse(kind, rest, program=line)

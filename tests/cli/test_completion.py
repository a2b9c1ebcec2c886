"""Completion scripts do in a shell what they are for."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from helpers.waiting import HANGS
from metamap_rl.cli.completion import bash_script, zsh_script

FAMILIES = ("cheetah-velocity", "reacher-goal")


def completed(*words: str) -> list[str]:
    """What bash offers for the last word."""
    line = " ".join(f"'{word}'" for word in ("metamap", *words))
    ask = f"COMP_WORDS=({line}); COMP_CWORD={len(words)}; _metamap; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    done = subprocess.run(
        ["bash", "--norc", "-c", f"{bash_script(FAMILIES)}\n{ask}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=HANGS,
    )
    assert done.stderr == ""
    return done.stdout.split()


COMPLETED = [
    (["fam"], {"families"}),
    (["families", "s"], {"show"}),
    (["families", "show", "chee"], {"cheetah-velocity"}),
    (["families", "show", "reacher-goal", "--sp"], {"--split"}),
    (["families", "show", "reacher-goal", "--split", "test"], {"test-in", "test-out"}),
    (["completion", "z"], {"zsh"}),
    (["adapt", "--overw"], set()),
]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(("words", "offered"), COMPLETED)
def test_bash_completes(words: list[str], offered: set[str]) -> None:
    assert set(completed(*words)) == offered


@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
def test_zsh_takes_the_script() -> None:
    code = f"{zsh_script(FAMILIES)}\nprint -r -- $_comps[metamap]"
    done = subprocess.run(["zsh", "-fc", code], capture_output=True, text=True, check=False, timeout=HANGS)
    assert (done.returncode, done.stderr) == (0, "")
    assert "_metamap" in done.stdout


@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
@pytest.mark.parametrize(("words", "offered"), COMPLETED)
def test_zsh_completes(words: list[str], offered: set[str]) -> None:
    """Calls the function as zsh's emulation does; what does not begin with the word is left out by zsh itself."""
    line = " ".join(f"'{word}'" for word in ("metamap", *words))
    ask = (
        f"ask() {{ emulate -L sh; setopt KSH_ARRAYS BASH_REMATCH; local -a COMP_WORDS COMPREPLY; COMP_WORDS=({line}); "
        f"COMP_CWORD={len(words)}; _metamap; printf '%s\\n' \"${{COMPREPLY[@]}}\"; }}; ask"
    )
    code = f"{zsh_script(FAMILIES)}\n{ask}"
    done = subprocess.run(["zsh", "-fc", code], capture_output=True, text=True, check=True, timeout=HANGS)
    assert done.stderr == ""
    assert {word for word in done.stdout.split() if word.startswith(words[-1])} == offered

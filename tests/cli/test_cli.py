"""The command line, mostly as a person meets it: real processes, their output and their exit codes."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.command_line import output, refused
from helpers.waiting import HANGS
from metamap_rl.cli import app
from metamap_rl.cli.command import Command, FamilyName, OutPath
from metamap_rl.cli.commands.families import ListFamilies
from metamap_rl.cli.groups import group_names, group_outline, load_group
from metamap_rl.cli.outline import DEFAULT_ORDER, first_line
from metamap_rl.cli.standard_output import set_apart
from metamap_rl.cli.usage import UsageError, fields_of, parse

HEAVY = ("torch", "mujoco", "gymnasium", "stable_baselines3", "matplotlib", "scipy", "pydantic", "metamap_envs")


def metamap(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "metamap_rl.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=HANGS)


def groups() -> list[str]:
    return group_names()


# ------------------------------------------------------------------------------------------------------- help


@pytest.mark.parametrize(
    "arguments", [["--help"], ["families", "--help"], ["families", "show", "--help"], ["--version"]]
)
def test_help_is_answered_without_anything_heavy(arguments: list[str]) -> None:
    code = (
        f"import sys; from metamap_rl.cli import main; code = main({arguments!r}); "
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (0, "[]")
    assert "metamap" in done.stdout


def test_adapt_imports_nothing_that_it_does_not_need() -> None:
    """Stable-Baselines3, with TensorBoard and pandas behind it, takes as long to import as the rest together."""
    unneeded = ("stable_baselines3", "tensorboard", "pandas", "matplotlib", "scipy", "rich", "imageio", "PIL", "ray")
    words = ["adapt", "reacher-goal", "--parameters", "goal_radius=0.1", "--steps", "5", "--episodes", "1", "--json"]
    code = (
        f"import sys; from metamap_rl.cli import main; main({words!r}); "
        f"print([name for name in {unneeded!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (0, "[]")
    result = json.loads(done.stdout)
    assert result["served"] in ("base", "generated")
    assert f"the {result['served']} policy is served" in result["sentence"]


def test_help_names_every_group() -> None:
    text = metamap("--help").stdout
    assert groups()
    assert all(name in text for name in groups())


def test_no_command_shows_the_help_as_an_error() -> None:
    done = metamap()
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: metamap" in done.stderr


@pytest.mark.parametrize("group", groups())
def test_every_group_follows_the_contract(group: str) -> None:
    module = importlib.import_module(f"metamap_rl.cli.commands.{group}")
    assert module.__doc__
    assert module.COMMANDS
    for kind in module.COMMANDS:
        assert issubclass(kind, Command)
        assert kind.__doc__
        assert not kind.__doc__.startswith(f"{kind.__name__}("), "the dataclass's made-up docstring"
    loaded = {name: first_line(kind.__doc__) for name, kind in load_group(group).items()}
    assert group_outline(group).commands == loaded
    assert group_outline(group).help == first_line(module.__doc__)
    assert group_outline(group).order == getattr(module, "ORDER", DEFAULT_ORDER)


@pytest.mark.parametrize("group", groups())
def test_every_command_explains_each_flag(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in load_group(group):
        assert app.main([word for word in (group, name) if word] + ["--help"]) == 0
        text = capsys.readouterr().out
        assert "--seed" in text
        assert "--json" in text


# ------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["familis"], ["unknown command 'familis'", "did you mean 'families'?"]),
        (["--hepl"], ["unknown flag '--hepl'", "did you mean '--help'?"]),
        (["families"], ["families needs a command: list, show"]),
        (["families", "lst"], ["unknown command 'lst' of metamap families", "did you mean 'list'?"]),
        (["families", "list", "--jsn"], ["unknown flag '--jsn'", "did you mean '--json'?"]),
        (["families", "list", "--sed=3"], ["unknown flag '--sed'", "did you mean '--seed'?"]),
        (["families", "list", "--seed", "x"], ["--seed: expected a whole number, got 'x'"]),
        (["families", "list", "--seed"], ["--seed: expected a value"]),
        (["families", "list", "extra"], ["unexpected argument 'extra'", "metamap families list --help"]),
        (["families", "show"], ["missing FAMILY"]),
        (["families", "show", "cheeta-velocity"], ["unknown family", "did you mean 'cheetah-velocity'?"]),
        (
            ["families", "show", "reacher-goal", "--split", "tset-in"],
            ["unknown value 'tset-in' of --split", "'test-in'?"],
        ),
        (["families", "show", "reacher-goal", "--sample", "-1"], ["--sample: expected", "-1"]),
        (["families", "show", "cheetah-velocity", "--family", "x"], ["unknown flag '--family'"]),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    arguments: list[str], parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    complaint = refused(capsys, *arguments)
    assert all(part in complaint for part in parts), complaint


def test_bad_input_of_a_process_is_one_sentence_and_exit_code_2() -> None:
    done = metamap("families", "show", "cheeta-velocity")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("metamap: unknown family 'cheeta-velocity'")


@dataclass(frozen=True)
class Inner:
    """Nested settings."""

    rate: float = 0.1
    """A number."""


@dataclass(frozen=True, kw_only=True)
class Sample(Command):
    """A command with every kind of flag."""

    name: ClassVar[str] = "sample"

    family: FamilyName
    """Positional."""
    mapper: Path
    """Required."""
    out: OutPath = None
    """Optional path."""
    steps: tuple[int, ...] = (0, 20)
    """Several."""
    loss: Literal["weights", "behaviour"] = "weights"
    """A choice."""
    film: bool = True
    """On unless told otherwise."""
    inner: Inner = Inner()
    """Nested."""
    most: int | None = None
    """A number or nothing."""
    part: Literal["first", "last"] | None = None
    """A choice or nothing."""

    def run(self) -> int:
        return 0


def test_flags_of_all_kinds_are_known() -> None:
    words = "reacher-goal --mapper m --out o --steps 1 2 --loss behaviour --no-film --inner.rate 0.5 --seed=4 --json"
    assert parse(Sample, words.split(), program="metamap sample") == Sample(
        family="reacher-goal",
        mapper=Path("m"),
        out=Path("o"),
        steps=(1, 2),
        loss="behaviour",
        film=False,
        inner=Inner(rate=0.5),
        seed=4,
        json=True,
    )


@pytest.mark.parametrize(
    "words",
    [
        "x --mapper m --steps 1 2 3",
        "x --mapper m --steps 1 --steps 2 3",
        "--steps 1 2 --mapper m --steps 3 -- x",
        "--steps=1 x --steps=2 --mapper=m --steps=3",
    ],
)
def test_a_flag_of_several_values_may_be_given_several_times(words: str) -> None:
    found = parse(Sample, words.split(), program="metamap sample")
    assert found == Sample(family="x", mapper=Path("m"), steps=(1, 2, 3))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("", "missing FAMILY, --mapper"),
        ("x", "missing --mapper"),
        ("x --mapper m --inner.rat 1", "unknown flag '--inner.rat' of metamap sample: did you mean '--inner.rate'?"),
        ("x --mapper m --inner.rate a", "--inner.rate: expected a number, got 'a'"),
        ("x --mapper m --loss weight", "unknown value 'weight' of --loss: did you mean 'weights'?"),
        ("x --mapper m --steps 1 a", "--steps: expected whole numbers, got 'a'"),
        ("x --mapper m --most many", "--most: expected a whole number, got 'many'"),
        (
            "x --mapper m --part lst",
            "unknown value 'lst' of --part: did you mean 'last'? valid choices are 'first', 'last'",
        ),
    ],
)
def test_wrong_flags_are_reported_in_a_sentence(words: str, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(Sample, words.split(), program="metamap sample")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


COMMANDS = [kind for group in groups() for kind in load_group(group).values()]
FLAGS = sorted({field.flag for kind in (*COMMANDS, Sample) for field in fields_of(kind) if not field.positional})
WORDS = st.sampled_from(
    [*FLAGS, "--", "-", "-h", "-1", "-1e5", "--seed=", "--json=1", "1", "a=b", "x", "", "é", "\udce9"]
)


@pytest.mark.parametrize("kind", [*COMMANDS, Sample], ids=lambda kind: kind.__name__)
@settings(max_examples=30)
@given(words=st.lists(WORDS | st.text(max_size=5), max_size=8))
def test_any_command_line_is_read_or_refused_in_one_line(kind: type[Command], words: list[str]) -> None:
    told = ""
    try:
        with set_apart(for_good=False):
            parse(kind, words, program="metamap sample")
    except SystemExit as stop:  # the help
        told = "" if not stop.code else "an exit code"
    except UsageError as error:
        told = str(error)
        app._complain(told, 2)
    assert len(" ".join(told.split()).splitlines()) <= 1
    assert told != "an exit code"
    assert not set("│╭╰─") & (set(told) - set("".join(words)))


def test_values_may_begin_with_a_dash_and_words_may_stand_anywhere() -> None:
    line = "--steps -1 -2 --inner.rate -1e-5 --mapper -m -- x"
    found = parse(Sample, line.split(), program="metamap sample")
    assert found == Sample(family="x", mapper=Path("-m"), steps=(-1, -2), inner=Inner(rate=-1e-5))
    assert parse(Sample, ["x", "--json", "--mapper", "m"], program="") == Sample(
        family="x", mapper=Path("m"), json=True
    )


@pytest.mark.parametrize("columns", ["20", "40", "80", "200"])
def test_the_help_fits_the_terminal_and_tells_no_default_of_none(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    for kind in COMMANDS:
        with pytest.raises(SystemExit):
            parse(kind, ["--help"], program="metamap sample")
    text = capsys.readouterr().out
    assert "None" not in text
    assert "%%" not in text
    if columns != "20":  # narrower than some names
        assert max(len(line) for line in text.splitlines() if "{" not in line and "usage" not in line) <= int(columns)


# -------------------------------------------------------------------------------------------- how it can end


def test_ctrl_c_says_what_remains(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stopped(_: ListFamilies) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(ListFamilies, "run", stopped)
    monkeypatch.setattr(ListFamilies, "if_stopped", "3 of 8 are kept, run it again to go on")
    assert app.main(["families", "list"]) == 2
    assert capsys.readouterr().err == "metamap: stopped; 3 of 8 are kept, run it again to go on\n"


def test_a_bug_stays_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: ListFamilies) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(ListFamilies, "run", broken)
    with pytest.raises(ZeroDivisionError):
        app.main(["families", "list"])


def test_a_closed_pipe_is_no_error() -> None:
    command = [sys.executable, "-m", "metamap_rl.cli", "families", "list", "--json"]
    read_end, write_end = os.pipe()
    os.close(read_end)
    with subprocess.Popen(command, stdout=write_end, stderr=subprocess.PIPE, text=True) as process:
        os.close(write_end)
        _, complaint = process.communicate(timeout=HANGS)
    assert (process.returncode, complaint) == (141, "")


# --------------------------------------------------------------------------------------------------- families


def test_families_list(capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(metamap("families", "list", "--json").stdout)
    names = [family["name"] for family in document]
    assert {"cheetah-velocity", "cheetah-actuators", "reacher-goal", "walker-parts"} <= set(names)
    table = output(capsys, "families", "list")
    assert all(name in table for name in names)


def test_families_show(capsys: pytest.CaptureFixture[str]) -> None:
    from metamap_envs import Task, get_family

    flags = ("--sample", "3", "--split", "test-in", "--seed", "5", "--json")
    document = json.loads(output(capsys, "families", "show", "reacher-goal", *flags))
    assert (document["observation_size"], document["action_size"], document["horizon"]) == (8, 2, 50)
    assert document["gymnasium_id"] == "MetaMap/ReacherGoal-v0"
    assert [parameter["name"] for parameter in document["parameters"]] == ["goal_radius", "goal_angle"]
    drawn = [{key: task[key] for key in ("family", "parameters", "split")} for task in document["tasks"]]
    assert [Task.from_json(task) for task in drawn] == get_family("reacher-goal").sample("test-in", 3, 5)
    text = output(capsys, "families", "show", "reacher-goal", "--sample", "1")
    assert all(word in text for word in ("goal_radius", "MetaMap/ReacherGoal-v0", "[0.05, 0.18]", "train"))


def test_families_show_tells_how_combinations_are_dealt(capsys: pytest.CaptureFixture[str]) -> None:
    assert "40 train, 8 validation, 16 test-in" in output(capsys, "families", "show", "cheetah-actuators")

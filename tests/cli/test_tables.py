"""Every command that lists is readable at 80 columns and uses 200; what to do next can be typed."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from metamap_rl.cli import app
from metamap_rl.cli.command import Command
from metamap_rl.cli.commands.adapt import Adapt
from metamap_rl.cli.commands.bench import AddLearner, FilmBench, ListBenches, RunBench
from metamap_rl.cli.commands.build import BuildMapper
from metamap_rl.cli.commands.demo import Demo
from metamap_rl.cli.commands.doctor import Doctor
from metamap_rl.cli.commands.experts import ImportExpert, ListExperts, ResizeExperts, TrainExperts
from metamap_rl.cli.commands.families import CheckFamily, InitFamily, ListFamilies, ShowFamily
from metamap_rl.cli.commands.mapper import ShowMapper, TrainMapper
from metamap_rl.cli.commands.run import Run
from metamap_rl.cli.commands.stream import ListStreams, RunStream
from metamap_rl.cli.groups import group_names, load_group
from metamap_rl.cli.usage import parse

SHOWN = [
    ["--help"],
    *([name, "--help"] for name in group_names()),
    ["families", "list"],
    ["families", "show", "cheetah-actuators", "--sample", "2"],
    ["families", "show", "ant-goal"],
    ["stream", "list"],
    ["bench", "list"],
    ["results", "list"],
    ["mapper", "show", "cheetah-velocity"],
    ["runs", "list", "."],
]


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("words", SHOWN, ids=" ".join)
def test_what_is_shown_fits(
    words: list[str], width: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", str(width))
    app.main(words)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if len(line.rstrip()) > width] == []


def test_what_a_terminal_gets_in_bold_is_plain_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert app.main(["--help"]) == 0
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "command",
    [
        Adapt(mapper="cheetah-velocity", out=Path("a policy")),
        BuildMapper(family="reacher-goal", out=Path("my build")),
        CheckFamily(family="files/boat.yml"),
        Demo(),
        InitFamily(environment="boat:Boat-v0", parameters=("gain",), out=Path("boat.yml")),
        RunBench(config="smoke"),
        RunStream(config="smoke", out=Path("runs/smoke")),
        ShowFamily(family="cheetah-length"),
        TrainExperts(family="reacher-goal", out=Path("zoo")),
        TrainMapper(zoo=Path("zoo"), out=Path("mapper")),
        AddLearner(directory=Path("cell"), to=Path("my bench")),
        Doctor(),
        FilmBench(directory=Path("my bench")),
        ImportExpert(source=Path("a.zip"), zoo=Path("zoo")),
        ListBenches(),
        ListExperts(zoo=Path("zoo")),
        ListFamilies(),
        ListStreams(),
        ResizeExperts(zoo=Path("zoo"), hidden=(8, 8), out=Path("small")),
        Run(mapper="cheetah-velocity"),
        Run(mapper="cheetah-velocity", out=Path("a run")),
        ShowMapper(mapper="cheetah-velocity"),
    ],
    ids=lambda command: type(command).__name__,
)
def test_what_to_do_next_is_a_command_with_its_flags(command: Command) -> None:
    following = command.next_command()
    assert following is not None
    _, first, *rest = shlex.split(following)
    group = load_group(first)
    parse(group[""] if "" in group else group[rest.pop(0)], rest, program=following)


def test_next_is_for_people_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["families", "show", "reacher-goal"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("next: metamap adapt reacher-goal --parameters ")
    assert app.main(["families", "show", "reacher-goal", "--json"]) == 0
    assert "next:" not in capsys.readouterr().out

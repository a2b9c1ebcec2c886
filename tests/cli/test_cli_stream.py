"""`metamap stream`, as a person meets it: real runs of a tiny stream, stopped, looked at and gone on with."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.tiny_stream import SETTINGS
from metamap_agents.runtime.storage import read_json, write_json
from metamap_envs.errors import MetaMapError
from metamap_rl.cli import main
from metamap_rl.cli.commands.stream import config_of
from metamap_rl.stream import run as stream_run
from metamap_rl.stream.config import list_presets, load_config
from metamap_rl.stream.events import StreamStarted
from metamap_rl.stream.kinds import STREAMS
from metamap_rl.stream.learners.base import list_learners
from metamap_rl.stream.record import Record
from metamap_rl.stream.run import open_run

Output = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.yaml, a run of it in whole/ that ended well, and its expert cache in zoo/. Read only."""
    folder = tmp_path_factory.mktemp("cli-stream")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(SETTINGS))
    assert main(["stream", "run", *arguments(folder, folder / "whole")]) == 0
    return folder


def arguments(folder: Path, out: Path) -> list[str]:
    return [str(folder / "tiny.yaml"), "--out", str(out), "--zoo", str(folder / "zoo"), "--workers", "1"]


def comparable(run: Path) -> dict[str, Any]:
    with open_run(run).record as record:
        return record.comparable()


def copy(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder / "whole", to))


# run, status, list ------------------------------------------------------------------------------------------------


def test_a_run_tells_how_it_goes_and_how_it_ended(folder: Path, tmp_path: Path, capsys: Output) -> None:
    assert main(["stream", "run", *arguments(folder, tmp_path / "run")]) == 0
    out, err = capsys.readouterr()
    stages = [line for line in err.splitlines() if line.startswith("stage ")]
    assert [line.partition(":")[0] for line in stages] == [f"stage {stage} of 4" for stage in (1, 2, 3, 4)]
    assert out.startswith(f"{tmp_path / 'run'}: tiny, learner replay, finished, stages: 4 of 4")
    for part in ("AP_final", "mean_j R[T, j]", "GEN_20(i)", "decisions: trained 4", "expert steps: 1,600 spent"):
        assert part in out
    assert comparable(tmp_path / "run") == comparable(folder / "whole")


def test_a_cache_that_is_a_file_leaves_nothing_behind(folder: Path, tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "zoo").write_text("")
    command = ["stream", "run", str(folder / "tiny.yaml"), "--out", str(tmp_path / "run")]
    assert main([*command, "--zoo", str(tmp_path / "zoo")]) == 2
    assert "expected the folder of an expert cache, it is a file" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_json_is_one_document_and_nothing_else(folder: Path, tmp_path: Path, capsys: Output) -> None:
    assert main(["stream", "run", *arguments(folder, tmp_path / "run"), "--json"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert err == ""
    assert (document["finished"], document["done"], document["alive"]) == (True, 4, False)
    assert [row["decision"] for row in document["stages"]] == ["trained"] * 4


def test_status_shows_every_stage_and_agrees_with_the_record(folder: Path, capsys: Output) -> None:
    assert main(["stream", "status", str(folder / "whole")]) == 0
    text = capsys.readouterr().out
    rows = [line.split()[:3] for line in text.splitlines()]
    assert all([str(stage), "reacher-goal", "trained"] in rows for stage in (1, 2, 3, 4))
    assert main(["stream", "status", str(folder / "whole"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    with open_run(folder / "whole").record as record:
        assert document["metrics"]["AP_final"] == pytest.approx(record.matrix("stream")[-1].mean())
        assert document["gen"]["20"] == pytest.approx(record.matrix("held-out")[:, 0].tolist())


def test_status_tells_a_run_that_is_alive(folder: Path, tmp_path: Path, capsys: Output) -> None:
    run = copy(folder, tmp_path / "run")
    manifest = read_json(run / "manifest.json")
    manifest["arrivals"].append(manifest["arrivals"][0])
    write_json(run / "manifest.json", manifest)
    assert main(["stream", "status", str(run)]) == 0
    assert "replay, stopped, stages: 4 of 5" in capsys.readouterr().out
    with Record.open(run / "record.sqlite") as record:
        record.log("an expert diverged [1]")
        assert main(["stream", "status", str(run)]) == 0
    text = capsys.readouterr().out
    assert "replay, running, stages: 4 of 5" in text
    assert "as if the stream ended after stage 4" in text
    assert text.rstrip().endswith("an expert diverged [1]")


def test_status_before_the_first_stage(folder: Path, tmp_path: Path, capsys: Output) -> None:
    run = copy(folder, tmp_path / "run")
    for path in run.glob("record.sqlite*"):
        path.unlink()
    Record.create(run / "record.sqlite").close()
    assert main(["stream", "status", str(run)]) == 0
    assert "stopped, stages: 0 of 4" in capsys.readouterr().out


def test_list_names_everything_there_is_with_a_line_on_it(capsys: Output) -> None:
    assert main(["stream", "list", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document["preset"]) == list(list_presets())
    assert list(document["kind"]) == list(STREAMS.names())
    assert list(document["learner"]) == list(list_learners())
    assert all(text for texts in document.values() for text in texts.values())
    assert main(["stream", "list"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for texts in document.values() for name in texts)


# flags ------------------------------------------------------------------------------------------------------------


def test_without_flags_the_config_is_the_file(folder: Path) -> None:
    assert config_of(str(folder / "tiny.yaml"), (), None, 0) == load_config(SETTINGS)


def test_flags_change_the_config(folder: Path) -> None:
    settings = ("update.updates=7", "boundaries=hidden", "seeds.learner=5", "learner.dark=0.25")
    config = config_of(str(folder / "tiny.yaml"), settings, "replay", 3)
    assert (config.update.updates, config.boundaries, config.learner) == (7, "hidden", {"name": "replay", "dark": 0.25})
    assert (config.seeds.learner, config.seeds.stream) == (8, 0)


def test_another_learner_does_not_inherit_settings(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "dark.yaml").write_text(yaml.safe_dump({**SETTINGS, "learner": {"name": "replay", "dark": 0.25}}))
    assert config_of(str(tmp_path / "dark.yaml"), (), "finetune", 0).learner == {"name": "finetune"}


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda words: ["nothing.yaml", *words[1:]], ["nothing.yaml: no such file"]),
        (lambda words: ["nothing", *words[1:]], ["unknown stream config or preset 'nothing'"]),
        (lambda words: [*words, "--learner", "reply"], ["unknown learner 'reply'", "did you mean 'replay'"]),
        (lambda words: [*words, "--set", "update.updates"], ["--set: expected KEY=VALUE, got 'update.updates'"]),
        (lambda words: [*words, "--set", "name=a", "name=b"], ["--set has 'name' twice"]),
        (lambda words: [*words, "--set", "update.update=3"], ["update.update", "did you mean 'update.updates'"]),
        (lambda words: [*words, "--set", "update.updates=many"], ["update.updates", "got 'many'"]),
        (lambda words: [*words, "--set", "stream.tasks=0"], ["the stream is empty"]),
        (lambda words: [*words, "--executor", "rai"], ["unknown value 'rai'", "'ray'"]),
        (lambda words: [*words, "--ray-address", "auto"], ["'auto'", "'ray'"]),
        (lambda words: [*words[:-1], "-2"], ["workers", "-2"]),
        (lambda words: [*words, "--seed", "2147483647", "--set", "seeds.learner=1"], ["seeds.learner"]),
        (lambda words: [words[0], "--out", words[0]], ["tiny.yaml: already exists"]),
        (lambda words: [words[0], "--out", str(Path(words[0]).parent / "whole")], ["stream resume"]),
    ],
)
def test_bad_input_is_one_sentence(
    folder: Path, tmp_path: Path, capsys: Output, change: Callable[[list[str]], list[str]], parts: list[str]
) -> None:
    assert main(["stream", "run", *change(arguments(folder, tmp_path / "run"))]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("metamap: ")
    assert err.count("\n") == 1
    assert all(part in err for part in parts), err
    assert not (tmp_path / "run").exists()


def of_another_version(run: Path) -> None:
    write_json(run / "manifest.json", {**read_json(run / "manifest.json"), "format_version": 99})


def without_a_boundary(run: Path) -> None:
    manifest = read_json(run / "manifest.json")
    del manifest["arrivals"][0]["boundary"]
    write_json(run / "manifest.json", manifest)


def without_references(run: Path) -> None:
    write_json(run / "manifest.json", {**read_json(run / "manifest.json"), "references": {"a": {"random": "x"}}})


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (lambda run: shutil.rmtree(run), "not the directory of a stream"),
        (without_a_boundary, "manifest.json: arrivals[0].boundary: is missing"),
        (without_references, "manifest.json: references.a.random: "),
        (lambda run: (run / "manifest.json").unlink(), "no manifest.json"),
        (lambda run: (run / "record.sqlite").write_text("x" * 5000), "record.sqlite: not a SQLite file"),
        (lambda run: (run / "record.sqlite").unlink(), "record.sqlite: no such file"),
        (lambda run: (run / "config.yaml").write_text("a: ["), "config.yaml: not YAML"),
        (of_another_version, "version 99"),
    ],
)
@pytest.mark.parametrize("command", ["status", "resume"])
def test_what_is_no_run_is_named(
    folder: Path, tmp_path: Path, capsys: Output, command: str, damage: Callable[[Path], object], part: str
) -> None:
    run = copy(folder, tmp_path / "run")
    damage(run)
    assert main(["stream", command, str(run)]) == 2
    err = capsys.readouterr().err
    assert part in err
    assert err.count("\n") == 1


# stopped and gone on with -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_ctrl_c_finishes_the_stage_and_resume_ends_in_the_same_record(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "metamap_rl.cli", "stream"]
    with subprocess.Popen(
        [*command, "run", *arguments(folder, run)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("stage 1 of 4"):
                process.send_signal(signal.SIGINT)
                break
        err, out = process.stderr.read(), process.stdout.read()
    assert process.returncode == 2, err
    assert "stopping when this stage is done" in err
    assert f"`metamap stream resume {run}` goes on from there" in err.splitlines()[-1]
    assert "learner replay, stopped, stages: " in out
    assert "stages: 4" not in out
    with open_run(run).record as record:
        assert 1 <= record.last_stage < 4

    text = _on_terminal([*command, "resume", str(run), "--workers", "1"])
    assert "stage 4 of 4" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is back
    assert comparable(run) == comparable(folder / "whole")


def _on_terminal(command: list[str]) -> str:
    """What a command draws on a terminal that is its standard error."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        command, stderr=theirs, stdout=subprocess.DEVNULL, env={**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += os.read(ours, 65536)
        except OSError:  # closed at the other end
            break
    os.close(ours)
    assert process.wait() == 0, shown
    return shown.decode()


def test_resume_of_a_finished_run_shows_it(folder: Path, tmp_path: Path, capsys: Output) -> None:
    run = copy(folder, tmp_path / "run")
    assert main(["stream", "resume", str(run), "--workers", "1"]) == 0
    assert "finished, stages: 4 of 4" in capsys.readouterr().out


# what Ctrl-C does at which moment: the stream itself is played


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[..., Any]], None]]:
    """Puts a function in place of the stream; afterwards Ctrl-C must be what it was."""
    before = signal.getsignal(signal.SIGINT)
    yield lambda play: monkeypatch.setattr(stream_run, "start", play)
    assert signal.getsignal(signal.SIGINT) is before


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def test_ctrl_c_while_nothing_can_be_finished_stops_at_once(
    played: Callable[[Any], None], folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    played(lambda *_, **__: interrupt())
    assert main(["stream", "run", *arguments(folder, tmp_path / "run")]) == 2
    assert "metamap: stopped; finished stages and experts are kept" in capfd.readouterr().err


def test_ctrl_c_in_a_stage_asks_and_the_second_one_stops_at_once(
    played: Callable[[Any], None], folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    asked: list[bool] = []

    def play(*_: Any, on_event: Any, stop_requested: Callable[[], bool], **__: Any) -> None:
        on_event(StreamStarted("tiny", 4, 0, 1))
        asked.append(stop_requested())
        interrupt()
        asked.append(stop_requested())
        interrupt()
        raise AssertionError("not stopped")

    played(play)
    assert main(["stream", "run", *arguments(folder, tmp_path / "run")]) == 2
    err = capfd.readouterr().err
    assert asked == [False, True]
    assert err.index("stopping when this stage is done") < err.index("metamap: stopped; ")


def test_a_stage_that_fails_says_how_to_go_on(
    played: Callable[[Any], None], folder: Path, tmp_path: Path, capsys: Output
) -> None:
    def play(*_: Any, on_event: Any, **__: Any) -> None:
        on_event(StreamStarted("tiny", 4, 0, 1))
        raise MetaMapError("stage 1: the expert diverged")

    played(play)
    assert main(["stream", "run", *arguments(folder, tmp_path / "run")]) == 2
    _, *lines = capsys.readouterr().err.splitlines()
    assert "`metamap stream resume DIR`" in lines[0]
    assert lines[1] == "metamap: stage 1: the expert diverged"
